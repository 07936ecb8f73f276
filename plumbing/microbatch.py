"""What bounds the memory of an update: micro-batches, chunks of logits, and a retry with less."""

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from errors import is_out_of_memory
from plumbing import distributed
from plumbing.cuda_graph import WORKSPACES
from plumbing.padding import batched
from rollout import Rollout

T = TypeVar("T")
Row = tuple[Rollout, float]  # a completion and its advantage
BY_TOKENS = ("cuda",)  # devices whose micro-batches are cut by tokens; a CPU gains nothing
CHUNKS = {"cuda": 2**26}  # elements of a chunk of logits: 256 MB in float32
CHUNK = 2**25  # the same elsewhere
FITTING: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()  # model -> size that fitted


def micro_batches(
    model: PreTrainedModel, rows: list[Row], size: int, idle: list[int]
) -> list[list[Row]]:
    """Cut this process's rows into micro-batches.

    On a GPU each holds at most as many tokens as `size` of the longest rows, elsewhere `size` rows.
    Sharded layers need every process in every forward pass: one that has fewer micro-batches
    continues with a row of no tokens, whose prompt is `idle`.
    """
    mine = distributed.own([rollout.prompt for rollout, _ in rows])
    rows = [row for row, is_mine in zip(rows, mine) if is_mine]
    if model.device.type in BY_TOKENS:
        batches = by_tokens(rows, size)
    else:
        batches = list(batched(rows, size))
    no_tokens = (Rollout(idle, [], True), 0.0)
    return distributed.in_step(model, batches, [no_tokens])


def by_tokens(rows: list[Row], size: int) -> list[list[Row]]:
    """Cut rows into micro-batches of about the same number of tokens, padding included.

    Rows of similar length go together; rows of one prompt are neighbours, because they share it.
    """
    longest: dict[tuple, int] = {}  # prompt -> tokens of its longest row
    for rollout, _ in rows:
        prompt = tuple(rollout.prompt)
        tokens = len(prompt) + len(rollout.completion)
        longest[prompt] = max(longest.get(prompt, 0), tokens)

    def order(row: Row) -> tuple:
        rollout = row[0]
        prompt = tuple(rollout.prompt)
        return longest[prompt], prompt, len(rollout.completion)

    budget = size * max(longest.values(), default=0)
    batches: list[list[Row]] = []
    batch: list[Row] = []
    for row in sorted(rows, key=order):
        if batch and padded_tokens([*batch, row]) > budget:
            batches.append(batch)
            batch = []
        batch.append(row)
    if batch:
        batches.append(batch)
    return batches


def padded_tokens(rows: list[Row]) -> int:
    """Return the tokens of a micro-batch, padding included."""
    prompt = max(len(rollout.prompt) for rollout, _ in rows)
    completion = max(len(rollout.completion) for rollout, _ in rows)
    return len(rows) * (prompt + completion)


def retry_smaller(work: Callable[[int], T], model: PreTrainedModel, size: int) -> T:
    """Return work(size); halve `size` until it fits in memory.

    `work` must begin from scratch each time.  The caches that rollouts keep are released first.
    The size that fits is remembered for the model's next steps.  Sharded models are not retried,
    because the other processes would wait forever.
    """
    size = min(size, FITTING.get(model, size))
    while True:
        try:
            return distributed.run_collective(work, size)
        except RuntimeError as error:
            if not is_out_of_memory(error) or distributed.is_sharded(model):
                raise
            if WORKSPACES.release():
                continue
            if size == 1:
                raise
        size = size // 2
        FITTING[model] = size
        print(f"short of memory: --micro-batch is now {size}")


def make_room(optimizer: torch.optim.Optimizer) -> None:
    """Free the caches that rollouts keep, before AdamW allocates its moments in its first step."""
    if not optimizer.state:
        WORKSPACES.release()


def in_chunks(
    function: Callable[..., tuple[Tensor, ...]], width: int, *tensors: Tensor
) -> tuple[Tensor, ...]:
    """Return function(*tensors), computed in chunks of rows if its intermediate results are large.

    `width` is how many numbers `function` computes per row.  The backward pass recomputes each
    chunk instead of keeping all of them.
    """
    size = max(1, CHUNKS.get(tensors[0].device.type, CHUNK) // width)
    if len(tensors[0]) <= size:
        return function(*tensors)
    pieces = [x.split(size) for x in tensors]
    results = []
    for chunk in zip(*pieces):
        result = checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False)
        results.append(result)
    return tuple(torch.cat(parts) for parts in zip(*results))
