"""Exercise 6: from rewards to advantages.

Both players learn by GRPO (Sec. 4).  The G completions i of one prompt are a group, and each is
judged against its own group:

    A_i = (r_i - mean(r)) / (std(r) + 1e-4)

Why the mean: a reward of 1.5 says little by itself.  Where the others earned 2 it was bad, where
they earned 1 it was good; the group's mean replaces a critic, a second model that estimates what a
prompt is worth.  Why the std: prompts whose rewards are close together then count as much as those
whose rewards are far apart.  Why the 1e-4: if all rewards are equal the std is 0; the advantage is
then 0 too, and the group teaches nothing.

The std divides by G - 1, as `torch.std` does.

Worked example: the rewards 2, 1, 1, 0 have mean 1 and std sqrt((1 + 0 + 0 + 1) / 3) = .8165, so the
first has advantage 1 / .8166 = 1.2246.

    >>> advantages(torch.tensor([[2.0, 1.0, 1.0, 0.0]]))
    tensor([[ 1.2246,  0.0000,  0.0000, -1.2246]])

Hint: compute in float64, `rewards.double()`, and return `.float()`.  In float32 the mean of eight
rewards of 1.9 is not 1.9, and the tiny difference is divided by hardly more than 1e-4.

    python -m exercises.ex6_advantages
"""

import torch

import grpo
from exercises.check import check


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Return the advantages of N groups of G completions.  (N, G) -> (N, G)"""
    raise NotImplementedError


if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    cases = [torch.tensor([[2.0, 1.0, 1.0, 0.0]]), torch.full((2, 8), 1.9)]
    cases += [torch.randint(0, 20, (n, 8), generator=rng) / 10 for n in range(1, 20)]
    check(advantages, grpo.advantages, [(case,) for case in cases])
