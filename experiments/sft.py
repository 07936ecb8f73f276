"""Supervised fine-tuning on tasks with gold answers, as a comparison for self-play.

    python -m experiments.sft                                        # 70, 240 and 720 tasks
    python -m experiments.sft --model runs/tiny/iter3/solver         # after self-play
    python -m experiments.sft --heldout tiny/dev.jsonl --epochs 1 2 4    # to choose the epochs

A program writes the tasks from the training side of tiny's world, as hard as the held-out ones.
The loss is the mean negative log-probability of the gold completion's tokens.  GRPO on the same
tasks is `python -m experiments.ablations clean70 clean240 clean720`.

Each finished run adds one line to --out, so a stopped command continues after the last one:

    {"model": "tiny", "tasks": 70, "seed": 0, "epochs": 2, "heldout": "tiny", "accuracy": 0.5}
"""

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

import torch

import eval
import grpo
import solver
from config import TINY, Config
from experiments.ablations import mean_sd
from generator import Task
from plumbing.command import run_command
from plumbing.intervals import aligned
from plumbing.loading import ROOT
from plumbing.padding import batched
from plumbing.player import Player
from plumbing.runfolder import append, reopen_jsonl
from rollout import Rollout
from tiny.make import HARD, World, solver_text, training_tasks

BATCH = 16  # tasks per step
LR = 5e-4
WORLD = World(random.Random(0), heldout=False, weights=HARD)


def gold_rollouts(player: Player, tasks: list[Task]) -> list[Rollout]:
    """Return each task's prompt with its gold completion, as if the Solver had sampled it."""
    rollouts = []
    for task in tasks:
        chat, text = solver_text(WORLD, task, noise=0.0, habit=0.0)
        ids = player.encode(text) + player.eos_ids[:1]
        rollouts.append(Rollout(player.ids(chat), ids, finished=True))
    return rollouts


def fine_tune(player: Player, tasks: list[Task], epochs: int, seed: int) -> None:
    """Train the Solver on the gold completions; the learning rate falls linearly towards 0."""
    cfg = Config(beta=0.0, lr=LR)
    weights, _ = player.prepare_training(cfg)
    optimizer = grpo.make_optimizer(weights, cfg)
    rng = random.Random(seed)
    rollouts = gold_rollouts(player, tasks)
    batches = []
    for _ in range(epochs):
        rng.shuffle(rollouts)
        batches += batched(list(rollouts), BATCH)
    for step, batch in enumerate(batches):
        logps, _, mask = grpo.token_logprobs(player.model, batch, temperature=1.0)
        loss = -logps.sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, cfg.max_grad_norm)
        grpo.set_learning_rate(optimizer, cfg, step, len(batches))
        optimizer.step()


def accuracy(player: Player, heldout: str) -> float:
    """Return the share of held-out tasks that are answered correctly by greedy decoding."""
    right = []
    for tasks in eval.load_heldout(heldout, TINY["eval_tasks"]).values():
        right += eval.grade(player, tasks, solver.template_of("bank"), TINY["answer_tokens"])
    return sum(right) / len(right)


def fine_tune_missing(a: argparse.Namespace) -> list[dict]:
    """Fine-tune once per number of tasks, epochs and seed; return the results, old and new."""
    done = reopen_jsonl(a.out)
    for count, epochs, seed in itertools.product(a.tasks, a.epochs, range(a.seeds)):
        key = {
            "model": a.model,
            "tasks": count,
            "seed": seed,
            "epochs": epochs,
            "heldout": a.heldout,
        }
        if any(key.items() <= line.items() for line in done):
            continue
        torch.manual_seed(seed)
        player = Player(a.model)
        fine_tune(player, training_tasks(count, seed), epochs, seed)
        line = {**key, "accuracy": round(accuracy(player, a.heldout), 4)}
        append(a.out, line)
        done.append(line)
        print(json.dumps(line), flush=True)
    return done


def table(done: list[dict]) -> str:
    """Return mean and standard deviation over the seeds, as text."""
    names = ("model", "tasks", "epochs", "heldout")
    groups: dict[tuple, list[float]] = {}
    for line in done:
        group = tuple(str(line[name]) for name in names)
        groups.setdefault(group, []).append(line["accuracy"])
    rows = [[*names, "seeds", "right, %"]]
    for group, values in groups.items():
        rows.append([*group, str(len(values)), mean_sd(values)])
    return aligned(rows)


def main(argv: list[str] | None = None) -> int:
    """Fine-tune what is missing, then print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("sft", description=__doc__, formatter_class=raw)
    parser.add_argument("--model", default="tiny", help="tiny, or a Solver that came from it")
    parser.add_argument("--tasks", type=eval.positive, nargs="+", default=[70, 240, 720])
    parser.add_argument("--epochs", type=eval.positive, nargs="+", default=[2])
    parser.add_argument("--seeds", type=eval.positive, default=3)
    parser.add_argument("--heldout", default="tiny")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results" / "sft.jsonl")
    a = parser.parse_args(argv)
    return run_command("sft", lambda: print(table(fine_tune_missing(a)), end=""))


if __name__ == "__main__":
    sys.exit(main())
