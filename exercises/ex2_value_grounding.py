"""Exercise 2: is a value in the question?

The paper (Sec. 3.2.1, the last term of Eq. (2)) pays the Generator for gold calls whose every value
is in the question.  Without that term a Generator could ask for "a flight" and call the right
answer Oslo, 3 May: no Solver can know that.  Booleans and null are exempt: nobody says "true".

Whole words count.  A plain search would find "art" in "party" and 5 in "15", and a Generator that
is paid for such a match has no reason to write a better task.  And one value has several spellings,
for example Three and 3, or 1,000 and 1000.  The project's `words` gives them one spelling and puts
each word between blanks:

    >>> words("Three trips, 1,000.50 EUR")
    ' 3 trips 1000.5 eur '

Worked example: the words of 1000 are ' 1000 ', which is in ' pay 1000 now '; the words of "art" are
' art ', which is not in ' a party '.

    >>> grounded(1000, "Pay 1,000 now"), grounded("art", "a party"), grounded(True, "a party")
    (True, False, True)

The project's own function reads more: it finds 14:30 in "at 14.30", the text "1e3" in "1000", and
"+" in "2 + 3" (docs/grounding.md).

Hint: `str(value)` turns any value into text; the blanks around the words do the rest.  The empty
text has no words and is never found.

    python exercises/ex2_value_grounding.py
"""

import random
from typing import Any

from check import check  # first: it lets Python find the project

import text_match
from text_match import words  # noqa: F401 (for your function)


def grounded(value: Any, question: str) -> bool:
    """Whether a value is in the question, as whole words."""
    raise NotImplementedError


if __name__ == "__main__":
    rng, vocabulary = random.Random(0), "a art party part New York two 2 5 15 1,000 -5 5.5".split()
    drawn = [" ".join(rng.choices(vocabulary, k=n)) for n in range(1, 9) for _ in range(25)]
    check(
        grounded,
        text_match.grounded,
        [
            (1000, "Pay 1,000 now"),
            ("art", "a party"),
            (True, "a party"),
            (False, "nothing"),
            (None, "nothing"),
            (0, "nothing"),
            (3, "Three trips"),
            ("", "nothing"),
            ("new york", "To New  York, please"),
            ("York New", "To New York"),
            (5, "15 of 25"),
            (-5, "5 degrees"),
            (5, "-5 degrees"),
            (0.5, "0.50 litres"),
            (5, "5.5 litres"),
            *((rng.choice(question.split()), rng.choice(drawn)) for question in drawn),
        ],
    )
