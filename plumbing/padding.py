"""Lists of ids of different lengths as rectangular tensors."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def left_pad(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the left.  Return ids, mask (True: a real token) and positions, all (N, P)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    positions = torch.arange(width, device=device) - (width - lengths)[:, None]
    return ids, positions >= 0, positions.clamp(min=0)


def right_pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad on the right.  Return ids and mask (True: a real token), both (R, C).

    >>> right_pad([[5, 6], [7]], torch.device("cpu"))[0].tolist()
    [[5, 6], [7, 0]]
    """
    width = max(map(len, rows))
    padded = [row + [0] * (width - len(row)) for row in rows]
    ids = torch.tensor(padded, dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = torch.arange(width, device=device) < lengths[:, None]
    return ids, mask


def batched(items: Sequence, size: int) -> Iterator[Sequence]:
    """Yield slices of at most `size` items, in order.

    >>> list(batched("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]
