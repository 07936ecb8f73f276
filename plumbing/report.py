"""The report of a run: tables, alarms, a sample of its tasks, and a picture of its curves.

It is made from the files of the run folder alone, so it can be made again at any time:

    python -m plumbing.report runs/tiny

Writes report.txt, a model card beside each checkpoint and, if matplotlib is installed, report.png.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from errors import UsageError
from plumbing.alarms import LAST, alarms, recent_means
from plumbing.command import run_command
from plumbing.coverage import coverage
from plumbing.distributed import rank0_only
from plumbing.intervals import (
    aligned,
    describe,
    describe_mean,
    interval,
    macro_difference,
    percent,
    wilson,
)
from plumbing.runfolder import SELF_MADE, TOOLS, atomic_write, read_jsonl, write_whole

CURVES = {  # phase -> the numbers that are drawn
    "generator": ("fmt", "valid", "diff", "sem", "usable", "copies"),
    "solver": ("fmt", "acc", "zero_advantage_groups"),
}
SHOWN = ("reward", "entropy", "kl", "grad_norm", "length", "truncated")
GENERATOR_SHOWN = ("p", "near_duplicates", "menu_met", "omits")
VerdictsById = dict[
    str, dict[str, bool]
]  # benchmark -> id of a task -> whether it was answered right

CARD = """---
base_model: {model}
library_name: transformers
tags: [tool-calling, grpo, self-play]
---
# {role} after iteration {k} of {iterations}

Trained from {model} by Tool-R0 (arXiv 2602.21320): a Generator invents tasks, a Solver answers
them, and both learn by GRPO.  No human-written task is trained on.  {use}

    {lines}

Plain transformers loads it, with its tokenizer, chat template and all ids that end a turn.
Made by commit {commit} with {versions}.  Settings:

    {settings}
"""
USE = {
    "solver": """Ask it for calls:

    python -m scripts.ask --model FOLDER --tools tools.json "question"

