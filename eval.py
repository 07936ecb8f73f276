"""Evaluation: how many tasks a model answers exactly right, and whether two models differ.

Paper: Sec. 4 (AST-based accuracy, Table 1).  Every model, base or trained, gets the one Solver
prompt and the same greedy decoding.  A file of tasks has one JSON object a line:
    {"id": "heldout-0", "question": "Book a table for 3.", "tools": [{"name", "description",
     "parameters", "required"}], "calls": [{"name": "book_table", "arguments": {"guests": 3}}]}

    python eval.py --model runs/tiny/iter3/solver [--compare tiny] --data tiny/heldout.jsonl
"""
import json
import math
import random
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import solver
from ast_match import Malformed, exact_match, plain
from generator import Task
from player import Player
from rollout import SAMPLERS, UnusableModel

Z95 = 1.959964  # of the normal distribution

def load_tasks(path: str | Path) -> list[Task]:
    """Read a JSONL file of tasks.  Raises `Malformed` naming file and line."""
    tasks = []
    try:
        lines = Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: cannot be read ({error}). Name a JSONL file of tasks.") from None
    for n, line in enumerate(lines, 1):
        try:
            if line.strip():
                tasks.append(Task.from_json(plain(json.loads(line))))
        except (ValueError, RecursionError) as e:  # Malformed is a ValueError
            raise Malformed(f"{path}, line {n}: {e}. The head of eval.py shows the form.") from None
    if not tasks:
        raise Malformed(f"{path}: no task in it.")
    return tasks

def judge(player: Player, tasks: list[Task], max_new_tokens: int, temperature: float = 0.0,
          seed: int = 0) -> list[bool]:
    """Whether the player's one answer to each task is exactly right."""
    rollouts = player.ask(map(solver.prompt, tasks), 1, max_new_tokens, temperature, seed)
    answers = [solver.parse(player.text(r)).calls for r in rollouts]
    return [exact_match(calls, task.calls) for calls, task in zip(answers, tasks)]

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

def describe(right: list[bool]) -> str:
    """Accuracy with its interval, as text."""
    low, high = wilson(sum(right), len(right))
    share = f"{sum(right)} of {len(right)} = {100 * sum(right) / len(right):.1f} %"
    return f"{share}  [{100 * low:.1f}, {100 * high:.1f}]"

def main() -> None:
    """The command line; see the head of this file."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub name")
    parser.add_argument("--compare", help="a second model; the first minus this one is printed")
    parser.add_argument("--data", required=True, help="JSONL file of tasks")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), default="hand")
    a = parser.parse_args()
    try:
        tasks = load_tasks(a.data)
        names = [a.model, a.compare] if a.compare else [a.model]
        players = [Player(name, a.device, a.sampler) for name in names]
    except (Malformed, UnusableModel) as error:
        parser.error(str(error))
    verdicts = [judge(p, tasks, a.max_new_tokens, a.temperature, a.seed) for p in players]
    for name, right in zip(names, verdicts):
        print(f"{name}: {describe(right)}")
    if a.compare:
        mean, low, high = paired_difference(verdicts[1], verdicts[0])
        print(f"{a.model} minus {a.compare}: {100 * mean:+.1f} points, "
              f"95 % interval [{100 * low:+.1f}, {100 * high:+.1f}]")

if __name__ == "__main__":
    main()
