"""How fast rollout, update and step are on a GPU, and how close to its limits, in one command.

    python -m perf.gpu              # Qwen2.5-0.5B's and 1.5B's shape, about three minutes
    python -m perf.gpu --shapes toy # the same at toy size, also on a CPU

Weights are random and nothing is downloaded.  A copy and a matrix product in the same run measure
the card's limits.  The column `of limit` is a share of them:

    rollout   bytes that each step must read (weights, keys and values; a prompt's once per group)
              over the bandwidth of a copy
    update    6 operations per weight and token (a prompt's tokens once per group) over the speed
              of the product

The table has one line per measurement; the last line of the output has it as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from transformers import Qwen2ForCausalLM

import grpo
from config import Config
from perf import measure
from perf.measure import GROUP
from perf.step import InTurns, our_step, problem, trl_trainer
from plumbing.cuda_graph import WORKSPACES
from plumbing.memory import GB
from plumbing.padding import left_pad
from plumbing.precision import DTYPES, sampling_model
from plumbing.slots import key_value_width
from rollout import Rollout, SamplingParams, sample

COLUMNS = ("s", "tokens/s", "of limit", "peak GB", "captures")


@dataclass
class Load:
    """The sizes of a measurement: of the rollouts, and of the copy and product for the limits."""

    rows: tuple[int, ...] = (64, 256, 1024)
    prompt: int = 400
    new: int = 256
    generate_new: int = 48  # `generate` is slow, and its speed hardly changes with the length
    vocabulary: int = 151_936
    copied: int = 2**30  # bytes
    product: int = 8192  # width of the square matrices


TOY = Load(
    rows=(8, 16),
    prompt=8,
    new=6,
    generate_new=4,
    vocabulary=2304,
    copied=2**20,
    product=64,
)


def limits(load: Load, device: torch.device) -> dict[str, float]:
    """Return bytes per second of a copy, and operations per second of a matrix product."""
    source = torch.empty(load.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a = torch.randn(load.product, load.product, device=device)
    a = a.to(DTYPES.get(device.type, torch.float32))
    runs = {"copy": lambda: target.copy_(source), "product": lambda: a @ a}
    measure.in_turns(runs, 3)  # warms up
    taken = measure.in_turns(runs, 10)
    return {
        "bytes": 2 * load.copied / taken["copy"]["wall"],  # read and written
        "operations": 2 * load.product**3 / taken["product"]["wall"],
    }


def peak_of(run: Callable[[], object]) -> float | None:
    """Run it; return the peak of GPU memory in GB, or None on a CPU."""
    if not torch.cuda.is_available():
        run()
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / GB


def line(shape: str, what: str, rows: int, tokens: int, run: Callable, limit: float = 0) -> dict:
    """Run something twice, time the second run, and return a line of the table.

    The first run captures CUDA graphs.  `limit`: the fewest seconds that the card's limits allow.
    """
    found = {"shape": shape, "what": what, "rows": rows}
    before = WORKSPACES.captures
    try:
        peak = peak_of(run)
        captures = WORKSPACES.captures - before
        seconds = measure.seconds_of(run)[0]
    except torch.OutOfMemoryError:
        print(f"{shape}, {what}, {rows} rows: out of memory")
        return {**found, **dict.fromkeys(COLUMNS)}
    share = limit / seconds if limit else None
    return {**found, **dict(zip(COLUMNS, (seconds, tokens / seconds, share, peak, captures)))}


def bytes_read(model: Qwen2ForCausalLM, rows: int, load: Load) -> float:
    """Return the bytes that a rollout of `rows` must read: weights and cache, at every token."""
    config = model.config
    size = model.dtype.itemsize
    token = 2 * config.num_hidden_layers * key_value_width(config) * size
    weights = sum(weight.numel() for weight in model.parameters()) * size
    cache = rows * token * (load.prompt / GROUP + load.new / 2)  # its own tokens grow from none
    return load.new * (weights + cache)


@torch.inference_mode()
def measure_rollout(shape: str, model: Qwen2ForCausalLM, load: Load, limit: dict) -> list[dict]:
    """Measure our rollout, and `generate` of transformers."""
    lines = []
    for rows in load.rows:
        prompts = torch.randint(0, load.vocabulary, (rows // GROUP, load.prompt)).tolist()
        uniforms = torch.rand(len(prompts), GROUP, load.new, dtype=torch.float64)
        params = SamplingParams(load.new, 1.0, measure.NEVER, rows)
        ours = partial(sample, model, prompts, GROUP, params, uniforms)
        best = bytes_read(model, rows, load) / limit["bytes"]
        lines.append(line(shape, "rollout", rows, rows * load.new, ours, best))
        WORKSPACES.release()
        ids, mask, _ = left_pad(prompts, model.device)
        generate = partial(
            model.generate,
            input_ids=ids,
            attention_mask=mask.long(),
            num_return_sequences=GROUP,
            do_sample=True,
            top_k=0,
            max_new_tokens=load.generate_new,
            eos_token_id=None,
            pad_token_id=0,
        )
        lines.append(line(shape, "generate", rows, rows * load.generate_new, generate))
    return lines


def measure_update(shape: str, model: Qwen2ForCausalLM, load: Load, limit: dict) -> dict:
    """Measure one update on 8 prompts x 8 completions."""
    cfg = Config(beta=0.0)
    optimizer = grpo.make_optimizer(list(model.parameters()), cfg)
    rollouts = []
    for _ in range(8):
        prompt = torch.randint(0, load.vocabulary, (load.prompt,)).tolist()
        for completion in torch.randint(0, load.vocabulary, (GROUP, load.new)).tolist():
            rollouts.append(Rollout(prompt, completion, False))
    update = partial(grpo.step, model, optimizer, rollouts, torch.rand(8, GROUP), cfg)
    weights = sum(weight.numel() for weight in model.parameters())
    tokens = 8 * load.prompt + len(rollouts) * load.new
    best = 6 * weights * tokens / limit["operations"]
    return line(shape, "update", len(rollouts), tokens, update, best)


def measure_step(shape: str, load: Load, device: str) -> list[dict]:
    """Measure a whole step of ours, and one of TRL if it is installed."""
    model, tokenizer, prompts = problem(load.prompt, shape, load.vocabulary, device)
    rows = len(prompts) * GROUP
    ours = our_step(model, tokenizer, prompts, load.new)
    lines = [line(shape, "step", rows, rows * load.new, ours)]
    del ours
    free()
    try:
        trainer = trl_trainer(model, tokenizer, prompts, load.new, 1, InTurns(None))
    except ImportError:
        print("TRL is not installed (pip install trl): its step is left out")
        return lines
    return [*lines, line(shape, "step of TRL", rows, rows * load.new, trainer.train)]


def free() -> None:
    """Give memory back before the next measurement."""
    WORKSPACES.release()
    gc.collect()
    torch.cuda.empty_cache()


def main(arguments: list[str] | None = None) -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--shapes", nargs="+", choices=list(measure.SHAPES))
    shapes = ap.parse_args(arguments).shapes
    device = measure.device()
    shapes = shapes or (["0.5B", "1.5B"] if device == "cuda" else ["toy"])
    load = TOY if shapes == ["toy"] else Load()
    limit = limits(load, torch.device(device))
    lines = []
    for shape in shapes:
        model = measure.qwen(shape, load.vocabulary, device)
        lines += measure_rollout(shape, sampling_model(model), load, limit)
        free()
        lines.append(measure_update(shape, model, load, limit))
        del model
        free()
        lines += measure_step(shape, load, device)
        free()
    machine = measure.machine()
    print(
        f"{machine['device']}, torch {machine['torch']}: copy {limit['bytes'] / GB:.0f} GB/s, "
        f"product {limit['operations'] / 1e12:.1f} TFLOP/s"
    )
    print(measure.table(lines))
    print(json.dumps({**machine, "limits": limit, "rows": lines}))


if __name__ == "__main__":
    main()
