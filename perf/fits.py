"""Which model fits on which GPU, with which options, and how long the paper's setting may take.

    python -m perf.fits                # the table, computed: no GPU is used
    python -m perf.fits --gpus 4       # the same with torchrun on four of them and --shard on
    python -m perf.fits --check        # the same formula against peaks measured on this CPU

The formula is in plumbing/memory.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product

import torch

import grpo
from config import Config
from perf import measure
from plumbing.loading import ROOT
from plumbing.memory import GB, ROOM, Setup, Shape
from rollout import Rollout, SamplingParams, sample

ROWS = 256
GPUS = (16, 24, 48, 80)  # GB
WAYS = [(16, False), (8, False), (4, False), (2, False), (8, True), (1, True)]  # fast to frugal
LENGTH = 600  # tokens of a prompt of --check
# Assumed for the hours, not measured: tokens of a task and of an answer, the share of usable tasks,
# and tokens per second that a 0.5 B model samples on one GPU (larger models: fewer in proportion).
TASK = 400
ANSWER = 100
USABLE = 0.5
SPEED = 10_000


MODELS = {
    "Qwen2.5-0.5B": Shape(0.494e9, 896, 4864, 24, 128),
    "Qwen2.5-1.5B": Shape(1.544e9, 1536, 8960, 28, 256),
    "Qwen2.5-3B": Shape(3.086e9, 2048, 11008, 36, 256),
    "Qwen2.5-7B": Shape(7.616e9, 3584, 18944, 28, 512, 152_064, tables=2),
}


def settings(m: Shape, memory: float, new: int, gpus: int) -> str:
    """Return the fastest options with which training fits, or "no"."""
    for length, beta, (micro, saving) in product((new, new // 2), (True, False), WAYS):
        setup = Setup(beta, saving, gpus=gpus)
        tokens = setup.micro_batch_tokens(micro, Config.group, length)
        sampling = setup.rollout(m, ROWS, ROWS // Config.group, length)
        need = max(setup.update(m, tokens), sampling)
        if need > ROOM * memory * GB:
            continue
        options = [f"`--micro-batch {micro}`"]
        if saving:
            options.append("`--checkpointing on`")
        if not beta:
            options.append("`--beta 0`")
        if length < new:
            options.append(f"`--max-new-tokens {length}`")
        return f"{need / GB:.0f} GB: {', '.join(options)}"
    return "no"


def hours(m: Shape, gpus: int) -> float:
    """Return the hours of the paper's setting: tokens sampled over the assumed speed."""
    with_probes = TASK + USABLE * ANSWER * 8
    iteration = 50 * 24 * with_probes + 10_000 * with_probes + 50 * 32 * ANSWER
    speed = SPEED * gpus * MODELS["Qwen2.5-0.5B"].parameters / m.parameters
    return 3 * iteration / speed / 3600


def measured(what: str) -> dict:
    """Return the computed and the measured peak of an update or rollout of a small model."""
    torch.set_num_threads(1)
    before = measure.high_water()
    model = measure.qwen("check", 8192)
    m = Shape(sum(p.numel() for p in model.parameters()), 512, 2048, 8, 128, 8192)
    cfg = Config(beta=0.0, micro_batch=8)
    optimizer = grpo.make_optimizer(list(model.parameters()), cfg)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()  # makes AdamW's state
    optimizer.zero_grad()
    once = SamplingParams(1, 1.0, measure.NEVER)
    sample(model, [[1, 2]], 1, once, torch.rand(1, 1, 1, dtype=torch.float64))  # fuses the weights
    setup = Setup(half=False, cuda=False, frozen_player=False)
    setup.checkpointing = what == "update, checkpointing"
    if what == "rollout":
        prompts = torch.randint(0, m.vocabulary, (16, LENGTH)).tolist()
        params = SamplingParams(128, 1.0, measure.NEVER, rows=256)
        sample(model, prompts, 16, params, torch.rand(16, 16, 128, dtype=torch.float64))
        computed = setup.rollout(m, 256, 16, 128, LENGTH)
    else:
        if setup.checkpointing:
            model.gradient_checkpointing_enable()
            model.train()
        ids = torch.randint(0, m.vocabulary, (8, 512)).tolist()
        rollouts = [Rollout([1, 2], row, True) for row in ids]
        grpo.step(model, optimizer, rollouts, torch.linspace(-1, 1, 8).view(1, 8), cfg)
        computed = setup.update(m, 8 * 512)
    return {"computed": computed / GB, "measured": (measure.high_water() - before) * 2**20 / GB}


def check() -> None:
    """Compare the formula with measured peaks, each in a process of its own."""
    rows = []
    for what in ("update", "update, checkpointing", "rollout"):
        command = [sys.executable, "-m", "perf.fits", "--measure", what]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        ratio = found["measured"] / found["computed"]
        rows.append({"peak, GB": what, **found, "ratio": ratio})
    measure.report("fits", rows)


def main() -> None:
    """Print the table, or check the formula; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--measure", help=argparse.SUPPRESS)  # one peak, in a process of its own
    ap.add_argument("--max-new-tokens", type=int, default=1024)
    ap.add_argument("--gpus", type=int, default=1)
    a = ap.parse_args()
    if a.measure:
        print(json.dumps(measured(a.measure)))
    elif a.check:
        check()
    else:
        rows = []
        for name, m in MODELS.items():
            row = {"": name}
            for memory in GPUS:
                row[f"{memory} GB"] = settings(m, memory, a.max_new_tokens, a.gpus)
            rows.append(row | {"hours, paper's batches": f"{hours(m, a.gpus):.1f}"})
        print(measure.table(rows))


if __name__ == "__main__":
    main()