Share of the held-out tasks that it answers correctly, with every call right:""",
    "generator": "It writes tasks.  Share of the held-out tasks that its Solver answers correctly:",
}


def iteration_name(k: int) -> str:
    """Return what iteration k is called; 0 is the base model."""
    return f"iteration {k}" if k else "base"


def heldout(folder: Path) -> dict[int, VerdictsById]:
    """Return the verdicts on the held-out tasks of each iteration."""
    found = {}
    for path in folder.glob("iter*/heldout.json"):
        number = path.parent.name.removeprefix("iter")
        if number.isdigit():  # a copy has another name
            verdicts = json.loads(path.read_text())
            found[int(number)] = {name: dict(pairs) for name, pairs in verdicts.items()}
    return dict(sorted(found.items()))


def log(folder: Path, phase: str | None = None, k: int | None = None) -> list[dict]:
    """Return the log lines of one phase or of all, of one iteration or of all."""
    lines = read_jsonl(folder / "log.jsonl", torn=True)
    lines = [line for line in lines if phase in (None, line["phase"])]
    return [line for line in lines if k in (None, line["iteration"])]


def config(folder: Path) -> dict:
    """Return the settings of a run; raise UsageError if they cannot be read."""
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}). Delete {folder}, or name another run with --run NAME."
        ) from None


def table(folder: Path) -> str:
    """Return accuracy after each iteration, per benchmark and as a mean, and the gain."""
    found = heldout(folder)
    rows = []
    for k, verdicts in found.items():
        for benchmark, right in verdicts.items():
            rows.append([iteration_name(k), benchmark, describe(list(right.values()))])
        if len(verdicts) > 1:
            answers = [list(right.values()) for right in verdicts.values()]
            rows.append([iteration_name(k), f"mean of {len(verdicts)}", describe_mean(answers)])
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    lines = ["", "Solver, held-out exact match (greedy), 95 % interval", "-" * 60]
    lines += [f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows]
    if any(Path(SELF_MADE).stem in verdicts for verdicts in found.values()):
        lines.append("self-made tasks come from the Generator: they are not a benchmark")
    return "\n".join([*lines, gain(found), ""])


def gain(found: dict[int, VerdictsById]) -> str:
    """Return the paired difference between the last iteration and the base, as text."""
    first = found[0]
    last = found[max(found)]
    pairs = []
    for benchmark in first.keys() & last.keys():
        both = first[benchmark].keys() & last[benchmark].keys()  # fewer if the tasks were changed
        if both:
            before = [first[benchmark][id] for id in first[benchmark] if id in both]
            after = [last[benchmark][id] for id in first[benchmark] if id in both]
            pairs.append((before, after))
    if not pairs:
        return "the first and the last evaluation have no task in common"
    mean, low, high = macro_difference(pairs)
    mean_before = sum(sum(a) / len(a) for a, _ in pairs) / len(pairs)
    mean_after = sum(sum(b) / len(b) for _, b in pairs) / len(pairs)
    ratio = f", {mean_after / mean_before:.2f} times the base" if mean_before else ""
    return f"gain: {percent(mean, '+')} points {interval(low, high, '+')}{ratio}"


def curation(folder: Path) -> str:
    """Return the funnel of each iteration and how hard its tasks are."""
    text = ""
    for line in log(folder, "curate"):
        k = line["iteration"]
        tasks = read_jsonl(folder / f"iter{k}" / "tasks.jsonl", torn=True)
        calls = [call for task in tasks for call in task["calls"]]
        count = max(1, len(tasks))
        sizes = sum(len(task["tools"]) for task in tasks) / count
        arguments = sum(len(call["arguments"]) for call in calls) / count
        funnel = ", ".join(f"{n} {why}" for why, n in line["funnel"].items())
        rates = ", ".join(f"{float(p):.2f}: {n}" for p, n in line["rates"].items())
        text += (
            f"{iteration_name(k)}: {line['selected']} of {line['candidates']} selected; a task has "
            f"{arguments:.2f} arguments, {len(calls) / count:.2f} calls, {sizes:.2f} tools; "
            f"{line['omits']:.2f} of the usable ones leave an optional argument out\n"
            f"  funnel: {funnel}\n  usable, by pass rate: {rates}\n"
        )
    return text


def training(folder: Path) -> str:
    """Return the numbers of each GRPO phase, as means over its last steps, and the alarms."""
    text = ""
    worries = ""
    for phase, parts in CURVES.items():
        extra = GENERATOR_SHOWN if phase == "generator" else ()
        columns = list(dict.fromkeys(SHOWN + parts + extra))
        rows = [[phase, *columns]]
        for k in sorted({line["iteration"] for line in log(folder, phase)}):
            lines = log(folder, phase, k)
            values = recent_means(lines)
            rows.append(
                [iteration_name(k), *(f"{values.get(key, math.nan):.3g}" for key in columns)]
            )
            for sentence in alarms(lines).values():
                worries += f"! {iteration_name(k)} {phase}: {sentence}\n"
        text += aligned(rows) + "\n"
    for line in log(folder, "curate"):
        for sentence in alarms([line]).values():
            worries += f"! {iteration_name(line['iteration'])} curate: {sentence}\n"
    return text + (worries or "no alarm\n")


def samples(folder: Path, count: int = 3) -> str:
    """Return tasks of the first and the last iteration, from the easiest to the hardest."""
    last = max(heldout(folder))
    text = ""
    for k in sorted({1, last}):
        tasks = read_jsonl(folder / f"iter{k}" / "tasks.jsonl", torn=True)
        rates = {
            c["id"]: c["p"] for c in read_jsonl(folder / f"iter{k}" / "candidates.jsonl", torn=True)
        }
        for task in tasks[:: max(1, len(tasks) // count)][:count]:
            menu = [f"{t['name']}({', '.join(t['parameters'])})" for t in task["tools"]]
            text += f"\n{iteration_name(k)}, {task['id']}, pass rate {rates.get(task['id'])}\n"
            shown = {"question": task["question"], "menu": menu, "gold": task["calls"]}
            for what, value in shown.items():  # as JSON: no control characters
                text += f"  {what:<9}{json.dumps(value)}\n"
    return text


@rank0_only
def picture(folder: Path) -> str:
    """Draw report.png if matplotlib is installed; return a line that says where the picture is."""
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, nothing to close
    except ImportError:
        return f"no picture: 'pip install matplotlib', then 'python -m plumbing.report {folder}'"
    figure = Figure(figsize=(15, 4.2), layout="constrained", facecolor="white")
    accuracy, *axes = figure.subplots(1, 3)
    draw_accuracy(accuracy, heldout(folder))
    for axis, (phase, parts) in zip(axes, CURVES.items()):
        draw_curves(axis, phase, parts, log(folder, phase))
    with atomic_write(folder / "report.png") as part:
        figure.savefig(part, dpi=110, format="png")
    return f"picture: {folder / 'report.png'}"


def draw_accuracy(axis, found: dict[int, VerdictsById]) -> None:
    """Draw the accuracy on each benchmark over the iterations, with 95 % intervals."""
    labels = [iteration_name(k) for k in found]
    for benchmark in next(iter(found.values())):
        values = []
        below = []
        above = []
        for verdicts in found.values():
            right = list(verdicts.get(benchmark, {}).values())
            low, high = wilson(sum(right), max(1, len(right)))
            p = sum(right) / max(1, len(right))
            values.append(100 * p)
            below.append(100 * (p - low))
            above.append(100 * (high - p))
        axis.errorbar(labels, values, [below, above], marker="o", capsize=4, label=benchmark)
        for i, value in enumerate(values):
            axis.annotate(f"{value:.0f}", (i, value), (7, -14), textcoords="offset points")
    axis.set(title="Solver on held-out tasks", ylabel="exact match, %", ylim=(0, 100))
    axis.legend(frameon=False)


def draw_curves(axis, phase: str, parts: tuple[str, ...], lines: list[dict]) -> None:
    """Draw some logged numbers over the steps of all iterations, as running means."""
    for part in parts if lines else ():  # a frozen Generator has no lines
        values = [line.get(part, math.nan) for line in lines]
        near = [values[max(0, i + 1 - LAST) : i + 1] for i in range(len(values))]
        axis.plot([sum(v) / len(v) for v in near], label=part.replace("_", " "))
    starts = [i for i, line in enumerate(lines) if i and line["step"] == 0]
    axis.vlines(starts, 0, 1, "grey", lw=0.5)
    axis.set(title=f"{phase.title()}: reward parts and shares", xlabel="GRPO step", ylim=(0, 1.02))
    axis.xaxis.get_major_locator().set_params(integer=True)
    below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.14))  # inside it would hide curves
    axis.legend(*axis.get_legend_handles_labels(), ncols=len(parts), frameon=False, **below)


def commit() -> str:
    """Return the commit of this project, as far as git knows it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def write_cards(folder: Path) -> None:
    """Write a model card beside the weights of each player that has none yet."""
    found = heldout(folder)
    for k in found:
        for role in USE:
            there = folder / f"iter{k}" / role
            if (there / "config.json").exists() and not (there / "README.md").exists():
                if (folder / TOOLS).exists():
                    write_whole(there / TOOLS, (folder / TOOLS).read_text(encoding="utf-8"))
                write_whole(there / "README.md", card(folder, k, role, found))


