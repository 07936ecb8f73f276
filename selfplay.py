"""The loop: a Generator and a Solver start from one model and train each other.

Paper: Algorithm 1, Sec. 3 and Table 4.  One iteration:

    1. Solver frozen.     Train the Generator with GRPO: R_G = r_fmt + r_valid + r_curr.
    2. Generator frozen.  Sample candidates, curate them with the Solver's answers, order them from easy to hard.
    3. Train the Solver with GRPO on the curated tasks: R_S = r_fmt + r_acc.

    python selfplay.py                                # the base model that ships, on a CPU, in minutes
    python selfplay.py --smoke                        # every phase with minimal counts
    python selfplay.py --model Qwen/Qwen2.5-0.5B      # any causal model; the paper's numbers

Each phase is a function of files: it reads checkpoints, writes its result under a temporary name, and renames it.  A run
that was stopped continues with the same command: finished phases are found and left alone, an unfinished one starts
again from its own seed, so the end is the same.

    runs/NAME/config.json  log.jsonl  report.png
    runs/NAME/iter1/generator/  solver/  candidates.jsonl  tasks.jsonl  heldout.json
"""
from __future__ import annotations

import argparse
import json
import random
import sys
import time
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Iterable, Iterator

import torch
from tqdm import tqdm

import curate
import eval
import generator
import grpo
import report
import rewards
import solver
from ast_match import Malformed
from generator import Draft, Spec, Task
from grpo import GRPOConfig, option
from rollout import SAMPLERS, ModelNotFound, Player, Rollout

HERE = Path(__file__).resolve().parent


@dataclass
class Config(GRPOConfig):
    """Everything that decides a run.  Defaults are the paper's; `--model tiny` has its own (TINY)."""

    model: str = option("tiny", "folder or hub name of the base model")
    run: str = option("", "name of the folder under runs/; default: the model's name")
    seed: int = option(0, "seed of everything random")
    device: str = option("cuda" if torch.cuda.is_available() else "cpu", "where to compute")
    sampler: str = option("hand", "rollout: hand (rollout.py) or hf (generate)")
    iterations: int = option(3, "iterations of the loop", "3")
    group: int = option(4, "completions a prompt, G", "4, Table 4")
    generator_steps: int = option(50, "GRPO steps of the Generator in an iteration", "50")
    generator_prompts: int = option(6, "specs in a Generator step", "6 = 24 / 4, Table 4")
    solver_steps: int = option(50, "GRPO steps of the Solver in an iteration", "50")
    solver_prompts: int = option(8, "tasks in a Solver step", "8 = 32 / 4, Table 4")
    p_large_menu: float = option(generator.P_LARGE_MENU, "share of one-call specs with 5 to 8 tools", "0.6")
    probe: int = option(8, "Solver answers a task that measure its difficulty, K", "8")
    probe_temperature: float = option(0.7, "their temperature", "0.7")
    candidates: int = option(2000, "tasks the Generator proposes in an iteration", "not given")
    select: int = option(400, "most tasks that are curated; 400 = 50 steps of 8", "not given")
    tau: float = option(0.125, "a task is kept if at least this share of the K answers is its gold answer", "not given")
    heldout: str = option(str(HERE / "tiny" / "heldout.jsonl"), "JSONL file of tasks to evaluate on")
    eval_tasks: int = option(100, "how many of them")


# What differs for the base model that ships: a model of a million parameters learns in larger steps.
TINY = dict(lr=3e-4, beta=0.0, group=8, max_new_tokens=320, micro_batch=32, generator_steps=20, generator_prompts=8,
            solver_steps=40, solver_prompts=16, p_large_menu=0.2, candidates=384, select=384, eval_tasks=480)
SMOKE = dict(iterations=1, generator_steps=1, generator_prompts=2, solver_steps=1, solver_prompts=2, candidates=48,
             eval_tasks=16)
CHOICES = {"sampler": sorted(SAMPLERS), "loss": ["grpo", "dr_grpo", "dapo"], "scale": ["group", "batch", "none"]}
LEAST = {"seed": 0, "group": 2, "temperature": 0.01, "probe_temperature": 0.01}  # else 1 for counts, 0 for rates
MOST = {"tau": 1, "p_large_menu": 1, "clip_low": 1}


class Empty(Exception):
    """A phase had nothing to work on; the message says what to change."""


