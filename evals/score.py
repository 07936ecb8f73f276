"""Scores: what an answer to a case is worth, and the tables of many.  Pure: no model, no file.

Paper: Sec. 4 (AST-based accuracy), Table 1, Fig. 8 (errors).  Our decisions:
  1. An answer is right as a whole or wrong, by the paper's rule; for benchmarks named bfcl*, by
     BFCL's.  Where nothing is to be called, each answer without calls is right, readable or not.
  2. name: share of the gold calls whose tool is called; argument: share of the arguments of those
     calls that are given; value: share of the given ones that are right.
  3. A wrong answer has one error: the first of ERRORS that is true of it.  It has a wrong tool if
     it lacks a gold call and has another instead, a wrong number of calls if only one of the two.
  4. The average over the paper's five benchmarks counts each alike.

A raw example of an answer, to the case at the head of eval.py; its error is "wrong value":
    [Call("book_table", {"guests": 2})]
"""

import math
from collections import Counter
from dataclasses import dataclass, replace

from ast_match import Call, exact_match
from evals.bfcl import bfcl_match
from generator import Task
from plumbing.intervals import aligned, interval, paired_difference, wilson

ERRORS = (
    "unparsable",
    "wrong tool",
    "wrong number of calls",
    "missing argument",
    "extra argument",
    "wrong value",
)

Calls = list[Call] | None  # of one answer; None: unreadable
FIVE = {
    "toolalpaca": "ToolAlpaca",
    "sealtools": "SealTool",
    "nexusraven": "NexusRaven",
    "apibank": "API-Bank",
    "snips": "SNIPS",
}  # the columns of Table 1
TABLE_1 = {
    "Qwen2.5-0.5B-Instruct": (20.17, 37.07, 4.71, 13.85, 1.57, 15.47),  # %, average last
    "0.5B after Tool-R0": (31.58, 63.95, 17.61, 28.00, 14.29, 30.57),
    "Qwen2.5-1.5B-Instruct": (35.96, 47.27, 17.61, 19.13, 4.29, 24.85),
    "1.5B after Tool-R0": (47.36, 83.00, 34.59, 50.62, 20.86, 47.84),
    "Qwen2.5-3B-Instruct": (45.61, 69.72, 44.33, 44.95, 14.28, 43.97),
}
REMARK = """Not all averages that the paper prints are the means of their rows. Its cases seem to be
those of --subset paper; its prompts, menus and scorer differ: compare changes, not levels.
"""


@dataclass(frozen=True)
class Case(Task):
    """A task of a benchmark, with the rule for its answers."""

    benchmark: str = ""
    rule: str = "exact"  # or "bfcl"
    accept: tuple[dict[str, list], ...] = ()  # for each gold call: argument -> accepted values

    def right(self, calls: Calls) -> bool:
        """Whether an answer is right."""
        if self.rule == "bfcl":
            return bfcl_match(calls or [], self.calls, self.accept, self.tools)
        return exact_match(calls or [], self.calls)  # Sec. 4

    def demanded(self, i: int) -> set[str]:
        """The arguments that gold call i cannot do without."""
        tool = next(tool for tool in self.tools if tool.name == self.calls[i].name)
        return {
            name
            for name, values in self.accept[i].items()
            if self.rule == "exact" or "" not in values or name in tool.required
        }

    def right_values(self, i: int, call: Call) -> set[str]:
        """The arguments of a call that are right for gold call i, each taken alone."""
        gold, tools = self.calls[i], [replace(tool, required=()) for tool in self.tools]
        return {
            name
            for name in self.accept[i].keys() & call.arguments.keys()
            if replace(
                self,
                tools=tools,
                accept=({name: self.accept[i][name]},),
                calls=[Call(gold.name, {name: gold.arguments.get(name)})],
            ).right([Call(gold.name, {name: call.arguments[name]})])
        }


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth: its error or None, and for each share how many of how many."""

    error: str | None
    shares: dict[str, tuple[int, int]]


def verdict(case: Case, calls: Calls) -> Verdict:  # Fig. 8
    """Judge an answer.  Gold calls and calls of the same tool are paired, the best fits first."""
    fits, paired = [], {}  # (faults, number of the gold call, number of the call); gold -> call
    for i, gold in enumerate(case.calls):
        for j, call in enumerate(calls or []):
            if call.name == gold.name:
                names = call.arguments.keys() | case.demanded(i)
                fits.append((len(names) - len(case.right_values(i, call)), i, j))
    for _, i, j in sorted(fits):
        if i not in paired and j not in paired.values():
            paired[i] = j
    pairs = [(i, calls[j]) for i, j in paired.items()]
    missing = [case.demanded(i) - call.arguments.keys() for i, call in pairs]
    extra = [call.arguments.keys() - case.accept[i].keys() for i, call in pairs]
    called, gold = Counter(c.name for c in calls or []), Counter(c.name for c in case.calls)
    found = (
        calls is None,
        called - gold and gold - called,
        called != gold,
        any(missing),
        any(extra),
        True,
    )
    error = None if case.right(calls) else next(e for e, true in zip(ERRORS, found) if true)
    demanded = sum(len(case.demanded(i)) for i, _ in pairs)
    given = sum(len(call.arguments.keys() & case.accept[i].keys()) for i, call in pairs)
    return Verdict(
        error,
        {
            "name": (len(pairs), len(case.calls)),
            "argument": (demanded - sum(map(len, missing)), demanded),
            "value": (sum(len(case.right_values(i, call)) for i, call in pairs), given),
            "unparsable": (calls is None, 1),
        },
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of McNemar's test: tasks that only one got right, as throws of a coin.

    >>> mcnemar(5, 1)
    0.21875
    """
    n = only_a + only_b
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n)


