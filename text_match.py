"""What a question says: search it for a value, and compare two values leniently.  Pure: no model.

Paper: Sec. 3.2.1, the last term of Eq. (2): every value of a gold call is in the question, as
whole words.  docs/grounding.md has a table of what is found and what is not.
Our decisions:
  1. Value and question become lower-case words in one spelling, each between spaces.  A value is
     found if its words are in the question, one after the other.
  2. A number is one word, however it is written: 1,000.50 = 1.000,50 = 1000.5, 3e8 =
     300000000, three = 3.  So 5 is not found in "5.5", nor -5 in "5", nor 5 in "-5".
  3. Where a script has no spaces between words (Chinese, Japanese, Thai ...) or joins particles
     to them (Korean), each character is a word.
  4. Letters with accents differ from letters without.  Vowel signs that Arabic and Hebrew may
     leave out do not count.
  5. A text without words, like "+" or an emoji, is searched for among the symbols.

One raw example:

    >>> words("Three trips, 1,000.50 EUR")
    ' 3 trips 1000.5 eur '
"""

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any
from unicodedata import category, decimal, normalize

from ast_match import Call, canonical

MAX_QUESTION = 4_000  # characters that are searched for values; a long dialogue has 1,000
MAX_EXPONENT = 400  # the largest of a double is 308

UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {name: str(n) for n, name in enumerate(UNITS)}
NUMBER_WORDS |= {name: str(10 * n) for n, name in enumerate(TENS, 2)}

# Scripts in which each character is a word: Thai, Lao, Burmese, Khmer, kana, Chinese, Hangul.
ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
INDIC = "\u0900-\u0963\u0966-\u0dff"  # here a vowel sign is part of its word
LETTER = rf"(?:[^\W_{ALONE}]|[{INDIC}])"

EXPONENT = rf"e[+-]?[0-9]+(?!{LETTER})"
PART = rf"[0-9]+(?:\.[0-9]+)*(?:{EXPONENT})?"
NUMBER = rf"{PART}(?:,{PART})*"  # one number, or several that commas join
# A bare integer before a letter, as in 5km, is a word.  A - after a letter or digit is not a sign.
SIGNED = rf"(?<![^\W{ALONE}])(?:-|(?![0-9]+(?!{EXPONENT})[^\W\d_{ALONE}])){NUMBER}"
WORD = rf"{LETTER}+(?:(?<=[^\W\d_])[+#]+(?!\w))?"  # C is not in C++
TOKEN = re.compile(rf"{SIGNED}|[{ALONE}]|{WORD}")

NUMBERS = re.compile(NUMBER)
ENGLISH = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")  # 1,234,567.89
INDIAN = re.compile(r"[1-9][0-9]?(,[0-9]{2})+,[0-9]{3}(\.[0-9]+)?")  # 12,34,567.89
EUROPEAN = re.compile(r"[1-9][0-9]{0,2}((\.[0-9]{3})+,[0-9]+|(\.[0-9]{3}){2,})")  # 1.234.567,89
COMMA = re.compile(r"[0-9]+,[0-9]+(e.*)?")  # 5,5
POINT = re.compile(r"[0-9]+\.[0-9]+(e.*)?|[0-9]+e.*")

ALIKE = str.maketrans({"\u2212": "-", "\u066b": ".", "\u066c": ","})  # minus; Arabic separators
SUPERSCRIPT = re.compile("(?<=[0-9])([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
FRACTION = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])")
POWER = re.compile(r"(?<![\w.,])([0-9]+(?:[.,][0-9]+)?) ?[x×*·] ?10 ?\^ ?([+-]?[0-9]+)")
POWER_OF_10 = re.compile(r"(?<![\w.,^])10\^([+-]?[0-9]+)")
THIN = re.compile(r"(?<=[0-9])['’\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")  # 1'000; thin spaces
GROUPED = re.compile(  # 1 000 000, which may be three numbers, and 1.000, which may be 1
    r"(?<![0-9A-Za-z.,])[1-9][0-9]{0,2}(?:(?: [0-9]{3})+(?![0-9])|\.[0-9]{3}(?![.,]?[0-9]))"
)
TWO_PARTS = re.compile(r"(?<![0-9.,])([0-9]+)[.,]([0-9]+)(?![.,]?[0-9])")

# A run of operators is one symbol, so + is not in ++ and not in +=.
SYMBOL = re.compile(r"\w+|[-+*/%=<>&|^~@#\\]+|[^\w\s]")


def grounded(value: Any, question: str) -> bool:  # Sec. 3.2.1
    """Return whether a value is in the question, as whole words; Booleans and null need not be.

    >>> grounded(1000, "Pay 1,000 now"), grounded("art", "a party"), grounded(-5, "5 degrees")
    (True, False, False)
    """
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str) and not words(value).strip():
        wanted = symbols(value)
        return wanted.strip() != "" and wanted in symbols(question)
    for spelling in spellings(value):
        wanted = words(spelling)
        if not wanted.strip():
            continue
        if wanted in words(question) or wanted in words(question, "joined"):
            return True
        several = wanted.count(" ") > 2  # two words: "14:30" is found in the question's "14.30"
        if several and wanted in words(question, "split"):
            return True
    return False


