"""The loop: a Generator and a Solver start from one model and train each other.

Paper: Algorithm 1, Sec. 3 and Table 4.  One iteration:

    1. Solver frozen.     Train the Generator with GRPO: R_G = r_fmt + r_valid + r_curr.
    2. Generator frozen.  Sample candidates, curate them by the Solver's answers, order them.
    3. Train the Solver with GRPO on the curated tasks: R_S = r_fmt + r_acc.

    python selfplay.py                                # the base model that ships, on a CPU
    python selfplay.py --smoke                        # every phase with minimal counts
    python selfplay.py --model Qwen/Qwen2.5-0.5B      # any causal model; the paper's numbers

Each phase reads files and writes its result whole (runfolder.py).  A run that was stopped anywhere
continues with the same command, and ends in the weights of one that was not.
"""
from __future__ import annotations

import argparse
import copy
import functools
import json
import platform
import random
import signal
import sys
import zlib
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Callable, Iterable, Iterator

import torch
import transformers

import curate
import distributed
import eval
import generator
import grpo
import rewards
import solver
from ast_match import Malformed
from experiments import report
from experiments.trackers import trackers
from generator import Draft, Spec, Task
from grpo import GRPOConfig, option
from player import Player
from rollout import SAMPLERS, Rollout, UnusableModel
from runfolder import (Log, in_pieces, load_step, locked, remove, save_step, write_jsonl,
                       write_whole)

@dataclass
class Config(GRPOConfig):
    """Everything that decides a run.  Defaults are the paper's, but for the length; see --help."""
    model: str = option("tiny", "folder or hub name of the base model")
    run: str = option("", "name of the folder under runs/; default: the model's name")
    seed: int = option(0, "seed of everything random")
    device: str = option("cuda" if torch.cuda.is_available() else "cpu", "where to compute")
    sampler: str = option("hand", "rollout: hand (rollout.py) or hf (generate)")
    iterations: int = option(3, "iterations of the loop", "3")
    group: int = option(4, "completions a prompt, G", "4, Table 4")
    generator_steps: int = option(50, "GRPO steps of the Generator an iteration; 0: frozen", "50")
    generator_prompts: int = option(6, "specs in a Generator step", "6 = 24 / 4, Table 4")
    solver_steps: int = option(50, "GRPO steps of the Solver an iteration", "50")
    solver_prompts: int = option(8, "tasks in a Solver step", "8 = 32 / 4, Table 4")
    p_large_menu: float = option(generator.P_LARGE_MENU, "share of large menus in specs", "0.6")
    probe: int = option(8, "Solver answers that measure a task's difficulty, K", "8")
    probe_temperature: float = option(0.7, "their temperature", "0.7")
    candidates: int = option(10_000, "tasks the Generator proposes in an iteration", "10,000")
    select: int = option(2000, "most tasks that are curated", "2,000")
    weights: str = option("separate", "shared: one model plays both roles", "separate")
    difficulty: str = option("band", "r_diff: band-pass, hard cliff, or none (always 0)", "band")
    judge: str = option("on", "off: r_sem is 0, the Solver is not asked", "on")
    order: str = option("easy", "of the curated tasks: easy to hard, or shuffled", "easy")
    tasks: str = option("", "JSONL file: train the Solver on these, without a Generator")
    guard: str = option("none", "repeats: copies in a batch share one reward; see README, Rewards")
    tau: float = option(0.125, "least share of the K answers that is the gold answer", "not given")
    heldout: str = option("tiny", "JSONL file of tasks to evaluate on; tiny: tiny/heldout.jsonl")
    eval_tasks: int = option(100, "how many of them")
    save_every: int = option(10, "steps between two checkpoints of an unfinished phase")
    tensorboard: bool = option(False, "log to TensorBoard too, in the run folder")
    wandb: bool = option(False, "log to Weights & Biases too, project tool-r0")

# What differs for the model that ships: a million parameters learn in larger steps.
TINY = dict(lr=1e-4, beta=0.0, group=8, max_new_tokens=320, micro_batch=32, generator_steps=20,
            generator_prompts=8, solver_steps=40, solver_prompts=16, p_large_menu=0.2,
            candidates=1200, select=300, eval_tasks=480)
SMOKE = dict(iterations=1, save_every=1, generator_steps=2, generator_prompts=2, solver_steps=3,
             solver_prompts=2, candidates=48, eval_tasks=16)
