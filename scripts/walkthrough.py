"""One task through the whole system, with the real texts and numbers of a run: WALKTHROUGH.md.

    python -m scripts.walkthrough runs/tiny > WALKTHROUGH.md

The task is from iteration 1: if possible, one that the base Solver gets wrong and the last Solver
gets right, with a pass rate near a half.  What the run kept is read from its folder; completions
are sampled again from the run's own seeds.
"""

import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

import curate
import eval
import generator
import grpo
import phases
import solver
from ast_match import exact_match
from config import Config
from curate import Candidate
from errors import UsageError
from experiments.audit import is_right
from generator import Task
from plumbing import report
from plumbing.command import run_command
from plumbing.player import Player
from plumbing.run import Run
from plumbing.runfolder import read_jsonl

PAGE = Path(__file__).with_name("walkthrough_page.md")


@dataclass
class Story:
    """A selected candidate of iteration 1 and its greedy answers before and after training."""

    candidate: Candidate
    completion: str
    place: int  # in training order
    before: str
    after: str

    def shows(self) -> tuple[bool, bool, float]:
        """Return what makes a story good, the most important criterion first."""
        gold = self.candidate.task.calls
        sound = is_right(self.candidate.task)  # can only be true of tasks in tiny's world
        was_right = exact_match(solver.parse(self.before).calls, gold)
        now_right = exact_match(solver.parse(self.after).calls, gold)
        return sound, now_right and not was_right, -abs(self.candidate.p - 0.5)


def choose(run: Run, folder: Path, base: Player, trained: Player) -> Story:
    """Sample the candidates of iteration 1 again; return the best story among the selected ones."""
    cfg = run.cfg
    writer = folder / "iter1" / "generator"  # missing if the Generator is frozen
    player = run.load(str(writer) if writer.exists() else cfg.model)
    candidates = {c.id: c for c in phases.propose(cfg, run, 1, player)}
    pieces = read_jsonl(run.path(1, "texts.part.jsonl"))
    texts = dict(zip(candidates, [text for piece in pieces for text in piece]))
    rates = {line["id"]: line["p"] for line in read_jsonl(folder / "iter1" / "candidates.jsonl")}
    places = {}
    for place, task in enumerate(eval.load_tasks(folder / "iter1" / "tasks.jsonl"), 1):
        if task.id in candidates and candidates[task.id].task == task:
            candidates[task.id].p = rates[task.id]
            places[task.id] = place
    if not places:
        raise UsageError(
            f"{folder}: sampling again gives other candidates here. Use the machine, versions and "
            "thread count that its config.json names."
        )
    tasks = [candidates[id].task for id in places]
    answers = zip(places, greedy(cfg, base, tasks), greedy(cfg, trained, tasks))
    stories = []
    for id, before, after in answers:
        stories.append(Story(candidates[id], texts[id], places[id], before, after))
    return max(stories, key=Story.shows)


def greedy(cfg: Config, player: Player, tasks: list[Task]) -> list[str]:
    """Return a player's greedy answers."""
    chats = [solver.prompt(task, solver.template_of(cfg.solver_prompt)) for task in tasks]
    rollouts = player.sample(chats, 1, cfg.answer_tokens, 0.0, 0)
    return [player.text(rollout, chat) for rollout, chat in zip(rollouts, chats)]


def learn(run: Run, base: Player, task: Task) -> dict:
    """Train the base Solver for one step on a group of its answers; return what the page shows."""
    cfg = replace(run.cfg, solver_batch=1, solver_steps=1)
    batch = phases.SolverBatches(cfg, run, 1, [task]).play(base, 0)
    totals = batch.totals(cfg.group)
    A = grpo.advantages(totals)[0].tolist()
    before = mean_logps(cfg, base, batch.rollouts)
    weights, reference = base.prepare_training(cfg)
    optimizer = grpo.make_optimizer(weights, cfg)
    grpo.step(base.model, optimizer, batch.rollouts, totals, cfg, reference)
    after = mean_logps(cfg, base, batch.rollouts)
    rows = defaultdict(list)  # cells that equal answers share -> their log-probabilities
    for i, part in enumerate(batch.rewards):
        answer = solver.parse(base.text(batch.rollouts[i]))
        calls = json.dumps([call.to_json() for call in answer.calls])
        advantage = round(A[i], 2) + 0.0  # no -0.00
        row = f"`{answer.reason or calls}` | {part.fmt:.2f} | {part.acc:.2f} | {advantage:+.2f}"
        rows[row].append((before[i], after[i]))
    lines = []
    for row, logps in rows.items():
        old, new = torch.tensor(logps).mean(0).tolist()
        lines.append(f"| {len(logps)} | {row} | {old:.4f} | {new:.4f} |")
    return {"group": "\n".join(lines), "mean": totals.mean().item(), "std": totals.std().item()}


@torch.no_grad()
def mean_logps(cfg: Config, player: Player, rollouts: list) -> list[float]:
    """Return the mean log-probability of a token of each completion."""
    logps, _, mask = grpo.token_logprobs(player.model, rollouts, cfg.temperature)
    return [row[kept].mean().item() for row, kept in zip(logps, mask)]


def walk(folder: Path) -> str:
    """Return the page of a run folder."""
    found = report.config(folder)
    cfg = Config(**{f.name: found[f.name] for f in fields(Config) if f.name in found})
    if cfg.tools:
        raise UsageError(f"{folder} is a run with --tools: name one without")
    cfg = replace(cfg, candidates=min(cfg.candidates, phases.PIECE))
    last = max(report.heldout(folder))
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(cfg, Path(scratch), date=found.get("date", ""))
        base = run.load(cfg.model, frozen=False)
        trained = run.load(str(folder / f"iter{last}" / "solver"))
        story = choose(run, folder, base, trained)
    c = story.candidate
    phases.judge(cfg, base, [c])
    draft = generator.parse(story.completion)
    (reward,) = phases.reward_drafts(cfg, [draft], [c], [1])
    (line,) = report.log(folder, "curate", 1)
    page = PAGE.read_text(encoding="utf-8")
    return page.format(
        cfg=cfg,
        spec=c.spec,
        user=generator.prompt(c.spec, generator.template_of(cfg.generator_prompt))[-1]["content"],
        completion=story.completion,
        gold="\n".join(json.dumps(call.to_json()) for call in c.task.calls),
        reward=reward,
        p=c.p,
        id=c.id,
        line=line,
        funnel="\n".join(f"| {n} | {why} |" for why, n in line["funnel"].items()),
        bucket=curate.bucket(c.p),
        place=story.place,
        last=last,
        before=story.before,
        after=story.after,
        **learn(run, base, c.task),
    )


def main() -> None:
    """Print the page of the run folder that the command line names."""
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else Path()
    if not (folder / "iter1" / "tasks.jsonl").exists() or not report.heldout(folder):
        raise UsageError("name a run folder with a trained Solver, such as runs/tiny")
    print(walk(folder), end="")


if __name__ == "__main__":
    sys.exit(run_command("walkthrough", main))
