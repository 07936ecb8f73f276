"""The loop: a Generator and a Solver start from one model and train each other.

Paper: Algorithm 1, Sec. 3 and Table 4.  One iteration:

    1. Solver frozen.     Train the Generator by GRPO: R_G = r_fmt + r_valid + (r_diff + r_sem) / 2.
    2. Generator frozen.  Sample candidates, curate them by the Solver's answers, order them.
    3. Train the Solver by GRPO on the curated tasks: R_S = r_fmt + r_acc.

    python selfplay.py                                # the base model that ships, on a CPU
    python selfplay.py --dry-run                      # scripted players, no model: what goes where
    python selfplay.py --smoke                        # every phase with minimal counts
    python selfplay.py --model Qwen/Qwen2.5-0.5B      # any causal model, most numbers the paper's

Each phase reads files and writes its result whole (plumbing/runfolder.py).  A run that was stopped
anywhere continues with the same command, and ends in the weights of one that was not.
"""

import functools
import json
import random
import signal
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import curate
import eval
import generator
import grpo
import rewards
import solver
from errors import EmptyPhase
from generator import Draft, Spec, Task
from grpo import GRPOConfig, option
from plumbing import distributed, released, report
from plumbing.player import Player, enough_memory
from plumbing.runfolder import (
    Log,
    in_pieces,
    load_step,
    remove,
    save_step,
    write_jsonl,
    write_whole,
)
from rollout import Rollout


@dataclass
class Config(GRPOConfig):
    """What decides a run.  Defaults are the paper's but for max_new_tokens and prompt."""

    model: str = option("tiny", "folder or hub name of the base model")
    run: str = option("", "name of the folder under runs/; default: the model's name")
    seed: int = option(0, "seed of everything random")
    device: str = option("cuda" if torch.cuda.is_available() else "cpu", "where to compute")
    sampler: str = option("hand", "rollout: hand (rollout.py) or hf (generate)", "", "hand hf")
    iterations: int = option(3, "iterations of the loop", "3, Sec. 4")
    group: int = option(4, "completions a prompt, G", "4, Table 4")
    generator_steps: int = option(50, "GRPO steps of the Generator; 0: frozen", "50, Sec. 4")
    generator_prompts: int = option(6, "specs in a Generator step", "6 = 24 / 4, Table 4")
    solver_steps: int = option(50, "GRPO steps of the Solver", "50, Sec. 4")
    solver_prompts: int = option(8, "tasks in a Solver step", "8 = 32 / 4, Table 4")
    p_large_menu: float = option(generator.P_LARGE_MENU, "share of large menus in specs", "0.6")
    probe: int = option(8, "Solver answers that measure difficulty, K", "8, Sec. 3.2.1")
    probe_temperature: float = option(0.7, "their temperature", "0.7, Sec. 3.2.1")
    candidates: int = option(10_000, "tasks the Generator proposes", "10,000, Sec. 4")
    select: int = option(2000, "at most this many tasks are curated", "2,000, Sec. 4")
    weights: str = option(
        "separate", "shared: one model plays both roles", "separate", "separate shared"
    )
    difficulty: str = option(
        "band", "r_diff: band-pass, hard cliff, or none (always 0)", "band", "band cliff none"
    )
    judge: str = option("on", "off: r_sem is 0, the Solver is not asked", "on", "on off")
    prompt: str = option("short", "paper: worded as in the release", "paper", "short paper")
    order: str = option(
        "easy", "of the curated tasks: easy to hard, or shuffled", "easy", "easy shuffled"
    )
    tasks: str = option(
        "",
        "JSONL file: train on these as they come, a share an iteration; no Generator, no curation",
    )
    guard: str = option(
        "none", "repeats: copies share all but r_fmt (README, Rewards)", "", "none repeats"
    )
    tau: float = option(0.125, "smallest share of K answers that must be the gold one", "not given")
    heldout: str = option("tiny", "JSONL file of tasks to evaluate on; tiny: tiny/heldout.jsonl")
    eval_tasks: int = option(100, "how many of them")
    save_every: int = option(10, "steps between two checkpoints of an unfinished phase")


# What differs for the model that ships: a million parameters learn in larger steps.
TINY = dict(
    lr=2e-4,
    beta=0.0,
    group=8,
    max_new_tokens=320,
    micro_batch=32,
    generator_steps=15,
    generator_prompts=8,
    solver_steps=15,
    solver_prompts=16,
    p_large_menu=0.2,
    tau=0.5,
    candidates=700,
    select=240,
    eval_tasks=480,
)
SMOKE = dict(
    iterations=1,
    save_every=1,
    generator_steps=2,
    generator_prompts=2,
    solver_steps=3,
    solver_prompts=2,
    candidates=48,
    eval_tasks=16,
)