# ------------------------------------------------------------------------------------------ the loop
def selfplay(cfg: Config, folder: Path) -> None:
    """Algorithm 1."""
    run = Run(cfg, folder)
    generator_at = solver_at = model_folder(cfg.model)
    run.evaluate(0, solver_at)
    for k in range(1, cfg.iterations + 1):
        generator_at = run.train_generator(k, generator_at, solver_at)
        tasks = run.curate(k, generator_at, solver_at)
        solver_at = run.train_solver(k, solver_at, tasks)
        run.evaluate(k, solver_at)
    print(report.table(folder))
    print(f"trained Solver: {solver_at}\nlog: {folder / 'log.jsonl'}\n{report.picture(folder)}")


class Run:
    """The phases.  Each returns at once where its result exists; else it computes it and writes it whole."""

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg, self.folder = cfg, folder

    def train_generator(self, k: int, generator_at: str, solver_at: str) -> str:
        """Phase 1: GRPO on specs, the Solver frozen.  Returns where the trained Generator lies."""
        out = self.folder / f"iter{k}" / "generator"
        if out.exists():
            return str(out)
        cfg, seed = self.cfg, phase_seed(self.cfg.seed, k, "generator")
        log, rng = Log(self.folder, k, "generator"), random.Random(seed)
        player, frozen = self.player(generator_at), self.player(solver_at)
        optimizer, reference = grpo.make_optimizer(player.model, cfg), grpo.frozen_copy(player.model, cfg)
        for s in log.steps(cfg.generator_steps, f"iteration {k} Generator"):
            specs = [generator.sample_spec(rng, cfg.p_large_menu) for _ in range(cfg.generator_prompts)]
            rollouts = self.ask(player, map(generator.prompt, specs), cfg.group, cfg.temperature, seed + s)
            drafts = [generator.parse(player.text(r)) for r in rollouts]
            parts, extra = self.reward_drafts(frozen, drafts, repeat(specs, cfg.group), seed + s)
            metrics = grpo.step(player.model, optimizer, rollouts, totals(parts, cfg.group), cfg, reference)
            log({**metrics, **means(parts), **extra}, shown=("reward", "usable", "p", "entropy"))
        player.save(out)
        return str(out)

    def reward_drafts(self, frozen: Player, drafts: list[Draft], specs: list[Spec], seed: int
                      ) -> tuple[list[rewards.GeneratorReward], dict[str, float]]:
        """R_G of each draft; the Solver is asked only about usable tasks.  Also their share and mean p."""
        tasks = [draft.task("", spec.domain) for draft, spec in zip(drafts, specs)]
        usable = [i for i, task in enumerate(tasks) if task and curate.structural_reason(task, specs[i]) is None]
        p = self.pass_rates(frozen, [tasks[i] for i in usable], seed)
        sem = rewards.r_sem(frozen.digit_logits([solver.judge_prompt(tasks[i]) for i in usable])) if usable else []
        curriculum = {i: (rewards.r_diff(p, self.cfg.probe), sem) for i, p, sem in zip(usable, p, sem)}
        parts = [rewards.generator_reward(draft, *curriculum.get(i, (0.0, 0.0))) for i, draft in enumerate(drafts)]
        return parts, {"usable": len(usable) / len(drafts), "p": sum(p) / len(p) if p else 0.0}

    def curate(self, k: int, generator_at: str, solver_at: str) -> list[Task]:
        """Phase 2: sample candidates, curate them.  Returns the tasks in training order."""
        out = self.folder / f"iter{k}" / "tasks.jsonl"
        if out.exists():
            return eval.load_tasks(out)
        cfg, seed = self.cfg, phase_seed(self.cfg.seed, k, "curate")
        log, rng = Log(self.folder, k, "curate"), random.Random(seed)
        writer, frozen = self.player(generator_at), self.player(solver_at)
        specs = [generator.sample_spec(rng, cfg.p_large_menu) for _ in range(cfg.candidates)]
        rollouts = self.ask(writer, map(generator.prompt, specs), 1, cfg.temperature, seed)
        candidates = [curate.candidate(f"{k}-{i:05d}", spec, generator.parse(writer.text(r)))
                      for i, (spec, r) in enumerate(zip(specs, rollouts))]
        usable = curate.check(candidates)
        for c, p in zip(usable, self.pass_rates(frozen, [c.task for c in usable], seed)):
            c.p = p
        selected = curate.select(curate.verify(usable, cfg.tau), cfg.select)
        funnel = curate.funnel(candidates)
        write_jsonl(out.with_name("candidates.jsonl"), [c.to_json() for c in candidates])
        log({"candidates": len(candidates), "selected": len(selected), "funnel": funnel, "p": [c.p for c in usable]})
        print(f"iteration {k} curation: " + ", ".join(f"{n} {reason}" for reason, n in funnel.items()))
        if not selected:
            raise Empty(f"iteration {k}: no candidate was selected; the line above says why. Raise --candidates or "
                        "--generator-steps, or lower --tau.")
        write_jsonl(out, [c.task.to_json() for c in selected])
        return [c.task for c in selected]

    def train_solver(self, k: int, solver_at: str, tasks: list[Task]) -> str:
        """Phase 3: GRPO on the curated tasks, from easy to hard, again from the start if there are too few."""
        out = self.folder / f"iter{k}" / "solver"
        if out.exists():
            return str(out)
        cfg, seed = self.cfg, phase_seed(self.cfg.seed, k, "solver")
        log, player = Log(self.folder, k, "solver"), self.player(solver_at)
        optimizer, reference = grpo.make_optimizer(player.model, cfg), grpo.frozen_copy(player.model, cfg)
        for s in log.steps(cfg.solver_steps, f"iteration {k} Solver"):
            batch = [tasks[i % len(tasks)] for i in range(s * cfg.solver_prompts, (s + 1) * cfg.solver_prompts)]
            rollouts = self.ask(player, map(task_prompt, batch), cfg.group, cfg.temperature, seed + s)
            answers = [solver.parse(player.text(r)) for r in rollouts]
            parts = [rewards.solver_reward(a, task.calls) for a, task in zip(answers, repeat(batch, cfg.group))]
            metrics = grpo.step(player.model, optimizer, rollouts, totals(parts, cfg.group), cfg, reference)
            log({**metrics, **means(parts)}, shown=("reward", "acc", "zero_advantage_groups", "entropy"))
        player.save(out)
        return str(out)

    def evaluate(self, k: int, solver_at: str) -> None:
        """Greedy exact match on the held-out tasks after iteration k; 0 is the base model."""
        out = self.folder / f"iter{k}" / "heldout.json"
        if not out.exists():
            tasks = eval.load_tasks(self.cfg.heldout)[:self.cfg.eval_tasks]
            right = eval.judge(self.player(solver_at), tasks, self.cfg.max_new_tokens)
            print(f"{report.name(k)}: held-out exact match {eval.describe(right)}")
            write_whole(out, json.dumps(dict(zip((task.id for task in tasks), right))))

    def player(self, where: str) -> Player:
        """Load a checkpoint."""
        return Player(where, self.cfg.device, self.cfg.sampler)

    def ask(self, player: Player, chats: Iterable, group: int, temperature: float, seed: int) -> list[Rollout]:
        """`group` completions of each chat, prompt-major."""
        return player.ask(list(chats), group, self.cfg.max_new_tokens, temperature, seed)

    def pass_rates(self, frozen: Player, tasks: list[Task], seed: int) -> list[float]:
        """For each task p, the share of K answers of the frozen Solver that are the whole gold answer."""
        K = self.cfg.probe
        rollouts = self.ask(frozen, map(task_prompt, tasks), K, self.cfg.probe_temperature, seed)
        answers = [solver.parse(frozen.text(r)).calls for r in rollouts]
        return [curate.pass_rate(answers[i * K:(i + 1) * K], task.calls) for i, task in enumerate(tasks)]


