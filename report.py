"""What a run says about itself: the table of held-out accuracy and the picture of the co-evolution.

Both are made from the files of the run folder alone, so they can be made again at any time:

    python report.py runs/tiny
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import eval

def name(k: int) -> str:
    """What iteration k is called; 0 is the base model."""
    return f"iteration {k}" if k else "base"

def heldout(folder: Path) -> dict[int, list[bool]]:
    """iteration -> whether each held-out task was answered right."""
    files = {int(f.parent.name.removeprefix("iter")): f for f in folder.glob("iter*/heldout.json")}
    return {k: list(json.loads(files[k].read_text()).values()) for k in sorted(files)}

def table(folder: Path) -> str:
    """Accuracy after each iteration, and the paired difference to the base."""
    verdicts = heldout(folder)
    lines = ["", f"{'Solver':<13}held-out exact match (greedy), 95 % interval", "-" * 60]
    lines += [f"{name(k):<13}{eval.describe(right)}" for k, right in verdicts.items()]
    base, last = verdicts[0], verdicts[max(verdicts)]
    mean, low, high = eval.paired_difference(base, last)
    ratio = f", {sum(last) / sum(base):.2f} times the base" if sum(base) else ""
    gain = f"gain: {100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]{ratio}"
    return "\n".join([*lines, gain, ""])

def picture(folder: Path) -> str:
    """Draw report.png if matplotlib is there; returns a line that says where it is."""
    try:
        import matplotlib
    except ImportError:
        return f"no picture: 'pip install matplotlib', then 'python report.py {folder}'"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    of = lambda phase: [line for line in log if line["phase"] == phase]
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    _accuracy(axes[0, 0], heldout(folder))
    _difficulty(axes[0, 1], of("curate"))
    _curves(axes[1, 0], of("generator"), "Generator", ("fmt", "valid", "diff", "sem", "usable"))
    _curves(axes[1, 1], of("solver"), "Solver", ("fmt", "acc", "zero_advantage_groups"))
    figure.savefig(folder / "report.part.png", dpi=110)
    plt.close(figure)
    (folder / "report.part.png").replace(folder / "report.png")
    return f"picture: {folder / 'report.png'}"

def _accuracy(axis, verdicts: dict[int, list[bool]]) -> None:
    share = [100 * sum(v) / len(v) for v in verdicts.values()]
    ends = [eval.wilson(sum(v), len(v)) for v in verdicts.values()]
    below = [s - 100 * low for s, (low, _) in zip(share, ends)]
    above = [100 * high - s for s, (_, high) in zip(share, ends)]
    axis.errorbar([name(k) for k in verdicts], share, [below, above], marker="o", capsize=4)
    axis.set(title="Solver on held-out tasks", ylabel="exact match, %", ylim=(0, 100))

def _difficulty(axis, lines: list[dict]) -> None:
    for line in lines:
        rates = sorted(set(line["p"]))
        label = f"{name(line['iteration'])}: {line['selected']} of {line['candidates']} selected"
        axis.plot(rates, [line["p"].count(p) for p in rates], marker="o", label=label)
    axis.axvspan(0.25, 0.75, alpha=0.1)
    axis.set(title="Usable candidates by difficulty", xlabel="p, share of right Solver answers")
    axis.legend(fontsize=8)

def _curves(axis, lines: list[dict], title: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        values = [line[part] for line in lines]
        near = [values[max(0, i - 4):i + 1] for i in range(len(values))]  # mean of five steps
        axis.plot([sum(v) / len(v) for v in near], label=part.replace("_", " "))
    for i in range(1, len(lines)):
        if lines[i]["iteration"] != lines[i - 1]["iteration"]:
            axis.axvline(i, color="grey", linewidth=0.5)
    axis.set(title=f"{title}: parts of the reward", xlabel="GRPO step, all iterations")
    axis.set_ylim(0, 1.02)
    axis.legend(fontsize=8)

if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "log.jsonl").exists():
        sys.exit("usage: python report.py RUN_FOLDER   (a folder that holds log.jsonl)")
    print(table(Path(sys.argv[1])) + picture(Path(sys.argv[1])))
