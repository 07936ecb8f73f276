"""The state of an unfinished training phase: weights and optimizer after some steps.

    runs/NAME/iter1/solver.steps/000010-4f0c....safetensors

The name carries the start of the file's SHA-256: a damaged checkpoint is reported and deleted, and
the previous one is used.  A checkpoint holds no random state, because each step has its own seed.
"""

import hashlib
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from plumbing.distributed import part_as, rank0_only, whole
from plumbing.runfolder import atomic_write, remove

KEPT = 2  # checkpoints kept per phase


def save_step(
    folder: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Save the state after `step` steps; keep the previous checkpoint as well."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model {name}"] = whole(parameter.detach())
    for i, buffers in optimizer.state_dict()["state"].items():
        for buffer, tensor in buffers.items():
            tensors[f"optimizer {i} {buffer}"] = whole(tensor)
    _write(folder, step, tensors)


@rank0_only
def _write(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> None:
    def name(part: Path) -> Path:
        return folder / f"{step:06d}-{digest(part)}.safetensors"

    with atomic_write(folder / "new", name) as part:
        save_file(tensors, part)
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        old.unlink()


def load_step(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the last state that is whole; return the number of its steps, or 0 if none is."""
    path = _last_whole(folder)
    if path is None:
        return 0
    weights = dict(model.named_parameters())
    in_order = list(weights.values())  # as the optimizer counts them
    state = defaultdict(dict)
    with safe_open(path, "pt") as file:
        for key in file.keys():
            kind, name, *slot = key.split(" ")
            tensor = file.get_tensor(key)
            if kind == "model":
                weights[name].data.copy_(part_as(tensor, weights[name]))
            else:
                i = int(name)
                state[i][slot[0]] = part_as(tensor, in_order[i])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(state)})
    return int(path.stem.split("-")[0])


def _last_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole, if any; delete those that are damaged."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        if path.stem.endswith(digest(path)):
            return path
        print(f"{path} is damaged: deleting it and trying the checkpoint before it")
        remove(path)  # or it would count among those kept
    return None


def digest(path: Path) -> str:
    """Return the start of a file's SHA-256.

    >>> digest(Path("/dev/null"))
    'e3b0c44298fc1c14'
    """
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(2**20)
            if not block:
                return sha.hexdigest()[:16]
            sha.update(block)
