"""Evaluation: a model answers held-out tasks; an answer is right if its calls are the gold calls.

Paper: Sec. 4 (AST-based accuracy).  Our decisions:
  1. Every model, base or trained, gets the one Solver prompt and decodes greedily.
  2. In the mean over benchmarks each has the same weight, whatever its size.
Python's `eval` is never used.

A task, one line of a JSONL file; its benchmark is `benchmark`, if given, else the file's name:

    {"id": "heldout-0", "question": "Book a table for 3.", "tools": [{"name": "book_table",
     "description": "", "parameters": {"guests": {"type": "integer"}}, "required": ["guests"]}],
     "calls": [{"name": "book_table", "arguments": {"guests": 3}}]}

    python eval.py --model runs/tiny/iter3/solver --compare tiny --data tiny/heldout.jsonl
    python eval.py --model Qwen/Qwen2.5-0.5B --limit 100      # the paper's five benchmarks

`python -m evals` has more: BFCL and its own rule, tables of errors, saved answers.
"""

import argparse
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import solver
from ast_match import exact_match
from errors import Malformed, UsageError
from generator import Task
from plumbing.command import run_command
from plumbing.intervals import describe, describe_mean, interval, macro_difference, percent
from plumbing.loading import ROOT
from plumbing.player import Player
from plumbing.runfolder import read_jsonl
from template import Chat, Template

PREPARED = ROOT / "evals" / "data"  # written by evals/prepare.py
PREPARE = "`python evals/prepare.py` downloads the public benchmarks"
PAPER_IDS = re.compile("toolalpaca-real-|sealtools-.*-easy-|nexusraven-|apibank-|snips-")
BATCH_TOKENS = {"cpu": 65_536, "mps": 65_536, "cuda": 262_144}  # prompts, answers and padding


# --------------------------------------------------------------------------------------- the tasks


def load_heldout(path: str, limit: int | None) -> dict[str, list[Task]]:
    """Return at most `limit` tasks per benchmark of a file or folder; "tiny" means tiny's own.

    Without a path: the cases that the paper seems to use, if they are prepared, else tiny's tasks.
    """
    wanted = None
    if not path and any(PREPARED.glob("*.jsonl")):
        path = str(PREPARED)
        wanted = PAPER_IDS
    if not path:
        note(f"Evaluating on tiny's own tasks, which are not a benchmark; {PREPARE}.")
        path = "tiny"
    benchmarks = defaultdict(list)
    reader = TaskReader()
    for file in task_files(heldout_file(path)):
        for name, item, task in read_jsonl(file, partial(reader.read, file)):
            if has_own_rule(name, item):
                if not wanted:
                    note(f"{name} is left out: `python -m evals` applies BFCL's own rule to it.")
            elif not wanted or wanted.match(task.id):
                benchmarks[name].append(task)
    if not benchmarks:
        raise UsageError(f"{path}: no task for exact match. Name other tasks; {PREPARE}.")
    return {name: draw(tasks, name, limit) for name, tasks in benchmarks.items()}


def heldout_file(name: str) -> Path:
    """Return the path that is named; "tiny" names the held-out tasks of the model that ships."""
    return ROOT / "tiny" / "heldout.jsonl" if name == "tiny" else Path(name)


def task_files(path: Path) -> list[Path]:
    """Return a JSONL file, or all of a folder; raise UsageError if there is none."""
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise UsageError(f"{path}: no JSONL file of tasks. Name a file or a folder; {PREPARE}.")
    return files


def load_tasks(path: Path) -> list[Task]:
    """Return the tasks of a JSONL file; raise UsageError naming file and line."""
    lines = read_jsonl(path, partial(TaskReader().read, path))
    if not lines:
        raise UsageError(f"{path}: no task in it. The head of eval.py shows the form.")
    return [task for _, _, task in lines]


class TaskReader:
    """Read tasks line by line; refuse a task without an id or with an id seen before."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def read(self, file: Path, item: Any) -> tuple[str, dict, Task]:
        """Return the benchmark, the item and the task; raise `Malformed` with what is wrong."""
        task = Task.from_json(item)
        id = read_id(item)
        if id in self.seen:
            raise Malformed(f"a second line with the id {id}")
        self.seen.add(id)
        benchmark = item.get("benchmark") or file.stem
        return str(benchmark), item, task


def has_own_rule(benchmark: str, item: dict) -> bool:
    """Return whether BFCL's own rule judges a line, not exact match."""
    return benchmark.startswith("bfcl") or "accept" in item


def read_id(item: Any) -> str:
    """Return the id of a line as text; raise `Malformed` if it has none."""
    id = item.get("id") if isinstance(item, dict) else None
    if id is None or id == "":
        raise Malformed("it has no 'id'")
    if not isinstance(id, (str, int)) or isinstance(id, bool):
        raise Malformed("its 'id' is neither text nor an integer")
    return str(id)


