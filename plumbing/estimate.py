"""What a run will do, printed before it starts: completions, tokens, memory, time on a CPU."""

import os

import torch

from config import Config
from plumbing import distributed
from plumbing.memory import GB, ROOM, Setup, Shape, local_shape
from plumbing.precision import dtype_on

CPU_SPEED = 3e10  # roughly, of a few cores: parameters x tokens sampled per second
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
        f"  3. Solver: at most {cfg.solver_steps} steps of {cfg.solver_batch} tasks x {cfg.group}",
        f"  at most {completions:,} completions and {tokens:,} tokens per iteration",
    ]
    if cfg.p_min > 1 / cfg.num_probes:
        lines.append(
            f"  --p-min {cfg.p_min} drops tasks that r_diff pays the Generator for: it pays for "
            f"pass rates of {1 / cfg.num_probes} or more"
        )
    shape = local_shape(cfg.model)
    if shape:
        lines.append("  " + memory_line(cfg, shape))
        lines += slow_lines(cfg, shape, tokens)
    return "\n".join(lines)


def memory_line(cfg: Config, shape: Shape) -> str:
    """Return the memory of the largest update, and what to do if the machine has less."""
    cuda = cfg.device.startswith("cuda")
    setup = Setup(
        beta=cfg.beta > 0,
        checkpointing=cfg.checkpointing == "on",
        half=dtype_on(cfg.device, shape.parameters) == torch.bfloat16,
        cuda=cuda,
        gpus=distributed.size if cfg.shard == "on" else 1,
    )
    tokens = setup.micro_batch_tokens(cfg.micro_batch, cfg.group, cfg.max_new_tokens)
    need = setup.update(shape, tokens) / GB
    text = f"{shape.parameters / 1e6:,.0f} M parameters: up to {need:.0f} GB in an update"
    has = memory_of(cfg.device) / GB
    if need < ROOM * has:
        return text
    text += f", and {cfg.device} has {has:.0f} GB"
    if cuda:
        return f"{text}: micro-batches are halved until they fit"
    return f"{text}: lower --micro-batch {cfg.micro_batch}, or the system may kill the run"


def memory_of(device: str) -> float:
    """Return the bytes of memory of a GPU, or of this machine."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    if "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")  # Windows does not say


def slow_lines(cfg: Config, shape: Shape, tokens: int) -> list[str]:
    """Return a warning if a CPU would take too long."""
    days = cfg.iterations * tokens * shape.parameters / CPU_SPEED / DAY
    if cfg.device != "cpu" or days < 0.1:
        return []
    return [f"  on this CPU up to {days:,.1f} days: lower the counts, or use a GPU"]
