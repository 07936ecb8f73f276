"""What a question says: which values are found in it, and which values count as the same."""

import html
import json
import re
import time
from decimal import Decimal

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from text_match import fold, grounded, same_value, words

TABLE = (ROOT / "docs" / "grounding.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+)` \| (.+?) \| (yes|no) \|", TABLE, re.MULTILINE)


@pytest.mark.parametrize("value, question, found", ROWS)
def test_each_row_of_the_table_is_right(value, question, found):
    assert grounded(json.loads(value), html.unescape(question)) is (found == "yes")


def test_the_table_has_no_row_that_is_not_read():
    lines = [line for line in TABLE.splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS) > 100


@pytest.mark.parametrize(
    "value, question, found",
    [
        (1000, "pay 1000 now", True),
        ([1, 2], "1, 2", True),
        ([1, 2], "1 and 2", False),
        ([1.5, 2.5], "1.5,2.5", True),
        ([], "1", False),
        ([], "an empty list: []", False),
        ("A-12", "code a-12", True),
        (5, "code A-5", True),
        (-5, "code A-5", False),
        ("C++", "in C", False),
        (1.2, "1.2.3", False),
        (5, "add .5 litres", False),
        (".5", "5 apples", False),
        (-0.5, "at -.5 degrees", True),
        (5, "wait ...5 minutes", True),
        (20, "twenty-five", True),  # two words, of which this is one
        ("東京", "a trip to 東京", True),
        (3.5, "水温3.5度", True),
        (5, "水温3.5度", False),
        (1000, "共1 000元", True),
        (-1000, "it fell by -1.000 points", True),
        (1152921504606846976, "1 152 921 504 606 846 976", True),
        (4111111111111111, "card 4111111111111110", False),  # beyond 15 digits all of them count
        (1234567.89, "1\u202f234\u202f567,89 EUR", True),
        (567, "1\u202f234\u202f567 EUR", False),
        (0.3, "weights .1,.2,.3", True),
        (151.2093, "at (-33.8688,151.2093)", True),
        (2, "about 1.5,2 or so", True),
        (1e-7, "1E-7.", True),
        (1e-5, "about 10⁻⁵", True),
        (6.62607015e-34, "6.62607015×10⁻³⁴ J s", True),
        (1e100, "a googol is 1e100", True),
        (1e-320, "the smallest is 1e-320 or so", True),
        (5, "1e99999 and 1e-99999 and 1e" + "9" * 99, False),
        (1e5, "100,000 steps", True),
        ("0.00001", "1e-05", True),
        ("550e8400-e29b", "id 550e8400-e29b", True),
        ("👩‍💻", "a 👩‍💻 at work", True),
        ("🇩🇪", "the flag 🇩🇪", True),
        ("…", "wait...", True),
        ("_", "join them by _ please", True),
        ("\u200b", "nothing\u200b to see", False),
        ("Par\u00adis", "to Paris", True),  # a soft hyphen
        (5, "\u200f5 أيام", True),  # a mark of the writing direction
    ],
)
def test_a_value_is_found_as_whole_words(value, question, found):
    assert grounded(value, question) is found


numbers = st.floats(1e-300, 1e300) | st.floats(0.001, 1e9).map(lambda x: round(x, 3))


@given(numbers, st.sampled_from("{} {:e} {:.15g} {:E}".split()), st.sampled_from([1, -1]))
@settings(max_examples=300, deadline=None)
def test_a_number_is_found_however_python_writes_it(number, form, sign):
    written = form.format(sign * number)
    assert grounded(float(written), f"use {written} here")
    assert grounded(float(written), f"use {float(written)!r},{written} here")
    assert not grounded(-float(written), f"use {written} here")


@given(numbers)
@settings(max_examples=200, deadline=None)
def test_a_number_is_found_written_out_and_in_powers_of_10(number):
    assert grounded(number, f"use {Decimal(repr(number)):f}.")
    mantissa, exponent = f"{Decimal(repr(number)):e}".split("e")
    assert grounded(number, f"use {mantissa} x 10^{int(exponent)}.")


@given(st.integers(1000, 10**15), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_a_number_is_found_with_the_separators_of_each_country(whole, cents):
    value = float(f"{whole % 10**12}.{cents:02d}")
    english = f"{int(value):,}.{cents:02d}"
    swap = str.maketrans(",.", ".,")
    for written in (
        english,
        english.translate(swap),
        english.replace(",", " "),
        english.replace(",", "'"),
        english.replace(",", "\u202f"),
        english.replace(",", "\u00a0").replace(".", ","),
    ):
        assert grounded(value, f"pay {written} now"), written
    assert grounded(whole, f"pay {indian(whole)} now")


def indian(number):
    """Write a whole number with lakhs and crores: 1234567 is 12,34,567."""
    head, tail = str(number)[:-3], str(number)[-3:]
    return ",".join(re.findall(r"\d{1,2}(?=(?:\d\d)*$)", head) + [tail])


@given(st.lists(st.floats(-180, 180).map(lambda x: round(x, 4)), min_size=2, max_size=4))
@settings(max_examples=200, deadline=None)
def test_decimals_that_commas_join_are_found_and_their_halves_are_not(numbers):
    written = [f"{number:.4f}" for number in numbers]
    question = f"at {','.join(written)} please"
    assert all(grounded(number, question) for number in numbers)
    halves = {int(half) for text in written for half in text.lstrip("-").split(".")}
    halves = {half for half in halves if str(half) not in words(question).split()}
    assert not any(grounded(half, question) for half in halves)


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("5", 5, True),
        ("5.0", 5, False),
        ("007", 7, False),
        ("3.50", 3.5, True),
        (" Paris ", "Paris", True),
        (5, 5.0000000001, True),
        ([True], [1], False),
        ((1, 2), [1, 2], True),
        (None, "None", False),
        (1, 1.0, True),
        (True, 1, False),
        ("a  b", "a b", True),
        ("A", "a", False),
        ([1], [1.0], True),
        (10**400, 1, False),
        (10**400, 1.5, False),
    ],
)
def test_values_are_compared_as_numbers_and_words(a, b, same):
    assert same_value(a, b) is same


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(scalars, lambda x: st.lists(x) | st.dictionaries(st.text(), x)), st.text())
@settings(max_examples=300, deadline=None)
def test_any_value_is_searched_and_compared_without_an_error(value, question):
    assert grounded(value, question) in (True, False)
    assert same_value(value, value) and same_value(value, question) in (True, False)


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_text_with_any_word_or_symbol_is_found_in_itself(text):
    question = f"say {text} now"
    if any(character.isalnum() for character in text.split()):
        assert grounded(text, question) or not words(text).strip()


@pytest.mark.parametrize(
    "piece",
    [
        "1e400 ",
        "1,",
        "1.",
        "1,000",
        "1 000 ",
        "-1e-5,",
        "1e",
        "x10^",
        "٣٫",
        "\ufdfa",
        "東",
        "अ्",
        "❤️",
        "+",
        "a+",
    ],
)
def test_100_kb_of_anything_is_searched_in_50_ms(piece):
    text = piece * (100_000 // len(piece))
    for value in (text, 5, "+"):
        seconds = []
        for _ in range(3):
            words.cache_clear()
            fold.cache_clear()
            start = time.process_time()
            grounded(value, text)
            seconds.append(time.process_time() - start)
        assert min(seconds) < 0.05
