"""One task through the whole system, with the real texts and numbers of a run: WALKTHROUGH.md.

    python -m scripts.walkthrough runs/tiny > WALKTHROUGH.md

Follows a task of iteration 1: if there is one, a sound one that the base Solver gets wrong and the
last one right, and the nearer its share of right answers is to a half the better.  What the run
kept is read from its folder; completions are sampled again, by the run's own seeds.
"""

import copy
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch

import curate
import eval
import generator
import grpo
import rewards
import solver
from experiments.audit import is_right
from generator import Spec, Task
from plumbing import report
from plumbing.player import Player
from plumbing.runfolder import read_jsonl
from selfplay import PIECE, Config, Run, phase_seed


@dataclass
class Story:
    """What is told: a candidate of iteration 1 and its way through the system."""

    spec: Spec
    completion: str
    task: Task
    p: float  # measured in the run
    place: int  # in the order of training
    before: str  # greedy answers
    after: str


def fenced(text: str) -> str:
    """A text as a block of Markdown."""
    return f"\n```\n{text}\n```\n"


def calls_of(text: str) -> str:
    """The calls in a completion, or why there are none."""
    answer = solver.parse(text)
    return json.dumps([call.to_json() for call in answer.calls]) if answer.calls else answer.reason


def choose(run: Run, base: Player, last: Player) -> Story:
    """The task that shows most."""
    cfg, here = run.cfg, run.folder / "iter1"
    specs = generator.sample_specs(
        phase_seed(cfg.seed, 1, "specs"), cfg.candidates, cfg.p_large_menu
    )[:PIECE]
    trained = here / "generator"  # none where it is frozen
    writer = run.player(str(trained) if trained.exists() else cfg.model)
    rollouts = run.sample(
        writer, map(generator.prompt, specs), 1, phase_seed(cfg.seed, 1, "write/0")
    )
    texts = {f"1-{i:05d}": writer.text(r) for i, r in enumerate(rollouts)}
    tasks = eval.load_tasks(here / "tasks.jsonl")
    again = [
        (place, task)
        for place, task in enumerate(tasks, 1)
        if task == generator.parse(texts.get(task.id, "")).task(task.id, task.domain)
    ]
    if not again:
        sys.exit(f"the candidates of {run.folder} cannot be sampled again: it ran elsewhere")
    ask = lambda player: dict(eval.complete(player, [t for _, t in again], cfg.max_new_tokens))
    before, after = ask(base), ask(last)
    p = {line["id"]: line["p"] for line in read_jsonl(here / "candidates.jsonl")}
    right = lambda text, task: curate.pass_rate([solver.parse(text).calls], task.calls) == 1

    def shows(choice: tuple[int, Task]) -> tuple:
        task = choice[1]
        learned = right(after[task.id], task) and not right(before[task.id], task)
        sound = cfg.model != "tiny" or is_right(task)
        return sound, learned, -abs(p[task.id] - 0.5), len(task.calls[0].arguments)

    place, task = max(again, key=shows)
    return Story(
        specs[int(task.id[2:])],
        texts[task.id],
        task,
        p[task.id],
        place,
        before[task.id],
        after[task.id],
    )


def walk(folder: Path) -> str:
    """The text; see the head of this file."""
    found, last = json.loads((folder / "config.json").read_text()), max(report.heldout(folder))
    run = Run(Config(**{f.name: found[f.name] for f in fields(Config)}), folder)
    base, trained = run.player(run.cfg.model), run.player(str(folder / f"iter{last}" / "solver"))
    story = choose(run, base, trained)
    return (
        proposed(story)
        + valued(story, base, run.cfg)
        + curated(story, folder, run.cfg)
        + learned(story, base, run)
        + answered(story, last)
    )


def proposed(story: Story) -> str:
    """Spec, prompt, completion, task."""
    calls = "\n".join(json.dumps(call.to_json()) for call in story.task.calls)
    return (
        f"# One task through the whole system\n\n## 1. A spec is drawn\n\n`{story.spec}`, by "
        "`generator.sample_spec`. It becomes the user message of the Generator's prompt:\n"
        + fenced(generator.prompt(story.spec)[1]["content"])
        + "\n## 2. The trained Generator writes\n"
        + fenced(story.completion)
        + "\n`generator.parse` reads a task out of it, `curate.structural_reason` finds "
        f"nothing wrong. Its gold calls:\n{fenced(calls)}"
    )


