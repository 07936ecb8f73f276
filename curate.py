"""From candidates to a curriculum: check, deduplicate, verify, select, order.  Pure: no model here.

Paper: Sec. 3.3 (deduplication, cross-verification by the Solver, difficulty buckets, easy to hard).

    candidates -> readable -> sound -> new -> [K Solver answers] -> p >= tau -> select -> order

Our decisions, where the paper is silent or the released code differs from it:
  1. The structural check also asks whether the task obeys its spec (menu size, number of calls).
  2. A task is verified if at least a share tau of the Solver's K answers is its whole gold answer;
     the released code compares tool names only.
  3. Difficulty is that same p, not a word of a judge: easy p > .75, hard p < .25, else medium.
  4. The mix is .2 / .5 / .3 with equal domain quotas, both capped by what there is.
  5. The order is kept: the Solver is trained on the selection from easy to hard.

Every candidate ends selected (no reason) or with exactly one reason.  A line of candidates.jsonl:

    {"id": "1-00017", "reason": "value not in the question", "p": null, "domain": "travel", ...}
"""
from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Iterable

from ast_match import Call, exact_match
from generator import Draft, Spec, Task
from rewards import BAND_HIGH, BAND_LOW, grounded, is_placeholder

MIX = {"easy": 0.2, "medium": 0.5, "hard": 0.3}  # the released code's; the paper gives none

@dataclass
class Candidate:
    """A task on its way through the funnel."""
    id: str
    spec: Spec
    task: Task | None
    reason: str | None = None  # why it was dropped
    p: float | None = None  # share of the Solver's K answers that equal the gold answer

    def to_json(self) -> dict:
        """The candidate as one line of candidates.jsonl."""
        task = self.task.to_json() if self.task else {}
        return {"id": self.id, "reason": self.reason, "p": self.p, **task}

def candidate(id: str, spec: Spec, draft: Draft) -> Candidate:
    """A candidate from what could be read; what could not is its reason."""
    reason = draft.reasons[0] if draft.reasons else None
    return Candidate(id, spec, draft.task(id, spec.domain), reason)

def structural_reason(task: Task, spec: Spec) -> str | None:
    """Why a readable task cannot be used, or None."""
    menu = {tool.name: tool for tool in task.tools}
    if is_placeholder(task.question):
        return "question is a placeholder"
    if len(task.tools) != spec.menu_size:
        return "menu size is not the spec's"
    if len(task.calls) != spec.calls:
        return "number of calls is not the spec's"
    if len(menu) < len(task.tools):
        return "two tools with one name"
    for call in task.calls:
        if call.name not in menu:
            return "tool not in the menu"
        if not all(name in call.arguments for name in menu[call.name].required):
            return "required argument missing"
        if not all(name in menu[call.name].parameters for name in call.arguments):
            return "argument not in the schema"
        if any(isinstance(value, (list, dict)) for value in call.arguments.values()):
            return "argument is not flat"
        if not all(grounded(value, task.question) for value in call.arguments.values()):
            return "value not in the question"
    return None

def signature(task: Task) -> str:
    """What near-duplicates share: question, menu, calls but for case, blanks, digits, quotes."""
    text = json.dumps([task.question, sorted(tool.name for tool in task.tools),
                       sorted([call.name, *sorted(call.arguments)] for call in task.calls)])
    return re.sub(r"[\s\"'`\\]+", " ", re.sub(r"\d+", "0", text.lower())).strip()

def check(candidates: list[Candidate]) -> list[Candidate]:
    """Give a reason to every unusable or repeated candidate; returns the others, by id."""
    seen, left = set(), []
    for c in sorted((c for c in candidates if c.reason is None), key=lambda c: c.id):
        c.reason = structural_reason(c.task, c.spec)
        if c.reason is None:
            key = signature(c.task)
            c.reason = "duplicate" if key in seen else None
            seen.add(key)
        if c.reason is None:
            left.append(c)
    return left

def pass_rate(answers: Iterable[list[Call]], gold: list[Call]) -> float:
    """p: the share of answers that equal the whole gold answer."""
    verdicts = [exact_match(calls, gold) for calls in answers]
    return sum(verdicts) / len(verdicts)

def verify(candidates: list[Candidate], tau: float) -> list[Candidate]:
    """Drop those that the Solver's answers do not confirm often enough; needs `p`."""
    for c in candidates:
        if c.p < tau:
            c.reason = "not confirmed by the Solver"
    return [c for c in candidates if c.reason is None]

def bucket(p: float) -> str:
    """easy, medium or hard, by the edges of the difficulty reward.

    >>> bucket(0.125), bucket(0.25), bucket(0.75), bucket(0.875)
    ('hard', 'medium', 'medium', 'easy')
    """
    return "easy" if p > BAND_HIGH else "medium" if p >= BAND_LOW else "hard"

def fill(total: int, available: dict[str, int], weights: dict[str, float]) -> dict[str, int]:
    """Share `total` out by weight, nobody more than is available; what is left goes to the others.

    >>> fill(10, {"easy": 9, "medium": 2, "hard": 9}, MIX)
    {'easy': 3, 'medium': 2, 'hard': 5}
    """
    quota = dict.fromkeys(available, 0)
    for _ in range(min(total, sum(available.values()))):
        open_ = (name for name in quota if quota[name] < available[name])
        quota[min(open_, key=lambda name: (quota[name] + 1) / weights[name])] += 1
    return quota

def select(candidates: list[Candidate], size: int) -> list[Candidate]:
    """At most `size` candidates, by mix and by equal domain quotas, in order from easy to hard."""
    selected = []
    available = {name: sum(bucket(c.p) == name for c in candidates) for name in MIX}
    for name, quota in fill(size, available, MIX).items():
        members = sorted((c for c in candidates if bucket(c.p) == name), key=lambda c: c.id)
        domains = Counter(c.spec.domain for c in members)
        left = fill(quota, dict(sorted(domains.items())), dict.fromkeys(domains, 1.0))
        for c in members:
            if left[c.spec.domain]:
                left[c.spec.domain] -= 1
                selected.append(c)
            else:
                c.reason = "over quota"
    return sorted(selected, key=lambda c: (-c.p, c.id))  # easy to hard

def funnel(candidates: list[Candidate]) -> dict[str, int]:
    """How many candidates ended with each reason, the most frequent first."""
    return dict(Counter(c.reason or "selected" for c in candidates).most_common())