PIECE = 512  # completions that are kept together in an unfinished curation
BAD_STEPS = 5  # so many in a row stop the run


def selfplay(cfg: Config, folder: Path) -> None:
    """Algorithm 1."""
    torch.use_deterministic_algorithms(cfg.device == "cpu")  # gradients add in a fixed order
    run = Run(cfg, folder)
    if distributed.size == 1:  # several processes could not agree on when to stop
        signal.signal(signal.SIGINT, run.stop)
    generator_at = solver_at = cfg.model
    run.evaluate(0, solver_at)
    for k in range(1, cfg.iterations + 1):  # Algorithm 1
        generator_at = run.train_generator(k, generator_at, solver_at)  # Sec. 3.2
        solver_at = generator_at if cfg.weights == "shared" else solver_at
        tasks = run.curation(k, generator_at, solver_at)  # Sec. 3.3
        solver_at = run.train_solver(k, solver_at, tasks)  # Sec. 3.4
        generator_at = solver_at if cfg.weights == "shared" else generator_at
        run.evaluate(k, solver_at)
    print(f"{report.write(folder)}\nlog: {folder}/log.jsonl\ntrained Solver: {solver_at}")


class Run:
    """The phases.  Each returns at once where its result exists; else it makes and writes it."""

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg, self.folder, self.stopping = cfg, folder, False
        released.use(cfg.prompt)
        self.player = lambda where, frozen=True: Player(where, cfg.device, cfg.sampler, frozen)
        self.ask = lambda player, chats, group, seed: player.sample(  # at the training temperature
            chats, group, cfg.max_new_tokens, cfg.temperature, seed
        )

    def stop(self, *_) -> None:
        """Ctrl-C: leave at the next moment at which nothing is lost; the second one: at once."""
        self.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping where nothing is lost; Ctrl-C again leaves at once", file=sys.stderr)

    def leave_if_asked(self) -> None:
        """Called where all so far is on the disk, or is soon done again."""
        if self.stopping:
            raise KeyboardInterrupt

    def train_generator(self, k: int, generator_at: str, solver_at: str) -> str:
        """Phase 1: GRPO on specs, the Solver frozen.  Returns where the trained Generator lies."""
        cfg, load_frozen = self.cfg, functools.cache(lambda: self.player(solver_at))  # on demand

        def turn(player: Player, step: int, seed: int) -> tuple[list[Rollout], list, dict]:
            specs = generator.sample_specs(seed, cfg.generator_prompts, cfg.p_large_menu)
            rollouts = self.sample(player, map(generator.prompt, specs), cfg.group, seed)
            drafts = [generator.parse(player.text(r)) for r in rollouts]
            spec_of = [spec for spec in specs for _ in range(cfg.group)]
            return rollouts, *self.reward_drafts(load_frozen(), drafts, spec_of, seed)

        steps = 0 if cfg.tasks else cfg.generator_steps
        return self.train(
            k, "generator", generator_at, steps, turn, shown=("reward", "usable", "p", "entropy")
        )

    def curation(self, k: int, generator_at: str, solver_at: str) -> list[Task]:
        """Phase 2: sample candidates, curate them.  Returns the tasks in training order."""
        here = self.folder / f"iter{k}"
        if self.cfg.tasks:  # tasks k, k + iterations, k + 2 iterations, ...
            return eval.load_tasks(Path(self.cfg.tasks))[k - 1 :: self.cfg.iterations]
        if not (here / "tasks.jsonl").exists():
            log = Log(self.folder, k, "curate")
            with enough_memory(f"iteration {k} curation"):
                candidates = self.candidates(k, self.player(generator_at), self.player(solver_at))
            usable = [c for c in candidates if c.reason is None]
            selected = curate.select(curate.verify(usable, self.cfg.tau), self.cfg.select)
            if self.cfg.order == "shuffled":
                random.Random(self.cfg.seed).shuffle(selected)
            funnel = curate.funnel(candidates)
            write_jsonl(here / "candidates.jsonl", [c.to_json() for c in candidates])
            log.line(
                {
                    "candidates": len(candidates),
                    "funnel": funnel,
                    "selected": len(selected),
                    "duplicates": funnel.get("duplicate", 0) / len(candidates),
                    "p": [c.p for c in usable],
                }
            )
            counts = ", ".join(f"{n} {why}" for why, n in funnel.items())
            print(f"iteration {k} curation: {counts}")
            if not selected:
                change = "Lower --tau" if usable else "Raise --candidates"
                raise EmptyPhase(
                    f"iteration {k} curation: of {len(candidates)} candidates none is "
                    f"left: {counts}. {change}, and go on with --set-changed."
                )
            write_jsonl(here / "tasks.jsonl", [c.task.to_json() for c in selected])
            print(report.alarms(self.folder, k, "curate"), end="")
        remove(*here.glob("*.part.jsonl"))
        return eval.load_tasks(here / "tasks.jsonl")

    def candidates(self, k: int, writer: Player, frozen: Player) -> list[curate.Candidate]:
        """What the Generator proposes, each with its reason or with p; kept piece by piece."""
        cfg, here = self.cfg, self.folder / f"iter{k}"

        def write(n: int, some: list[Spec]) -> list[str]:
            self.leave_if_asked()
            seed = phase_seed(cfg.seed, k, f"write/{n}")
            return [
                writer.text(r) for r in self.sample(writer, map(generator.prompt, some), 1, seed)
            ]

        def rate(n: int, some: list[curate.Candidate]) -> list[float]:
            self.leave_if_asked()
            seed = phase_seed(cfg.seed, k, f"rate/{n}")
            return self.pass_rates(frozen, [c.task for c in some], seed)

        specs = generator.sample_specs(
            phase_seed(cfg.seed, k, "specs"), cfg.candidates, cfg.p_large_menu
        )
        texts = in_pieces(here / "texts.part.jsonl", specs, PIECE, write)
        candidates = [
            curate.candidate(f"{k}-{i:05d}", spec, generator.parse(text))
            for i, (spec, text) in enumerate(zip(specs, texts))
        ]
        usable, size = curate.check(candidates), max(1, PIECE // cfg.probe)
        for c, p in zip(usable, in_pieces(here / "rates.part.jsonl", usable, size, rate)):
            c.p = p
        return candidates

    def train_solver(self, k: int, solver_at: str, tasks: list[Task]) -> str:
        """Phase 3: GRPO on the curated tasks in their order, over and over if they are too few."""
        cfg, size, n = self.cfg, self.cfg.solver_prompts, len(tasks)
        need = cfg.solver_steps * size  # if there are more, not the easiest but evenly spread ones
        plan = [tasks[i * n // need if n > need else i % n] for i in range(need)]  # Sec. 3.3

        def turn(player: Player, step: int, seed: int) -> tuple[list[Rollout], list, dict]:
            batch = plan[step * size : (step + 1) * size]
            rollouts = self.sample(player, map(solver.prompt, batch), cfg.group, seed)
            gold = [task.calls for task in batch for _ in range(cfg.group)]
            return (
                rollouts,
                [
                    rewards.solver_reward(solver.parse(player.text(r)), calls)
                    for r, calls in zip(rollouts, gold)
                ],
                {},
            )

        return self.train(
            k,
            "solver",
            solver_at,
            cfg.solver_steps,
            turn,
            shown=("reward", "acc", "zero_advantage_groups", "entropy"),
        )

    def train(self, k: int, role: str, start: str, steps: int, turn: Callable, shown: tuple) -> str:
        """A phase of GRPO.  Returns where the trained model lies; without steps: where it began."""
        out = self.folder / f"iter{k}" / role
        steps_at = out.with_name(f"{role}.steps")
        if steps and not out.exists():
            with enough_memory(f"iteration {k} {role}"):
                player = self.player(start, frozen=False)
                self.optimize(k, role, player, steps_at, steps, turn, shown)
            player.save(out)
            print(report.alarms(self.folder, k, role), end="")
        remove(steps_at)
        return str(out) if steps else start

    def optimize(
        self,
        k: int,
        role: str,
        player: Player,
        steps_at: Path,
        steps: int,
        turn: Callable,
        shown: tuple,
    ) -> None:
        """GRPO: each `turn` plays one batch -> rollouts, their rewards by parts, more to log."""
        cfg, bad = self.cfg, 0
        weights, reference = player.prepare_training(cfg)
        # Begun anew in each phase; a constant rate, and all weights decay.
        optimizer = torch.optim.AdamW(weights, cfg.lr, weight_decay=cfg.weight_decay, foreach=False)
        log = Log(self.folder, k, role, load_step(steps_at, player.model, optimizer))
        for step in log.steps(steps, shown):
            rollouts, parts, extra = turn(player, step, phase_seed(cfg.seed, k, f"{role}/{step}"))
            totals = torch.tensor([part.total for part in parts]).view(-1, cfg.group)  # (N, G)
            metrics = grpo.step(player.model, optimizer, rollouts, totals, cfg, reference)
            log.line({**metrics, **rewards.means(parts), **extra})
            bad = bad + 1 if metrics["skipped"] else 0
            if bad:
                print(f"\niteration {k} {role}: step {step} has no finite gradient, left out")
            if self.stopping or bad == BAD_STEPS or (step + 1) % cfg.save_every == 0:
                save_step(steps_at, step + 1, player.model, optimizer)
            if bad == BAD_STEPS:
                raise EmptyPhase(
                    f"iteration {k} {role}: {bad} steps in a row had no finite gradient; "
                    f"the last good state is in {steps_at}. Lower --lr, and start this "
                    "phase again with --set-changed."
                )
            self.leave_if_asked()
        if all(line["zero_advantage_groups"] == 1 for line in report.log(self.folder, role, k)):
            raise EmptyPhase(
                f"iteration {k} {role}: in each of the {steps} steps all rewards of a "
                "group were equal, so nothing was learned. Raise --group or --temperature "
                "and go on with --set-changed, or name another --model."
            )

    def evaluate(self, k: int, solver_at: str) -> None:
        """Greedy exact match on the held-out tasks after iteration k; 0 is the base model."""
        out = self.folder / f"iter{k}" / "heldout.json"
        if not out.exists():
            tasks = eval.load_tasks(eval.heldout_file(self.cfg.heldout))[: self.cfg.eval_tasks]
            with enough_memory(f"evaluation of the {report.name(k)} Solver"):
                right = eval.grade(
                    self.player(solver_at),
                    tasks,
                    self.cfg.max_new_tokens,
                    between=self.leave_if_asked,
                )
            print(f"{report.name(k)}: held-out exact match {report.describe(right)}")
            write_whole(out, json.dumps([[task.id, ok] for task, ok in zip(tasks, right)]))

    def reward_drafts(
        self, frozen: Player, drafts: list[Draft], specs: list[Spec], seed: int
    ) -> tuple[list[rewards.GeneratorReward], dict[str, float]]:
        """R_G of each draft, the Solver asked about usable tasks only; their share and mean p."""
        tasks = [draft.task("", spec.domain) for draft, spec in zip(drafts, specs)]
        usable = [
            i
            for i, task in enumerate(tasks)
            if task and curate.structural_reason(task, specs[i]) is None
        ]
        rates = self.pass_rates(frozen, [tasks[i] for i in usable], seed)
        asked = usable if self.cfg.judge == "on" else []
        judged = rewards.r_sem(frozen.digit_logits(solver.judge_prompt(tasks[i]) for i in asked))
        diff = dict(
            zip(usable, (rewards.r_diff(p, self.cfg.probe, self.cfg.difficulty) for p in rates))
        )
        sem = dict(zip(asked, judged))
        copies = curate.copies(tasks) if self.cfg.guard == "repeats" else [1] * len(tasks)
        parts = [
            rewards.generator_reward(draft, diff.get(i, 0.0), sem.get(i, 0.0), copies[i])
            for i, draft in enumerate(drafts)
        ]
        return parts, {"usable": len(usable) / len(drafts), "p": sum(rates) / max(len(rates), 1)}

    def pass_rates(self, frozen: Player, tasks: list[Task], seed: int) -> list[float]:
        """For each task p, the share of the Solver's K answers that are the gold answer."""
        cfg, K = self.cfg, self.cfg.probe
        rollouts = frozen.sample(
            map(solver.prompt, tasks), K, cfg.max_new_tokens, cfg.probe_temperature, seed
        )
        answers = [solver.parse(frozen.text(r)).calls for r in rollouts]
        return [curate.pass_rate(answers[i * K : i * K + K], t.calls) for i, t in enumerate(tasks)]


def phase_seed(seed: int, k: int, what: str) -> int:
    """A seed that does not depend on what else ran in the process."""
    return zlib.crc32(f"{seed}/{k}/{what}".encode())


if __name__ == "__main__":
    from plumbing.cli import main
    from scripts.demos import demo

    demo("selfplay") or sys.exit(main())  # --demo and --dry-run end in `demo`
