"""Exercise 9: the curriculum's order.

The paper (Sec. 3.3) trains the Solver on the curated tasks from easy to hard.  How hard a task is
was measured: p, the share of the Solver's K answers that were right (exercise 4).  A high p is
easy.

Why: a group teaches only if some of its answers are better than others.  The Solver starts with
tasks that it already gets right now and then, and has learned from them when the hard ones come.

Two tasks with the same p go by their id, so that the same tasks always make the same training,
whatever the order in which they arrive.

Worked example: b and a are equally easy, c is hard.

    >>> easy_to_hard({"c": 0.125, "b": 0.75, "a": 0.75})
    ['a', 'b', 'c']

Hint: `sorted` compares tuples by their first item, and by the second where the first are equal.

    python exercises/ex9_easy_to_hard.py
"""

import random

from check import check  # first: it lets Python find the project

import curate
from curate import Candidate
from generator import Spec


def easy_to_hard(p: dict[str, float]) -> list[str]:
    """The ids of tasks in the order of training; `p` maps an id to its share of right answers."""
    raise NotImplementedError


def wanted(p) -> list[str]:
    """The same by the project, which is given room for all tasks."""
    spec = Spec("weather", "single_turn", 2, 1)
    candidates = [Candidate(id, spec, None, p=share) for id, share in p.items()]
    return [c.id for c in curate.select(candidates, 10 * len(candidates))]


if __name__ == "__main__":
    rng = random.Random(0)
    check(
        easy_to_hard,
        wanted,
        [
            ({"c": 0.125, "b": 0.75, "a": 0.75},),
            ({"a": 0.125, "b": 1.0},),
            ({},),
            *(
                ({f"1-{i:05d}": rng.randint(1, 8) / 8 for i in rng.sample(range(100), n)},)
                for n in range(1, 25)
            ),
        ],
    )
