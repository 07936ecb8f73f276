"""Several processes, one GPU each: how work is shared out and results are combined.

    torchrun --nproc_per_node 4 selfplay.py --model Qwen/Qwen2.5-1.5B

All run the same program with the same seeds, so specs, rewards and selection are the same in each.
They divide the prompts to answer and the groups of an update; only the first process writes files.

With --shard on (FSDP2) each process keeps its part of the layers' trained weights, gradients and
AdamW state, and a layer is whole only while it computes.  Embedding, head and last norm stay whole,
and so does the copy that samples, since completions end at different moments.
"""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from errors import LostProcess, UsageError, first_line

rank = 0  # which process this is
size = 1  # of how many


def start(device: str) -> None:
    """Join the other processes, if torchrun started several."""
    global rank, size
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    backend = "gloo"
    if device == "cuda":
        backend = "nccl"
        local_rank = int(os.environ["LOCAL_RANK"])
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise UsageError(
                f"--nproc_per_node: GPUs on this machine: {gpus}. "
                "Start at most that many processes."
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend)
    rank = dist.get_rank()
    size = dist.get_world_size()
    signal.signal(signal.SIGTERM, lost)  # torchrun sends it when a process has died
    if rank:  # the others show nothing but errors
        sys.stdout = open(os.devnull, "w")
        tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)


def lost(*_: Any, why: str = "") -> None:
    """Raise the error that ends this process after another one has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise LostProcess(
        f"another process of this run has ended{why}; restart with any number of processes"
    )


def run_collective(work: Callable, *arguments: Any) -> Any:
    """Return work(*arguments), done by all processes together; raise LostProcess if one is gone."""
    try:
        return work(*arguments)
    except RuntimeError as error:  # of gloo and NCCL alike
        if size == 1 or isinstance(error, torch.OutOfMemoryError):
            raise
        lost(why=f" ({first_line(error)})")


def combine(x: Tensor, how: Any = dist.ReduceOp.SUM) -> Tensor:
    """All-reduce in place (sum by default)."""
    if size > 1:
        run_collective(dist.all_reduce, x, how)
    return x


def wait() -> None:
    """Wait until all processes are here."""
    if size > 1:
        run_collective(dist.barrier)


def rank0_only(write: Callable) -> Callable:
    """Make only the first process run this function.

    All processes wait before it, so that none still reads what it replaces, and after it.
    """

    @functools.wraps(write)
    def alone(*arguments: Any) -> Any:
        wait()
        result = write(*arguments) if rank == 0 else None
        wait()
        return result

    return alone


# ------------------------------------------------------------------------------ sharing out work


def share(items: Sequence) -> Sequence:
    """Return this process's items of a list or tensor, which are dealt out in turn."""
    return items[rank::size]


def gather(mine: list) -> list:
    """Undo `share`, in every process.  The parts travel as JSON, so nothing is unpickled."""
    if size == 1:
        return mine
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    text = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
    lengths = torch.zeros(size, dtype=torch.long, device=device)
    lengths[rank] = len(text)
    combine(lengths)
    texts = torch.zeros(size, int(lengths.max()), dtype=torch.uint8, device=device)
    texts[rank, : len(text)] = text
    combine(texts)
    parts = []
    for row, length in zip(texts.cpu().numpy(), lengths.tolist()):
        parts.append(json.loads(row[:length].tobytes()))
    count = sum(len(part) for part in parts)
    return [parts[i % size][i // size] for i in range(count)]


def own(keys: list) -> list[bool]:
    """Return which items belong to this process; items with the same key stay together."""
    keys = [str(key) for key in keys]
    mine = set(share(list(dict.fromkeys(keys))))
    return [key in mine for key in keys]


# ------------------------------------------------------------------------------------- gradients


def add_up(model: torch.nn.Module, sums: dict[str, float]) -> dict[str, float]:
    """Sum the gradients and `sums` over the processes; return the summed `sums`."""
    if size == 1:
        return sums
    totals = torch.tensor(list(sums.values()), dtype=torch.float64, device=model.device)
    combine(totals)
    if totals.any():  # otherwise no process has a gradient
        for weight in model.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if isinstance(weight.grad, DTensor):
                weight.grad.mul_(size)  # FSDP has exchanged it, and takes the mean
            else:
                combine(weight.grad)
    return dict(zip(sums, totals.tolist()))


def clip_grad_norm(model: torch.nn.Module, limit: float) -> Tensor:
    """Clip as torch's clip_grad_norm_ does, even if some of the gradients are sharded."""
    kinds: dict[bool, list] = {False: [], True: []}
    for weight in model.parameters():
        kinds[isinstance(weight, DTensor)].append(weight)
    norms = []
    for weights in kinds.values():
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norms.append(whole(get_total_norm(gradients)))
    norm = torch.hypot(*norms)
    for weights in kinds.values():
        clip_grads_with_norm_(weights, limit, norm)
    return norm


# -------------------------------------------------------------------------------------- sharding


def shard(model: torch.nn.Module) -> None:
    """Split the weights of each layer among the processes."""
    if size == 1:
        return
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    for layer in layers:
        fully_shard(layer, reshard_after_forward=True)


def is_sharded(model: torch.nn.Module) -> bool:
    """Return whether any weight is sharded."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def whole(x: Tensor) -> Tensor:
    """Return a tensor unsharded.  All processes must call this together."""
    return run_collective(x.full_tensor) if isinstance(x, DTensor) else x


def part_as(x: Tensor, weight: Tensor) -> Tensor:
    """Return this process's part of a whole tensor that has the weight's shape.

    A tensor of another shape, such as AdamW's count of steps, is returned as it is.
    """
    if not isinstance(weight, DTensor) or x.shape != weight.shape:
        return x
    x = x.to(weight.device)
    return distribute_tensor(x, weight.device_mesh, weight.placements, src_data_rank=None)


def in_step(model: torch.nn.Module, batches: list, idle: Any) -> list:
    """Pad the batches of a sharded model with `idle` until all processes have the same number."""
    if not is_sharded(model):
        return batches
    count = torch.tensor(len(batches), device=model.device)
    most = int(combine(count, dist.ReduceOp.MAX))
    return batches + [idle] * (most - len(batches))
