"""The loop: a Generator and a Solver start from one model and train each other.

Paper: Algorithm 1, Sec. 3 and Table 4.  One iteration:

    1. Solver frozen.     Train the Generator by GRPO: R_G = r_fmt + r_valid + (r_diff + r_sem) / 2.
    2. Generator frozen.  Sample candidates, curate them by the Solver's answers, order them.
    3. Train the Solver by GRPO on the curated tasks: R_S = r_fmt + r_acc.

    python selfplay.py                                # the base model that ships, on a CPU
    python selfplay.py --smoke                        # every phase with minimal counts
    python selfplay.py --model Qwen/Qwen2.5-0.5B      # any causal model

Each phase reads files and writes its result whole (plumbing/run.py), so a run that was stopped
anywhere continues with the same command and ends in the same weights.

Letters: k iteration, K answers per task, N prompts per step, G completions per prompt.
"""

import random
import sys
from dataclasses import dataclass, field

import torch

import curate
import eval
import generator
import grpo
import guards
import rewards
import solver
from config import Config
from curate import Candidate
from errors import EmptyPhase
from generator import Draft, Spec, Task
from plumbing import cli
from plumbing.player import Player
from plumbing.run import Run
from rewards import GeneratorReward, SolverReward
from rollout import Rollout

PIECE = 512  # completions that an unfinished curation keeps together


def selfplay(cfg: Config, run: Run) -> str:  # Algorithm 1
    """Train both players; return the path of the last Solver's checkpoint."""
    generator_path = solver_path = cfg.model
    shared = cfg.ablation == "shared-weights"
    evaluate(cfg, run, 0, solver_path)
    for k in range(1, cfg.iterations + 1):
        # Phase 1 (Sec. 3.2): train the Generator against a frozen Solver.
        # R_G = r_fmt + r_valid + (r_diff + r_sem) / 2
        batches = GeneratorBatches(cfg, run, k, solver_path)
        generator_path = train(cfg, run, k, batches, generator_path)
        if shared:
            solver_path = generator_path

        # Phase 2 (Sec. 3.3): propose tasks, measure how hard they are, select a curriculum.
        tasks = curriculum(cfg, run, k, generator_path, solver_path)

        # Phase 3 (Sec. 3.4): train the Solver on it, from easy to hard.  R_S = r_fmt + r_acc
        batches = SolverBatches(cfg, run, k, tasks)
        solver_path = train(cfg, run, k, batches, solver_path)
        if shared:
            generator_path = solver_path
        evaluate(cfg, run, k, solver_path)
    return solver_path


def train(
    cfg: Config, run: Run, k: int, batches: "GeneratorBatches | SolverBatches", start: str
) -> str:
    """Train one player by GRPO from a checkpoint; return the path of the new one."""
    if batches.steps == 0:  # a frozen player
        return start
    out = run.checkpoint(k, batches.role)
    if not out.exists():
        run.begin(k, batches.role)
        batches.open()
        player = run.load(start, frozen=False)
        weights, reference = player.prepare_training(cfg)
        optimizer = grpo.make_optimizer(weights, cfg)
        for step in run.steps(batches.steps, player.model, optimizer, batches.shown):
            batch = batches.play(player, step)
            with run.clock("update"):
                grpo.set_learning_rate(optimizer, cfg, step, batches.steps)
                metrics = grpo.step(
                    player.model, optimizer, batch.rollouts, batch.totals(cfg), cfg, reference
                )
            run.record({**metrics, **rewards.means(batch.rewards), **batch.metrics})
        player.save(out)
    run.finish(k, batches.role)
    return str(out)


@dataclass
class Batch:
    """What one step learns from: rollouts, prompt-major, and the reward of each."""

    rollouts: list[Rollout]
    rewards: list[GeneratorReward] | list[SolverReward]
    metrics: dict[str, float] = field(default_factory=dict)

    def totals(self, cfg: Config) -> torch.Tensor:
        """Return the total rewards, (N, G)."""
        return torch.tensor([reward.total for reward in self.rewards]).view(-1, cfg.group)


