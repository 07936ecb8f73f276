"""Skill or style?  The Solvers of a run on tasks of another make than those it was trained on.

    python -m experiments.other_make runs/tiny

The first four sets use the held-out words of tiny's world: as they are, with menus of 8, with two
calls, and with distractors of which nine in ten differ from a gold tool's name by one word.  The
fifth puts an unfamiliar frame around the same phrases.  The last has other verbs, nouns, arguments,
values and phrases altogether.  Base model and last Solver answer the same tasks.

One task of the last set:
    "Could you archive the badge whose colour is amber?"  archive_badge(colour="amber")
"""

import random
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import eval
from ast_match import Call, Tool
from generator import DOMAINS, Spec, Task
from plumbing import report
from plumbing.intervals import aligned, describe, interval, paired_difference
from tiny.make import World

VERBS = "archive rename approve reject assign measure publish repair".split()
NOUNS = "badge crate robot poster ladder violin turbine beacon".split()
ARGUMENTS = {  # argument -> how it is said, its values
    "colour": ("whose colour is {}", "amber teal ivory crimson olive".split()),
    "floor": ("that stands on floor {}", range(401, 490)),
    "mood": ("in a {} mood", "calm grim merry sober".split()),
    "crew": ("with the {} crew", "night harbour alpine desert".split()),
    "speed": ("at {} knots", range(401, 490)),
    "tag": ("under the tag {}", ["K7", "zeta", "blue-2", "north"]),
}


def familiar(rng: random.Random, size: int = 3, calls: int = 1, twin: float = 0.0) -> Task:
    """A task in held-out words of tiny's world."""
    weights = {"arguments": [1, 1, 0, 0], "twin": twin, "optional": 0}  # one or two arguments
    world = World(rng, heldout=True, weights=weights)
    return world.task(Spec(rng.choice(DOMAINS), "single_turn", size, calls))


def framed(rng: random.Random) -> Task:
    """The same, with other words around it."""
    task = familiar(rng)
    asked = task.question.removeprefix("Please ").rstrip(".?")
    return replace(task, question=f"I need your help: {asked}, thanks!")


def foreign(rng: random.Random) -> Task:
    """A task in words that tiny's world has not."""
    names = rng.sample([(verb, noun) for verb in VERBS for noun in NOUNS], 3)
    menu = [rng.sample(sorted(ARGUMENTS), rng.choice([1, 2])) for _ in names]
    kind = lambda a: {"type": "integer" if isinstance(ARGUMENTS[a][1], range) else "string"}
    tools = [
        Tool(
            f"{verb}_{noun}",
            f"{verb.title()} a {noun}.",
            {a: kind(a) for a in arguments},
            tuple(arguments),
        )
        for (verb, noun), arguments in zip(names, menu)
    ]
    values = {a: rng.choice(ARGUMENTS[a][1]) for a in menu[0]}
    said = " ".join(ARGUMENTS[a][0].format(value) for a, value in values.items())
    question = f"Could you {names[0][0]} the {names[0][1]} {said}?"
    return Task("", question, rng.sample(tools, 3), [Call(tools[0].name, values)])


SETS = {
    "held-out words": familiar,
    "menus of 8": partial(familiar, size=8),
    "two calls": partial(familiar, size=4, calls=2),
    "names that differ by one word": partial(familiar, size=4, twin=1.0),
    "an unfamiliar frame": framed,
    "other words altogether": foreign,
}


def make(name: str, count: int = 120) -> list[Task]:
    """The tasks of one set, always the same."""
    rng = random.Random(name)
    return [replace(SETS[name](rng), id=f"{name}-{i}") for i in range(count)]


def table(folder: Path) -> str:
    """Exact match of the base model and of the last Solver, and their difference, by set."""
    cfg, last, players = report.players(folder)
    rows = [["120 tasks each, greedy", "base", report.name(last), "difference, points"]]
    for name in SETS:
        base, trained = (
            eval.grade(player, make(name), cfg["max_new_tokens"]) for player in players
        )
        mean, *ends = paired_difference(base, trained)
        rows.append(
            [name, describe(base), describe(trained), f"{100 * mean:+.1f} {interval(*ends, '+')}"]
        )
    return aligned(rows)


if __name__ == "__main__":
    report.main(sys.argv[1:], table, "other_make")
