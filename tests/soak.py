"""Many iterations in one process: does memory stay flat?

    python tests/soak.py                   # 30 iterations of the smoke run, about 5 minutes

Prints the resident memory after each iteration; exit code 1 if after the third one it ever is more
than 5 % above what it was then.  glibc keeps some of the memory that was freed, more or less of it
by chance; that is no leak, so it is given back before each look.  The players stay as they are, by a low learning rate, and get more
tasks: where all answers of a phase are alike there is nothing to learn, which would end the run.
"""

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import selfplay
from plumbing import cli


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
    used, evaluate = [], selfplay.Run.evaluate

    def and_look(run: selfplay.Run, k: int, solver_at: str) -> None:
        evaluate(run, k, solver_at)
        used.append(resident())
        print(f"iteration {k}: {used[-1]:.0f} MB", flush=True)

    selfplay.Run.evaluate = and_look
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.argv = [
            "selfplay.py",
            "--smoke",
            "--lr",
            "1e-6",
            "--solver-prompts",
            "6",
            "--iterations",
            str(a.iterations),
        ]
        if code := cli.main():
            return code
    growth = max(used[3:]) / used[3] - 1
    print(f"most after the third iteration: {100 * growth:+.1f} %")
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
