"""What the benchmarks share: models, contenders that take turns, a table, and a JSON file."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from plumbing.loading import ROOT, processor
from plumbing.report import commit

GROUP = 8  # completions per prompt
NEVER = [10**6]  # an end id that no model has, so every completion reaches the limit
SHAPES = {  # name -> hidden size, MLP, layers, heads, key/value heads
    "toy": (32, 64, 2, 4, 2),
    "2.8M": (256, 688, 3, 8, 4),
    "check": (512, 2048, 8, 8, 2),
    "0.5B": (896, 4864, 24, 14, 2),  # Qwen2.5-0.5B
    "1.5B": (1536, 8960, 28, 12, 2),  # Qwen2.5-1.5B
}


def qwen(shape: str, vocabulary: int = 151_936, device: str = "cpu", **more) -> Qwen2ForCausalLM:
    """Return a Qwen2 of this shape with random weights, in float32."""
    hidden, mlp, layers, heads, kv_heads = SHAPES[shape]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=True,
        **{"bos_token_id": None, "eos_token_id": None, **more},
    )
    with torch.device(device):
        return Qwen2ForCausalLM(config).eval()


def device() -> str:
    """Return where to measure: on a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self.wall = time.perf_counter()
        self.cpu = time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Wait for the GPU, if there is one; return the wall and CPU seconds so far."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def seconds_of(run: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU seconds of one run."""
    clock = Clock()
    run()
    return clock.seconds()


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict]:
    """Run A B C A B C ...; return for each the median wall and CPU seconds of `repeats` runs."""
    seconds: dict[str, list] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            seconds[name].append(seconds_of(run))
    medians = {}
    for name, runs in seconds.items():
        wall, cpu = zip(*runs)
        medians[name] = {"wall": statistics.median_low(wall), "cpu": statistics.median_low(cpu)}
    return medians


def high_water() -> float:
    """Return the peak of resident memory of this process since it was last reset, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")


def machine() -> dict:
    """Return what this was measured on."""
    return {
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": processor(device()),
    }


def table(rows: list[dict]) -> str:
    """Return rows with the same keys as a Markdown table.

    >>> print(table([{"rows": 64, "s": 0.12345}]))
    | rows | s |
    | --- | --- |
    | 64 | 0.123 |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    for row in rows:
        lines.append([shown(value) for value in row.values()])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: object) -> str:
    """Return a value as a cell: a float with three digits, "-" for None."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def report(name: str, rows: list[dict]) -> None:
    """Print the rows as a table and write them to perf/results/NAME.json."""
    print(table(rows))
    path = ROOT / "perf" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**machine(), "rows": rows}, indent=1) + "\n")
    print(f"written: {path}")
