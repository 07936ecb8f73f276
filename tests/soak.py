"""Many iterations in one process: does memory stay flat?

    python tests/soak.py                   # 30 iterations of the smoke run, about 5 minutes

Prints the resident memory after each iteration; exit code 1 if after the third one it ever is more
than 5 % above what it was then.  glibc keeps a random part of the memory that was freed; that is no
leak, so it is given back before each measurement.  A low learning rate keeps the players as they
are, and a larger batch gives them tasks enough: a phase whose answers are all alike ends the run.
"""

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import selfplay
from config import Config
from plumbing import cli
from plumbing.run import Run


def resident() -> float:
    """The memory of this process that is in use now, in MB."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Run and judge; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--iterations", type=int, default=30)
    a = ap.parse_args()
    used = []

    def watched(cfg: Config, run: Run) -> str:
        record = run.record_evaluation

        def record_and_look(k: int, verdicts: dict[str, list]) -> None:
            record(k, verdicts)
            used.append(resident())
            print(f"iteration {k}: {used[-1]:.0f} MB", flush=True)

        run.record_evaluation = record_and_look
        return selfplay.selfplay(cfg, run)

    options = ["--smoke", "--lr", "1e-6", "--solver-batch", "6"]
    options += ["--iterations", str(a.iterations)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        code = cli.main(selfplay.__doc__, watched, options)
        if code:
            return code
    growth = max(used[3:]) / used[3] - 1
    print(f"most after the third iteration: {100 * growth:+.1f} %")
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
