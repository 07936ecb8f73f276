"""What a run says about itself: tables, alarms, a sample of its tasks, the picture of its curves.

Made from the files of the run folder alone, so at any time again:

    python -m plumbing.report runs/tiny

Writes report.txt, a model card beside each checkpoint and, where matplotlib is there, report.png.

One line of its table of curation, and an alarm:
    iteration 2: 212 of 1200 selected, 212 distinct questions; a task has 1.40 arguments, ...
    ! iteration 2 generator: truncated 0.31, above 0.2: completions hit the limit; raise ...
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

import eval
import solver
from errors import Malformed, UnusableModel
from experiments.audit import share_right
from generator import Task
from plumbing import released
from plumbing.distributed import rank0_only
from plumbing.intervals import aligned, describe, interval, paired_difference, wilson
from plumbing.player import Player, enough_memory
from plumbing.runfolder import atomic_write, read_jsonl, write_whole
from rewards import GeneratorReward, SolverReward

PARTS = {
    "generator": (*(f.name for f in fields(GeneratorReward)), "usable"),  # what is drawn
    "solver": (*(f.name for f in fields(SolverReward)), "zero_advantage_groups"),
}
SHOWN = ("reward", "entropy", "kl", "clip_share", "grad_norm", "length", "truncated")
COLUMNS = (*(f"arguments: {n}" for n in range(5)), "two calls", "menu to 4", "menu over 4")
LAST = 5  # steps whose mean stands for a phase
WORRY = {  # logged number -> least and most that is healthy, what it means otherwise
    "entropy": (0.02, math.inf, "all completions of a group are alike; lower --lr"),
    "zero_advantage_groups": (0, 0.8, "most groups teach nothing; raise --group"),
    "truncated": (0, 0.2, "completions hit the limit; raise --max-new-tokens"),
    "skipped": (0, 0, "steps without a finite gradient; lower --lr"),
    "usable": (0.05, 1, "hardly any task can be read and obeys its spec; more --generator-steps"),
    "duplicates": (0, 0.3, "the Generator repeats itself; see --guard"),
    "clip_share": (0, 0.3, "updates go far from the policy that sampled; lower --updates or --lr"),
    "kl": (0, 1, "far from the phase's start; lower --lr or raise --beta"),
}

CARD = """---
base_model: {model}
library_name: transformers
tags: [tool-calling, grpo, self-play]
---
# {role} after iteration {k} of {iterations}

Trained from {model} by Tool-R0 (arXiv 2602.21320): a Generator invents tasks, a Solver answers
them, both learn by GRPO; no human-made task.  {use}

    {lines}

Plain transformers loads it, with its tokenizer, chat template and all ids that end a turn.
Made by commit {commit} with {versions}.  Settings:

    {settings}
"""
USE = {
    "solver": """It is asked for calls by

    python solver.py --model FOLDER --tools tools.json "question"

