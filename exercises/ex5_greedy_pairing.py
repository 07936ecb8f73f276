"""Exercise 5: the Solver's accuracy, by greedy pairing.

The paper (Sec. 3.4) pays the Solver r_acc, even for an answer that is only nearly right.  Each gold
call, in order, takes its best unused prediction: the one with the highest `pair_score`,

    .2 if the names are equal + .3 F1 of the argument names + .5 share of equal values

r_acc is the mean of these scores over the gold calls; one that finds no prediction left scores 0.
Surplus calls have a price: r_acc is divided by 1 + .25 * max(0, calls predicted - gold calls).

Why pairs: the order of calls does not matter, and without pairing one good prediction could count
for every gold call.  Why the price: otherwise the best answer is to make many calls and hope.

Worked example: gold f(x=1), g(y=2), predicted g(y=2), f(x=3).  f takes f: .2 + .3 + 0 = .5; g takes
g: 1.  The mean is .75.  A third call, h(), makes it .75 / 1.25 = .6.

    >>> gold = [Call("f", {"x": 1}), Call("g", {"y": 2})]
    >>> predicted = [Call("g", {"y": 2}), Call("f", {"x": 3})]
    >>> r_acc(predicted, gold), round(r_acc([*predicted, Call("h", {})], gold), 4)
    (0.75, 0.6)

Hint: of several best predictions take the first, and use up that one alone, though another may
equal it.  A prediction with score 0 is not used up.  Without gold calls r_acc is 0.

    python -m exercises.ex5_greedy_pairing
"""

import random

import rewards
from ast_match import Call
from exercises.check import check
from rewards import pair_score  # noqa: F401 (for your body)


def r_acc(predicted: list[Call], gold: list[Call]) -> float:
    """Return the accuracy of the predicted calls, 0 to 1."""
    raise NotImplementedError


if __name__ == "__main__":
    f1, f3, g2 = Call("f", {"x": 1}), Call("f", {"x": 3}), Call("g", {"y": 2})
    calls = [f1, f3, g2, Call("h", {}), Call("f", {"x": 1, "y": 2}), Call("g", {"x": 1})]
    rng = random.Random(0)
    cases = [([g2, f3], [f1, g2]), ([f1, f1], [f1, f1]), ([], [f1]), ([f1], []), ([], [])]
    for _ in range(200):
        cases.append((rng.choices(calls, k=rng.randint(0, 4)), rng.choices(calls, k=2)))
    check(r_acc, rewards.r_acc, cases)