def valued(story: Story, base: Player, cfg: Config) -> str:
    """The Generator's reward, term by term."""
    asked = [solver.judge_prompt(story.task)] if cfg.judge == "on" else []
    (sem,) = rewards.r_sem(base.digit_logits(asked)) or [0.0]
    r = rewards.generator_reward(
        generator.parse(story.completion), rewards.r_diff(story.p, cfg.probe, cfg.difficulty), sem
    )
    notes = {"valid": ", Eq. (2)", "diff": f"({story.p})", "sem": ", by the judge"}
    rows = "".join(
        f"| r_{part}{notes.get(part, '')} | {value:.3f} |\n" for part, value in vars(r).items()
    )
    return (
        f"\n## 3. What it would have earned in phase 1\n\nThe frozen Solver answered it "
        f"{cfg.probe} times at temperature {cfg.probe_temperature}; a share p = {story.p} was "
        f"right as a whole.\n\n| part | value |\n| --- | --- |\n{rows}"
        f"| R_G = r_fmt + r_valid + (r_diff + r_sem) / 2 | {r.total:.3f} |\n"
    )


def curated(story: Story, folder: Path, cfg: Config) -> str:
    """The funnel of iteration 1, and where the task ended."""
    line = report.log(folder, "curate", 1)[0]
    rows = "".join(f"| {n} | {why} |\n" for why, n in line["funnel"].items())
    return (
        f"\n## 4. Through the funnel\n\nIt is candidate {story.task.id}, one of "
        f"{line['candidates']} of iteration 1, which ended so:\n\n| candidates | |\n"
        f"| --- | --- |\n{rows}\nThis one is confirmed, since p is at least {cfg.tau}, is "
        f"*{curate.bucket(story.p)}* and was selected: number {story.place} of "
        f"{line['selected']}, from easy to hard.\n"
    )


def learned(story: Story, base: Player, run: Run) -> str:
    """A group of the base Solver: answers, rewards, advantages; one step on it alone."""
    cfg, task = run.cfg, story.task
    rollouts = run.sample(base, [solver.prompt(task)], cfg.group, cfg.seed)
    texts = [base.text(r) for r in rollouts]
    parts = [rewards.solver_reward(solver.parse(text), task.calls) for text in texts]
    totals = torch.tensor([[part.total for part in parts]])
    A = grpo.advantages(totals, cfg.scale)[0].tolist()

    def means() -> list[float]:
        with torch.no_grad():
            logps, _, mask = grpo.token_logprobs(base.model, rollouts, cfg.temperature)
        return [row[m].mean().item() for row, m in zip(logps, mask)]

    old, optimizer = means(), torch.optim.AdamW(base.model.parameters(), cfg.lr)
    reference = copy.deepcopy(base.model) if cfg.beta else None
    metrics = grpo.step(base.model, optimizer, rollouts, totals, cfg, reference)
    rows = "".join(
        f"| `{calls_of(text)}` | {part.fmt:.2f} | {part.acc:.2f} | {a:+.2f} | {x:.4f} | {y:.4f} |\n"
        for text, part, a, x, y in zip(texts, parts, A, old, means())
    )
    return (
        f"\n## 5. What it teaches the Solver\n\nA group of {cfg.group} answers of the base "
        f"model at temperature {cfg.temperature}. R_S = r_fmt + r_acc; the advantage A is R_S "
        f"minus the group's mean, {totals.mean():.3f}, over its standard deviation, "
        f"{totals.std():.3f} + 1e-4. On policy the ratio is 1, so each token of an answer has "
        f"the loss -A, and the group's loss is {metrics['loss']:+.4f}; its gradient, of norm "
        f"{metrics['grad_norm']:.2f}, is what counts. One step on this group alone, at "
        f"learning rate {cfg.lr}, moves the mean log-probability of a token:\n\n"
        f"| calls | r_fmt | r_acc | A | before | after |\n| --- | --- | --- | --- | --- | --- |\n{rows}"
    )


def answered(story: Story, last: int) -> str:
    """The greedy answers before and after training."""
    return (
        f"\n## 6. Before and after\n\nThe base model, greedy:\n{fenced(story.before)}\nThe "
        f"Solver of iteration {last}, greedy:\n{fenced(story.after)}"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "iter1" / "candidates.jsonl").exists():
        sys.exit(
            "usage: python -m scripts.walkthrough RUN_FOLDER > WALKTHROUGH.md   (a folder "
            "of a run whose Generator made candidates)"
        )
    print(walk(Path(sys.argv[1])))