Share of the held-out tasks that it answers right as a whole:""",
    "generator": "It writes tasks; what the Solver of this iteration learned from them:",
}


def name(k: int) -> str:
    """What iteration k is called; 0 is the base model."""
    return f"iteration {k}" if k else "base"


def heldout(folder: Path) -> dict[int, dict[str, bool]]:
    """iteration -> id of a held-out task -> whether it was answered right."""
    files = {
        int(n): f
        for f in folder.glob("iter*/heldout.json")
        if (n := f.parent.name.removeprefix("iter")).isdigit()
    }  # a copy has another name
    return {k: dict(json.loads(files[k].read_text())) for k in sorted(files)}


def log(folder: Path, phase: str | None = None, k: int | None = None) -> list[dict]:
    """The log lines of one phase or of all, of one iteration or of all."""
    return [
        line
        for line in read_jsonl(folder / "log.jsonl", torn=True)
        if phase in (None, line["phase"]) and k in (None, line["iteration"])
    ]


def means(lines: list[dict]) -> dict[str, float]:
    """The mean of each number over the last steps."""
    return {
        key: sum(line.get(key, math.nan) for line in lines[-LAST:]) / len(lines[-LAST:])
        for key, value in lines[-1].items()
        if isinstance(value, (int, float))
    }


def alarms(folder: Path, k: int, phase: str) -> str:
    """A line for each number of a phase that is not healthy."""
    found = [
        (key, value, *WORRY[key])
        for key, value in means(log(folder, phase, k)).items()
        if key in WORRY and not WORRY[key][0] <= value <= WORRY[key][1]
    ]
    return "".join(
        f"! {name(k)} {phase}: {key} {value:.2g}, {'below' if value < low else 'above'} "
        f"{low if value < low else high}: {what}\n"
        for key, value, low, high, what in found
    )


def table(folder: Path) -> str:
    """Accuracy after each iteration, and the paired difference to the base."""
    verdicts = heldout(folder)
    lines = ["", f"{'Solver':<13}held-out exact match (greedy), 95 % interval", "-" * 60]
    lines += [f"{name(k):<13}{describe([*right.values()])}" for k, right in verdicts.items()]
    first, last = verdicts[0], verdicts[max(verdicts)]
    both = [id for id in first if id in last]  # not all where a run went on with other tasks
    if not both:
        return "\n".join([*lines, "no task is common to the first and the last row", ""])
    base, last = ([right[id] for id in both] for right in (first, last))
    mean, *ends = paired_difference(base, last)
    ratio = f", {sum(last) / sum(base):.2f} times the base" if sum(base) else ""
    gain = f"gain: {100 * mean:+.1f} points {interval(*ends, '+')}{ratio}"
    return "\n".join([*lines, gain, ""])


def difficulty(task: Task) -> list[str]:
    """The columns of the table by difficulty to which a task belongs."""
    arguments = sum(len(call.arguments) for call in task.calls)
    calls = "two calls" if len(task.calls) > 1 else f"arguments: {min(arguments, 4)}"
    return [calls, "menu to 4" if len(task.tools) <= 4 else "menu over 4"]


def by_difficulty(folder: Path, tasks: list[Task]) -> str:
    """Held-out accuracy in percent, by number of arguments, of calls, of tools."""
    counts = Counter(column for task in tasks for column in difficulty(task))
    columns = [column for column in COLUMNS if column in counts]
    rows = [["held-out, %", *columns], ["tasks", *(str(counts[column]) for column in columns)]]
    for k, right in heldout(folder).items():
        shares = (
            [right[t.id] for t in tasks if column in difficulty(t) and t.id in right]
            for column in columns
        )
        rows.append([name(k), *(f"{100 * sum(s) / len(s):.0f}" if s else "-" for s in shares)])
    return aligned(rows)


def curated(folder: Path, k: int) -> dict[str, float]:
    """The curated tasks of an iteration in numbers: distinct questions; arguments, calls and tools
    a task; for tiny the share of the gold answers that are right by the rules of its world, of all
    and of those on which the Solver's K answers were divided.  EmptyPhase where no task was curated."""
    path, cfg = folder / f"iter{k}", json.loads((folder / "config.json").read_text())
    tasks = eval.load_tasks(path / "tasks.jsonl") if (path / "tasks.jsonl").exists() else []
    if not tasks:
        return {}
    mean = lambda count: sum(map(count, tasks)) / len(tasks)
    told = {
        "questions": len({t.question for t in tasks}),
        "arguments": mean(lambda t: sum(len(call.arguments) for call in t.calls)),
        "calls": mean(lambda t: len(t.calls)),
        "tools": mean(lambda t: len(t.tools)),
    }
    p = {candidate["id"]: candidate["p"] for candidate in read_jsonl(path / "candidates.jsonl")}
    divided = [t for t in tasks if 0 < p.get(t.id, 0) < 1]
    for key, some in ("right", tasks), ("right_divided", divided):
        if some and cfg["model"] == "tiny":
            told[key] = share_right(some)
    return told