# ------------------------------------------------------------------------------------------ small helpers
def task_prompt(task: Task) -> list[dict[str, str]]:
    """The Solver prompt of a task."""
    return solver.prompt(task.question, task.tools)


def repeat(items: list, times: int) -> list:
    """Each item `times` times in a row: the prompt-major order of rollouts."""
    return [item for item in items for _ in range(times)]


def totals(parts: list, group: int) -> torch.Tensor:
    """The rewards as a table, (N, G)."""
    return torch.tensor([part.total for part in parts]).view(-1, group)


def means(parts: list) -> dict[str, float]:
    """The mean of each named part of the rewards."""
    return {f.name: sum(getattr(part, f.name) for part in parts) / len(parts) for f in fields(parts[0])}


def phase_seed(seed: int, k: int, phase: str) -> int:
    """A seed for each phase, so that a phase does not depend on what ran before it in the process."""
    return zlib.crc32(f"{seed}/{k}/{phase}".encode())


def model_folder(name: str) -> str:
    """"tiny" is the folder beside this file; any other name is left as it is."""
    return str(HERE / "tiny") if name == "tiny" else name


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_jsonl(path: Path, items: list[dict]) -> None:
    """One JSON object a line."""
    write_whole(path, "".join(json.dumps(item) + "\n" for item in items))


