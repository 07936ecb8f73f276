"""Many iterations in one process: does memory stay flat?

    python tests/soak.py                   # 30 iterations of the smoke run, about 5 minutes

Print the resident memory after each iteration; exit with code 1 if it ever exceeds that of the
third iteration by more than 5 %.  glibc keeps a random part of the freed memory.  To tell it from
a leak, that memory is returned to the system before each measurement.  A low learning rate keeps
the players as they are, and a larger batch gives them enough tasks: a phase whose answers are all
alike would end the run.
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
    """Return the memory of this process that is in use now, in MB."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Run and judge; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--iterations", type=int, default=30, help="at least 3")
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
    print(f"largest growth after the third iteration: {100 * growth:+.1f} %")
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
