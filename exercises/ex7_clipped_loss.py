"""Exercise 7: the clipped loss of a token.

GRPO (Sec. 4) makes the tokens of good completions likelier, but not too much at once.  With ratio =
pi(token) / pi_old(token), where pi_old is the policy that sampled it,

    loss = -min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)

Why the clip: the samples tell how to improve the policy that made them, and less and less about one
that has moved away.  Once a good token (A > 0) is likelier by more than `high`, the loss is flat
and pushes it no further; so is that of a bad token that became less likely by more than `low`.  Why
the min: a bad token that became likelier is never let off, nor a good one that became less likely.
With one update per batch, as in the paper, the ratio is 1 and nothing is clipped.

The project's loss has a further term that holds the policy near its start; it is left out here.

Worked example, low = high = .2.  A token with ratio 1.5: for A = 1 the loss is -min(1.5, 1.2) =
-1.2, which is flat; for A = -1 it is -min(-1.5, -1.2) = 1.5, which is not.

    >>> logps, old = torch.tensor([[1.5], [1.5]]).log(), torch.zeros(2, 1)
    >>> clipped_loss(logps, old, torch.tensor([1.0, -1.0]), 0.2, 0.2)
    tensor([[-1.2000],
            [ 1.5000]])

Hint: logps and old are logarithms.  An advantage counts for all tokens of its row.

    python -m exercises.ex7_clipped_loss
"""

import torch

import grpo
from config import Config
from exercises.check import check


def clipped_loss(
    logps: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """Return the loss of each token, (R, C); advantage (R,), log-probabilities (R, C)."""
    raise NotImplementedError


def wanted(logps, old, advantage, low, high) -> torch.Tensor:
    """Return the project's loss, without a reference model."""
    return grpo.token_loss(logps, old, None, advantage, Config(), low, high)[0]


if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    ratios = torch.tensor([[0.5, 0.9, 1.0, 1.1, 1.5]]).repeat(3, 1).log()
    cases = [(ratios, torch.zeros(3, 5), torch.tensor([1.0, -1.0, 0.0]), 0.2, 0.2)]
    for _ in range(50):
        logps, old = torch.randn(2, 4, 3, generator=rng) / 4 - 2
        cases.append((logps, old, torch.randn(4, generator=rng), 0.1, 0.3))
    check(clipped_loss, wanted, cases)