class Log:
    """log.jsonl: one line a step.  Lines of an earlier, unfinished try of the same phase are taken out."""

    def __init__(self, folder: Path, k: int, phase: str) -> None:
        self.path, self.where = folder / "log.jsonl", {"iteration": k, "phase": phase}
        self.step, self.bar, self.began = 0, None, time.time()
        if self.path.exists():
            lines = map(json.loads, self.path.read_text().splitlines())
            write_jsonl(self.path, [line for line in lines if not self.where.items() <= line.items()])

    def steps(self, count: int, title: str) -> Iterator[int]:
        """0 to count - 1, with a progress bar."""
        self.bar = tqdm(range(count), desc=title, leave=False, ncols=110)
        for self.step in self.bar:
            yield self.step

    def __call__(self, values: dict, shown: tuple[str, ...] = ()) -> None:
        line = {**self.where, "step": self.step, "seconds": round(time.time() - self.began, 1), **values}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.bar is not None:
            self.bar.set_postfix({name: f"{values[name]:.2f}" for name in shown})


# ------------------------------------------------------------------------------------------ command line
def parse_arguments(argv: list[str] | None = None) -> Config:
    """The command line as a Config; --help is made from its fields."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for f in fields(Config):
        notes = [f"default {f.default}", f"tiny {TINY[f.name]}" if f.name in TINY else "",
                 f"paper {f.metadata['paper']}" if f.metadata["paper"] else ""]
        parser.add_argument(f"--{f.name.replace('_', '-')}", type={"int": int, "float": float, "str": str}[f.type],
                            choices=CHOICES.get(f.name), default=argparse.SUPPRESS, metavar=f.type.upper(),
                            help=f"{f.metadata['help']} ({'; '.join(filter(None, notes))})")
    parser.add_argument("--smoke", action="store_true", help="every phase with minimal counts")
    given = vars(parser.parse_args(argv))
    presets = (TINY if given.get("model", "tiny") == "tiny" else {}) | (SMOKE if given.pop("smoke") else {})
    cfg = Config(**{**presets, **given})
    for f in fields(Config):
        low = LEAST.get(f.name, 1 if f.type == "int" else 0)
        if f.type != "str" and not low <= getattr(cfg, f.name) <= MOST.get(f.name, float("inf")):
            parser.error(f"--{f.name.replace('_', '-')} is {getattr(cfg, f.name)}: it must be at least {low}"
                         + (f" and at most {MOST[f.name]}" if f.name in MOST else ""))
    return cfg


def open_folder(cfg: Config) -> Path:
    """The run folder; one of another configuration is refused."""
    name = cfg.run or ("smoke-" if cfg.generator_steps == SMOKE["generator_steps"] else "") + Path(cfg.model).name
    folder = Path("runs") / name
    wanted, path = asdict(cfg), folder / "config.json"
    if path.exists():
        found = json.loads(path.read_text())
        changed = [f"--{key.replace('_', '-')} was {found.get(key)}, is {value}" for key, value in wanted.items()
                   if found.get(key) != value]
        if changed:
            raise ValueError(f"{folder} holds a run of another configuration ({'; '.join(changed)}). Give this run another "
                             "name with --run NAME, or delete the folder.")
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run. Give this run another name with --run NAME.")
    write_whole(path, json.dumps(wanted, indent=1))
    return folder


def main(argv: list[str] | None = None) -> int:
    """Run; exit code 2 for bad input, 3 where a phase had nothing to work on, 130 after Ctrl-C."""
    cfg = parse_arguments(argv)
    try:
        folder = open_folder(cfg)
        selfplay(cfg, folder)
    except (Malformed, ModelNotFound, ValueError) as error:
        print(f"selfplay.py: error: {error}", file=sys.stderr)
        return 2
    except Empty as error:
        print(f"selfplay.py: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last finished phase", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
