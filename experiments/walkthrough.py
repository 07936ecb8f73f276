"""One task through the whole system, with the real texts and numbers of a run: WALKTHROUGH.md.

    python -m experiments.walkthrough runs/tiny > WALKTHROUGH.md

Takes the first candidate of the trained Generator that the base Solver gets wrong, the trained one
right, and that shows something in each stage.
"""
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import curate
import eval
import generator
import grpo
import rewards
import solver
from experiments import report
from generator import Spec, Task
from player import Player

TRIES = 400  # candidates among which one is looked for

def fenced(text: str) -> str:
    """A text as a block of Markdown."""
    return f"\n```\n{text}\n```\n"

def calls_of(text: str) -> str:
    """The calls in a completion, or why there are none."""
    answer = solver.parse(text)
    return json.dumps([call.to_json() for call in answer.calls]) if answer.calls else answer.reason

def candidates(player: Player, cfg: dict) -> Iterator[tuple[Spec, str, Task]]:
    """Spec, completion and task of each sound candidate of a Generator."""
    rng = random.Random(cfg["seed"])
    specs = [generator.sample_spec(rng, cfg["p_large_menu"]) for _ in range(TRIES)]
    rollouts = player.ask(map(generator.prompt, specs), 1, cfg["max_new_tokens"],
                          cfg["temperature"], cfg["seed"])
    for spec, rollout in zip(specs, rollouts):
        text = player.text(rollout)
        task = generator.parse(text).task("", spec.domain)
        if task and curate.structural_reason(task, spec) is None:
            yield spec, text, task

def walk(folder: Path) -> str:
    """The text; see the head of this file."""
    cfg, last = json.loads((folder / "config.json").read_text()), max(report.heldout(folder))
    where = [cfg["model"], f"{folder}/iter{last}/solver", f"{folder}/iter1/generator"]
    base, trained, writer = (Player(at, cfg["device"], cfg["sampler"]) for at in where)
    greedy = lambda player, task: next(eval.complete(player, [task], cfg["max_new_tokens"]))[1]
    right = lambda text, task: curate.pass_rate([solver.parse(text).calls], task.calls) == 1
    for spec, text, task in candidates(writer, cfg):
        before, after = greedy(base, task), greedy(trained, task)
        rollouts = base.ask([solver.prompt(task)], cfg["probe"], cfg["max_new_tokens"],
                            cfg["probe_temperature"], cfg["seed"])
        answers = [solver.parse(base.text(r)).calls for r in rollouts]
        p = curate.pass_rate(answers, task.calls)
        learned_it = right(after, task) and not right(before, task)
        if len(task.calls[0].arguments) > 1 and 0 < p < 1 and learned_it:
            return (proposed(spec, text, task) + valued(text, base, task, p, cfg)
                    + learned(base, task, cfg) + answered(before, after))
    sys.exit(f"none of {TRIES} candidates shows every stage: try another run")

def proposed(spec: Spec, text: str, task: Task) -> str:
    """Spec, prompt, completion, task."""
    return (f"# One task through the whole system\n\n## 1. A spec is drawn\n\n`{spec}` by "
            "`generator.sample_spec`. It becomes the user message of the Generator's prompt:\n"
            + fenced(generator.prompt(spec)[1]["content"])
            + "\n## 2. The Generator writes\n" + fenced(text)
            + "\n`generator.parse` reads a task out of it, `curate.structural_reason` finds "
            "nothing wrong. Its gold calls:\n"
            + fenced("\n".join(json.dumps(call.to_json()) for call in task.calls)))

def valued(text: str, base: Player, task: Task, p: float, cfg: dict) -> str:
    """The Generator's reward, term by term."""
    sem = rewards.r_sem(base.digit_logits([solver.judge_prompt(task)]))[0]
    diff = rewards.r_diff(p, cfg["probe"])
    reward = rewards.generator_reward(generator.parse(text), diff, sem)
    return (f"\n## 3. What it is worth to the Generator\n\nThe frozen Solver answers it "
            f"{cfg['probe']} times at temperature {cfg['probe_temperature']}; a share p = {p} is "
            f"right as a whole, so the task is *{curate.bucket(p)}*.\n\n| part | value |\n"
            f"| --- | --- |\n| r_fmt | {reward.fmt:.3f} |\n| r_valid, Eq. (2) | "
            f"{reward.valid:.3f} |\n| r_diff({p}) | {reward.diff:.3f} |\n| r_sem, by the judge | "
            f"{reward.sem:.3f} |\n| R_G = r_fmt + r_valid + (r_diff + r_sem) / 2 | "
            f"{reward.total:.3f} |\n\nIt is confirmed (p at least {cfg['tau']}), so it goes into "
            "the curriculum.\n")

def learned(base: Player, task: Task, cfg: dict) -> str:
    """A group of the Solver: answers, rewards, advantages, loss."""
    rollouts = base.ask([solver.prompt(task)], cfg["group"], cfg["max_new_tokens"],
                        cfg["temperature"], cfg["seed"])
    texts = [base.text(r) for r in rollouts]
    parts = [rewards.solver_reward(solver.parse(text), task.calls) for text in texts]
    totals = torch.tensor([[part.total for part in parts]])
    advantage = grpo.advantages(totals)[0]
    with torch.no_grad():
        logps, _, mask = grpo.token_logprobs(base.model, rollouts, cfg["temperature"])
    rows = "".join(f"| `{calls_of(text)}` | {part.fmt:.2f} | {part.acc:.2f} | {A:+.2f} | "
                   f"{row[m].mean():.3f} |\n"
                   for text, part, A, row, m in zip(texts, parts, advantage, logps, mask))
    return (f"\n## 4. What it teaches the Solver\n\nA group of {cfg['group']} answers at "
            f"temperature {cfg['temperature']}; R_S = r_fmt + r_acc, the advantage is R_S minus "
            f"the group's mean {totals.mean():.3f}, over its standard deviation "
            f"{totals.std():.3f} + 1e-4:\n\n| calls | r_fmt | r_acc | advantage | "
            "mean log-probability of a token |\n"
            f"| --- | --- | --- | --- | --- |\n{rows}\nOn policy the ratio is 1, so the "
            "gradient of the loss is minus the advantage times that of the log-"
            "probability: answers above the mean become likelier, answers below it less so.\n")

def answered(before: str, after: str) -> str:
    """The greedy answers before and after training."""
    return (f"\n## 5. Before and after\n\nThe base model, greedy:\n{fenced(before)}\nThe Solver at "
            f"the end of the run, greedy:\n{fenced(after)}")

if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "config.json").exists():
        sys.exit("usage: python -m experiments.walkthrough RUN_FOLDER > WALKTHROUGH.md")
    print(walk(Path(sys.argv[1])))
