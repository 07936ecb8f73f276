"""Exercise 2: is a value in the question?

The paper (Sec. 3.2.1, the last term of Eq. (2)) pays the Generator for gold calls whose every value
is in the question.  Otherwise it could ask for "a flight" and declare "Oslo, 3 May" the right
answer, which no Solver can know.  Booleans and null are exempt: nobody says "true".

Whole words count.  A plain search would find "art" in "party" and 5 in "15", and a Generator that
is paid for it has no reason to write a better task.  One value also has several spellings: Three
and 3, 1,000 and 1000.  The project's `words` gives them one, with each word between spaces:

    >>> words("Three trips, 1,000.50 EUR")
    ' 3 trips 1000.5 eur '

Worked example: the words of 1000 are ' 1000 ', found in ' pay 1000 now '; the words of "art" are
' art ', not found in ' a party '.

    >>> grounded(1000, "Pay 1,000 now"), grounded("art", "a party"), grounded(True, "a party")
    (True, False, True)

Hint: `str(value)` turns any value into text; the spaces around the words do the rest.  A value
without any word, such as "", is found nowhere.

    python -m exercises.ex2_value_grounding
"""

from typing import Any

import text_match
from exercises.check import check
from text_match import words  # noqa: F401 (for your body)


def grounded(value: Any, question: str) -> bool:
    """Return whether a value is in the question, as whole words."""
    raise NotImplementedError


if __name__ == "__main__":
    questions = ["Pay 1,000 now", "a party", "Three trips", "To New  York, please", "15 of 25"]
    questions += ["5 degrees", "-5 degrees", "0.50 litres", "5.5 litres", "nothing"]
    values = [1000, "art", "party", True, False, None, 0, 1, 3, "", "new york", "York New"]
    values += [5, 15, -5, 0.5, 5.5, "please"]
    check(grounded, text_match.grounded, [(v, q) for q in questions for v in values])
