"""Lists of ids of different lengths as rectangular tensors."""

from collections.abc import Iterator, Sequence

import torch


def left_pad(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Pad on the left.  Return ids, mask (True: a real token) and positions, all (N, P)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    positions = torch.arange(width, device=device) - (width - lengths)[:, None]
    return ids, positions >= 0, positions.clamp(min=0)


def batched(items: Sequence, size: int) -> Iterator[Sequence]:
    """Slices of at most `size` items, in order.

    >>> list(batched("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]
