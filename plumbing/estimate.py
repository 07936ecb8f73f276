"""What a run will do, said before it starts: completions, tokens, memory, and time on a CPU."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from config import Config
from errors import UnusableModel

BYTES = 4 + 4 + 8  # per trained parameter: float32 weight, gradient, two moments of AdamW
COPIES = 2 + 2  # on a GPU: the bfloat16 copy that samples, the frozen Solver
REFERENCE = 2  # on a GPU, in bfloat16, with --beta above 0
CPU_SPEED = 3e10  # parameters times tokens per second that a few cores sample, roughly
DAY = 86_400


def plan(cfg: Config) -> str:
    """Return what a run will do, as text."""
    tasks = cfg.generator_steps * cfg.generator_batch * cfg.group
    answers = cfg.solver_steps * cfg.solver_batch * cfg.group
    probes = cfg.num_probes * (tasks + cfg.candidates)
    completions = tasks + cfg.candidates + answers + probes
    tokens = (tasks + cfg.candidates) * cfg.max_new_tokens + (answers + probes) * cfg.answer_tokens
    lines = [
        f"{cfg.model}, {cfg.iterations} iterations of",
        f"  1. Generator: {cfg.generator_steps} steps of {cfg.generator_batch} specs x {cfg.group}",
        f"  2. curation: {cfg.candidates:,} candidates, {cfg.num_probes} answers per usable task",
        f"  3. Solver: {cfg.solver_steps} steps of {cfg.solver_batch} tasks x {cfg.group}",
        f"  at most {completions:,} completions and {tokens:,} tokens per iteration",
    ]
    if cfg.p_min > 1 / cfg.num_probes:
        lines.append(
            f"  --p-min {cfg.p_min} drops tasks that r_diff pays the Generator for: it pays from "
            f"a pass rate of {1 / cfg.num_probes} on"
        )
    count = parameters(cfg.model)
    if count:
        lines.append("  " + needs(cfg, count, tokens))
    return "\n".join(lines)


def needs(cfg: Config, count: int, tokens: int) -> str:
    """Return the memory of weights and optimizer, and on a CPU a warning about the time."""
    each = BYTES + (REFERENCE if cfg.beta else 0) + COPIES
    text = (
        f"{count / 1e6:,.0f} M parameters: {count * each / 1e9:.1f} GB plus activations and cache"
    )
    if cfg.device != "cpu" and torch.cuda.is_available():
        return text
    days = cfg.iterations * tokens * count / CPU_SPEED / DAY
    if days > 0.1:
        text += f"; on a CPU up to {days:,.1f} days: lower the counts, or use a GPU"
    return text


def parameters(name: str) -> int:
    """Return the number of parameters of a model, from its config alone; 0 if it has none here."""
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, UnusableModel):  # loading says what is wrong with it
        return 0
    return sum(p.numel() for p in model.parameters())