CHOICES = {"sampler": sorted(SAMPLERS), "loss": ["grpo", "dr_grpo", "dapo"],
           "scale": ["group", "batch", "none"], "kl": ["k3", "unbiased"],
           "truncated": ["keep", "mask"], "guard": ["none", "repeats"],
           "weights": ["separate", "shared"], "difficulty": ["band", "cliff", "none"],
           "judge": ["on", "off"], "order": ["easy", "shuffled"]}
READ = {"int": int, "float": float, "str": str,
        "micro_batch": lambda text: 2**20 if text == "auto" else int(text)}  # more than a batch has
LEAST = {"seed": 0, "generator_steps": 0, "group": 2, "select": 5, "temperature": 0.01,
         "probe_temperature": 0.01}
MOST = {"tau": 1, "p_large_menu": 1, "clip_low": 1}

MAY_CHANGE = {"save_every", "shard", "tensorboard", "wandb"}  # the run stays the same run
PIECE = 512  # completions that are kept together in an unfinished curation
BAD_STEPS = 5  # so many in a row stop the run

class Empty(Exception):
    """A phase had nothing to work on; the message says what to change."""

def selfplay(cfg: Config, folder: Path) -> None:
    """Algorithm 1."""
    torch.use_deterministic_algorithms(cfg.device == "cpu")  # gradients add in a fixed order
    run = Run(cfg, folder)
    if distributed.size == 1:  # several could not agree on when to stop
        signal.signal(signal.SIGINT, run.stop)
    generator_at = solver_at = cfg.model
    run.evaluate(0, solver_at)
    for k in range(1, cfg.iterations + 1):
        generator_at = run.train_generator(k, generator_at, solver_at)
        solver_at = generator_at if cfg.weights == "shared" else solver_at
        tasks = run.curate(k, generator_at, solver_at)
        solver_at = run.train_solver(k, solver_at, tasks)
        generator_at = solver_at if cfg.weights == "shared" else generator_at
        run.evaluate(k, solver_at)
    print(f"{report.write(folder)}\nlog: {folder}/log.jsonl\ntrained Solver: {solver_at}")

