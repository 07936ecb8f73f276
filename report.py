"""What a run says about itself: the table of held-out accuracy and the picture of the co-evolution.

Made from the files of the run folder alone, so at any time again:    python report.py runs/tiny
"""
import json
import sys
from pathlib import Path

import score
from runfolder import becoming, read_jsonl

PARTS = {"generator": ("fmt", "valid", "diff", "sem", "usable"),  # phase -> what is drawn of it
         "solver": ("fmt", "acc", "zero_advantage_groups")}

def name(k: int) -> str:
    """What iteration k is called; 0 is the base model."""
    return f"iteration {k}" if k else "base"

def heldout(folder: Path) -> dict[int, dict[str, bool]]:
    """iteration -> id of a held-out task -> whether it was answered right."""
    files = {int(f.parent.name.removeprefix("iter")): f for f in folder.glob("iter*/heldout.json")}
    return {k: dict(json.loads(files[k].read_text())) for k in sorted(files)}

def table(folder: Path) -> str:
    """Accuracy after each iteration, and the paired difference to the base."""
    verdicts = heldout(folder)
    lines = ["", f"{'Solver':<13}held-out exact match (greedy), 95 % interval", "-" * 60]
    lines += [f"{name(k):<13}{score.describe([*right.values()])}" for k, right in verdicts.items()]
    first, last = verdicts[0], verdicts[max(verdicts)]
    both = [id for id in first if id in last]  # not all where a run went on with other tasks
    if not both:
        return "\n".join([*lines, "no task is common to the first and the last row", ""])
    base, last = ([right[id] for id in both] for right in (first, last))
    mean, low, high = score.paired_difference(base, last)
    ratio = f", {sum(last) / sum(base):.2f} times the base" if sum(base) else ""
    gain = f"gain: {100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]{ratio}"
    return "\n".join([*lines, gain, ""])

def picture(folder: Path) -> str:
    """Draw report.png if matplotlib is there; returns a line that says where it is."""
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, nothing to close
    except ImportError:
        return f"no picture: 'pip install matplotlib', then 'python report.py {folder}'"
    figure = Figure(figsize=(15, 4), layout="constrained")
    accuracy, *curves = figure.subplots(1, 3)
    verdicts = heldout(folder)
    counts = [(sum(right.values()), len(right)) for right in verdicts.values()]
    share, ends = [100 * n / of for n, of in counts], [score.wilson(n, of) for n, of in counts]
    bars = [[s - 100 * low, 100 * high - s] for s, (low, high) in zip(share, ends)]
    accuracy.errorbar([name(k) for k in verdicts], share, list(zip(*bars)), marker="o", capsize=4)
    accuracy.set(title="Solver on held-out tasks", ylabel="exact match, %", ylim=(0, 100))
    log = read_jsonl(folder / "log.jsonl")
    for axis, (phase, parts) in zip(curves, PARTS.items()):
        lines = [line for line in log if line["phase"] == phase]
        for part in parts:
            values = [line[part] for line in lines]
            near = [values[max(0, i - 4):i + 1] for i in range(len(values))]  # mean of five steps
            axis.plot([sum(v) / len(v) for v in near], label=part.replace("_", " "))
        axis.vlines([i for i, x in enumerate(lines) if i and x["step"] == 0], 0, 1, "grey", lw=0.5)
        axis.set(title=f"{phase.title()}: parts of reward", xlabel="GRPO step", ylim=(0, 1.02))
        axis.legend(fontsize=8)
    with becoming(folder / "report.png") as part:
        figure.savefig(part, dpi=110, format="png")
    return f"picture: {folder / 'report.png'}"

if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "log.jsonl").exists():
        sys.exit("usage: python report.py RUN_FOLDER   (a folder that holds log.jsonl)")
    print(table(Path(sys.argv[1])) + picture(Path(sys.argv[1])))