class GeneratorBatches:
    """Phase 1: specs -> tasks -> R_G, for which the frozen Solver answers every usable task."""

    role = "generator"
    shown = ("reward", "usable", "p", "copies", "near_duplicates", "menu_met", "entropy")

    def __init__(self, cfg: Config, run: Run, k: int, solver_path: str) -> None:
        self.cfg = cfg
        self.run = run
        self.k = k
        self.steps = cfg.generator_steps
        self.template = generator.template_of(cfg.generator_prompt)
        self.solver_path = solver_path
        self.frozen: Player | None = None

    def open(self) -> None:
        """Load the frozen Solver."""
        self.frozen = self.run.load(self.solver_path)

    def play(self, player: Player, step: int) -> Batch:
        """Let the Generator write G tasks for each of N specs, and reward them."""
        cfg = self.cfg
        seed = self.run.seed(self.k, f"generator/{step}")
        specs = generator.sample_specs(seed, cfg.generator_batch, cfg.p_large_menu)
        chats = [generator.prompt(spec, self.template) for spec in specs]
        with self.run.clock("sample"):
            rollouts = player.sample(chats, cfg.group, cfg.max_new_tokens, cfg.temperature, seed)
        candidates = []
        drafts = []
        for i, rollout in enumerate(rollouts):
            n = i // cfg.group
            draft = generator.parse(player.text(rollout), chats[n])
            drafts.append(draft)
            candidates.append(curate.candidate(str(i), specs[n], draft))
        return Batch(rollouts, *self.reward(drafts, candidates, seed))

    def reward(
        self, drafts: list[Draft], candidates: list[Candidate], seed: int
    ) -> tuple[list[GeneratorReward], dict[str, float]]:
        """Return R_G of each draft, and what the step's line says of the batch."""
        cfg = self.cfg
        for c in candidates:
            if c.reason is None:
                c.reason = curate.structural_reason(c.task, c.spec, cfg)
        usable = [c for c in candidates if c.reason is None]
        with self.run.clock("probe"):
            measure(cfg, self.frozen, usable, seed)
            scores = judge(cfg, self.frozen, usable)
        sem = dict(zip([c.id for c in usable], scores))
        alike = guards.near_duplicates([c.task for c in candidates])
        parts = []
        for draft, c, near in zip(drafts, candidates, alike):
            diff = rewards.r_diff(c.p, cfg.num_probes, difficulty_form(cfg)) if c.id in sem else 0.0
            meets = curate.obedience(c.task, c.spec, cfg) if c.task else 1.0
            near = near if cfg.guards == "on" else 1
            factor = (
                guards.valid_factor(c.task, generator.example_of(c.spec))
                if cfg.guards == "on"
                else 1.0
            )
            parts.append(
                rewards.generator_reward(draft, diff, sem.get(c.id, 0.0), meets, near, factor)
            )
        return parts, describe(candidates, usable)


