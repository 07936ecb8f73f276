"""Lists of ids of different lengths as rectangular tensors."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def round_up(width: int, block: int) -> int:
    """Round `width` up to a multiple of `block`.

    >>> round_up(5, 4)
    8
    """
    return -(-width // block) * block


def left_pad(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the left.  Return ids, mask (True: a real token) and positions, all (N, P)."""
    width = max(map(len, prompts))
    rows = []
    starts = []
    for prompt in prompts:
        start = width - len(prompt)
        rows.append([0] * start + prompt)
        starts.append(start)
    ids = torch.tensor(rows, device=device)
    columns = torch.arange(width, device=device)
    positions = columns - torch.tensor(starts, device=device)[:, None]
    return ids, positions >= 0, positions.clamp(min=0)


def right_pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad on the right.  Return ids and mask (True: a real token), both (R, C).

    >>> right_pad([[5, 6], [7]], torch.device("cpu"))[0].tolist()
    [[5, 6], [7, 0]]
    """
    width = max(map(len, rows))
    padded = []
    ends = []
    for row in rows:
        padded.append(row + [0] * (width - len(row)))
        ends.append(len(row))
    ids = torch.tensor(padded, dtype=torch.long, device=device)
    columns = torch.arange(width, device=device)
    mask = columns < torch.tensor(ends, device=device)[:, None]
    return ids, mask


def batched(items: Sequence, size: int) -> Iterator[Sequence]:
    """Yield slices of at most `size` items, in order.

    >>> list(batched("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]