def curation(folder: Path) -> str:
    """The funnel of each iteration, the shares of right answers, and how hard the tasks are."""
    text = ""
    for line in log(folder, "curate"):
        tasks, rates = curated(folder, line["iteration"]), sorted(Counter(line["p"]).items())
        text += f"{name(line['iteration'])}: {line['selected']} of {line['candidates']} selected"
        if tasks:
            text += f", {tasks['questions']} distinct questions; a task has " + ", ".join(
                f"{tasks[what]:.2f} {what}" for what in ("arguments", "calls", "tools")
            )
        if "right" in tasks:
            text += f"; {tasks['right']:.2f} of the gold answers are right by tiny's rules"
        if "right_divided" in tasks:
            text += f", {tasks['right_divided']:.2f} of those with 0 < p < 1"
        text += (
            "\n  funnel: "
            + ", ".join(f"{n} {why}" for why, n in line["funnel"].items())
            + "\n  usable, by share of right answers: "
            + ", ".join(f"{p:.2f}: {n}" for p, n in rates)
            + "\n"
        )
    return text


def training(folder: Path) -> str:
    """The numbers of each GRPO phase, as means over its last steps; the alarms."""
    text = worries = ""
    for phase, parts in PARTS.items():
        rows = [[phase, *dict.fromkeys(SHOWN + parts)]]
        for k in sorted({line["iteration"] for line in log(folder, phase)}):
            values = means(log(folder, phase, k))
            rows.append([name(k), *(f"{values.get(key, math.nan):.3g}" for key in rows[0][1:])])
            worries += alarms(folder, k, phase)
        text += aligned(rows) + "\n"
    return text + (worries or "no alarm\n")


