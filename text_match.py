import re
from contextlib import suppress
from functools import lru_cache
from typing import Any
from unicodedata import normalize

from ast_match import Call, canonical

MAX_QUESTION = 4_000
_NAMES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
NUMBER_WORDS = dict(zip(_NAMES.split(), map(str, [*range(20), *range(20, 100, 10)])))
_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+[.,][0-9]+"  # 1,000.50 or 5.5
# In this order: a number with its sign, commas and point; a negative whole number; a plain word.
_WORD = re.compile(
    rf"(?<!\w)(?<![0-9][.,])-?(?:{_NUMBER})(?![.,]?[0-9])|(?<!\w)-[0-9]+"
    r"|[^\W_]+(?:(?<=[^\W\d_])[+#]+(?!\w))?"
)  # C is not in "C++"


@lru_cache(maxsize=64)
def words(text: str, split: bool = False) -> str:
    """Lower-case words between blanks, "Three trips, 1,000.50 EUR" -> " 3 trips 1000.5 eur ".

    With `split` 14.30 is two words, like 14:30, and 1.000 is two, like 1 000.
    """
    text = normalize("NFKC", text[:MAX_QUESTION]).casefold().replace("\u2212", "-")
    text = re.sub(r"\bminus (?=[0-9])", "-", text)
    text = re.sub(r"(?<![\w.])\.(?=[0-9])", "0.", text)  # .5
    if split:
        text = re.sub(r"(?<![0-9.,])([0-9]+)[.,]([0-9]+)(?![.,]?[0-9])", r"\1 \2", text)
    return f" {' '.join(map(_spelling, _WORD.findall(text)))} "


def _spelling(word: str) -> str:
    word = re.sub(r",(?=[0-9]{3}(?![0-9]))", "", word).replace(",", ".")
    return NUMBER_WORDS.get(word, word.rstrip("0").rstrip(".") if "." in word else word)


def grounded(value: Any, question: str) -> bool:  # Sec. 3.2.1
    """Whether a value stands in the question, as whole words; Booleans and null need not.

    >>> grounded(1000, "Pay 1,000 now"), grounded("art", "a party"), grounded(-5, "5 degrees")
    (True, False, False)
    """
    if value is None or isinstance(value, bool):
        return True
    spellings = {str(value)}
    with suppress(ValueError):  # what reads as a number may be spelled like one
        spellings |= {f"{float(str(value)):.15g}", f"{float(str(value)):,.15g}".replace(",", " ")}
    # Three blanks: two words or more.  The value "14:30" also stands in a question's "14.30".
    return any(
        w in words(question) or w.count(" ") > 2 and w in words(question, split=True)
        for w in map(words, spellings)
        if w.strip()
    )


def same_value(a: Any, b: Any) -> bool:
    """Equal for r_acc: "5" = 5, "5.0" = 5.0, text but for its blanks.  p and eval are stricter."""
    if not {type(a), type(b)} <= {int, float, str}:  # a Boolean is no number
        return canonical(Call("", {"": a})) == canonical(Call("", {"": b}))
    x, y = _number(a), _number(b)
    if float in (type(a), type(b)) and None not in (x, y):
        return x == y or abs(x - y) <= 1e-9
    return str(a).split() == str(b).split()


def _number(value: int | float | str) -> int | float | None:
    if not isinstance(value, str):
        return value if abs(value) < 1e308 else None
    return float(value) if re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,15})?\s*", value) else None
