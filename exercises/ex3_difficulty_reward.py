"""Exercise 3: the difficulty reward.

The paper (Sec. 3.2.1) samples K = 8 answers of the frozen Solver and takes p, the share of right
ones.  The Generator's pay depends on p:

    0                                      if no answer was right: p < 1 / K
    1                                      if .25 <= p <= .75
    exp(-(p - edge)^2 / (2 * .12^2))       otherwise; edge is the nearer of .25 and .75

Why a band: a task that the Solver always gets right teaches it nothing, since all answers of a
group earn the same; one that it never gets right teaches nothing either, and its gold answer may be
wrong.  Why soft edges: a task just outside is still worth something, so the Generator is drawn
towards the band instead of falling off a cliff.

Worked example: 7 of 8 right is .125 above the edge .75, so exp(-.125^2 / (2 * .12^2)) = .5813.

    >>> [round(r_diff(k / 8, 8), 4) for k in (0, 1, 2, 7, 8)]
    [0.0, 0.5813, 1.0, 0.5813, 0.1142]

Hint: p clipped to the band is its edge, or p itself, for which the formula gives 1.

    python -m exercises.ex3_difficulty_reward
"""

import rewards
from exercises.check import check


def r_diff(p: float, k: int) -> float:
    """Return the difficulty reward, 0 to 1, of a task whose share of right answers among k is p."""
    raise NotImplementedError


if __name__ == "__main__":
    check(r_diff, rewards.r_diff, [(right / k, k) for k in (8, 4, 16) for right in range(k + 1)])
