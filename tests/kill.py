"""Kill smoke runs at random moments, continue each, and compare it with a run that was not killed.

    python tests/kill.py --kills 20        # about 15 minutes on two cores

Equal means: the same files, weights and tasks bit for bit, and the same log except for its times.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SELFPLAY = [sys.executable, str(Path(__file__).resolve().parent.parent / "selfplay.py"), "--smoke"]


def content(folder: Path) -> dict[str, str]:
    """Return file -> a digest of what has to be equal in it."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "log.jsonl":
            lines = [json.loads(line) for line in data.splitlines()]
            kept = [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]
            data = json.dumps(kept).encode()
        if path.name not in ("lock", "report.png"):
            found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def run(folder: Path, kill_after: float | None = None) -> int:
    """Run smoke in `folder`, killed after some seconds or left to end; return its exit code."""
    with subprocess.Popen(
        SELFPLAY, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def main() -> int:
    """Kill, go on, compare; exit code 1 if any run ended differently."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--kills", type=int, default=20)
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as top:
        whole = Path(top) / "whole"
        whole.mkdir()
        began = time.time()
        assert run(whole) == 0, "the smoke run failed"
        seconds, wanted = time.time() - began, content(whole)
        equal = 0
        for i in range(a.kills):
            folder = Path(top) / str(i)
            while True:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                moment = rng.uniform(0.2, 1) * seconds
                if run(folder, moment) == -signal.SIGKILL:
                    break
                seconds = moment  # it ended sooner than the first one
            files = [p for p in folder.rglob("*") if p.is_file()]
            last = max(files, key=lambda p: p.stat().st_mtime).name if files else "none"
            code = run(folder)
            found = content(folder)
            same = code == 0 and found == wanted
            equal += same
            differing = [n for n in wanted.keys() | found if wanted.get(n) != found.get(n)]
            print(
                f"{i + 1}: killed after {moment:.1f} s, the last file was {last}; "
                + ("equal" if same else f"exit {code}, different: {differing}"),
                flush=True,
            )
    print(f"{equal} of {a.kills} runs ended like the one that was not killed")
    return int(equal < a.kills)


if __name__ == "__main__":
    sys.exit(main())
