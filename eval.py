"""Evaluation: answers of a model to cases from a file, accuracy with its interval.

Paper: Sec. 4 (AST-based accuracy).  Our decision: every model, base or trained, gets the one Solver
prompt and the same greedy decoding.  The loop uses the functions here; the command, with the public
benchmarks, their own rules and tables, is in benchmarks/command.py.

A task, one line of a JSONL file:
    {"id": "heldout-0", "question": "Book a table for 3.", "tools": [{"name": "book_table",
     "description": "", "parameters": {"guests": {"type": "integer"}}, "required": ["guests"]}],
     "calls": [{"name": "book_table", "arguments": {"guests": 3}}]}

    python eval.py --model runs/tiny/iter3/solver --compare tiny --data tiny/heldout.jsonl
    python eval.py --model Qwen/Qwen2.5-0.5B --data benchmarks --save answers.jsonl
"""
import math
import random
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tqdm import tqdm

import solver
from ast_match import Call, Malformed, exact_match
from generator import Task
from player import Player
from runfolder import read_jsonl

HERE = Path(__file__).resolve().parent
Calls = list[Call] | None  # of one answer; None: unreadable
BATCH_TOKENS = {"cpu": 65_536, "cuda": 262_144}  # of prompts and completions, padding included
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
Z95 = 1.959964  # of the normal distribution

def heldout_file(name: str) -> Path:
    """Where held-out tasks lie; "tiny": those of the base model that ships."""
    return HERE / "tiny" / "heldout.jsonl" if name == "tiny" else Path(name)

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

def complete(player: Player, tasks: list[Task], max_new_tokens: int, temperature: float = 0.0,
             seed: int = 0, done: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Id and completion of each task that is not `done`, in batches."""
    chats = [solver.prompt(task) for task in tasks]
    # The longest first: too little memory shows at once.
    order = sorted(range(len(tasks)), key=lambda i: -len(chats[i][-1]["content"]))
    left = sum(task.id not in done for task in tasks)
    with tqdm(total=left, unit="case", bar_format=BAR, leave=False) as bar:
        while order:  # batches do not depend on what is done: each keeps its own seed
            width = len(player.ids(chats[order[0]])) + max_new_tokens
            size = max(1, BATCH_TOKENS[player.model.device.type] // width)
            batch, order = order[:size], order[size:]
            drawn = random.Random(f"{seed}/{tasks[batch[0]].id}").getrandbits(32)
            todo = [i for i in batch if tasks[i].id not in done]
            rollouts = player.ask([chats[i] for i in todo], 1, max_new_tokens, temperature, drawn)
            yield from ((tasks[i].id, player.text(r)) for i, r in zip(todo, rollouts))
            bar.update(len(todo))

def read_text(text: str) -> Calls:
    """The calls in a completion."""
    answer = solver.parse(text)
    return answer.calls if answer.parsed else None

def judge(player: Player, tasks: list[Task], max_new_tokens: int, temperature: float = 0.0,
          seed: int = 0, between: Callable[[], None] = lambda: None) -> list[bool]:
    """Whether the player's one answer to each task is right; `between` answers it may raise."""
    texts = {}
    for id, text in complete(player, tasks, max_new_tokens, temperature, seed):
        texts[id] = text
        between()
    return [exact_match(read_text(texts[task.id]) or [], task.calls) for task in tasks]

def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share.

    >>> [round(x, 3) for x in wilson(50, 100)]
    [0.404, 0.596]
    """
    p, z2 = right / total, Z95**2 / total
    centre, half = p + z2 / 2, Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total))
    return (centre - half) / (1 + z2), (centre + half) / (1 + z2)

def paired_difference(a: list[bool], b: list[bool], draws: int = 2000) -> tuple[float, ...]:
    """Mean of b - a over the same tasks, and its 95 % bootstrap interval over tasks."""
    differences, rng = [int(y) - int(x) for x, y in zip(a, b)], random.Random(0)
    n = len(differences)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(draws))
    return sum(differences) / n, means[int(0.025 * draws)], means[int(0.975 * draws)]

def interval(low: float, high: float, sign: str = "") -> str:
    """The ends of an interval in percent, as text; `sign` "+" shows the sign of both."""
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"

def describe(right: list[bool]) -> str:
    """Accuracy with its interval, as text.

    >>> describe([True, False])
    '1 of 2 = 50.0 %  [9.5, 90.5]'
    """
    n, of = sum(right), len(right)
    return f"{n} of {of} = {100 * n / of:.1f} %  {interval(*wilson(n, of))}"

def aligned(rows: list[list[str]]) -> str:
    """Rows in aligned columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(f"{first:<{widths[0]}}  " + "  ".join(map(str.rjust, rest, widths[1:]))
                     for first, *rest in rows) + "\n"

if __name__ == "__main__":
    from benchmarks.command import main
    sys.exit(main())
