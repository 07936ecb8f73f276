"""Our rollout against `generate`, and `generate` with a static cache: same prompts and lengths.

    python -m perf.sampling             # tiny, 64 and 256 rows, prompts of 120 and 600 tokens
    python -m perf.sampling --large     # a Qwen2 of 0.5B's shape, random weights; on a CPU 32 rows

Eight samples per prompt at temperature 1.  No row ends before the limit, so the numbers exclude
what refilling slots saves.  CPU seconds are measured with one thread, wall seconds with all.
The last column, for tiny only, is the time of a late token over that of an early one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest.mock import patch

import torch

import rollout
from perf import measure
from perf.measure import GROUP
from plumbing.loading import load_model
from plumbing.padding import left_pad
from plumbing.precision import cast_weights


def contenders(model, prompts: list[list[int]], new_tokens: int) -> dict:
    """Return name -> a function that samples GROUP completions of `new_tokens` per prompt."""
    uniforms = torch.rand(len(prompts), GROUP, new_tokens, dtype=torch.float64)
    ids, mask, _ = left_pad(prompts, model.device)
    params = rollout.SamplingParams(new_tokens, 1.0, measure.NEVER, rows=len(prompts) * GROUP)
    common = dict(
        input_ids=ids,
        attention_mask=mask.long(),
        num_return_sequences=GROUP,
        do_sample=True,
        top_k=0,
        max_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    return {
        "ours": lambda: rollout.sample(model, prompts, GROUP, params, uniforms),
        "generate": lambda: model.generate(**common),
        "static": lambda: model.generate(
            **common, cache_implementation="static", disable_compile=True
        ),
    }


def late_over_early(model, prompts: list[list[int]], new_tokens: int, repeats: int) -> float:
    """Return the median time of the last 40 tokens of a rollout over that of tokens 40 to 80."""
    choose = rollout.choose
    stamps = []
    early = []
    late = []
    uniforms = torch.rand(len(prompts), GROUP, new_tokens, dtype=torch.float64)
    params = rollout.SamplingParams(new_tokens, 1.0, measure.NEVER, rows=len(prompts) * GROUP)

    def stamped(*arguments):
        stamps.append(time.perf_counter())
        return choose(*arguments)

    with patch("rollout.choose", stamped):
        for _ in range(repeats):
            stamps.clear()
            rollout.sample(model, prompts, GROUP, params, uniforms)
            steps = [b - a for a, b in zip(stamps, stamps[1:])]
            early += steps[40:80]
            late += steps[-40:]
    return statistics.median_low(late) / statistics.median_low(early)


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--large", action="store_true")
    ap.add_argument("--repeats", type=int, default=3)
    ap.add_argument("--new-tokens", type=int, default=128)
    a = ap.parse_args()
    device = measure.device()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = measure.qwen("0.5B") if a.large else load_model("tiny")[0]
    model = cast_weights(model.to(device), dtype)
    threads = torch.get_num_threads()
    rows = []
    sizes = [64, 256]
    if a.large and device == "cpu":
        sizes = [32]
    for count in sizes:
        for width in (120, 600):
            prompts = torch.randint(10, 1000, (count // GROUP, width)).tolist()
            runs = contenders(model, prompts, a.new_tokens)
            wall = measure.in_turns(runs, a.repeats)
            torch.set_num_threads(1)
            cpu = measure.in_turns(runs, 1 if a.large else a.repeats)
            torch.set_num_threads(threads)
            row = {"rows": count, "prompt": width, "new": a.new_tokens}
            row |= {f"{name} wall s": t["wall"] for name, t in wall.items()}
            row |= {f"{name} CPU s": t["cpu"] for name, t in cpu.items()}
            row["wall ratio"] = wall["generate"]["wall"] / wall["ours"]["wall"]
            row["CPU ratio"] = cpu["generate"]["cpu"] / cpu["ours"]["cpu"]
            if not a.large:
                row["token 400 / 40"] = late_over_early(model, prompts, 400, a.repeats)
            rows.append(row)
            print(row, flush=True)
    measure.report("sampling_large" if a.large else "sampling", rows)


if __name__ == "__main__":
    main()