def by_benchmark(cases: list[Case]) -> dict[str, list[Case]]:
    """The cases of each benchmark."""
    names = dict.fromkeys(case.benchmark for case in cases)
    return {name: [case for case in cases if case.benchmark == name] for name in names}


def percent(part: int, whole: int) -> str:
    """A share as text; "-" of nothing."""
    return f"{100 * part / whole:.1f}" if whole else "-"


def tables(title: str, cases: list[Case], answers: dict[str, Calls]) -> str:
    """The tables of one model: accuracy, errors, and Table 1 if one of its benchmarks is here."""
    shares = ("name", "argument", "value", "unparsable")
    scores = [["", "cases", "accuracy", "95 % interval", *shares]]
    errors = [["% of the cases", *ERRORS]]
    accuracy = {}
    for name, group in by_benchmark([case for case in cases if case.id in answers]).items():
        verdicts = [verdict(case, answers[case.id]) for case in group]
        n, count = len(verdicts), Counter(v.error for v in verdicts)
        accuracy[name] = 100 * count[None] / n
        scores.append(
            [name, str(n), percent(count[None], n), interval(*wilson(count[None], n))]
            + [percent(*map(sum, zip(*(v.shares[s] for v in verdicts)))) for s in shares]
        )
        errors.append([name, *(percent(count[error], n) for error in ERRORS)])
    left_out = sum(case.id not in answers for case in cases)
    note = f"{left_out} cases without an answer are left out.\n" if left_out else ""
    return "\n".join([title, aligned(scores), aligned(errors), note + beside_the_paper(accuracy)])


def beside_the_paper(accuracy: dict[str, float]) -> str:  # Table 1
    """Our row of Table 1 above the paper's; nothing if none of its benchmarks is in `accuracy`."""
    if not accuracy.keys() & FIVE.keys():
        return ""
    row = [accuracy.get(name) for name in FIVE]
    rows = [["accuracy, %", *FIVE.values(), "average", "as printed"]]
    for name, (*five, printed) in {"this run": (*row, None), **TABLE_1}.items():
        average = None if None in five else sum(five) / 5  # the macro-average
        rows.append([name, *("-" if x is None else f"{x:.2f}" for x in (*five, average, printed))])
    return f"{aligned(rows)}\n{REMARK}"


def comparison(cases: list[Case], a: dict[str, Calls], b: dict[str, Calls]) -> str:
    """How much more of the cases `a` has right than `b`: for each benchmark and for all cases."""
    rows = [
        [
            "first minus second",
            "cases",
            "points",
            "95 % interval",
            "only first right",
            "only second right",
            "McNemar p",
        ]
    ]
    for name, group in {**by_benchmark(cases), "all cases": cases}.items():
        first, second = ([case.right(x[case.id]) for case in group] for x in (a, b))
        mean, *ends = paired_difference(second, first)
        only = [sum(x > y for x, y in zip(*pair)) for pair in ((first, second), (second, first))]
        rows.append(
            [
                name,
                str(len(group)),
                f"{100 * mean:+.1f}",
                interval(*ends, "+"),
                *map(str, only),
                f"{mcnemar(*only):.3g}",
            ]
        )
    return aligned(rows)
