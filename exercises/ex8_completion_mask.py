"""Exercise 8: which tokens count.

Completions are sampled side by side, R rows at once (Sec. 4).  A row is over when the model samples
an end token, but others go on, so what stands behind it in its row is filling and no choice of the
model.  The mask says which tokens the loss may look at: all up to the first end token, that
included, and none after it.  A row without an end token was cut off at the limit: all of it counts.

Why the end token counts: stopping is a choice too.  Left out of the loss, it would never be
learned, and completions would grow to the limit.  Why nothing after it: a loss on filling trains
the model on text that it never wrote.  A model may have several end tokens; the first of any kind
ends the row.

Worked example: the end tokens are 0 and 1.  The first row ends with its third token; the second
does not end.

    >>> completion_mask(torch.tensor([[5, 7, 0, 9, 1], [5, 7, 8, 9, 6]]), [0, 1]).int()
    tensor([[1, 1, 1, 0, 0],
            [1, 1, 1, 1, 1]], dtype=torch.int32)

Hint: a token counts if no end token stands before it.  `torch.isin` finds the end tokens, once
`end` is a tensor; `cumsum(1)` counts them up to and including each place.

    python exercises/ex8_completion_mask.py
"""

import torch
from check import check  # first: it lets Python find the project

from rollout import as_rollout


def completion_mask(ids: torch.Tensor, end: list[int]) -> torch.Tensor:
    """Whether each token counts, (R, C) of Booleans; ids (R, C) were sampled, `end` are end ids."""
    raise NotImplementedError


def wanted(ids, end) -> torch.Tensor:
    """The same by the project's rollout, of a model that generates just these ids."""
    rollouts = [as_rollout([0], row, end) for row in ids.tolist()]
    width = ids.shape[1]
    return torch.tensor([[t < len(r.completion) for t in range(width)] for r in rollouts])


if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    check(
        completion_mask,
        wanted,
        [
            (torch.tensor([[5, 7, 0, 9, 1], [5, 7, 8, 9, 6]]), [0, 1]),
            (torch.tensor([[0, 0, 5], [5, 0, 0], [5, 5, 0], [5, 5, 5]]), [0]),
            *((torch.randint(0, 8, (6, 10), generator=rng), end) for end in ([0], [0, 3]) * 10),
        ],
    )
