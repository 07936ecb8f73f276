"""Several processes, one GPU each: who does what, and how the parts become the whole again.

    torchrun --nproc_per_node 4 selfplay.py --model Qwen/Qwen2.5-1.5B

All run the same program with the same seeds, so specs, rewards and selection are the same in each.
Shared out are the prompts to answer and the groups of an update.  The first process writes.  With
--shard (FSDP2) each holds a part of what is trained, and a whole copy that samples.

    share(["a", "b", "c"]), then gather(["A", "C"])  # ["a", "c"], ["A", "B", "C"] in the first of 2
"""
import functools
import json
import os
import signal
import sys
from typing import Callable, Iterable

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from tqdm import tqdm

from ast_match import Malformed

rank, size = 0, 1  # which process this is, of how many

def start(device: str) -> None:
    """Join the others, if torchrun started several."""
    global rank, size
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if device == "cuda":
            if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
                raise Malformed(f"--nproc_per_node: only {torch.cuda.device_count()} GPUs here.")
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        rank, size = dist.get_rank(), dist.get_world_size()
        signal.signal(signal.SIGTERM, lost)  # what torchrun sends when one has died
        if rank:  # of the others only errors are to be seen
            sys.stdout = open(os.devnull, "w")
            tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)

def lost(*_) -> None:
    """Raise what ends this process where another one has ended."""
    raise ConnectionError("another process of this run has ended; any number of them can go on")

def share(items):
    """This process's items of a list or tensor; the processes take turns."""
    return items[rank::size]

def add(x: torch.Tensor) -> torch.Tensor:
    """Replace a tensor by its sum over the processes."""
    try:
        if size > 1:
            dist.all_reduce(x)
    except RuntimeError:
        lost()
    return x

def gather(mine: list) -> list:
    """Undo `share`, in every process; the parts travel as JSON."""
    if size == 1:
        return mine
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    text = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
    lengths = torch.zeros(size, dtype=torch.long, device=device)
    lengths[rank] = len(text)
    texts = torch.zeros(size, int(add(lengths).max()), dtype=torch.uint8, device=device)
    texts[rank, :len(text)] = text
    rows = add(texts).cpu().numpy()
    parts = [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths.tolist())]
    return [parts[i % size][i // size] for i in range(sum(map(len, parts)))]

def first_alone(write: Callable) -> Callable:
    """What the first process does alone.  The others wait before it, as they may still read what
    it replaces, and until it is done, as they may read what it writes."""
    @functools.wraps(write)
    def alone(*arguments):
        gather([])
        result = write(*arguments) if rank == 0 else None
        gather([])
        return result
    return alone

def shard(model: torch.nn.Module, forward: Callable) -> None:
    """Spread a model over the processes; model.run is then `forward` with the model given."""
    model.run = functools.partial(forward, model)
    for part in (*model.base_model.layers, model):
        fully_shard(part)
        part.set_gradient_divide_factor(1.0)  # a sum: denominators count the whole batch
        part.set_force_sum_reduction_for_comms(True)  # all that gloo can do
    register_fsdp_forward_method(model, "run")

def whole(x: torch.Tensor) -> torch.Tensor:
    """A tensor in one piece."""
    return x.detach().full_tensor() if isinstance(x, DTensor) else x.detach()

def to_write(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors in one piece, one after the other, in the memory of the process that writes."""
    pieces = ((name, whole(x)) for name, x in named)
    return {name: x.cpu() for name, x in pieces if rank == 0}

def spread(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Undo `whole`, as `like` is spread."""
    if isinstance(like, DTensor) and x.ndim:
        return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)
    return x