class SolverBatches:
    """Phase 3: curated tasks -> answers -> R_S."""

    role = "solver"
    shown = ("reward", "acc", "leaks", "zero_advantage_groups", "entropy")

    def __init__(self, cfg: Config, run: Run, k: int, tasks: list[Task]) -> None:
        self.cfg = cfg
        self.run = run
        self.k = k
        self.steps = cfg.solver_steps
        self.template = solver.template_of(cfg.solver_prompt)
        self.schedule = self.plan(tasks)

    def open(self) -> None:
        """Nothing to load: the gold answers are in the tasks."""

    def plan(self, tasks: list[Task]) -> list[Task]:
        """Return the task of every slot of every step, easy to hard.

        More tasks than slots: evenly spread ones, not the easiest alone.  Fewer: over and over.
        """
        slots = self.cfg.solver_steps * self.cfg.solver_batch
        if len(tasks) > slots:
            return [tasks[i * len(tasks) // slots] for i in range(slots)]  # Sec. 3.3
        return [tasks[i % len(tasks)] for i in range(slots)]

    def play(self, player: Player, step: int) -> Batch:
        """Let the Solver answer each of N tasks G times, and reward the answers."""
        cfg = self.cfg
        seed = self.run.seed(self.k, f"solver/{step}")
        start = step * cfg.solver_batch
        tasks = self.schedule[start : start + cfg.solver_batch]
        chats = [solver.prompt(task, self.template) for task in tasks]
        with self.run.clock("sample"):
            rollouts = player.sample(chats, cfg.group, cfg.answer_tokens, cfg.temperature, seed)
        parts = []
        leaked = 0
        for i, rollout in enumerate(rollouts):
            task = tasks[i // cfg.group]
            answer = solver.parse(player.text(rollout))
            leaks = guards.leaks(answer.calls, solver.example_of(task), task.question)
            leaked += any(leaks)
            blocked = leaks if cfg.guards == "on" else None
            parts.append(rewards.solver_reward(answer, task.calls, blocked))
        return Batch(rollouts, parts, {"leaks": leaked / len(rollouts)})


def curriculum(cfg: Config, run: Run, k: int, generator_path: str, solver_path: str) -> list[Task]:
    """Phase 2: sample candidates, measure and curate them; return the tasks in training order."""
    path = run.path(k, "tasks.jsonl")
    if not path.exists():
        run.begin(k, "curate")
        candidates = propose(cfg, run, k, run.load(generator_path))
        usable = curate.check(candidates, cfg)
        measure_in_pieces(cfg, run, k, run.load(solver_path), usable)
        verified = curate.verify(usable, cfg.p_min, cfg.p_max)
        selected = curate.select(verified, cfg.select)
        if cfg.ablation == "shuffled":
            random.Random(cfg.seed).shuffle(selected)
        run.write_lines(k, "candidates.jsonl", [c.to_json() for c in candidates])
        rates = [c.p for c in usable]
        run.record_curation(curate.funnel(candidates), rates, describe(candidates, usable))
        if not selected:
            change = "Lower --p-min" if usable else "Raise --candidates"
            raise EmptyPhase(
                f"iteration {k} curation: of {len(candidates)} candidates none is left: "
                f"{curate.funnel(candidates)}. {change}, and go on with --set-changed."
            )
        run.write_lines(k, "tasks.jsonl", [c.task.to_json() for c in selected])
    run.finish(k, "curate")
    return eval.load_tasks(path)


def propose(cfg: Config, run: Run, k: int, player: Player) -> list[Candidate]:
    """Sample the candidates of an iteration, one per spec."""
    template = generator.template_of(cfg.generator_prompt)
    specs = generator.sample_specs(run.seed(k, "specs"), cfg.candidates, cfg.p_large_menu)

    def write(n: int, some: list[Spec]) -> list[str]:
        chats = [generator.prompt(spec, template) for spec in some]
        seed = run.seed(k, f"write/{n}")
        rollouts = player.sample(chats, 1, cfg.max_new_tokens, cfg.candidate_temperature, seed)
        return [player.text(rollout) for rollout in rollouts]

    texts = run.in_pieces(k, "texts", specs, PIECE, write)
    candidates = []
    for i, (spec, text) in enumerate(zip(specs, texts)):
        draft = generator.parse(text, generator.prompt(spec, template))
        candidates.append(curate.candidate(f"{k}-{i:05d}", spec, draft))
    return candidates


def measure_in_pieces(
    cfg: Config, run: Run, k: int, frozen: Player, usable: list[Candidate]
) -> None:
    """Set p of every usable candidate; finished pieces survive an interruption."""

    def rate(n: int, some: list[Candidate]) -> list[float]:
        measure(cfg, frozen, some, run.seed(k, f"rate/{n}"))
        return [c.p for c in some]

    size = max(1, PIECE // cfg.num_probes)
    rates = run.in_pieces(k, "rates", usable, size, rate)
    for c, p in zip(usable, rates):
        c.p = p


def measure(cfg: Config, frozen: Player, candidates: list[Candidate], seed: int) -> None:
    """Set p of each candidate: the share of the Solver's K answers that equal the gold answer."""
    template = solver.template_of(cfg.solver_prompt)
    chats = [solver.prompt(c.task, template) for c in candidates]
    K = cfg.num_probes
    rollouts = frozen.sample(chats, K, cfg.answer_tokens, cfg.probe_temperature, seed)
    for i, c in enumerate(candidates):
        answers = [solver.parse(frozen.text(r)).calls for r in rollouts[i * K : (i + 1) * K]]
        c.p = curate.pass_rate(answers, c.task.calls)  # Sec. 3.2.1: pass@K


def judge(cfg: Config, frozen: Player, candidates: list[Candidate]) -> list[float]:
    """Return r_sem of each candidate: the frozen Solver scores it from 1 to 5."""
    if cfg.ablation == "no-judge":
        return [0.0] * len(candidates)
    chats = [solver.judge_prompt(c.task) for c in candidates]
    return rewards.r_sem(frozen.digit_logits(chats))


def difficulty_form(cfg: Config) -> str:
    """Return which r_diff the run uses: Table 3 compares three."""
    return {"no-difficulty": "none", "hard-cliff": "cliff"}.get(cfg.ablation, "band")


def describe(candidates: list[Candidate], usable: list[Candidate]) -> dict[str, float]:
    """Return the shares that show whether the Generator writes tasks or hacks."""
    readable = [c for c in candidates if c.task]
    met = [len(c.task.tools) == c.spec.menu_size for c in readable]
    copies = [(c.reason or "").startswith("copies") for c in candidates]
    omits = [curate.leaves_optional_out(c.task) for c in usable]
    rates = [c.p for c in usable]
    return {
        "usable": len(usable) / len(candidates),
        "p": sum(rates) / max(1, len(rates)),
        "copies": sum(copies) / len(candidates),
        "menu_met": sum(met) / max(1, len(met)),
        "omits": sum(omits) / max(1, len(omits)),
    }


def evaluate(cfg: Config, run: Run, k: int, solver_path: str) -> None:
    """Answer the held-out tasks greedily after iteration k; 0 is the base model."""
    path = run.path(k, "heldout.json")
    if path.exists():
        return
    run.begin(k, "evaluation")
    player = run.load(solver_path)
    template = solver.template_of(cfg.solver_prompt)
    verdicts = {}
    for name, tasks in eval.load_heldout(cfg.heldout, cfg.eval_tasks).items():
        right = eval.grade(player, tasks, template, cfg.answer_tokens, name, run.leave_if_asked)
        verdicts[name] = [[task.id, ok] for task, ok in zip(tasks, right)]
    run.record_evaluation(k, verdicts)


if __name__ == "__main__":
    sys.exit(cli.main(__doc__, selfplay))
