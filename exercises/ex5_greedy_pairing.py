"""Exercise 5: the Solver's accuracy, by greedy pairing.

The paper (Sec. 3.4) pays the Solver r_acc, also for an answer that is nearly right.  Each gold
call, in its order, takes its best unused prediction: the one with the highest `pair_score`,

    .2 if the names are equal + .3 F1 of the argument names + .5 share of equal values

r_acc is the mean of these scores over the gold calls; one that finds no prediction left scores 0.
For each call too many, the price: r_acc is divided by 1 + .25 * (calls predicted - calls in gold).

Why pairs: the order of calls does not matter, and without pairing one good prediction could be
counted for every gold call.  Why the price: else the best answer is to make many calls and hope.

Worked example: gold f(x=1), g(y=2), predicted g(y=2), f(x=3).  f takes f: .2 + .3 + 0 = .5; g takes
g: 1.  The mean is .75.  A third call, h(), makes it .75 / 1.25 = .6.

    >>> gold = [Call("f", {"x": 1}), Call("g", {"y": 2})]
    >>> predicted = [Call("g", {"y": 2}), Call("f", {"x": 3})]
    >>> r_acc(predicted, gold), round(r_acc([*predicted, Call("h", {})], gold), 4)
    (0.75, 0.6)

Hint: of several best predictions the first is taken, and only that one is used up, though another
may equal it.  A prediction with score 0 is not used up.  Without gold calls r_acc is 0.

    python exercises/ex5_greedy_pairing.py
"""

import random

from check import check  # first: it lets Python find the project

import rewards
from ast_match import Call


def r_acc(predicted: list[Call], gold: list[Call]) -> float:
    """The accuracy of the predicted calls, 0 to 1."""
    raise NotImplementedError


if __name__ == "__main__":
    rng = random.Random(0)

    def calls(n: int) -> list[Call]:
        """n calls with up to three arguments."""
        names = ["xyz"[: rng.randint(0, 3)] for _ in range(n)]
        return [Call(rng.choice("fg"), {name: rng.choice([1, 2]) for name in xyz}) for xyz in names]

    f1, f3 = Call("f", {"x": 1}), Call("f", {"x": 3})
    g2, h = Call("g", {"y": 2}), Call("h", {})
    check(
        r_acc,
        rewards.r_acc,
        [
            ([g2, f3], [f1, g2]),
            ([g2, f3, h], [f1, g2]),
            ([f1, Call("f", {"x": 1})], [f1, f1]),
            ([f1], [f1, g2]),
            ([], [f1]),
            ([f1], []),
            ([], []),
            ([h], [f1, h]),
            *((calls(rng.randint(0, 4)), calls(rng.randint(1, 3))) for _ in range(200)),
        ],
    )
