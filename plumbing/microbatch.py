"""What bounds the memory of an update: micro-batches, chunks of logits, and a retry with less."""

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from plumbing import distributed
from plumbing.padding import batched
from rollout import Rollout

T = TypeVar("T")
Row = tuple[Rollout, float]  # a completion and its advantage
FITS: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()  # what memory allowed before


def micro_batches(
    model: PreTrainedModel, rows: list[Row], size: int, idle: list[int]
) -> list[list[Row]]:
    """Cut this process's rows into micro-batches of at most `size` rows.

    Sharded layers need every process in every forward pass: one that has fewer micro-batches
    continues with a row of no tokens, whose prompt is `idle`.
    """
    mine = distributed.own([rollout.prompt for rollout, _ in rows])
    rows = [row for row, is_mine in zip(rows, mine) if is_mine]
    nothing = (Rollout(idle, [], True), 0.0)
    return distributed.in_step(model, list(batched(rows, size)), [nothing])


def retry_smaller(work: Callable[[int], T], model: PreTrainedModel, size: int) -> T:
    """Return work(size), with `size` halved as long as the memory does not suffice.

    `work` must begin from scratch each time.  The size that sufficed is kept for the model's next
    steps.  Sharded models are not retried, since the other processes would wait for ever.
    """
    size = min(size, FITS.get(model, size))
    while True:
        try:
            return distributed.run_collective(work, size)
        except torch.OutOfMemoryError:
            if size == 1 or distributed.is_sharded(model):
                raise
        size = size // 2
        FITS[model] = size
        print(f"short of memory: --micro-batch is now {size}")


def in_chunks(
    function: Callable[..., tuple[Tensor, ...]], size: int, *tensors: Tensor
) -> tuple[Tensor, ...]:
    """Return function(*tensors), computed `size` rows at a time.

    The backward pass computes each chunk again instead of keeping all of them.
    """
    if len(tensors[0]) <= size:
        return function(*tensors)
    parts = []
    for chunk in zip(*[x.split(size) for x in tensors]):
        parts.append(checkpoint(function, *chunk, use_reentrant=False))
    return tuple(torch.cat(column) for column in zip(*parts))
