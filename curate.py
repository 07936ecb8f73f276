"""From candidates to a curriculum: check, deduplicate, verify, select, order; no model here.

    candidates -> readable -> sound -> new -> [K Solver answers] -> p >= tau -> select -> order

Paper: Sec. 3.3.  Our decisions, where it is silent or the released code differs from it:
  1. The structural check also asks whether the task obeys its spec (menu size, number of calls),
     is a choice (no two tools have one description, if any, and the same arguments) and does not
     quote its own answer.
  2. p counts answers that equal the whole gold answer; the released code compares tool names.
  3. Difficulty is that same p, not a word of a judge: easy p > .75, hard p < .25, else medium.
  4. The mix .2 / .5 / .3 is a cap, shared equally among the domains as far as they have tasks:
     where medium and hard tasks are few, the set is smaller, not filled up with easy ones.
  5. The Solver is trained on the selection in its order, from easy to hard.

Each step writes its reason into the candidates that it drops, so that every one ends with exactly
one, or selected (None).  A line of candidates.jsonl:
    {"id": "1-00017", "reason": "value not in the question", "p": null, "domain": "travel", ...}
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ast_match import Call, exact_match
from generator import Draft, Spec, Task
from rewards import BAND_HIGH, BAND_LOW, grounded, is_placeholder

MIX = {"easy": 0.2, "medium": 0.5, "hard": 0.3}  # not given: the released code's


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
    return Candidate(id, spec, draft.task(id, spec.domain), next(iter(draft.reasons), None))


def structural_reason(task: Task, spec: Spec) -> str | None:
    """The first flaw of a readable task, or None; later checks rely on the earlier ones."""
    return next((reason for failed, reason in _checks(task, spec) if failed), None)


def _checks(task: Task, spec: Spec) -> Iterator[tuple[bool, str]]:
    menu = {tool.name: tool for tool in task.tools}
    yield is_placeholder(task.question), "question is a placeholder"
    yield len(task.tools) != spec.menu_size, "menu size is not the spec's"
    yield len(task.calls) != spec.calls, "number of calls is not the spec's"
    yield len(menu) < len(task.tools), "two tools with one name"
    kinds = [(t.description.lower(), *sorted(t.parameters)) for t in task.tools if t.description]
    yield len(set(kinds)) < len(kinds), "two tools that differ in the name alone"
    for call in task.calls:
        yield call.name not in menu, "tool not in the menu"
        quoted = (f'"{call.name}"', f"'{call.name}'", f"{call.name}(")
        yield any(text in task.question for text in quoted), "question quotes the call"
        tool, given, values = menu[call.name], call.arguments.keys(), call.arguments.values()
        yield not given >= set(tool.required), "required argument missing"
        yield not given <= tool.parameters.keys(), "argument not in the schema"
        yield any(isinstance(value, (list, dict)) for value in values), "argument is not flat"
        yield not all(grounded(v, task.question) for v in values), "value not in the question"


def signature(task: Task) -> str:
    """What near-duplicates share: question, menu, calls but for case, blanks, digits, quotes."""
    return _fold(
        json.dumps(
            [
                task.question,
                sorted(tool.name for tool in task.tools),
                sorted([call.name, *sorted(call.arguments)] for call in task.calls),
            ],
            ensure_ascii=False,
        )
    )


def _fold(text: str) -> str:
    return re.sub(r"[\s\"'`\\]+", " ", re.sub(r"\d+", "0", text.lower())).strip()


def copies(tasks: list[Task | None]) -> list[int]:
    """For each task of a batch, how many ask its question, whatever values and tool names."""
    forms = [task and task.question for task in tasks]
    for i, task in enumerate(tasks):
        values = [str(v) for call in task.calls for v in call.arguments.values()] if task else []
        for value in sorted(filter(None, values), key=len, reverse=True):
            forms[i] = forms[i].replace(value, "0")
    forms = [form and _fold(form) for form in forms]
    return [forms.count(form) if form else 1 for form in forms]


def check(candidates: list[Candidate]) -> list[Candidate]:
    """Give a reason to every unusable or repeated candidate; returns the others, by id."""
    first: dict[str, Candidate] = {}  # signature -> the first sound candidate that has it
    for c in sorted((c for c in candidates if c.reason is None), key=lambda c: c.id):
        c.reason = structural_reason(c.task, c.spec)  # Sec. 3.3
        if c.reason is None and first.setdefault(signature(c.task), c) is not c:
            c.reason = "duplicate"  # Sec. 3.3
    return list(first.values())


def pass_rate(answers: Iterable[list[Call]], gold: list[Call]) -> float:
    """p, the paper's pass@K: the share of K answers that equal the gold one (not: one of K)."""
    verdicts = [exact_match(calls, gold) for calls in answers]
    return sum(verdicts) / len(verdicts)  # Sec. 3.2.1: pass@K


def verify(candidates: list[Candidate], tau: float) -> list[Candidate]:
    """Drop those that the Solver's answers do not confirm often enough; needs `p`."""
    for c in candidates:
        if c.p < tau:
            c.reason = "not confirmed by the Solver"  # Sec. 3.3
    return [c for c in candidates if c.reason is None]


def bucket(p: float) -> str:  # Sec. 3.3
    """easy, medium or hard, by the edges of the difficulty reward; both edges are medium."""
    return "easy" if p > BAND_HIGH else "medium" if p >= BAND_LOW else "hard"


def split_quota(total: int, available: dict[str, int]) -> dict[str, int]:
    """Share `total` out equally, a remainder to the first; nobody gets more than is available.

    >>> split_quota(10, {"math": 9, "news": 2, "travel": 9})
    {'math': 4, 'news': 2, 'travel': 4}
    """
    quota = dict.fromkeys(available, 0)
    for _ in range(min(total, sum(available.values()))):
        quota[min((n for n in quota if quota[n] < available[n]), key=quota.get)] += 1
    return quota


def select(candidates: list[Candidate], size: int) -> list[Candidate]:
    """At most `size` candidates, by mix and by equal domain quotas, in order from easy to hard."""
    for name, share in MIX.items():
        members = sorted((c for c in candidates if bucket(c.p) == name), key=lambda c: c.id)
        domains = Counter(c.spec.domain for c in members)  # the first by id get the remainder
        left = split_quota(int(share * size + 1e-9), domains)
        for c in members:
            left[c.spec.domain] -= 1
            if left[c.spec.domain] < 0:
                c.reason = "over quota"
    kept = [c for c in candidates if c.reason is None]
    return sorted(kept, key=lambda c: (-c.p, c.id))  # Sec. 3.3: easy to hard


def funnel(candidates: list[Candidate]) -> dict[str, int]:
    """How many candidates ended with each reason, the most frequent first."""
    return dict(Counter(c.reason or "selected" for c in candidates).most_common())


if __name__ == "__main__":
    from scripts.demos import demo

    demo("curate") or print(__doc__)
