"""Scores: what an answer to a case is worth.  Pure: no model, no file.

Paper: Sec. 4 (AST-based accuracy), Fig. 8 (errors).  Our decisions:
  1. An answer is right as a whole or wrong: by the paper's rule, or by BFCL's for its cases.  Where
     nothing is to be called, every answer without calls is right, readable or not.
  2. `name` is the share of the gold calls whose tool is called, `argument` the share of those
     calls' arguments that are given, `value` the share of the given ones that are right.
  3. A wrong answer has one error, the first of ERRORS that applies.  The tool is wrong if a gold
     call is missing and another call stands in its place; if calls are only missing or only
     surplus, the number is wrong.

An answer to the case at the head of eval.py, whose error is "wrong value":
    [Call("book_table", {"guests": 2})]
"""

from collections import Counter
from dataclasses import dataclass

from ast_match import Call
from evals.cases import Calls, Case

ERRORS = (
    "unparsable",
    "wrong tool",
    "wrong number of calls",
    "missing argument",
    "extra argument",
    "wrong value",
)


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth: its error, or None, and each share as (part, whole)."""

    error: str | None
    shares: dict[str, tuple[int, int]]


def verdict(case: Case, calls: Calls) -> Verdict:
    """Return the verdict on an answer."""
    pairs = pair_calls(case, calls or [])
    demanded = 0
    missing = 0
    given = 0
    right = 0
    for i, call in pairs.items():
        demanded += len(case.demanded(i))
        missing += len(case.demanded(i) - call.arguments.keys())
        given += len(case.known(i) & call.arguments.keys())
        right += len(case.right_values(i, call))
    shares = {
        "name": (len(pairs), len(case.calls)),
        "argument": (demanded - missing, demanded),
        "value": (right, given),
        "unparsable": (int(calls is None), 1),
    }
    return Verdict(first_error(case, calls, pairs), shares)


def pair_calls(case: Case, calls: list[Call]) -> dict[int, Call]:
    """Return gold call number -> a call of the same tool; the best-fitting pairs are made first."""
    fits = []
    for i, gold in enumerate(case.calls):
        for j, call in enumerate(calls):
            if call.name == gold.name:
                names = case.demanded(i) | call.arguments.keys()
                faults = len(names) - len(case.right_values(i, call))
                fits.append((faults, i, j))
    pairs = {}
    used = set()
    for _, i, j in sorted(fits):
        if i not in pairs and j not in used:
            pairs[i] = calls[j]
            used.add(j)
    return pairs


def first_error(case: Case, calls: Calls, pairs: dict[int, Call]) -> str | None:  # Fig. 8
    """Return the first of ERRORS that applies to an answer, or None if it is right."""
    if case.is_right(calls):
        return None
    if calls is None:
        return "unparsable"
    called = Counter(call.name for call in calls)
    gold = Counter(call.name for call in case.calls)
    if called - gold and gold - called:
        return "wrong tool"
    if called != gold:
        return "wrong number of calls"
    if any(case.demanded(i) - call.arguments.keys() for i, call in pairs.items()):
        return "missing argument"
    if any(call.arguments.keys() - case.known(i) for i, call in pairs.items()):
        return "extra argument"
    return "wrong value"
