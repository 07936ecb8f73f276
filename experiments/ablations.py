"""The paper's Table 3 in miniature, and questions that it leaves open: variants of the default run.

    python -m experiments.ablations                            # every variant, three seeds
    python -m experiments.ablations full frozen --seeds 5      # two of them, five seeds
    python -m experiments.ablations --table                    # only print the tables

    python -m experiments.undamage                             # makes a base without the habit
    python -m experiments.ablations undamaged undamaged_half
    python -m tiny.make --hidden 64 --out runs/bases/small     # makes a smaller base
    python -m experiments.ablations small

Each run is `python selfplay.py` with the options below.  One JSON file per finished run is kept in
experiments/results/, so a stopped command continues; then the tables are printed.  Two runs play at
a time (--jobs), with one thread each (--threads).  No setting is chosen on the held-out tasks.

A result, in part:

    {"variant": "full", "seed": 0, "machine": {"processor": ...}, "accuracy": [0.2, 0.4, ...], ...}
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import curate
import eval
import guards
from errors import UsageError
from experiments.audit import share_right
from generator import Task
from plumbing import report
from plumbing.alarms import recent_means
from plumbing.command import run_command
from plumbing.intervals import aligned, interval, macro_mean
from plumbing.loading import ROOT
from plumbing.runfolder import read_jsonl, write_jsonl, write_whole
from tiny.make import training_tasks

ONCE = "--iterations 1 --generator-steps 0 --solver-steps 45"  # the Solver steps of 3 iterations
VARIANTS = {  # name -> options of selfplay.py
    "full": "",
    "frozen": "--generator-steps 0",
    "shared": "--ablation shared-weights",
    "nodiff": "--ablation no-difficulty",
    "cliff": "--ablation hard-cliff",
    "nojudge": "--ablation no-judge",
    "shuffled": "--ablation shuffled",
    "batchstd": "--ablation batch-std",
    "static": f"{ONCE} --candidates 2100",  # all tasks from the base Generator
    "clean70": ONCE,
    "clean240": ONCE,
    "clean720": ONCE,
    "noreplay": "--replay 0",
    "unverified": "--p-min 0",
    "strict": "--p-min 0.5",
    "graded": "--spec graded",
    "free": "--spec free",
    "unguarded": "--guards off",
    "g4": "--group 4 --generator-batch 16 --solver-batch 32",
    "kl": "--beta 0.01",
    "five": "--iterations 5",
}
BASES = {  # other base models, made first: see the docstring
    "undamaged": "--model runs/bases/undamaged",
    "undamaged_half": "--model runs/bases/undamaged --lr 1e-4",
    "small": "--model runs/bases/small",
}
OWN = "runs/own"  # files that experiments/own_tools.py writes
OWN_VARIANTS = {
    "own": f"--tools {OWN}/travel.json --heldout {OWN}/heldout.jsonl",
    "own_domains": f"--heldout {OWN}/heldout.jsonl",  # the default run, on the same tasks
}
CLEAN = {"clean70": 70, "clean240": 240, "clean720": 720}  # tasks written by a program
NUMBERS = {  # row of the table of iterations -> phase and number of the log
    "usable of the Generator's tasks": ("generator", "usable"),
    "their pass rate": ("generator", "p"),
    "near-duplicates per task": ("generator", "near_duplicates"),
    "curated tasks": ("curate", "selected"),
    "share of large ones": ("curate", "large"),
    "right gold answers": ("curate", "right"),
    "the same, of large tasks": ("curate", "right_large"),
    "the same, of small tasks": ("curate", "right_small"),
    "easy (p > .75)": ("curate", "easy"),
    "hard (p < .25)": ("curate", "hard"),
    "p = 1": ("curate", "solved"),
    "tools in the menu": ("curate", "menu"),
    "calls of a task": ("curate", "calls"),
    "arguments of a call": ("curate", "arguments"),
    "different tools per call": ("curate", "tools"),
    "share without near-duplicates": ("curate", "alone"),
    "usable candidates: pass@1": ("curate", "pass@1"),
    "usable candidates: pass@K": ("curate", "pass@K"),
    "zero-advantage groups": ("solver", "zero_advantage_groups"),
}
SMALL = 2  # size of a task with one call of one argument
T975 = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23]  # Student's t for 2 to 11
T975 += [2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09]  # for 12 to 20 values


def clean_tasks(folder: Path, count: int, seed: int) -> None:
    """Write tasks from the training side of tiny's world into a run folder, easy to hard.

    A program makes them; the run takes them for its own curated tasks.
    """
    tasks = training_tasks(count, seed)
    tasks.sort(key=curate.size_of)
    write_jsonl(folder / "iter1" / "tasks.jsonl", [task.to_json() for task in tasks])


def play(variant: str, seed: int, threads: int, results: Path) -> bool:
    """Play a run unless its result exists; return whether it exists now."""
    path = results / f"{variant}-{seed}.json"
    if path.exists():
        return True
    folder = ROOT / "runs" / f"{results.name}-{variant}-{seed}"
    if variant in CLEAN:
        clean_tasks(folder, CLEAN[variant], seed)
    flags = (VARIANTS | BASES | OWN_VARIANTS)[variant].split()
    command = [sys.executable, "selfplay.py", "--run", folder.name, "--seed", str(seed), *flags]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True)
    if done.returncode:
        why = done.stderr.strip().splitlines() or ["no error message"]
        print(f"{variant} {seed} ended with exit code {done.returncode}: {why[-1]}", flush=True)
        return False
    result = {"variant": variant, "seed": seed, "flags": flags, **summary(folder)}
    write_whole(path, json.dumps(result))
    shown = ", ".join(f"{100 * accuracy:.1f}" for accuracy in result["accuracy"])
    print(f"{variant} {seed}, held-out from the base model on: {shown}", flush=True)
    return True


def summary(folder: Path) -> dict:
    """Return a finished run in numbers: accuracy per iteration, and each phase at its end."""
    verdicts = report.heldout(folder)
    accuracy = []
    for benchmarks in verdicts.values():
        mean, _, _ = macro_mean([list(right.values()) for right in benchmarks.values()])
        accuracy.append(mean)
    ends = {(line["iteration"], line["phase"]): line["seconds"] for line in report.log(folder)}
    return {
        "commit": report.commit(),
        "machine": report.config(folder)["machine"],
        "seconds": round(sum(ends.values()), 1),
        "accuracy": accuracy,
        "iterations": [iteration(folder, k) for k in verdicts if k],
        "verdicts": verdicts[max(verdicts)],
    }


def iteration(folder: Path, k: int) -> dict[str, dict]:
    """Return the numbers of each phase of an iteration, and what its curated tasks are like."""
    phases = {}
    for phase in ("generator", "curate", "solver"):
        lines = report.log(folder, phase, k)
        if lines:
            phases[phase] = recent_means(lines)
    phases.setdefault("curate", {}).update(composition(folder / f"iter{k}"))
    return phases


def composition(folder: Path) -> dict[str, float]:
    """Return what the curated tasks of an iteration are like, and how the Solver did before it.

    A large task has two or more arguments or calls.
    """
    tasks = eval.load_tasks(folder / "tasks.jsonl")
    large = [task for task in tasks if curate.size_of(task) > SMALL]
    small = [task for task in tasks if curate.size_of(task) <= SMALL]
    numbers = {"large": len(large) / len(tasks), "right": share_right(tasks)}
    for name, some in (("right_large", large), ("right_small", small)):
        if some:
            numbers[name] = share_right(some)
    numbers |= diversity(tasks)
    path = folder / "candidates.jsonl"
    candidates = read_jsonl(path) if path.exists() else []
    rates = [c["p"] for c in candidates if c["reason"] is None]  # selected
    if rates:
        buckets = [curate.bucket(p) for p in rates]
        numbers |= {name: buckets.count(name) / len(rates) for name in curate.MIX}
        numbers["solved"] = rates.count(1.0) / len(rates)
    probed = [c["p"] for c in candidates if c["p"] is not None]  # usable
    if probed:
        numbers["pass@1"] = statistics.mean(probed)
        numbers["pass@K"] = 1 - probed.count(0.0) / len(probed)
    return numbers


def diversity(tasks: list[Task]) -> dict[str, float]:
    """Return the mean size of tasks, and how much they differ from each other."""
    calls = [call for task in tasks for call in task.calls]
    alone = guards.near_duplicates(tasks).count(1)
    return {
        "menu": statistics.mean(len(task.tools) for task in tasks),
        "calls": len(calls) / len(tasks),
        "arguments": statistics.mean(len(call.arguments) for call in calls),
        "tools": len({call.name for call in calls}) / len(calls),
        "alone": alone / len(tasks),
    }


def played(results: Path) -> dict[str, list[dict]]:
    """Return the results of each variant; those not in VARIANTS, like other bases, come last."""
    runs = {variant: [] for variant in VARIANTS}
    for path in sorted(results.glob("*.json")):
        run = json.loads(path.read_text())
        runs.setdefault(run["variant"], []).append(run)
    return {variant: own for variant, own in runs.items() if own}


def table(runs: dict[str, list[dict]]) -> str:
    """Return final accuracy per variant, and its difference from the full method, as text."""
    full = {run["seed"]: run["accuracy"][-1] for run in runs.get("full", [])}
    rows = [["variant", "seeds", "held-out, %", "minus full", "95 % interval", "options"]]
    for variant, own in runs.items():
        final = {run["seed"]: run["accuracy"][-1] for run in own}
        differences = []
        if variant not in {"full", *BASES}:
            differences = [final[seed] - full[seed] for seed in final.keys() & full.keys()]
        row = [variant, str(len(own)), mean_sd(list(final.values())), "", ""]
        if differences:
            row[3] = f"{100 * statistics.mean(differences):+.1f}"
        if len(differences) > 1:
            row[4] = t_interval(differences)
        rows.append([*row, " ".join(own[0]["flags"])])
    return aligned(rows)


def mean_sd(values: list[float]) -> str:
    """Return mean and standard deviation in percent, as text."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def t_interval(values: list[float]) -> str:
    """Return the 95 % interval of the mean of two or more values by Student's t, as text."""
    t = T975[min(len(values) - 2, len(T975) - 1)]
    half = t * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return interval(mean - half, mean + half, "+")


