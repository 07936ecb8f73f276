"""The settings of a run: one value, one place.

Each field carries its meaning, the paper's value and its source, and the heading under which
`python selfplay.py --help` lists it.  A field without a heading is a constant: it has no option.

    >>> Config(seed=3).seed
    3
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN = "what to run"
GENERATOR = "Generator (Sec. 3.2)"
CURATION = "curation (Sec. 3.3)"
SOLVER = "Solver (Sec. 3.4)"
GRPO = "GRPO (Table 4)"
MACHINE = "machine"
ABLATIONS = "ablations (Table 3)"
GROUPS = (RUN, GENERATOR, CURATION, SOLVER, GRPO, MACHINE, ABLATIONS)


def option(default: Any, group: str, help: str, paper: str = "", choices: str = "") -> Any:
    """Return a field with its heading, its meaning, the paper's value and the allowed choices."""
    metadata = {"group": group, "help": help, "paper": paper, "choices": choices.split()}
    return field(default=default, metadata=metadata)


def constant(default: Any, help: str, paper: str = "") -> Any:
    """Return a field without an option; TINY and SMOKE below may override it."""
    return option(default, "", help, paper)


@dataclass
class Config:
    """What determines a run.  The defaults are for a real model; TINY and SMOKE are below."""

    model: str = option("tiny", RUN, "folder or hub name of the base model", "Qwen2.5, Sec. 4")
    run: str = option("", RUN, "name of the folder under runs/; default: the model's name")
    seed: int = option(0, RUN, "seed of everything random")
    iterations: int = option(3, RUN, "iterations of self-play", "3, Sec. 4")
    heldout: str = option(
        "", RUN, "file or folder of held-out tasks; default: evals/data, else tiny's"
    )
    tools: str = option("", RUN, "JSON file of your tools; menus are drawn from it")

    generator_steps: int = option(50, GENERATOR, "GRPO steps; 0: frozen", "50, Sec. 4")
    generator_batch: int = option(16, GENERATOR, "specs per step", "24 / G, Table 4")
    spec: str = option(
        "graded", GENERATOR, "how to treat a task that misses its spec", "", "graded gate free"
    )
    domains: str = option(
        "", GENERATOR, "domains, separated by commas, or a file with one per line", "32, Sec. 3.2"
    )
    guards: str = option("on", GENERATOR, "on: refuse known reward hacks", "", "on off")
    generator_prompt: str = option("bank", GENERATOR, "prompt: bank, placeholders, or a file")

    candidates: int = option(
        10_000, CURATION, "tasks that the Generator proposes", "10,000, Sec. 4"
    )
    candidate_temperature: float = option(0.7, CURATION, "temperature of the proposals")
    p_min: float = option(0.125, CURATION, "lowest pass rate of a task that is kept")
    p_max: float = option(1.0, CURATION, "highest pass rate of a task that is kept")

    solver_steps: int = option(50, SOLVER, "maximum number of GRPO steps", "50, Sec. 4")
    solver_batch: int = option(32, SOLVER, "tasks per step", "32 / G, Table 4")
    replay: float = option(0.0, SOLVER, "earlier tasks to train on again, per new task")
    answer_tokens: int = option(256, SOLVER, "maximum new tokens of an answer")
    solver_prompt: str = option("bank", SOLVER, "prompt: bank, placeholders, or a file")

    group: int = option(8, GRPO, "completions per prompt, G", "4, Table 4")
    lr: float = option(5e-6, GRPO, "learning rate of AdamW", "1e-6, Table 4")
    schedule: str = option(
        "linear", GRPO, "how the learning rate changes", "", "linear harmonic constant"
    )
    beta: float = option(0.01, GRPO, "weight of the KL; 0: no reference model", "0.01, Table 4")
    max_new_tokens: int = option(1024, GRPO, "maximum new tokens of a task", "4,096, Table 4")

    device: str = option("", MACHINE, "cpu, cuda, cuda:N or mps; default: cuda, else cpu")
    sampler: str = option(
        "hand", MACHINE, "hand: rollout.py; hf: transformers' generate", "", "hand hf"
    )
    rows: str = option("auto", MACHINE, "completions sampled at once; auto: 64, on cuda what fits")
    micro_batch: int = option(16, MACHINE, "completions per forward pass of an update")
    checkpointing: str = option(
        "off", MACHINE, "on: recompute activations, to save memory", "", "off on"
    )
    shard: str = option("off", MACHINE, "on: split the weights over GPUs (torchrun)", "", "off on")

    ablation: str = option(
        "none",
        ABLATIONS,
        "one change to the method",
        "none",
        "none shared-weights no-difficulty hard-cliff no-judge shuffled batch-std",
    )

    loss: str = constant("grpo", "how token losses are averaged: grpo, dr_grpo or dapo", "grpo")
    weight_decay: float = constant(0.01, "weight decay of AdamW", "0.01, Table 4")
    max_grad_norm: float = constant(1.0, "the gradient's norm is clipped to this")
    temperature: float = constant(1.0, "sampling temperature in training", "1.0, Table 4")
    select: int = constant(2000, "maximum number of tasks to keep", "2,000, Sec. 4")
    num_probes: int = constant(8, "Solver answers per task, K", "8, Sec. 3.2.1")
    probe_temperature: float = constant(0.7, "temperature of the K answers", "0.7, Sec. 3.2.1")
    p_large_menu: float = constant(
        0.6, "share of large menus among one-call specs", "0.6, Sec. 3.2"
    )
    passes: float = constant(6.0, "maximum passes over the tasks of a Solver phase")
    eval_tasks: int = constant(100, "held-out tasks evaluated per benchmark")
    save_every: int = constant(10, "steps between two checkpoints of an unfinished phase")


# The base model that ships, and what was trained from it: a million parameters learn in larger
# steps, from fewer tasks.
TINY = dict(
    spec="gate",
    lr=2e-4,
    schedule="harmonic",
    beta=0.0,
    max_new_tokens=320,
    answer_tokens=320,
    micro_batch=32,
    generator_steps=15,
    generator_batch=8,
    solver_steps=15,
    solver_batch=16,
    replay=1.0,
    passes=2.0,
    p_large_menu=0.2,
    candidates=700,
    candidate_temperature=1.0,
    select=240,
    eval_tasks=480,
    heldout="tiny",
)

# With --tools: self-made held-out tasks, and a prompt in the words that tiny has learned.
TINY_TOOLS = dict(
    heldout="",
    generator_prompt=str(Path(__file__).resolve().parent / "tiny" / "tools_prompt.txt"),
)

# `--smoke`: every phase once, with minimal counts.
SMOKE = dict(
    iterations=1,
    save_every=1,
    generator_steps=2,
    generator_batch=2,
    solver_steps=3,
    solver_batch=2,
    candidates=48,
    eval_tasks=16,
    max_new_tokens=320,
    answer_tokens=320,
)
