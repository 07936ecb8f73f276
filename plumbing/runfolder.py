"""Files that are whole: a kill at any moment leaves the old file or the new one.

A file is written under another name, flushed to the disk and renamed.  A kill may cut off the last
line of a file that is appended to; its reader drops what is left of that line.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from tqdm import tqdm

from ast_match import plain
from errors import LostProcess, UsageError
from plumbing.distributed import rank0_only
from plumbing.padding import batched

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

SELF_MADE = "self-made.jsonl"  # held-out tasks that the first curation sets aside (--tools)
TOOLS = "tools.json"  # copy of --tools, in the run folder and in each checkpoint's folder


@contextmanager
def atomic_write(path: Path, rename: Callable[[Path], Path] | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; then rename it to `path`, or to rename(it)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    delete(part)  # what a kill has left
    try:
        yield part
        for written in [*part.rglob("*"), part]:
            flush(written)
        part.replace(rename(part) if rename else path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:  # for example no space: do not keep half a file
        delete(part)
        raise OSError(f"{path}: {error}") from None


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if not path.is_file() and not fcntl:  # Windows cannot open a folder
        return
    mode = os.O_RDWR if path.is_file() else os.O_RDONLY
    opened = os.open(path, mode)
    os.fsync(opened)
    os.close(opened)


def delete(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@rank0_only
def remove(*paths: Path) -> None:
    """Delete files and folders; only the first process does it."""
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
    """Write a JSONL file, one value per line, whole or not at all."""
    write_whole(path, "".join(json.dumps(item) + "\n" for item in items))


def read_jsonl(path: Path, read: Callable | None = None, torn: bool = False) -> list:
    """Return read(line) of each line of a JSONL file.

    Without `read` a line is taken as it is, NaN included, since this project wrote it.
    With `torn` the file is one that is appended to: it may not exist yet, and a kill may have cut
    off its end.  Raises UsageError naming file and line.
    """
    if torn and not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except LostProcess:  # not a fault of this file
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}). Name a JSONL file.") from None
    if torn:
        lines = lines[:-1]
    items = []
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            items.append(read(plain(item)) if read else item)
        except UsageError:  # its message already says what to do
            raise
        except (ValueError, RecursionError) as error:  # Malformed is a ValueError
            raise UsageError(f"{path}, line {n}: {error}. Fix or delete the line.") from None
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
            raise UsageError(
                f"{folder} is in use by process {file.read()}. Wait for it or stop it, or name "
                "another run with --run NAME."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def reopen_jsonl(path: Path) -> list:
    """Return the whole lines of a file that is appended to; drop a torn last one from the file."""
    lines = read_jsonl(path, torn=True)
    write_jsonl(path, lines)
    return lines


def in_pieces(
    path: Path, items: list, size: int, work: Callable[[int, list], list], title: str
) -> list:
    """Return work(n, piece) of all pieces of `items`, joined; a file keeps the finished ones."""
    done = reopen_jsonl(path)
    pieces = list(batched(items, size))
    with tqdm(total=len(items), desc=title, leave=False, dynamic_ncols=True) as bar:
        bar.update(sum(map(len, pieces[: len(done)])))
        for n in range(len(done), len(pieces)):
            results = work(n, pieces[n])
            append(path, results)
            done.append(results)
            bar.update(len(pieces[n]))
    return [result for results in done for result in results]
