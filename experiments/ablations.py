"""The paper's Table 3 in miniature, and questions it leaves open: variants of the default run.

    python -m experiments.ablations                            # every variant, three seeds
    python -m experiments.ablations full frozen --seeds 5      # two of them, five seeds

Each run is `python selfplay.py` with the flags below.  What is finished is kept as one JSON file a
run in experiments/results/, so a stopped command goes on; then the table is printed.  Two runs are
played at a time (`--jobs`), of one thread each (`--threads`).  Held-out tasks are looked at once an
iteration, and nothing is chosen by them.  A result, in part:

    {"variant": "full", "seed": 0, "accuracy": [0.2, 0.4, ...], "right": {"heldout-0": true, ...}}
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import eval
from generator import sample_spec
from plumbing import report
from plumbing.intervals import aligned, interval
from plumbing.runfolder import write_jsonl, write_whole
from tiny.make import HARD, World

ROOT = Path(__file__).resolve().parent.parent
ONCE = "--iterations 1 --solver-steps 45"  # as many Solver steps as three iterations have
VARIANTS = {  # name -> what it is called in the table, flags of selfplay.py
    "full": ("full method", ""),
    "frozen": ("frozen Generator", "--generator-steps 0"),
    "shared": ("one model plays both roles", "--weights shared"),
    "nodiff": ("no difficulty reward", "--difficulty none"),
    "cliff": ("hard cliff in place of the soft edge", "--difficulty cliff"),
    "static": (
        "static set from the base Generator",
        f"{ONCE} --generator-steps 0 --candidates 2100 --select 720",
    ),
    "clean": ("clean tasks written by program", "--tasks runs/clean-tasks.jsonl"),
    "shuffled": ("shuffled order", "--order shuffled"),
    "unverified": ("no cross-verification", "--tau 0"),
    "lenient": ("tau .125", "--tau 0.125"),
    "lenientfrozen": ("tau .125, frozen Generator", "--tau 0.125 --generator-steps 0"),
    "nojudge": ("no judge", "--judge off"),
    "g4": ("G = 4, twice the prompts", "--group 4 --generator-prompts 16 --solver-prompts 32"),
    "kl": ("KL .01", "--beta 0.01"),
    "batchstd": ("scale by batch std", "--scale batch"),
    "five": ("five iterations", "--iterations 5"),
}
T975 = 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26  # Student's t, by freedom from 1 on


def clean_tasks(count: int) -> None:
    """Tasks by program from the training side of tiny's world, as hard as the held-out ones."""
    world = World(random.Random(5), heldout=False, weights=HARD)
    tasks = [world.task(sample_spec(world.rng), f"clean-{i}") for i in range(count)]
    tasks.sort(key=lambda t: (len(t.calls), sum(len(c.arguments) for c in t.calls)))
    write_jsonl(ROOT / "runs/clean-tasks.jsonl", [task.to_json() for task in tasks])


