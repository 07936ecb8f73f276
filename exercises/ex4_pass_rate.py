"""Exercise 4: pass@K, the share of right answers.

The paper (Sec. 3.2.1) measures how hard a task is by pass@K: the Solver answers K = 8 times at
temperature .7, and p is the share of answers that equal the gold answer.  (Elsewhere pass@K often
means "at least one of K is right"; here it is the share.)

Why the whole answer: an answer with the right tool and a wrong value is a failed request.  Had it
counted as right, as in the released code, which compares the names of tools alone, a task whose
values the Solver always confuses would be called easy.

`exact_match` of the project compares two lists of calls: the same calls, all and no other, in any
order.

Worked example: the gold answer is f(x=1).  Of f(x=1), f(x=2), nothing, and f(x=1) twice, only the
first equals it: p = 1 / 4.

    >>> f1, f2 = Call("f", {"x": 1}), Call("f", {"x": 2})
    >>> pass_rate([[f1], [f2], [], [f1, f1]], [f1])
    0.25

Hint: the sum of some Booleans is how many of them are true.

    python exercises/ex4_pass_rate.py
"""

import random

from check import check  # first: it lets Python find the project

import curate
from ast_match import Call


def pass_rate(answers: list[list[Call]], gold: list[Call]) -> float:
    """The share of answers, each a list of calls, that equal the gold calls."""
    raise NotImplementedError


if __name__ == "__main__":
    rng = random.Random(0)

    def calls(n: int) -> list[Call]:
        """n calls, each one of four."""
        return [Call(rng.choice("fg"), {"x": rng.choice([1, 2])}) for _ in range(n)]

    f1, f2, g1 = Call("f", {"x": 1}), Call("f", {"x": 2}), Call("g", {"x": 1})
    check(
        pass_rate,
        curate.pass_rate,
        [
            ([[f1], [f2], [], [f1, f1]], [f1]),
            ([[f1, g1], [g1, f1], [f1]], [f1, g1]),
            ([[f1], [f1]], [f1]),
            ([[], [g1]], [f1]),
            *(([calls(n) for _ in range(8)], calls(n)) for n in (1, 2) for _ in range(50)),
        ],
    )