def card(folder: Path, k: int, role: str, found: dict[int, VerdictsById]) -> str:
    """Return the model card of one player."""
    cfg = config(folder)
    lines = []
    for i in sorted({0, k} & found.keys()):
        for benchmark, right in found[i].items():
            lines.append(f"{iteration_name(i)}, {benchmark}: {describe(list(right.values()))}")
    settings = {key: value for key, value in cfg.items() if key != "machine"}
    return CARD.format(
        model=cfg["model"],
        iterations=cfg["iterations"],
        role=role.title(),
        k=k,
        use=USE[role],
        lines="\n    ".join(lines),
        commit=commit(),
        settings=json.dumps(settings, indent=1).replace("\n", "\n    "),
        versions=", ".join(f"{what} {n}" for what, n in cfg["machine"].items()),
    )


def write(folder: Path) -> str:
    """Write report, model cards and picture; return the table and where they are."""
    parts = [table(folder), curation(folder), coverage(folder, log(folder, "curate"))]
    parts += [training(folder), samples(folder)]
    write_whole(folder / "report.txt", "\n".join(parts))
    write_cards(folder)
    return f"{parts[0]}\nreport: {folder / 'report.txt'}\n{picture(folder)}"


def write_again(argv: list[str]) -> None:
    """Write the report of the run folder that the command line names, and print it."""
    if len(argv) != 1:
        raise UsageError("usage: python -m plumbing.report RUN_FOLDER")
    folder = Path(argv[0])
    if not (folder / "log.jsonl").exists():
        raise UsageError(f"{folder} is not a run folder: it has no log.jsonl. Name one in runs/.")
    if max(heldout(folder), default=0) == 0:
        raise UsageError(f"{folder}: no iteration is finished yet. Continue the run first.")
    print(write(folder).rstrip())


def main(argv: list[str]) -> int:
    """Write the report of one run again.  Exit code 2: bad input."""
    return run_command("report", lambda: write_again(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