def play(variant: str, seed: int, threads: int, results: Path) -> bool:
    """One run, if its result is not there yet; whether it is there now."""
    path, run = results / f"{variant}-{seed}.json", f"{results.name}-{variant}-{seed}"
    if path.exists():
        return True
    flags = VARIANTS[variant][1].split()
    command = [sys.executable, "selfplay.py", "--run", run, "--seed", str(seed), *flags]
    done = subprocess.run(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        said = done.stderr.splitlines() or ["it said nothing"]
        print(f"{variant} {seed} ended with exit code {done.returncode}: {said[-1]}", flush=True)
        return False
    verdicts = report.heldout(ROOT / "runs" / run)
    log = report.log(ROOT / "runs" / run)
    accuracy = [sum(right.values()) / len(right) for right in verdicts.values()]
    write_whole(
        path,
        json.dumps(
            {
                "variant": variant,
                "seed": seed,
                "flags": flags,
                "commit": report.commit(),
                "threads": threads,
                "seconds": sum(line["seconds"] for line in last_lines(log)),
                "accuracy": accuracy,
                "right": verdicts[max(verdicts)],
                "iterations": [iteration(ROOT / "runs" / run, k) for k in verdicts if k],
            }
        ),
    )
    print(
        f"{variant} {seed}, held-out from the base model on: "
        f"{', '.join(f'{100 * right:.1f}' for right in accuracy)}",
        flush=True,
    )
    return True


def last_lines(log: list[dict]) -> list[dict]:
    """The last line of each phase."""
    return list({(line["iteration"], line["phase"]): line for line in log}.values())


def iteration(folder: Path, k: int) -> dict[str, dict]:
    """One iteration in numbers: each phase's at its end, the funnel, pass rates, curated tasks."""
    logs = {phase: report.log(folder, phase, k) for phase in ("generator", "curate", "solver")}
    told = {phase: report.means(lines) for phase, lines in logs.items() if lines}
    for line in logs["curate"]:
        told |= {"funnel": line["funnel"], "p": line["p"]}
    return told | {"tasks": report.curated(folder, k)}


def mean_sd(values: list[float]) -> str:
    """A mean and its standard deviation in percent, as text."""
    sd = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{sd}"


def played(results: Path) -> list[dict]:
    """What is known of each run, by variant and seed."""
    runs = [json.loads(path.read_text()) for path in results.glob("*-*.json")]
    runs = [run for run in runs if run["variant"] in VARIANTS]
    return sorted(runs, key=lambda run: ([*VARIANTS].index(run["variant"]), run["seed"]))


def table(results: Path) -> str:
    """Each variant: final accuracy, of hard tasks too, and its difference to the full method."""
    runs = played(results)
    tasks = {task.id: task for task in eval.load_tasks(eval.heldout_file("tiny"))}
    hard = [
        id
        for id, t in tasks.items()
        if len(t.calls) > 1 or sum(len(c.arguments) for c in t.calls) > 1
    ]
    full = {run["seed"]: run for run in runs if run["variant"] == "full"}
    rows = [
        [
            "variant",
            "seeds",
            "held-out, %",
            "times the base",
            "hard tasks, %",
            "minus full, points",
            "95 % interval",
        ]
    ]
    for variant, (title, _) in VARIANTS.items():
        mine = [run for run in runs if run["variant"] == variant]
        if not mine:
            continue
        final = [run["accuracy"][-1] for run in mine]
        times = statistics.mean(run["accuracy"][-1] / run["accuracy"][0] for run in mine)
        on_hard = [sum(run["right"][id] for id in hard) / len(hard) for run in mine]
        minus = [
            run["accuracy"][-1] - full[run["seed"]]["accuracy"][-1]
            for run in mine
            if run["seed"] in full
        ]
        ends = ""
        if variant != "full" and len(minus) > 1:
            half = T975[min(len(minus) - 2, 8)] * statistics.stdev(minus) / len(minus) ** 0.5
            ends = interval(statistics.mean(minus) - half, statistics.mean(minus) + half, "+")
        rows.append(
            [
                title,
                str(len(mine)),
                mean_sd(final),
                f"{times:.2f}",
                mean_sd(on_hard),
                f"{100 * statistics.mean(minus):+.1f}" if minus else "-",
                ends,
            ]
        )
    return aligned(rows)


def each(results: Path) -> str:
    """Each run: held-out accuracy in percent, and in brackets the arguments of a curated task."""
    runs = played(results)
    most = max((len(run["accuracy"]) for run in runs), default=0)
    rows = [["held-out, % (arguments)", *map(report.name, range(most))]]
    for run in runs:
        curated = [{}, *(told["tasks"] for told in run["iterations"])]
        shown = [
            f"{100 * right:.1f}" + (f" ({tasks['arguments']:.2f})" if tasks else "")
            for right, tasks in zip(run["accuracy"], curated)
        ]
        rows.append([f"{run['variant']} {run['seed']}", *shown, *[""] * (most - len(shown))])
    return aligned(rows)


CHANGES = {  # what is told of the iterations -> its value in one of them
    "usable of the Generator's tasks": lambda told: told["generator"]["usable"],
    "its r_diff": lambda told: told["generator"]["diff"],
    "p = 1, of the usable candidates": lambda told: told["p"].count(1) / max(1, len(told["p"])),
    "curated tasks": lambda told: told["curate"]["selected"],
    "arguments of one": lambda told: told["tasks"]["arguments"],
    "right gold answers": lambda told: told["tasks"]["right"],
    "right ones where 0 < p < 1": lambda told: told["tasks"].get("right_divided", math.nan),
    "zero-advantage groups": lambda told: told["solver"]["zero_advantage_groups"],
}


def dynamics(results: Path) -> str:
    """What changes in five iterations: means over the seeds; '' where none was played."""
    runs = [run for run in played(results) if run["variant"] == "five"]
    if not runs:
        return ""
    ks = range(1, len(runs[0]["accuracy"]))
    rows = [
        [f"five iterations, {len(runs)} seeds", *map(report.name, ks)],
        [
            "held-out, %",
            *(f"{100 * statistics.mean(run['accuracy'][k] for run in runs):.1f}" for k in ks),
        ],
    ]
    for what, value in CHANGES.items():
        means = (statistics.mean(value(run["iterations"][k - 1]) for run in runs) for k in ks)
        rows.append([what, *(f"{mean:.3g}" for mean in means)])
    return aligned(rows)


def main() -> None:
    """Play what is missing, print the tables; see the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "variants", nargs="*", default=list(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of a run")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results")
    a = parser.parse_args()
    if unknown := set(a.variants) - VARIANTS.keys():
        parser.error(f"no variant is called {min(unknown)}: there are {', '.join(VARIANTS)}")
    a.results = a.results.resolve()  # "." has no name
    a.results.mkdir(parents=True, exist_ok=True)
    wanted = [(variant, seed) for seed in range(a.seeds) for variant in a.variants]
    if any(not (a.results / f"clean-{seed}.json").exists() for v, seed in wanted if v == "clean"):
        clean_tasks(3 * 240)
    with ThreadPoolExecutor(a.jobs) as pool:
        runs = [pool.submit(play, variant, seed, a.threads, a.results) for variant, seed in wanted]
        try:
            there = [run.result() for run in runs]
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # else it would begin the next ones
            print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(130)
    print(table(a.results), each(a.results), dynamics(a.results), sep="\n")
    sys.exit(not all(there))


if __name__ == "__main__":
    main()