def samples(folder: Path, last: int, answer: Callable) -> str:
    """Tasks of the first and the last iteration, with `answer(tasks)`: the calls of two Solvers."""
    text = ""
    for k in sorted({1, last}):
        tasks = eval.load_tasks(folder / f"iter{k}" / "tasks.jsonl")
        some = tasks[:: max(1, len(tasks) // 3)][:3]
        for task, (base, trained) in zip(some, answer(some)):
            menu = [f"{tool.name}({', '.join(tool.parameters)})" for tool in task.tools]
            gold = [call.to_json() for call in task.calls]
            shown = {
                "question": task.question,
                "menu": menu,
                "gold": gold,
                "base": base,
                "trained": trained,
            }  # as JSON: no control characters
            text += f"\n{name(k)}, {task.id}\n" + "".join(
                f"  {what:<9}{json.dumps(value)}\n" for what, value in shown.items()
            )
    return text


@rank0_only
def picture(folder: Path) -> str:
    """Draw report.png if matplotlib is there; returns a line that says where it is."""
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, nothing to close
    except ImportError:
        return f"no picture: 'pip install matplotlib', then 'python -m plumbing.report {folder}'"
    figure = Figure(figsize=(15, 4.2), layout="constrained", facecolor="white")  # on dark pages too
    accuracy, *curves = figure.subplots(1, 3)
    verdicts = heldout(folder)
    counts = [(sum(right.values()), len(right)) for right in verdicts.values()]
    share, ends = [100 * n / of for n, of in counts], [wilson(n, of) for n, of in counts]
    bars = [[s - 100 * low, 100 * high - s] for s, (low, high) in zip(share, ends)]
    accuracy.errorbar([name(k) for k in verdicts], share, list(zip(*bars)), marker="o", capsize=4)
    accuracy.set(
        title="Solver on held-out tasks",
        ylabel="exact match, %",
        ylim=(0, 100),
        xlim=(-0.4, len(share) - 0.6),
    )
    for i, s in enumerate(share):
        accuracy.annotate(f"{s:.0f}", (i, s), (7, -14), textcoords="offset points")
    for axis, (phase, parts) in zip(curves, PARTS.items()):
        lines = log(folder, phase)
        for part in parts if lines else ():  # a frozen Generator has none
            values = [line.get(part, math.nan) for line in lines]  # of a part that came later
            near = [values[max(0, i + 1 - LAST) : i + 1] for i in range(len(values))]
            axis.plot([sum(v) / len(v) for v in near], label=part.replace("_", " "))
        axis.vlines([i for i, x in enumerate(lines) if i and x["step"] == 0], 0, 1, "grey", lw=0.5)
        axis.set(title=f"{phase.title()}: parts of reward", xlabel="GRPO step", ylim=(0, 1.02))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(
            *axis.get_legend_handles_labels(),
            loc="upper center",
            ncols=len(parts),
            bbox_to_anchor=(0.5, -0.14),
            frameon=False,
        )  # below: it would hide curves
    with atomic_write(folder / "report.png") as part:
        figure.savefig(part, dpi=110, format="png")
    return f"picture: {folder / 'report.png'}"


def commit() -> str:
    """The commit of this project, as far as git knows it."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
        return said.stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def write_cards(folder: Path) -> None:
    """Write a model card beside the weights of each player of each iteration that has none yet."""
    cfg, right = json.loads((folder / "config.json").read_text()), heldout(folder)
    for k, role in itertools.product(right, USE):
        there = folder / f"iter{k}" / role
        if not (there / "config.json").exists() or (there / "README.md").exists():
            continue
        lines = [
            f"{name(i):<13}{describe([*right[i].values()])}" for i in sorted({0, k} & {*right})
        ]
        settings = json.dumps({key: cfg[key] for key in cfg if key != "versions"}, indent=1)
        write_whole(
            there / "README.md",
            CARD.format(
                model=cfg["model"],
                iterations=cfg["iterations"],
                role=role.title(),
                k=k,
                use=USE[role],
                lines="\n    ".join(lines),
                commit=commit(),
                settings=settings.replace("\n", "\n    "),
                versions=", ".join(f"{what} {n}" for what, n in cfg["versions"].items()),
            ),
        )


def players(folder: Path) -> tuple[dict, int, list[Player]]:
    """A run's settings, its last iteration, and base model and last Solver, asked as in the run."""
    cfg, last = json.loads((folder / "config.json").read_text()), max(heldout(folder))
    released.use(cfg.get("prompt", "short"))  # runs from before the option have none
    device = cfg["device"] if torch.cuda.is_available() else "cpu"  # perhaps not where it ran
    return (
        cfg,
        last,
        [
            Player(where, device, cfg["sampler"], frozen=True)
            for where in (cfg["model"], str(folder / f"iter{last}" / "solver"))
        ],
    )


@enough_memory("the report")
def write(folder: Path) -> str:
    """Write report, model cards and picture; returns the table of accuracy and where they lie."""
    cfg, last, both = players(folder)

    def answer(tasks: list[Task]) -> list[tuple[list, list]]:
        texts = [dict(eval.complete(p, tasks, cfg["max_new_tokens"])) for p in both]
        calls = lambda text: [call.to_json() for call in solver.parse(text).calls]
        return [(calls(texts[0][task.id]), calls(texts[1][task.id])) for task in tasks]

    tasks = eval.load_tasks(eval.heldout_file(cfg["heldout"]))[: cfg["eval_tasks"]]
    parts = [table(folder), by_difficulty(folder, tasks), curation(folder), training(folder)]
    if (folder / f"iter{last}" / "tasks.jsonl").exists():
        parts.append(samples(folder, last, answer))
    write_whole(folder / "report.txt", "\n".join(parts))
    write_cards(folder)
    return f"{parts[0]}\nreport: {folder / 'report.txt'}\n{picture(folder)}"


def main(argv: list[str], tell: Callable[[Path], str] = write, command: str = "report") -> None:
    """A command of this folder: print what `tell` says of one run; else write its report again."""
    if len(argv) != 1 or not (Path(argv[0]) / "log.jsonl").exists():
        sys.exit(f"usage: python -m experiments.{command} RUN_FOLDER   (it holds a log.jsonl)")
    if max(heldout(Path(argv[0])), default=0) == 0:
        sys.exit(f"{argv[0]}: no iteration is finished yet; go on with the run first")
    try:
        print(tell(Path(argv[0])).rstrip())
    except (Malformed, UnusableModel, OSError) as error:
        sys.exit(f"experiments.{command}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
