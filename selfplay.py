"""The loop: a Generator and a Solver start from one model and train each other.

Paper: Algorithm 1, Sec. 3 and Table 4.  One iteration:

    1. Solver frozen.     Train the Generator by GRPO: R_G = r_fmt + r_valid + (r_diff + r_sem) / 2.
                          The Solver answers every usable task K times; its pass rate p gives r_diff
                          (difficulty).  As judge it rates the task: r_sem (semantic quality).
    2. Both frozen.       Sample candidates, keep those with p_min <= p <= p_max, select, order.
    3. Generator frozen.  Train the Solver by GRPO on these tasks, from high p to low p:
                          R_S = r_fmt + r_acc.  (--replay puts tasks of earlier iterations first.)

What a batch samples and rewards is in phases.py; the full formulas are in rewards.py.

    python selfplay.py                                # the base model that ships, on a CPU
    python selfplay.py --smoke                        # every phase with minimal counts
    python selfplay.py --model Qwen/Qwen2.5-0.5B      # most causal models

Each phase reads its inputs from disk and writes its result atomically (plumbing/runfolder.py), so a
run that was stopped at any point continues with the same command.  On a CPU it ends in the same
weights, bit for bit.
"""

import random
import sys

import curate
import eval
import grpo
import phases
import rewards
import solver
from config import Config
from errors import NothingToLearn
from generator import Task
from phases import Batches, GeneratorBatches, SolverBatches
from plumbing import cli
from plumbing.player import Player
from plumbing.run import Run


def selfplay(cfg: Config, run: Run) -> str:  # Algorithm 1
    """Train both players; return the path of the last Solver's checkpoint."""
    phases.check_inputs(cfg, run)
    generator_path = solver_path = cfg.model
    evaluate(cfg, run, 0, solver_path)
    for k in range(1, cfg.iterations + 1):
        # Phase 1 (Sec. 3.2): train the Generator against a frozen Solver.
        batches = GeneratorBatches(cfg, run, k, solver_path)
        generator_path = train(cfg, run, k, batches, generator_path)
        del batches  # with its copy of the Solver
        if cfg.ablation == "shared-weights":
            solver_path = generator_path

        # Phase 2 (Sec. 3.3): propose tasks, measure how hard they are, select a curriculum.
        tasks = curriculum(cfg, run, k, generator_path, solver_path)

        # Phase 3 (Sec. 3.4): train the Solver on them, from easy to hard.
        batches = SolverBatches(cfg, run, k, tasks)
        solver_path = train(cfg, run, k, batches, solver_path)
        if cfg.ablation == "shared-weights":
            generator_path = solver_path
        evaluate(cfg, run, k, solver_path)
    return solver_path


def train(cfg: Config, run: Run, k: int, batches: Batches, start: str) -> str:
    """Train one player from a checkpoint; return the path of the new one."""
    if batches.steps == 0:  # this player stays frozen
        return start
    out = run.path(k, batches.role)
    if not out.exists():
        run.begin(k, batches.role)
        batches.open()
        player = run.load(start, frozen=False)
        learn(cfg, run, k, batches, player)
        player.save(out)
    run.finish(k, batches.role)
    return str(out)


def learn(cfg: Config, run: Run, k: int, batches: Batches, player: Player) -> None:
    """Sample, reward and update, step by step: GRPO."""
    weights, reference = player.prepare_training(cfg)
    optimizer = grpo.make_optimizer(weights, cfg)
    for step in run.steps(batches.steps, player.model, optimizer, batches.shown):
        batch = batches.play(player, step)  # sample and reward: phases.py
        totals = batch.totals(cfg.group)
        grpo.set_learning_rate(optimizer, cfg, step, batches.steps, k)
        with run.clock("update"):
            metrics = grpo.step(player.model, optimizer, batch.rollouts, totals, cfg, reference)
        metrics |= rewards.means(batch.rewards)
        metrics |= batch.metrics
        run.record(metrics)


def curriculum(cfg: Config, run: Run, k: int, generator_path: str, solver_path: str) -> list[Task]:
    """Propose, measure and curate tasks; return the selection in training order."""
    path = run.path(k, "tasks.jsonl")
    if not path.exists():
        run.begin(k, "curate")
        candidates = phases.propose(cfg, run, k, run.load(generator_path))
        usable = curate.check(candidates, cfg)
        phases.measure_in_pieces(cfg, run, k, run.load(solver_path), usable)
        verified = curate.verify(usable, cfg.p_min, cfg.p_max)
        selected = curate.select(verified, cfg.select)
        selected = phases.set_aside(cfg, run, k, selected)
        if cfg.ablation == "shuffled":
            random.Random(cfg.seed).shuffle(selected)
        run.write_lines(k, "candidates.jsonl", [c.to_json() for c in candidates])
        rates = [c.p for c in usable]
        numbers = phases.describe(candidates, usable)
        numbers["uncalled"] = phases.uncalled(cfg, selected)
        run.record_curation(curate.funnel(candidates), rates, numbers)
        if not selected:
            change = "Lower --p-min or raise --p-max" if usable else "Raise --candidates"
            raise NothingToLearn(
                f"iteration {k} curation: none of {len(candidates)} candidates is left. "
                f"{change}, and continue with --set-changed."
            )
        run.write_lines(k, "tasks.jsonl", [c.task.to_json() for c in selected])
    run.finish(k, "curate")
    return eval.load_tasks(path)


def evaluate(cfg: Config, run: Run, k: int, solver_path: str) -> None:
    """Answer the held-out tasks greedily after iteration k; 0 is the base model."""
    path = run.path(k, "heldout.json")
    if path.exists() or phases.awaits_heldout(cfg, run):
        return
    if k > 0:
        evaluate(cfg, run, 0, cfg.model)  # self-made tasks did not exist before
    run.begin(k, "evaluation")
    player = run.load(solver_path)
    template = solver.template_of(cfg.solver_prompt)
    verdicts = {}
    for name, tasks in phases.heldout(cfg, run).items():
        title = f"{run.phase}: {name}"
        limit = cfg.answer_tokens
        right = eval.grade(player, tasks, template, limit, title, run.leave_if_asked)
        verdicts[name] = [[task.id, ok] for task, ok in zip(tasks, right)]
    run.record_evaluation(k, verdicts)


if __name__ == "__main__":
    sys.exit(cli.main(__doc__, selfplay))
