"""Evaluation: answers of a model to tasks from a file, and which are right.

Paper: Sec. 4 (AST-based accuracy).  Our decision: every model, base or trained, gets the one Solver
prompt and the same greedy decoding.  The loop uses the functions here; the command, with the public
benchmarks, their rules and tables, is in evals/command.py.  Python's `eval` is never used.

A task, one line of a JSONL file:
    {"id": "heldout-0", "question": "Book a table for 3.", "tools": [{"name": "book_table",
     "description": "", "parameters": {"guests": {"type": "integer"}}, "required": ["guests"]}],
     "calls": [{"name": "book_table", "arguments": {"guests": 3}}]}
    python eval.py --model runs/tiny/iter3/solver --compare tiny --data tiny/heldout.jsonl
    python eval.py --model Qwen/Qwen2.5-0.5B --data benchmarks --save answers.jsonl
"""

import random
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tqdm import tqdm

import solver
from ast_match import exact_match
from errors import Malformed
from generator import Task
from plumbing.player import Player
from plumbing.runfolder import read_jsonl

BATCH_TOKENS = {"cpu": 65_536, "cuda": 262_144}  # of prompts and completions, padding included


def heldout_file(name: str) -> Path:
    """Where held-out tasks lie; "tiny": those of the base model that ships."""
    return Path(__file__).with_name("tiny") / "heldout.jsonl" if name == "tiny" else Path(name)


def load_heldout(path, limit):
    return {"tiny": load_tasks(Path(__file__).with_name("tiny") / "heldout.jsonl")[:limit]}


def load_tasks(path: Path) -> list[Task]:
    """The tasks of a JSONL file.  Raises `Malformed`, naming file and line."""
    if tasks := read_jsonl(path, with_own_id(Task.from_json)):
        return tasks
    raise Malformed(f"{path}: no task in it. The head of eval.py shows the form.")


def with_own_id(read: Callable[[dict], Task]) -> Callable[[dict], Task]:
    """The same reader, which refuses a task without an id or with that of an earlier one."""
    seen = set()

    def checked(item: dict) -> Task:
        task = read(item)
        if not task.id or task.id in seen:
            raise Malformed(f"a second line with the id {task.id}" if task.id else "it has no 'id'")
        seen.add(task.id)
        return task

    return checked


def complete(
    player: Player,
    tasks: list[Task],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    done: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Id and completion of each task that is not `done`, in batches."""
    chats = [solver.prompt(task) for task in tasks]
    # The longest first: too little memory shows at once.
    order = sorted(range(len(tasks)), key=lambda i: -len(chats[i][-1]["content"]))
    left = sum(task.id not in done for task in tasks)
    with tqdm(total=left, unit="case", leave=False) as bar:
        while order:  # batches do not depend on what is done: one cut in the middle is asked anew
            width = len(player.ids(chats[order[0]])) + max_new_tokens
            size = max(1, BATCH_TOKENS[player.model.device.type] // width)
            batch, order = order[:size], order[size:]
            ids = [tasks[i].id for i in batch]
            if not (todo := set(ids).difference(done)):
                continue
            its_seed = random.Random(f"{seed}/{ids[0]}").getrandbits(32)
            rollouts = player.sample(
                [chats[i] for i in batch], 1, max_new_tokens, temperature, its_seed
            )
            yield from ((id, player.text(r)) for id, r in zip(ids, rollouts) if id in todo)
            bar.update(len(todo))


def grade(player, tasks, template, max_new_tokens, title="", between=lambda: None) -> list[bool]:
    """Whether the greedy answer to each task is right; `between` runs after each and may raise."""
    right, gold = {}, {task.id: task.calls for task in tasks}
    for id, text in complete(player, tasks, max_new_tokens):
        right[id] = exact_match(solver.parse(text).calls, gold[id])
        between()
    return [right[id] for id in gold]


if __name__ == "__main__":
    from evals.command import main
    from scripts.demos import demo

    demo("eval") or sys.exit(main())
