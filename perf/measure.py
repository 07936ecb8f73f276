"""What the benchmarks share: contenders run in turns, a table, a JSON file that says on what."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from plumbing.report import commit


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict]:
    """Run A B C A B C ...; for each the median wall and CPU seconds of `repeats` runs."""
    seconds: dict[str, list] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: dict(zip(("wall", "cpu"), map(median, zip(*runs)))) for name, runs in seconds.items()
    }


def median(values) -> float:
    """The middle value; of an even number the lower one."""
    return sorted(values)[(len(values) - 1) // 2]


def machine() -> dict:
    """On what this was measured."""
    return {
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu(),
    }


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor()
    )


def report(name: str, rows: list[dict], **more) -> None:
    """Print the rows as a Markdown table and write them to bench/results/NAME.json."""
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        shown = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(shown) + " |")
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**machine(), **more, "rows": rows}, indent=1) + "\n")
    print(f"written: {path}")
