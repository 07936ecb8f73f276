"""Draws the pictures of the README: loop.svg, r_diff.svg, ablations.svg, dynamics.svg, funnel.svg.

    python scripts/draw.py                # needs matplotlib; the results are experiments/results/*
    python scripts/draw.py runs/tiny      # the funnel too, from the log of that run

The colours have a middling brightness on no background, so they show on light and on dark pages.
The same version of matplotlib writes the same bytes.
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from experiments import ablations
from plumbing import report
from rewards import BAND_HIGH, BAND_LOW, r_diff

GREY, GENERATOR, SOLVER = "#7d7d7d", "#cc7722", "#3d85c6"
K = 8  # Solver answers a task, as Config.probe
STYLE = {
    "svg.hashsalt": "tool-r0",
    "font.size": 11,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def box(axes: Axes, x: float, y: float, title: str, text: str, colour: str) -> None:
    """A rounded box, 1.9 x 1, around (x, y), with a title and two smaller lines below it."""
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.95, y - 0.5),
            1.9,
            1,
            fill=False,
            ec=colour,
            lw=1.8,
            boxstyle="round,pad=0,rounding_size=.12",
        )
    )
    axes.text(x, y + 0.23, title, color=colour, ha="center", va="center", weight="bold")
    axes.text(x, y - 0.18, text, fontsize=9, ha="center", va="center", linespacing=1.25)


def arrow(axes: Axes, start: tuple, end: tuple, text: str, at: tuple, colour: str = GREY) -> None:
    """An arrow from start to end; its text is centred on `at`."""
    axes.annotate(
        "",
        end,
        start,
        arrowprops=dict(
            arrowstyle="-|>", color=colour, lw=1.6, shrinkA=0, shrinkB=0, mutation_scale=14
        ),
    )
    axes.text(*at, text, color=colour, fontsize=9, ha="center", va="center", linespacing=1.25)


def loop() -> Figure:
    """Who hands what to whom in one iteration, and what each player is paid for."""
    figure = Figure(figsize=(10.65, 3.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.65), ylim=(0.1, 3.3))
    axes.axis("off")
    top, bottom = 2.7, 0.7
    box(axes, 1.05, top, "spec", "domain, context,\nmenu size, calls", GREY)
    box(axes, 3.65, top, "Generator", "writes question,\nmenu, gold calls", GENERATOR)
    box(axes, 6.65, top, "2. curate", "check, deduplicate,\nverify, easy to hard", GREY)
    box(axes, 9.6, top, "Solver", "answers a question\nwith calls", SOLVER)
    box(axes, 3.65, bottom, "R_G", "r_fmt + r_valid\n+ (r_diff + r_sem) / 2", GENERATOR)
    box(axes, 9.6, bottom, "R_S", "r_fmt\n+ r_acc", SOLVER)
    arrow(axes, (2, top), (2.7, top), "", (0, 0))
    arrow(axes, (4.6, top), (5.7, top), "candidates", (5.12, top + 0.15))
    arrow(axes, (7.6, top + 0.12), (8.65, top + 0.12), "tasks", (8.1, top + 0.27))
    arrow(axes, (8.65, top - 0.12), (7.6, top - 0.12), "K answers: p", (8.15, top - 0.28), SOLVER)
    for x, number, what, colour in (
        (3.65, 1, "completions", GENERATOR),
        (9.6, 3, "answers", SOLVER),
    ):
        arrow(axes, (x - 0.2, 1.2), (x - 0.2, 2.2), f"{number}. GRPO", (x - 0.62, 1.7), colour)
        arrow(axes, (x + 0.2, 2.2), (x + 0.2, 1.2), what, (x + 0.67, 1.7), colour)
    arrow(
        axes,
        (8.8, 2.2),
        (4.6, bottom),
        "frozen Solver:\np for r_diff, judge for r_sem",
        (7.5, 1.2),
        SOLVER,
    )
    axes.text(
        6.65,
        0.4,
        "one iteration: 1. the Generator learns,\n2. tasks are curated, 3. the Solver learns",
        fontsize=9,
        ha="center",
        va="center",
        style="italic",
    )
    return figure


def difficulty() -> Figure:
    """r_diff over the share of right answers, with its values for k of K answers."""
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(BAND_LOW, BAND_HIGH, color=GENERATOR, alpha=0.12, lw=0)
    axes.text(
        (BAND_LOW + BAND_HIGH) / 2,
        0.5,
        "sometimes right,\nsometimes wrong",
        ha="center",
        va="center",
    )
    right = [1 / K + i / 1000 * (1 - 1 / K) for i in range(1001)]
    axes.plot([0, 1 / K], [0, 0], color=GENERATOR)  # never right, so nothing
    axes.plot(right, [r_diff(p, K) for p in right], color=GENERATOR)
    for k in range(K + 1):
        p, y = k / K, r_diff(k / K, K)
        axes.plot(p, y, "o", color=GENERATOR)
        aside = -18 if 0 < p < BAND_LOW else 18 if p > BAND_HIGH else 0  # beside the slopes
        axes.annotate(
            f"{y:.2f}",
            (p, y),
            (aside, 0 if aside else 11),
            ha="center",
            va="center",
            textcoords="offset points",
            fontsize=9,
        )
    axes.set(
        xlabel=f"share p of right answers of the Solver, k / {K}",
        ylabel="r_diff",
        xlim=(-0.05, 1.1),
        ylim=(-0.05, 1.18),
        xticks=[k / K for k in range(K + 1)],
        xticklabels=[f"{k}/{K}" for k in range(K + 1)],
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


STAGES = {  # of the funnel: who is left -> how the reasons begin with which the others ended
    "proposed": (),
    "readable": ("no ", "menu: ", "answer: "),
    "sound": None,  # by the structural check, whose reasons are all that the other lines leave
    "not a repeat": ("duplicate",),
    "confirmed": ("not confirmed",),
    "selected": ("over quota",),
}

BANDS = (  # of p: label, least, most, colour; curate.py counts never as hard, always as easy
    ("never right", 0, 0, GREY),
    ("hard", 1 / K, BAND_LOW - 1 / K, "#b3443d"),
    ("medium", BAND_LOW, BAND_HIGH, GENERATOR),
    ("easy", BAND_HIGH + 1 / K, 1 - 1 / K, "#6aa84f"),
    ("always right", 1, 1, SOLVER),
)


def left(funnel: dict[str, int]) -> dict[str, int]:
    """stage -> how many candidates were left after it."""
    named = [start for starts in STAGES.values() for start in starts or ()]
    count, counts = sum(funnel.values()), {}
    for stage, starts in STAGES.items():
        count -= sum(
            n
            for why, n in funnel.items()
            if why != "selected"
            and (not why.startswith(tuple(named)) if starts is None else why.startswith(starts))
        )
        counts[stage] = count
    return counts


def funnel(folder: Path) -> Figure:
    """How many candidates of each iteration are left after each stage of curation."""
    lines = report.log(folder, "curate")
    figure = Figure(figsize=(3.4 * len(lines) + 1, 2.6), layout="constrained")
    for axes, line in zip(figure.subplots(1, len(lines), sharey=True, squeeze=False)[0], lines):
        stages = left(line["funnel"])
        bars = axes.barh(list(stages), list(stages.values()), color=GENERATOR)
        bars[-1].set_color(SOLVER)  # what the Solver is trained on
        axes.bar_label(bars, padding=4, color=GREY, fontsize=9)
        axes.set(title=report.name(line["iteration"]), xticks=[])
        axes.set_xlim(0, 1.18 * line["candidates"])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    axes.invert_yaxis()  # shared: the first stage on top
    return figure


def variants(runs: list[dict]) -> Figure:
    """Where each run ends, a dot a seed, and the mean of each variant."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(100 * runs[0]["accuracy"][0], color=GREY, lw=1, ls="--")
    for variant, (title, _) in ablations.VARIANTS.items():
        ends = [100 * run["accuracy"][-1] for run in runs if run["variant"] == variant]
        if ends:
            axes.plot(sum(ends) / len(ends), title, "|", color=GENERATOR, ms=18, mew=2.5)
            axes.plot(ends, [title] * len(ends), "o", color=SOLVER, ms=6, alpha=0.7)
    axes.set(xlabel="held-out exact match at the end, %; dashed: the base model", xlim=(0, 50))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    return figure


