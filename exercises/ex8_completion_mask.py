"""Exercise 8: which tokens count.

Completions are sampled side by side, R rows at once (Sec. 4).  A row is over when the model samples
an end token, but other rows go on, so what follows in its row is padding, not a choice of the
model.  The mask selects the tokens that the loss may use: all up to and including the first
end token, and none after it.  A row without an end token was cut off at the limit: all of it
counts.

Why the end token counts: stopping is a choice too.  If the loss left it out, it would never be
learned, and completions would grow to the limit.  Why nothing after it: a loss on padding trains
the model on text that it never wrote.  A model may have several end tokens; the first of any kind
ends the row.

Worked example: the end tokens are 0 and 1.  The first row ends with its third token; the second
does not end.

    >>> completion_mask(torch.tensor([[5, 7, 0, 9, 1], [5, 7, 8, 9, 6]]), [0, 1]).int()
    tensor([[1, 1, 1, 0, 0],
            [1, 1, 1, 1, 1]], dtype=torch.int32)

Hint: a token counts if no end token comes before it.  `torch.isin` finds the end tokens, once
`eos_ids` is a tensor; `cumsum(1)` counts them up to and including each place.

    python -m exercises.ex8_completion_mask
"""

import torch

from exercises.check import check
from rollout import as_rollout


def completion_mask(ids: torch.Tensor, eos_ids: list[int]) -> torch.Tensor:
    """Return whether each sampled token counts, Booleans; (R, C) -> (R, C)."""
    raise NotImplementedError


def wanted(ids, eos_ids) -> torch.Tensor:
    """Return the mask of the completions that the project's rollout keeps."""
    lengths = [len(as_rollout([], row, eos_ids).completion) for row in ids.tolist()]
    return torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]


if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    cases = [(torch.tensor([[5, 7, 0, 9, 1], [5, 7, 8, 9, 6]]), [0, 1])]
    for eos_ids in ([0], [0, 3]) * 10:
        cases.append((torch.randint(0, 8, (6, 10), generator=rng), eos_ids))
    check(completion_mask, wanted, cases)