def draw(tasks: list, name: str, limit: int | None, seed: int = 0) -> list:
    """Return at most `limit` tasks in random order; a smaller sample is part of a larger one."""
    shuffled = list(tasks)
    random.Random(f"{seed}/{name}").shuffle(shuffled)
    return shuffled[:limit]


@cache
def note(text: str) -> None:
    """Print a remark to standard error, once per process."""
    print(text, file=sys.stderr)


# ------------------------------------------------------------------------------------- the answers


def grade(
    player: Player,
    tasks: list[Task],
    template: Template,
    max_new_tokens: int,
    title: str = "",
    between: Callable[[], None] | None = None,
) -> list[bool]:
    """Return for each task whether the greedy answer is right.

    `title` names the progress bar; `between` runs after each answer and may raise.
    """
    gold = {task.id: task.calls for task in tasks}
    right = {}
    for id, text in complete(player, tasks, template, max_new_tokens, title=title):
        calls = solver.parse(text).calls
        right[id] = exact_match(calls, gold[id])  # Sec. 4
        if between:
            between()
    return [right[task.id] for task in tasks]


def complete(
    player: Player,
    tasks: list[Task],
    template: Template,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    done: Collection[str] = (),
    title: str = "",
) -> Iterator[tuple[str, str]]:
    """Yield id and completion of each task that is not `done`, batch by batch.

    Batches do not depend on what is done, so an interrupted command gets the same answers again.
    """
    chats = [solver.prompt(task, template) for task in tasks]
    left = {task.id for task in tasks}.difference(done)
    with tqdm(total=len(left), desc=title, unit="case", leave=False, dynamic_ncols=True) as bar:
        for batch in plan_batches(player, chats, max_new_tokens):
            ids = [tasks[i].id for i in batch]
            if left.isdisjoint(ids):
                continue
            own_seed = random.Random(f"{seed}/{ids[0]}").getrandbits(32)
            some = [chats[i] for i in batch]
            rollouts = player.sample(some, 1, max_new_tokens, temperature, own_seed)
            for id, chat, rollout in zip(ids, some, rollouts):
                if id in left:
                    yield id, player.text(rollout, chat)
            bar.update(len(left.intersection(ids)))


def plan_batches(player: Player, chats: list[Chat], max_new_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of the chats of each batch, the longest first.

    A batch that does not fit in memory then fails at the start.
    """
    budget = BATCH_TOKENS[player.model.device.type]
    order = sorted(range(len(chats)), key=lambda i: -len(chats[i][-1]["content"]))
    while order:
        longest = player.ids(chats[order[0]])
        size = budget // (len(longest) + max_new_tokens)
        size = max(1, size)
        yield order[:size]
        order = order[size:]


# ------------------------------------------------------------------------------------- the command


def evaluate(a: argparse.Namespace) -> None:
    """Print the accuracy of one or two models on each benchmark, and the difference between two."""
    template = solver.template_of(a.prompt)
    benchmarks = load_heldout(a.data, a.limit)
    names = [a.model, a.compare] if a.compare else [a.model]
    players = [Player(name, a.device, frozen=True) for name in names]  # a typo shows at once
    verdicts = []
    for name, player in zip(names, players):
        print(f"{name}, greedy, at most {a.max_new_tokens} new tokens")
        results = []  # benchmark by benchmark, whether each answer is right
        for benchmark, tasks in benchmarks.items():
            title = f"{name} on {benchmark}"
            right = grade(player, tasks, template, a.max_new_tokens, title)
            print(f"  {benchmark}: {describe(right)}")
            results.append(right)
        if len(results) > 1:
            print(f"  mean of {len(results)}: {describe_mean(results)}")
        verdicts.append(results)
    if a.compare:
        pairs = list(zip(verdicts[1], verdicts[0]))
        mean, low, high = macro_difference(pairs)
        print(f"first minus second: {percent(mean, '+')} points  {interval(low, high, '+')}")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("eval.py", description=__doc__, formatter_class=raw)
    parser.add_argument("--model", required=True, help="folder or hub name")
    parser.add_argument("--compare", metavar="MODEL", help="a second model, for the difference")
    parser.add_argument("--data", default="", help="file or folder; default: evals/data or tiny's")
    parser.add_argument("--limit", type=positive, help="tasks per benchmark; default: all")
    parser.add_argument("--prompt", default="bank", help="bank, placeholders, or a file")
    parser.add_argument("--max-new-tokens", type=positive, default=256)
    parser.add_argument("--device", default="", help="default: cuda if available, else cpu")
    a, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"no option {unknown[0]}; see --help, or `python -m evals --help` for more")
    return a


def positive(text: str) -> int:
    """Read an option that is an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 2: bad input."""
    a = parse_arguments(argv)
    return run_command("eval.py", lambda: evaluate(a))


if __name__ == "__main__":
    sys.exit(main())