def dynamics(runs: list[dict]) -> Figure:
    """What changes from iteration to iteration: means over the seeds; a thin line is one seed."""
    figure = Figure(figsize=(10.65, 6), layout="constrained")
    (accuracy, parts, rates), (left_over, tasks, shares) = figure.subplots(2, 3)
    ks = range(1, len(runs[0]["iterations"]) + 1)
    mean = lambda value: [sum(value(r["iterations"][k - 1]) for r in runs) / len(runs) for k in ks]
    of = lambda phase, key: mean(lambda told: told[phase][key])
    for run in runs:
        accuracy.plot([100 * x for x in run["accuracy"]], color=SOLVER, lw=0.8)
    accuracy.plot(
        [100 * sum(x) / len(x) for x in zip(*(run["accuracy"] for run in runs))],
        "o-",
        color=SOLVER,
        lw=2.5,
    )
    for part in report.PARTS["generator"]:
        parts.plot(ks, of("generator", part), "o-", label=part)
    bottom = [0.0] * len(ks)
    for label, low, high, colour in BANDS:
        height = mean(
            lambda told: sum(low <= p <= high for p in told["p"]) / max(1, len(told["p"]))
        )
        rates.bar(ks, height, bottom=bottom, label=label, color=colour)
        bottom = [a + b for a, b in zip(bottom, height)]
    for stage in list(STAGES)[1:]:
        left_over.plot(
            ks,
            mean(lambda told: left(told["funnel"])[stage] / left(told["funnel"])["proposed"]),
            "o-",
            label=stage,
        )
    for what in ("arguments", "calls"):
        tasks.plot(ks, of("tasks", what), "o-", label=f"{what} a task")
    shares.plot(ks, of("solver", "zero_advantage_groups"), "o-", label="zero-advantage groups")
    shares.plot(ks, of("tasks", "right"), "o-", label="right gold answers")
    shares.plot(
        ks,
        mean(ablations.CHANGES["right ones where 0 < p < 1"]),
        "o-",
        label="right, where 0 < p < 1",
    )
    shares.plot(
        ks,
        mean(lambda told: told["tasks"]["questions"] / told["curate"]["selected"]),
        "o-",
        label="distinct questions",
    )
    top = {
        accuracy: ("held-out exact match, %", 60),
        parts: ("Generator: reward parts, usable", 1.05),
        rates: ("usable tasks by share of right answers", 1),
        left_over: ("candidates left", 1.05),
        tasks: ("curated tasks", 2),
        shares: ("shares", 1.05),
    }
    for axes, (title, most) in top.items():
        axes.set_title(title, fontsize=10)
        axes.set(xticks=ks, ylim=(0, most))
        axes.spines[["top", "right"]].set_visible(False)
        if axes is not accuracy:
            axes.legend(
                *axes.get_legend_handles_labels(),
                fontsize=8,
                ncols=2,
                frameon=False,
                loc="upper center",
                bbox_to_anchor=(0.5, -0.1),
            )
    accuracy.set(xlabel="iteration (0: base)", xticks=[0, *ks])
    return figure


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        pictures = {"loop": loop(), "r_diff": difficulty()}
        if runs := ablations.played(HERE.parent / "experiments" / "results"):
            pictures["ablations"] = variants(runs)
        if five := [run for run in runs if run["variant"] == "five"]:
            pictures["dynamics"] = dynamics(five)
        if sys.argv[1:]:
            if not report.log(Path(sys.argv[1]), "curate"):
                sys.exit(f"{sys.argv[1]} is not the folder of a run that has curated tasks")
            pictures["funnel"] = funnel(Path(sys.argv[1]))
        for name, figure in pictures.items():
            figure.savefig(
                HERE.parent / "assets" / f"{name}.svg", transparent=True, metadata={"Date": None}
            )