def by_iteration(variant: str, runs: list[dict]) -> str:
    """Return what changes from iteration to iteration, as means over the seeds."""
    count = min(len(run["accuracy"]) for run in runs)
    rows = [[f"{variant}, {len(runs)} seeds", *map(report.iteration_name, range(count))]]
    accuracy = [mean_sd([run["accuracy"][k] for run in runs]) for k in range(count)]
    rows.append(["held-out, %", *accuracy])
    for title, (phase, number) in NUMBERS.items():
        row = [title, ""]
        for k in range(count - 1):
            values = [run["iterations"][k].get(phase, {}).get(number) for run in runs]
            known = [value for value in values if value is not None]
            row.append(f"{statistics.mean(known):.3g}" if known else "")
        rows.append(row)
    return aligned(rows)


def print_tables(results: Path) -> None:
    """Print the table of variants, and that of each variant's iterations."""
    runs = played(results)
    if not runs:
        raise UsageError(f"{results} has no result: play some runs first, without --table")
    print(table(runs))
    for variant, own in runs.items():
        print(by_iteration(variant, own))


def main(argv: list[str] | None = None) -> int:
    """Play what is missing, then print the tables.  Exit code 1: a run has failed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("ablations", description=__doc__, formatter_class=raw)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--seeds", type=eval.positive, default=3)
    parser.add_argument("--jobs", type=eval.positive, default=2, help="runs at a time")
    parser.add_argument("--threads", type=eval.positive, default=1, help="CPU threads per run")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results")
    a = parser.parse_args(argv)
    for variant in a.variants:
        if variant not in VARIANTS | BASES:
            names = ", ".join(VARIANTS | BASES)
            parser.error(f"no variant is called {variant}: there are {names}")

    def work() -> int:
        wanted = [(v, seed) for seed in range(a.seeds) for v in a.variants if not a.table]
        with ThreadPoolExecutor(a.jobs) as pool:
            runs = [pool.submit(play, *one, a.threads, a.results.resolve()) for one in wanted]
            try:
                done = [run.result() for run in runs]
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)  # otherwise the pool would start the next runs
                raise
        print_tables(a.results)
        return 0 if all(done) else 1

    return run_command("ablations", work)


if __name__ == "__main__":
    sys.exit(main())
