"""Several processes, one GPU each: who does what, and how the parts become the whole again.

    torchrun --nproc_per_node 4 selfplay.py --model Qwen/Qwen2.5-1.5B

All run the same program with the same seeds, so specs, rewards and selection are the same in each.
Shared out are the prompts to answer and the groups of an update; the first process alone writes.

With --shard on (FSDP2) each keeps its part of the layers' trained weights, gradients and AdamW
state, and a layer is whole only while it computes.  Embedding, head and last norm stay whole, and
so does the copy that samples, in bfloat16 on a GPU: completions end at different moments.
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
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from errors import Lost, Malformed

rank, size = 0, 1  # which process this is, of how many


def start(device: str) -> None:
    """Join the others, if torchrun started several."""
    global rank, size
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if device == "cuda":
            if int(os.environ["LOCAL_RANK"]) >= (gpus := torch.cuda.device_count()):
                raise Malformed(f"--nproc_per_node: only {gpus} GPUs are here.")
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        rank, size = dist.get_rank(), dist.get_world_size()
        signal.signal(signal.SIGTERM, lost)  # what torchrun sends when one has died
        if rank:  # of the others only errors are to be seen
            sys.stdout = open(os.devnull, "w")
            tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)


def lost(*_, why: str = "") -> None:
    """Raise what ends this process where another one has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Lost("another process of this run has ended; any number of them can go on" + why)


def run_collective(work: Callable, *arguments) -> Any:
    """The result of what all processes do at the same moment."""
    try:
        return work(*arguments)
    except RuntimeError as error:  # for gloo and NCCL alike; what it was stands at the end
        if size == 1 or isinstance(error, torch.OutOfMemoryError):
            raise
        lost(why=f" ({str(error).splitlines()[0]})")


def combine(x: torch.Tensor, how: Any = dist.ReduceOp.SUM) -> torch.Tensor:
    """A tensor's sum over the processes, in place; or another way to make one of all."""
    if size > 1:
        run_collective(dist.all_reduce, x, how)
    return x


def share(items: Sequence) -> Sequence:
    """This process's items of a list or tensor; the processes take turns."""
    return items[rank::size]


def gather(mine: list) -> list:
    """Undo `share`, in every process.  The parts travel as JSON, so nothing is unpickled."""
    if size == 1:
        return mine
    text = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    lengths = torch.zeros(size, dtype=torch.long, device=device)
    lengths[rank] = len(text)
    combine(lengths)
    texts = torch.zeros(size, int(lengths.max()), dtype=torch.uint8, device=device)
    texts[rank, : len(text)] = text
    rows = combine(texts).cpu().numpy()
    parts = [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths.tolist())]
    return [parts[i % size][i // size] for i in range(sum(map(len, parts)))]


def own(keys: list) -> list[bool]:
    """Which items are this process's, where items with one key stay together."""
    groups = list(dict.fromkeys(map(str, keys)))
    mine = set(share(groups))
    return [str(key) in mine for key in keys]


def add_up(model: torch.nn.Module, sums: dict[str, float]) -> dict[str, float]:
    """Sum the gradients, and some numbers, over the processes."""
    totals = combine(torch.tensor([*sums.values()], dtype=torch.float64, device=model.device))
    for p in model.parameters() if size > 1 and totals.any() else ():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if isinstance(p.grad, DTensor):
            p.grad.mul_(size)  # FSDP has exchanged it, and takes the mean
        else:
            combine(p.grad)
    return dict(zip(sums, totals.tolist()))


def shard(model: torch.nn.Module) -> None:
    """Leave to each process its part of the weights of each layer."""
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    for layer in layers if size > 1 else ():
        fully_shard(layer, reshard_after_forward=True)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether any of its weights is in parts."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def whole(x: torch.Tensor) -> torch.Tensor:
    """A tensor with all its parts.  All processes must ask."""
    return run_collective(x.full_tensor) if isinstance(x, DTensor) else x


def part_as(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of a whole tensor of this weight's shape, the part that this process has of the weight."""
    if not isinstance(weight, DTensor) or x.shape != weight.shape:  # AdamW's count of steps
        return x
    return distribute_tensor(
        x.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )


def in_step(model: torch.nn.Module, batches: list, idle: Any) -> list:
    """The batches, filled up with `idle` to the largest number of them that a process has."""
    if not is_sharded(model):
        return batches
    most = combine(torch.tensor(len(batches), device=model.device), dist.ReduceOp.MAX)
    return batches + [idle] * (int(most) - len(batches))


def clip_grad_norm(model: torch.nn.Module, limit: float) -> torch.Tensor:
    """torch's clip_grad_norm_, also where some of the gradients are sharded."""
    parts = [
        [p for p in model.parameters() if isinstance(p, DTensor) is kind] for kind in (False, True)
    ]
    norms = [whole(get_total_norm([p.grad for p in ps if p.grad is not None])) for ps in parts]
    norm = torch.hypot(*norms)
    for ps in parts:
        clip_grads_with_norm_(ps, limit, norm)
    return norm


def wait() -> None:
    """Until all processes are here."""
    if size > 1:
        run_collective(dist.barrier)


def rank0_only(write: Callable) -> Callable:
    """What the first process does alone.  All wait before it, so that none still reads what it
    replaces, and after it."""

    @functools.wraps(write)
    def alone(*arguments) -> Any:
        wait()
        result = write(*arguments) if rank == 0 else None
        wait()
        return result

    return alone
