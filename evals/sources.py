"""The official files of the benchmarks: from GitHub, PyPI or copies, checked by SHA-256.

sources.txt lists them with their pinned commits.  `python evals/prepare.py --help` describes the
forms of a copy.  Standard library only.
"""

import io
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from zipfile import BadZipFile
from zipfile import Path as ZipPath

TABLE = Path(__file__).with_name("sources.txt").read_text("utf-8")
TIMEOUT = 60  # seconds without a byte


class Unavailable(Exception):
    """An official file is unavailable or not the expected one; the message says what to do."""


@dataclass(frozen=True)
class Official:
    """One hash of the table, and the file or files that have it."""

    benchmark: str
    origin: str  # OWNER/NAME on GitHub, or a package on PyPI
    version: str
    path: str
    digest: str


def table() -> Iterator[Official]:
    """Yield the hashes of the table."""
    for line in TABLE.splitlines():
        match line.partition("#")[0].split():
            case [benchmark, origin, version]:
                head = (benchmark, origin, version)
            case [path]:
                pattern = path
            case [digest, name]:
                yield Official(*head, pattern.replace("*", name), digest)


def official_files(benchmark: str, folder: Path, network: bool) -> dict[str, str]:
    """Return path -> text of every file that a benchmark is made from.

    `folder` has copies; with `network`, what it lacks is downloaded into it.
    """
    files = {}
    for file in table():
        if file.benchmark != benchmark.partition("_")[0]:  # the three of BFCL share their files
            continue
        try:
            files |= read(open_copy(file, folder, network), file)
        except (OSError, HTTPException, BadZipFile, subprocess.CalledProcessError) as error:
            raise Unavailable(
                f"{file.path} of {file.origin} {file.version} is unavailable: {last_line(error)}. "
                "Use copies with --source DIR; --help describes their forms."
            ) from None
    return files


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, or of what a failed process printed."""
    printed = getattr(error, "stderr", None)
    text = printed.decode(errors="replace") if printed else str(error) or repr(error)
    return text.strip().splitlines()[-1]


def open_copy(file: Official, folder: Path, network: bool) -> Path | ZipPath:
    """Return the root of the repository or package that has a file."""
    joined = file.origin.replace("/", "+")
    is_package = "/" not in file.origin
    wheel = f"{joined.replace('-', '_')}-{file.version}-py3-none-any.whl"
    archive = folder / (wheel if is_package else f"{joined}.zip")
    if network and not archive.exists():
        download(file, archive)
    if archive.exists():
        root = ZipPath(archive)
        return root if is_package else next(root.iterdir())  # one folder at its top
    for place in (folder / joined, folder / file.origin):
        heads = [*place.glob("HEAD"), *place.glob("*/HEAD")]  # of a bare clone, or in .git
        if heads:
            return from_clone(heads[0].parent, file)
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no {archive.name} and no folder {joined} in {folder}")


def download(file: Official, archive: Path) -> None:
    """Download a repository in one request (GitHub limits their number), or a package by pip."""
    if archive.suffix == ".zip":
        url = f"https://codeload.github.com/{file.origin}/zip/{file.version}"
        print("downloading", url, flush=True)
        socket.setdefaulttimeout(TIMEOUT)
        urllib.request.urlretrieve(url, archive)
    else:  # pip knows the user's index and proxy
        print("downloading", archive.name, flush=True)
        options = "download --quiet --no-deps --only-binary=:all: --dest".split()
        command = [sys.executable, "-m", "pip", *options, archive.parent]
        command.append(f"{file.origin}=={file.version}")
        subprocess.run(command, check=True, capture_output=True)


def from_clone(git_dir: Path, file: Official) -> ZipPath:
    """Return a file of a clone at the pinned commit, whatever is checked out."""
    command = ["git", "-c", "core.autocrlf=false", f"--git-dir={git_dir}", "archive"]
    command += ["--format=zip", file.version, file.path]
    done = subprocess.run(command, check=True, capture_output=True)
    return ZipPath(io.BytesIO(done.stdout))


def read(root: Path | ZipPath, file: Official) -> dict[str, str]:
    """Return path -> text of the files that a hash covers; raise Unavailable if it differs."""
    folder, _, pattern = file.path.rpartition("/")
    names = [path.name for path in (root / folder).iterdir()]
    names = sorted(name for name in names if fnmatchcase(name, pattern))
    contents = {name: (root / folder / name).read_bytes() for name in names or [pattern]}
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    if "*" in pattern:
        listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
        digest = sha256(listing.encode()).hexdigest()
    else:
        digest = digests[pattern]
    if digest != file.digest:
        raise Unavailable(
            f"{file.path} of {file.origin} is not the file of {file.version}: "
            f"expected SHA-256 {file.digest}, found {digest}. Replace the copy."
        )
    return {f"{folder}/{name}": content.decode() for name, content in contents.items()}
