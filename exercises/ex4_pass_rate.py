"""Exercise 4: pass@K, the share of right answers.

The paper (Sec. 3.2.1) measures how hard a task is by pass@K: the Solver answers K = 8 times at
temperature .7, and p is the share of answers that equal the gold answer.  (Elsewhere pass@K often
means "at least one of K is right"; here it is the share.)

Why the whole answer: an answer with the right tool and a wrong value is a failed request.  If the
names of tools were enough, as in the released code, a task whose values the Solver always confuses
would be called easy.

The project's `exact_match` compares two lists of calls: the same calls, all of them and no others,
in any order.

Worked example: the gold answer is f(x=1).  Of f(x=1), f(x=2), nothing, and f(x=1) twice, only the
first equals it: p = 1 / 4.

    >>> f1, f2 = Call("f", {"x": 1}), Call("f", {"x": 2})
    >>> pass_rate([[f1], [f2], [], [f1, f1]], [f1])
    0.25

Hint: the sum of some Booleans is how many of them are true.

    python -m exercises.ex4_pass_rate
"""

from itertools import product

import curate
from ast_match import Call, exact_match  # noqa: F401 (for your body)
from exercises.check import check


def pass_rate(answers: list[list[Call]], gold: list[Call]) -> float:
    """Return the share of answers, each a list of calls, that equal the gold calls."""
    raise NotImplementedError


if __name__ == "__main__":
    f1, f2, g1 = Call("f", {"x": 1}), Call("f", {"x": 2}), Call("g", {"x": 1})
    answers = [[], [f1], [f2], [g1], [f1, f1], [f1, g1], [g1, f1]]
    cases = product(product(answers, repeat=3), answers[1:])
    check(pass_rate, curate.pass_rate, cases)
