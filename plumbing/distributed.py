"""Several processes, one GPU each: who does what, and how the parts become the whole again.

    torchrun --nproc_per_node 4 selfplay.py --model Qwen/Qwen2.5-1.5B

All run the same program with the same seeds, so specs, rewards and selection are the same in each.
Shared out are the prompts to answer and the groups of an update; the first process alone writes.
"""
import functools
import json
import os
import signal
import sys
from typing import Any, Callable, Sequence

import torch
import torch.distributed as dist
from tqdm import tqdm

from ast_match import Malformed

rank, size = 0, 1  # which process this is, of how many

class Lost(ConnectionError):
    """Another process of this run has ended, so this one ends too."""

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

def together(collective: Callable, *arguments) -> None:
    """What all processes do at the same moment."""
    try:
        if size > 1:
            collective(*arguments)
    except RuntimeError as error:  # for gloo and NCCL alike; what it was stands at the end
        lost(why=f" ({str(error).splitlines()[0]})")

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
    together(dist.all_reduce, lengths)
    texts = torch.zeros(size, int(lengths.max()), dtype=torch.uint8, device=device)
    texts[rank, :len(text)] = text
    together(dist.all_reduce, texts)
    parts = [json.loads(row[:n].tobytes()) for row, n in zip(texts.cpu().numpy(), lengths.tolist())]
    return [parts[i % size][i // size] for i in range(sum(map(len, parts)))]

def own(keys: list) -> list[bool]:
    """Which items are this process's, where items with one key stay together."""
    groups = list(dict.fromkeys(map(str, keys)))
    mine = set(share(groups))
    return [str(key) in mine for key in keys]

def add_up(model: torch.nn.Module, sums: dict[str, float]) -> dict[str, float]:
    """Sum the gradients, and some numbers, over the processes."""
    totals = torch.tensor([*sums.values()], dtype=torch.float64, device=model.device)
    together(dist.all_reduce, totals)
    for p in model.parameters() if size > 1 and totals.any() else ():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        together(dist.all_reduce, p.grad)
    return dict(zip(sums, totals.tolist()))

def first_alone(write: Callable) -> Callable:
    """What the first process does alone.  All wait before it, so that none still reads what it
    replaces, and after it."""
    @functools.wraps(write)
    def alone(*arguments) -> Any:
        together(dist.barrier)
        result = write(*arguments) if rank == 0 else None
        together(dist.barrier)
        return result
    return alone