class Run:
    """The phases.  Each returns at once where its result exists; else it makes and writes it."""

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg, self.folder, self.stopping = cfg, folder, False
        self.player = functools.partial(Player, device=cfg.device, sampler=cfg.sampler, frozen=True)
        told = trackers(folder, asdict(cfg)) if distributed.rank == 0 else ()
        self.log = functools.partial(Log, folder, told=told)

    def stop(self, *_) -> None:
        """Ctrl-C: leave at the next moment at which nothing is lost; the second one: at once."""
        self.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping where nothing is lost; Ctrl-C again leaves at once", file=sys.stderr)

    def leave_if_asked(self) -> None:
        """Where a step or a piece of work has been written."""
        if self.stopping:
            raise KeyboardInterrupt

    def train_generator(self, k: int, generator_at: str, solver_at: str) -> str:
        """Phase 1: GRPO on specs, the Solver frozen.  Returns where the trained Generator lies."""
        cfg, frozen = self.cfg, functools.cache(lambda: self.player(solver_at))

        def turn(player: Player, step: int, seed: int) -> tuple[list[Rollout], list, dict]:
            specs = generator.sample_specs(seed, cfg.generator_prompts, cfg.p_large_menu)
            rollouts = self.ask(player, map(generator.prompt, specs), cfg.group, seed)
            drafts = [generator.parse(player.text(r)) for r in rollouts]
            spec_of = [spec for spec in specs for _ in range(cfg.group)]
            return rollouts, *self.reward_drafts(frozen(), drafts, spec_of, seed)

        steps = 0 if cfg.tasks else cfg.generator_steps
        return self.train(k, "generator", generator_at, steps, turn,
                          shown=("reward", "usable", "p", "entropy"))

    def curate(self, k: int, generator_at: str, solver_at: str) -> list[Task]:
        """Phase 2: sample candidates, curate them.  Returns the tasks in training order."""
        here = self.folder / f"iter{k}"
        if self.cfg.tasks:
            return eval.load_tasks(Path(self.cfg.tasks))[k - 1::self.cfg.iterations]
        if not (here / "tasks.jsonl").exists():
            with phase(f"iteration {k} curation"):
                candidates = self.candidates(k, self.player(generator_at), self.player(solver_at))
            usable = [c for c in candidates if c.reason is None]
            selected = curate.select(curate.verify(usable, self.cfg.tau), self.cfg.select)
            if self.cfg.order == "shuffled":
                random.Random(self.cfg.seed).shuffle(selected)
            funnel = curate.funnel(candidates)
            write_jsonl(here / "candidates.jsonl", [c.to_json() for c in candidates])
            self.log(k, "curate").line(
                {"candidates": len(candidates), "funnel": funnel, "selected": len(selected),
                 "duplicates": funnel.get("duplicate", 0) / len(candidates),
                 "p": [c.p for c in usable]})
            print(f"iteration {k} curation:", ", ".join(f"{n} {why}" for why, n in funnel.items()))
            if not selected:
                raise Empty(f"iteration {k}: no candidate was selected; the line above says why. "
                            "Raise --candidates or lower --tau, and go on with --set-changed.")
            write_jsonl(here / "tasks.jsonl", [c.task.to_json() for c in selected])
            print(report.alarms(self.folder, k, "curate"), end="")
        remove(here.glob("*.part.jsonl"))
        return eval.load_tasks(here / "tasks.jsonl")

    def candidates(self, k: int, writer: Player, frozen: Player) -> list[curate.Candidate]:
        """What the Generator proposes, each with its reason or with p; kept piece by piece."""
        cfg, here = self.cfg, self.folder / f"iter{k}"

        def write(n: int, some: list[Spec]) -> list[str]:
            self.leave_if_asked()
            seed = phase_seed(cfg.seed, k, f"write/{n}")
            return [writer.text(r) for r in self.ask(writer, map(generator.prompt, some), 1, seed)]

        def rate(n: int, some: list[curate.Candidate]) -> list[float]:
            self.leave_if_asked()
            seed = phase_seed(cfg.seed, k, f"rate/{n}")
            return self.pass_rates(frozen, [c.task for c in some], seed)

        specs = generator.sample_specs(phase_seed(cfg.seed, k, "specs"), cfg.candidates,
                                       cfg.p_large_menu)
        texts = in_pieces(here / "texts.part.jsonl", specs, PIECE, write)
        candidates = [curate.candidate(f"{k}-{i:05d}", spec, generator.parse(text))
                      for i, (spec, text) in enumerate(zip(specs, texts))]
        usable, size = curate.check(candidates), max(1, PIECE // cfg.probe)
        for c, p in zip(usable, in_pieces(here / "rates.part.jsonl", usable, size, rate)):
            c.p = p
        return candidates

    def train_solver(self, k: int, solver_at: str, tasks: list[Task]) -> str:
        """Phase 3: GRPO on the curated tasks, easy to hard, and again from the start if too few."""
        cfg = self.cfg

        def turn(player: Player, step: int, seed: int) -> tuple[list[Rollout], list, dict]:
            first = step * cfg.solver_prompts
            batch = [tasks[i % len(tasks)] for i in range(first, first + cfg.solver_prompts)]
            rollouts = self.ask(player, map(solver.prompt, batch), cfg.group, seed)
            gold = [task.calls for task in batch for _ in range(cfg.group)]
            return rollouts, [rewards.solver_reward(solver.parse(player.text(r)), calls)
                              for r, calls in zip(rollouts, gold)], {}

        return self.train(k, "solver", solver_at, cfg.solver_steps, turn,
                          shown=("reward", "acc", "zero_advantage_groups", "entropy"))

    def train(self, k: int, role: str, start: str, steps: int, turn: Callable, shown: tuple) -> str:
        """A phase of GRPO.  Returns where the trained model lies; without steps: where it began."""
        out = self.folder / f"iter{k}" / role
        steps_at = out.with_name(f"{role}.steps")
        if steps and not out.exists():
            with phase(f"iteration {k} {role}"):
                player = self.player(start, frozen=False)
                self.grpo(k, role, player, steps_at, steps, turn, shown)
            player.save(out)
            print(report.alarms(self.folder, k, role), end="")
        remove([steps_at])
        return str(out) if steps else start

    def grpo(self, k: int, role: str, player: Player, steps_at: Path, steps: int, turn: Callable,
             shown: tuple) -> None:
        """GRPO: each `turn` plays one batch -> rollouts, their rewards by parts, more to log."""
        cfg, bad = self.cfg, 0
        reference = copy.deepcopy(player.model).requires_grad_(False) if cfg.beta else None
        if cfg.checkpointing:
            player.model.gradient_checkpointing_enable()
            player.model.train()
        if cfg.shard:
            player.shard(grpo.token_logprobs)
            if cfg.beta:
                distributed.shard(reference, grpo.token_logprobs)
        optimizer = torch.optim.AdamW(player.model.parameters(), cfg.lr,
                                      weight_decay=cfg.weight_decay)
        log = self.log(k, role, load_step(steps_at, player.model, optimizer))
        for step in log.steps(steps, shown):
            rollouts, parts, extra = turn(player, step, phase_seed(cfg.seed, k, f"{role}/{step}"))
            totals = torch.tensor([part.total for part in parts]).view(-1, cfg.group)  # (N, G)
            metrics = grpo.step(player.model, optimizer, rollouts, totals, cfg, reference)
            log.line({**metrics, **rewards.means(parts), **extra})
            bad = bad + 1 if metrics["skipped"] else 0
            if bad == BAD_STEPS:
                raise Empty(f"iteration {k} {role}: {bad} steps in a row had no finite gradient; "
                            f"the last good state is in {steps_at}. Lower --lr, and start this "
                            "phase again with --set-changed.")
            if self.stopping or (step + 1) % cfg.save_every == 0:
                save_step(steps_at, step + 1, player.model, optimizer)
            self.leave_if_asked()
        if not optimizer.state:  # it has one from the first gradient on
            raise Empty(f"iteration {k} {role}: in each of the {steps} steps all rewards of a "
                        "group were equal, so nothing was learned. Raise --group or --temperature "
                        "and go on with --set-changed, or name another --model.")

    def evaluate(self, k: int, solver_at: str) -> None:
        """Greedy exact match on the held-out tasks after iteration k; 0 is the base model."""
        out = self.folder / f"iter{k}" / "heldout.json"
        if not out.exists():
            tasks = eval.load_tasks(eval.heldout_file(self.cfg.heldout))[:self.cfg.eval_tasks]
            with phase(f"evaluation of the {report.name(k)} Solver"):
                right = eval.judge(self.player(solver_at), tasks, self.cfg.max_new_tokens,
                                   between=self.leave_if_asked)
            print(f"{report.name(k)}: held-out exact match {eval.describe(right)}")
            write_whole(out, json.dumps([[task.id, ok] for task, ok in zip(tasks, right)]))

    def reward_drafts(self, frozen: Player, drafts: list[Draft], specs: list[Spec], seed: int
                      ) -> tuple[list[rewards.GeneratorReward], dict[str, float]]:
        """R_G of each draft, the Solver asked about usable tasks only; their share and mean p."""
        tasks = [draft.task("", spec.domain) for draft, spec in zip(drafts, specs)]
        usable = [i for i, task in enumerate(tasks)
                  if task and curate.structural_reason(task, specs[i]) is None]
        rates = self.pass_rates(frozen, [tasks[i] for i in usable], seed)
        asked = usable if self.cfg.judge == "on" else []
        judged = rewards.r_sem(frozen.digit_logits(solver.judge_prompt(tasks[i]) for i in asked))
        diff = dict(zip(usable, (rewards.r_diff(p, self.cfg.probe, self.cfg.difficulty)
                                 for p in rates)))
        sem = dict(zip(asked, judged))
        copies = curate.copies(tasks) if self.cfg.guard == "repeats" else [1] * len(tasks)
        parts = [rewards.generator_reward(draft, diff.get(i, 0.0), sem.get(i, 0.0), copies[i])
                 for i, draft in enumerate(drafts)]
        return parts, {"usable": len(usable) / len(drafts), "p": sum(rates) / max(len(rates), 1)}

    def pass_rates(self, frozen: Player, tasks: list[Task], seed: int) -> list[float]:
        """For each task p, the share of the Solver's K answers that are the gold answer."""
        cfg, K = self.cfg, self.cfg.probe
        rollouts = frozen.ask(map(solver.prompt, tasks), K, cfg.max_new_tokens,
                              cfg.probe_temperature, seed)
        answers = [solver.parse(frozen.text(r)).calls for r in rollouts]
        return [curate.pass_rate(answers[i * K:i * K + K], t.calls) for i, t in enumerate(tasks)]

    def ask(self, player: Player, chats: Iterable, group: int, seed: int) -> list[Rollout]:
        """`group` completions of each chat at the training temperature."""
        return player.ask(chats, group, self.cfg.max_new_tokens, self.cfg.temperature, seed)

@contextmanager
def phase(what: str) -> Iterator[None]:
    """Say in which phase the memory did not suffice, and what takes less."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        why = str(error).splitlines()[0] if str(error) else "no more to be had"
        raise UnusableModel(f"{what}: out of memory ({why}). Use --checkpointing, lower "
                            "--max-new-tokens, --group or --beta (0: no reference model), name a "
                            "smaller --model, and go on with --set-changed.") from None

def phase_seed(seed: int, k: int, what: str) -> int:
    """A seed that does not depend on what else ran in the process."""
    return zlib.crc32(f"{seed}/{k}/{what}".encode())

def flag(name: str) -> str:
    """The option of a field of Config."""
    return "--" + name.replace("_", "-")

def parse_arguments(argv: list[str] | None = None) -> tuple[Config, bool]:
    """The command line as a Config, and whether --set-changed was given; --help is made from it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for f in fields(Config):
        values = {"default": f.default, "paper": f.metadata["paper"], "tiny": TINY.get(f.name)}
        notes = [f"{who} {value}" for who, value in values.items() if value not in ("", None)]
        kind = {"action": "store_true"} if f.type == "bool" else {
            "type": READ[f.name if f.name in READ else f.type], "choices": CHOICES.get(f.name),
            "metavar": None if f.name in CHOICES else f.type.upper()}
        parser.add_argument(flag(f.name), default=argparse.SUPPRESS, **kind,
                            help=f"{f.metadata['help']} ({'; '.join(notes)})")
    parser.add_argument("--smoke", action="store_true", help="every phase with minimal counts")
    parser.add_argument("--set-changed", action="store_true",
                        help="go on with a run although options were changed")
    given = vars(parser.parse_args(argv))
    set_changed = given.pop("set_changed")
    smoke = SMOKE | {"run": "smoke"} if given.pop("smoke") else {}
    cfg = Config(**(TINY if given.get("model", "tiny") == "tiny" else {}) | smoke | given)
    cfg.run = cfg.run or Path(cfg.model).resolve().name
    if Path(cfg.run).name != cfg.run:
        parser.error(f"--run {cfg.run} is not the name of a folder under runs/")
    for f in fields(Config):
        low, high = LEAST.get(f.name, 1 if f.type == "int" else 0), MOST.get(f.name, float("inf"))
        if f.type in ("int", "float") and not low <= getattr(cfg, f.name) <= high:
            parser.error(f"{flag(f.name)} {getattr(cfg, f.name)} is not in [{low}, {high}]")
    return cfg, set_changed

def open_folder(cfg: Config, set_changed: bool) -> Path:
    """The run folder; one that holds a run of another configuration is refused unless told."""
    folder, versions = Path("runs") / cfg.run, {"python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__}
    path, wanted = folder / "config.json", asdict(cfg) | {"versions": versions}
    if path.exists() and any(folder.glob("iter*")):
        found = json.loads(path.read_text())
        other = {key for key, value in wanted.items() if found.get(key) != value} - MAY_CHANGE
        changed = "; ".join(f"{flag(key)} was {found.get(key)}, is {wanted[key]}"
                            for key in sorted(other - {"versions"}))
        if changed and not set_changed:
            raise Malformed(f"{folder} holds a run of another configuration: {changed}. Go on with "
                            "the new values by --set-changed, name this run with --run NAME, or "
                            "delete the folder.")
        if changed:
            print(f"{folder} goes on, its unfinished phase from the start: {changed}")
            remove([*folder.glob("iter*/*.steps"), *folder.glob("iter*/*.part.jsonl")])
        if "versions" in other:
            print(f"{folder} goes on with other versions, so not to the bit: it began with "
                  f"{found.get('versions')}, these are {versions}")
    write_whole(path, json.dumps(wanted, indent=1))
    return folder

def main() -> int:
    """Run.  Exit code 2: bad input, no room; 3: a phase had nothing to work on; 130: Ctrl-C."""
    cfg, set_changed = parse_arguments()
    again = "the same command goes on from the last checkpoint"
    try:
        distributed.start(cfg.device)
        if cfg.shard and distributed.size == 1:
            raise Malformed("--shard needs several processes: torchrun --nproc_per_node 2 "
                            "selfplay.py ...")
        with locked(Path("runs") / cfg.run) if distributed.rank == 0 else nullcontext():
            selfplay(cfg, open_folder(cfg, set_changed))
    except (Malformed, UnusableModel, Empty) as error:
        print(f"selfplay.py: error: {error}", file=sys.stderr)
        return 3 if isinstance(error, Empty) else 2
    except OSError as error:
        print(f"selfplay.py: error: {error}. What is on the disk is whole; {again}, once that is "
              "fixed.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {again}", file=sys.stderr)
        return 130
    return 0

if __name__ == "__main__":
    sys.exit(main())
