"""The run folder: whatever lies in it is whole, and a run that was stopped goes on from it.

    runs/NAME/config.json  log.jsonl  report.txt  report.png  lock
    runs/NAME/iter1/generator/  solver/  candidates.jsonl  tasks.jsonl  heldout.json
    runs/NAME/iter1/solver.steps/000010-4f0c....safetensors      # while the phase is not finished

A file is written under another name, flushed to the disk and renamed, so a kill at any moment
leaves the old one or the new one.  A step checkpoint carries the start of its SHA-256 in its name:
one that is damaged is reported, and the one before it is used.  Random states need no place in it:
each step and each piece of work has a seed of its own.

    {"iteration": 1, "phase": "solver", "step": 0, "seconds": 0.9, "reward": 1.42, ...}  # log line
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from ast_match import plain
from errors import Lost, Malformed
from plumbing.distributed import part_as, rank0_only, whole

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None


@contextmanager
def atomic_write(path: Path, rename: Callable[[Path], Path] | None = None) -> Iterator[Path]:
    """Where to write a file or folder; it then gets the name `path`, or rename(it), as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    delete(part)  # what a kill has left
    try:
        yield part
        for written in [*part.rglob("*"), part]:
            flush(written)
        part.replace(rename(part) if rename else path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:  # no room, for one: half a file only takes more
        delete(part)
        raise OSError(f"{path}: {error}") from None


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_file() or fcntl:  # Windows opens no folder
        opened = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@rank0_only
def remove(*paths: Path) -> None:
    """Delete files and folders, by one process of all."""
    for path in paths:
        delete(path)


@rank0_only
def append(path: Path, item: Any) -> None:
    """Add a line to a JSONL file; it is on the disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(item) + "\n")
        file.flush()
        os.fsync(file.fileno())


@rank0_only
def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_jsonl(path: Path, items: Iterable[Any]) -> None:
    """The same, one JSON value a line."""
    write_whole(path, "".join(json.dumps(item) + "\n" for item in items))


def read_jsonl(path: Path, read: Callable | None = None, torn: bool = False) -> list:
    """read(line) of each line of a JSONL file.  Raises `Malformed` naming file and line.

    Without `read` a line is taken as it stands, NaN too, since we wrote it.
    `torn`: the file is appended to; it may not be there yet, and a kill may have cut off its end.
    """
    if torn and not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except Lost:  # not a fault of this file
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: cannot be read ({error}). Name a JSONL file.") from None
    items = []
    for n, line in enumerate(lines[:-1] if torn else lines, 1):
        try:
            if line.strip():
                item = json.loads(line)
                items.append(read(plain(item)) if read else item)
        except (ValueError, RecursionError) as error:  # Malformed is a ValueError
            raise Malformed(f"{path}, line {n}: {error}. Mend or delete the line.") from None
    return items


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; the system frees the lock of one that died."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Malformed(
                f"{folder} is in use by process {file.read()}. Wait for it or stop it, "
                "or name another run with --run NAME."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def in_pieces(path: Path, items: list, size: int, work: Callable[[int, list], list]) -> list:
    """work(n, piece) of each piece of `items`, joined; finished pieces are kept in a file."""
    done = read_jsonl(path, torn=True)
    write_jsonl(path, done)  # without a torn last line
    for n in range(len(done), -(-len(items) // size)):
        done.append(work(n, items[n * size : (n + 1) * size]))
        append(path, done[-1])
    return [result for piece in done for result in piece]


def digest(path: Path) -> str:
    """The start of a file's SHA-256.

    >>> digest(Path(os.devnull))
    'e3b0c44298fc1c14'
    """
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            sha.update(block)
    return sha.hexdigest()[:16]


def save_step(folder: Path, step: int, model: torch.nn.Module, optimizer) -> None:
    """Keep the state after `step` steps, and the one before it."""
    tensors = {f"model {name}": whole(p.detach()) for name, p in model.named_parameters()}
    for i, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {i} {slot}": whole(x) for slot, x in slots.items()}
    write_step(folder, step, tensors)


@rank0_only
def write_step(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> None:
    """The writing of `save_step`."""
    with atomic_write(
        folder / "new", lambda part: folder / f"{step:06d}-{digest(part)}.safetensors"
    ) as part:
        save_file(tensors, part)
    for old in sorted(folder.glob("*.safetensors"))[:-2]:
        old.unlink()


def load_step(folder: Path, model: torch.nn.Module, optimizer) -> int:
    """Restore the last state that is whole; returns after how many steps it was saved, or 0."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        if path.stem.endswith(digest(path)):
            break
        print(f"{path} is damaged: the checkpoint before it is used")
    else:
        return 0
    weights, state = dict(model.named_parameters()), {}
    in_order = list(weights.values())  # as the optimizer counts them
    with safe_open(path, "pt") as file:
        for name in file.keys():
            kind, where, *slot = name.split(" ")
            if kind == "model":
                weights[where].data.copy_(part_as(file.get_tensor(name), weights[where]))
            else:
                whose = in_order[int(where)]
                state.setdefault(int(where), {})[slot[0]] = part_as(file.get_tensor(name), whose)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(path.stem.split("-")[0])


class Log:
    """log.jsonl: a line a step.  What an earlier try wrote from `first` on is dropped."""

    told: list[Callable[[dict, int], None]] = []  # trackers, of each line and its number

    def __init__(self, folder: Path, k: int, phase: str, first: int = 0) -> None:
        self.path, self.where = folder / "log.jsonl", {"iteration": k, "phase": phase}
        self.step, self.bar, self.shown, self.began = first, None, (), time.time()
        lines = [
            line
            for line in read_jsonl(self.path, torn=True)
            if line["step"] < first or not self.where.items() <= line.items()
        ]
        write_jsonl(self.path, lines)
        self.lines = len(lines)

    def steps(self, count: int, shown: tuple[str, ...]) -> Iterator[int]:
        """From the first step to count - 1, with a bar that shows some of the logged numbers."""
        title = "iteration {iteration} {phase}".format(**self.where)
        self.bar, self.shown = (
            tqdm(
                range(self.step, count),
                title,
                count,
                leave=False,
                dynamic_ncols=True,
                initial=self.step,
            ),
            shown,
        )
        for self.step in self.bar:
            yield self.step

    def line(self, values: dict) -> None:
        """Append one line."""
        line = {**self.where, "step": self.step, "seconds": round(time.time() - self.began, 1)}
        append(self.path, line | values)
        self.lines += 1
        for tell in self.told:
            tell(line | values, self.lines)
        if self.bar is not None:
            self.bar.set_postfix({name: f"{values[name]:.2f}" for name in self.shown})