def spellings(value: Any) -> list[str]:
    """Return the texts that may spell a value: two if it is a number, or reads as one.

    >>> spellings("5.0"), spellings("Oslo")
    (['5.0', '5'], ['Oslo'])
    """
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return [text]
    short = f"{number:.15g}"
    if float(short) != number:  # more digits than a double keeps, as in a card number
        return [text]
    return [text, short]


@lru_cache(maxsize=64)
def words(text: str, reading: str = "plain") -> str:
    """Return the words of a text in one spelling, each between spaces.

    Some numbers have two readings.  With "joined" 1 000 and 1.000 are one thousand; with "split"
    14.30 is two words, as 14:30 is.
    """
    text = fold(text)
    text = re.sub(r"\bminus (?=[0-9])", "-", text)
    text = re.sub(r"(?<![\w.])\.(?=[0-9])", "0.", text)  # .5
    text = POWER.sub(r"\1e\2", text)  # 3 x 10^8
    text = POWER_OF_10.sub(r"1e\1", text)
    if reading == "joined":
        text = GROUPED.sub(_join, text)
    if reading == "split":
        text = TWO_PARTS.sub(r"\1 \2", text)
    found = [_one_spelling(word) for word in TOKEN.findall(text)]
    return f" {' '.join(found)} "


def _join(number: re.Match) -> str:
    return re.sub("[ .]", "", number[0])


def symbols(text: str) -> str:
    """Return words and symbols, each between spaces.

    >>> symbols("2+3 = 👍")
    ' 2 + 3 = 👍 '
    """
    found = SYMBOL.findall(fold(text))
    return f" {' '.join(found)} "


@lru_cache(maxsize=64)
def fold(text: str) -> str:
    """Bring a text to one form: NFKC, lower case, digits 0 to 9, no combining marks.

    At most MAX_QUESTION characters are kept.

    >>> fold("Ｃafé ٣ ½")
    'café 3 1⁄2'
    """
    text = SUPERSCRIPT.sub(r"^\1", text[:MAX_QUESTION])  # NFKC would turn 10³ into 103
    text = FRACTION.sub(" ", text)  # and 1½ into 11⁄2
    text = THIN.sub("", text)
    text = normalize("NFKC", text)[:MAX_QUESTION]
    text = text.casefold().translate(ALIKE)
    if text.isascii():
        return text
    return "".join(map(_fold_character, text))


def _fold_character(character: str) -> str:
    kind = category(character)
    if kind == "Nd":
        return str(decimal(character))  # a digit of any script
    if kind == "Cf":
        return ""  # a joiner, a direction mark
    if kind.startswith("M") and not "\u0900" <= character <= "\u17ff":
        return ""  # an accent or a vowel sign; in the scripts of India and beyond it is a letter
    return character


def _one_spelling(word: str) -> str:
    """Return the one spelling of a word; several words for numbers that commas or points join."""
    body = word.removeprefix("-")
    if body.isdigit():
        return word
    if not NUMBERS.fullmatch(body):
        return NUMBER_WORDS.get(word, word)
    sign = "-" if word != body else ""
    numbers = [_write_out(number) for number in _numbers(body)]
    return sign + " ".join(numbers)


def _numbers(text: str) -> list[str]:
    """Split a run of digits, points and commas into numbers with a decimal point.

    >>> _numbers("1,000.5"), _numbers("1.000,5"), _numbers("1.5,2.5"), _numbers("1.2.3")
    (['1000.5'], ['1000.5'], ['1.5', '2.5'], ['1', '2', '3'])
    """
    if ENGLISH.fullmatch(text) or INDIAN.fullmatch(text):
        return [text.replace(",", "")]
    if EUROPEAN.fullmatch(text):
        return [text.replace(".", "").replace(",", ".")]
    if COMMA.fullmatch(text):
        return [text.replace(",", ".")]
    numbers = []
    for part in text.split(","):
        if POINT.fullmatch(part):
            numbers.append(part)
        else:
            numbers += part.split(".")
    return numbers


def _write_out(number: str) -> str:
    """Write out an exponent; drop the zeros that end a fraction.

    >>> [_write_out(number) for number in ("1.5e-05", "3e8", "5.50", "007")]
    ['0.000015', '300000000', '5.5', '007']
    """
    _, _, exponent = number.partition("e")
    if len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
        return number
    if exponent:
        number = f"{Decimal(number):f}"
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number


def same_value(a: Any, b: Any) -> bool:  # Sec. 3.4
    """Compare for r_acc: "5" = 5, "5.0" = 5.0, and texts may differ in spacing.

    The pass rate p and evaluation are stricter (`ast_match.exact_match`).
    """
    kinds = {type(a), type(b)}
    if not kinds <= {int, float, str}:  # a Boolean is not a number
        one = canonical(Call("", {"": a}))
        other = canonical(Call("", {"": b}))
        return one == other
    if float in kinds:
        x = _number(a)
        y = _number(b)
        if x is not None and y is not None:
            return x == y or abs(x - y) <= 1e-9
    return str(a).split() == str(b).split()


def _number(value: int | float | str) -> int | float | None:
    """Return a value as a number or None; a text may have up to 15 digits per side of its point."""
    if not isinstance(value, str):
        return value if abs(value) < 1e308 else None
    if not re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,15})?\s*", value):
        return None
    return float(value)
