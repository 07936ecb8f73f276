"""Compare self-play on given tools with self-play on all domains, on held-out tasks of the tools.

    python -m experiments.own_tools --seeds 5

A program writes eight tools of one domain, with names and sets of arguments that tiny has never
seen.  It also writes held-out tasks for these tools, with values that tiny has never seen.

Each arm is `python selfplay.py` with the options in ablations.OWN_VARIANTS.  Finished
runs are kept in --results.
"""

import argparse
import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import eval
import generator
from ast_match import Tool
from experiments import ablations
from generator import Task
from plumbing.command import run_command
from plumbing.intervals import aligned
from plumbing.loading import ROOT
from plumbing.runfolder import write_jsonl, write_whole
from tiny.make import HARD, World

DOMAIN = "travel"
ARGUMENTS = (1, 1, 2, 2, 2, 3, 3, 4)  # of the eight tools
HELDOUT = 200  # tasks
ARMS = ("own", "own_domains")


class OwnWorld(World):
    """A world whose menus are drawn from given tools."""

    def __init__(self, rng: random.Random, tools: list[Tool]) -> None:
        super().__init__(rng, heldout=True, weights=HARD)
        self.tools = tools

    def tool(self, domain: str, count: int, taken: set[str], twin_of: str | None = None) -> Tool:
        """Return one of the tools that is not taken."""
        tool = self.rng.choice([tool for tool in self.tools if tool.name not in taken])
        taken.add(tool.name)
        return tool


def own_tools(seed: int = 0) -> list[Tool]:
    """Return the eight tools: their names and sets of arguments are on tiny's held-out side."""
    world = World(random.Random(seed), heldout=True, weights=HARD)
    taken = set()
    return [world.tool(DOMAIN, count, taken) for count in ARGUMENTS]


def own_tasks(tools: list[Tool], count: int, seed: int = 0) -> list[Task]:
    """Return clean held-out tasks for these tools, with specs from the paper's distribution."""
    world = OwnWorld(random.Random(seed), tools)
    specs = generator.sample_specs(seed, count, domains=[DOMAIN])
    return [world.task(spec, f"own-{i}") for i, spec in enumerate(specs)]


def write_files(folder: Path) -> None:
    """Write the tools and their held-out tasks."""
    tools = own_tools()
    write_whole(folder / f"{DOMAIN}.json", generator.as_json(tools))
    tasks = own_tasks(tools, HELDOUT)
    write_jsonl(folder / "heldout.jsonl", [task.to_json() for task in tasks])


def print_table(results: Path) -> None:
    """Print accuracy per arm and iteration, and the difference between the arms."""
    runs = ablations.played(results)
    rows = [["arm", "seeds", "base", "iteration 1", "iteration 2", "iteration 3"]]
    for arm in ARMS:
        accuracy = [run["accuracy"] for run in runs.get(arm, [])]
        if accuracy:
            columns = [ablations.mean_sd(list(values)) for values in zip(*accuracy)]
            rows.append([arm, str(len(accuracy)), *columns])
    print(aligned(rows))
    ends = [{run["seed"]: run["accuracy"][-1] for run in runs.get(arm, [])} for arm in ARMS]
    pairs = [ends[0][seed] - ends[1][seed] for seed in ends[0].keys() & ends[1].keys()]
    if len(pairs) > 1:
        mean = 100 * statistics.mean(pairs)
        print(f"own tools minus all domains: {mean:+.1f} points {ablations.t_interval(pairs)}")


def main(argv: list[str] | None = None) -> int:
    """Play what is missing, then print the table.  Exit code 1: a run has failed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("own_tools", description=__doc__, formatter_class=raw)
    parser.add_argument("--seeds", type=eval.positive, default=5)
    parser.add_argument("--jobs", type=eval.positive, default=2, help="runs at a time")
    parser.add_argument("--threads", type=eval.positive, default=1, help="CPU threads per run")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results" / "own")
    a = parser.parse_args(argv)

    def work() -> int:
        write_files(ROOT / ablations.OWN)
        wanted = [(arm, seed) for seed in range(a.seeds) for arm in ARMS]
        with ThreadPoolExecutor(a.jobs) as pool:
            plays = [pool.submit(ablations.play, *one, a.threads, a.results) for one in wanted]
            done = [play.result() for play in plays]
        print_table(a.results)
        return 0 if all(done) else 1

    return run_command("own_tools", work)


if __name__ == "__main__":
    sys.exit(main())
