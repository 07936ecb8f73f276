"""From candidates to a curriculum: check, deduplicate, verify, select, order.  No model here.

    candidates -> readable -> sound -> new -> [K Solver answers] -> p_min <= p <= p_max
               -> mix of easy, medium and hard -> easy to hard

Paper: Sec. 3.3.  Our decisions, where it is silent or the released code differs from it:
  1. The structural check also asks whether the task is a choice (no two tools share description
     and arguments), whether the question quotes its own answer, and whether a guard refuses it
     (guards.py).
  2. A spec is graded: any menu of 2 to 12 tools and 1 to 3 calls is usable, and `obedience`
     scales the reward.  `--spec gate` drops every other size, `--spec free` ignores the size, as
     the release does.
  3. p counts answers that equal the whole gold answer; the released code compares tool names.
  4. Difficulty is that same p, not a word of a judge: easy p > .75, hard p < .25, else medium.
  5. The mix .2 / .5 / .3 is a cap, shared equally among the domains as far as they have tasks:
     where medium and hard tasks are few, the set is smaller, not filled up with easy ones.
  6. The Solver is trained on the selection in its order, from easy to hard.

Each step writes its reason into the candidates that it drops, so every candidate ends with exactly
one reason, or is selected (None).  A line of candidates.jsonl:

    {"id": "1-00017", "reason": "value not in the question", "p": null, "domain": "travel", ...}
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import generator
import guards
from ast_match import Call, exact_match
from config import Config
from generator import Draft, Spec, Task
from rewards import BAND_HIGH, BAND_LOW
from text_match import grounded

MIX = {"easy": 0.2, "medium": 0.5, "hard": 0.3}  # not given: the released code's
MENU_SIZES = range(2, 13)  # usable with --spec graded
CALL_COUNTS = range(1, 4)


@dataclass
class Candidate:
    """A task on its way through the funnel."""

    id: str
    spec: Spec
    task: Task | None
    reason: str | None = None  # why it was dropped
    p: float | None = None  # share of the Solver's K answers that equal the gold answer
    sem: float = 0.0  # r_sem, in the Generator's training

    def to_json(self) -> dict:
        """Return the candidate as one line of candidates.jsonl."""
        task = self.task.to_json() if self.task else {}
        return {"id": self.id, "reason": self.reason, "p": self.p, **task}


def candidate(id: str, spec: Spec, draft: Draft) -> Candidate:
    """Make a candidate of what could be read; the first thing that could not is its reason."""
    reason = draft.reasons[0] if draft.reasons else None
    return Candidate(id, spec, draft.task(id, spec.domain), reason)


def structural_reason(task: Task, spec: Spec, cfg: Config) -> str | None:
    """Return the first flaw of a readable task, or None; later checks rely on earlier ones."""
    for failed, reason in _checks(task, spec, cfg.spec):
        if failed:
            return reason
    if cfg.guards == "on":
        return guards.flaw(task, generator.example_of(spec))
    return None


def _checks(task: Task, spec: Spec, rule: str) -> Iterator[tuple[bool, str]]:
    menu = {tool.name: tool for tool in task.tools}
    sizes = {"gate": [spec.menu_size], "graded": MENU_SIZES}
    counts = {"gate": [spec.calls], "graded": CALL_COUNTS}
    if rule != "free":
        yield len(task.tools) not in sizes[rule], "menu size is not the spec's"
        yield len(task.calls) not in counts[rule], "number of calls is not the spec's"
    yield len(menu) < len(task.tools), "two tools with one name"
    kinds = [(t.description.lower(), *sorted(t.parameters)) for t in task.tools if t.description]
    yield len(set(kinds)) < len(kinds), "two tools that differ in the name alone"
    for call in task.calls:
        yield call.name not in menu, "tool not in the menu"
        quoted = (f'"{call.name}"', f"'{call.name}'", f"{call.name}(")
        yield any(text in task.question for text in quoted), "question quotes the call"
        tool = menu[call.name]
        given = call.arguments.keys()
        values = call.arguments.values()
        yield not given >= set(tool.required), "required argument missing"
        yield not given <= tool.parameters.keys(), "argument not in the schema"
        yield any(isinstance(value, (list, dict)) for value in values), "argument is not flat"
        yield not all(grounded(v, task.question) for v in values), "value not in the question"


def obedience(task: Task, spec: Spec, cfg: Config) -> float:
    """Return min / max of asked and given menu size, times the same for the number of calls.

    Always 1 with `--spec gate`, which drops every other size, and with `free`.
    """
    if cfg.spec != "graded":
        return 1.0
    sizes = sorted([len(task.tools), spec.menu_size])
    counts = sorted([len(task.calls), spec.calls])
    return sizes[0] / sizes[1] * counts[0] / counts[1]


def leaves_optional_out(task: Task) -> bool:
    """Whether a call leaves out an optional argument of its tool."""
    menu = {tool.name: tool for tool in task.tools}
    called = [(call, menu[call.name]) for call in task.calls if call.name in menu]
    return any(tool.parameters.keys() - call.arguments.keys() for call, tool in called)


def signature(task: Task) -> str:
    """Return what repeats share: question, menu and calls, without case, blanks and digits."""
    menu = sorted(tool.name for tool in task.tools)
    calls = sorted([call.name, *sorted(call.arguments)] for call in task.calls)
    text = json.dumps([task.question, menu, calls], ensure_ascii=False)
    return re.sub(r"[\s\"'`\\]+", " ", re.sub(r"\d+", "0", text.lower())).strip()


def refuse_flawed(candidates: list[Candidate], cfg: Config) -> list[Candidate]:
    """Give a reason to every unusable candidate; return the others."""
    for c in candidates:
        if c.reason is None:
            c.reason = structural_reason(c.task, c.spec, cfg)  # Sec. 3.3
    return [c for c in candidates if c.reason is None]


def check(candidates: list[Candidate], cfg: Config) -> list[Candidate]:
    """Give a reason to every unusable or repeated candidate; return the others, by id."""
    seen = set()
    usable = []
    for c in sorted(refuse_flawed(candidates, cfg), key=lambda c: c.id):
        if signature(c.task) in seen:
            c.reason = "duplicate"  # Sec. 3.3
        else:
            seen.add(signature(c.task))
            usable.append(c)
    return usable


def pass_rate(answers: Iterable[list[Call]], gold: list[Call]) -> float:
    """Return p, the paper's pass@K: the share of K answers that equal the gold answer."""
    verdicts = [exact_match(calls, gold) for calls in answers]
    return sum(verdicts) / len(verdicts)  # Sec. 3.2.1: pass@K


def verify(candidates: list[Candidate], p_min: float, p_max: float = 1.0) -> list[Candidate]:
    """Drop the candidates whose pass rate is out of bounds; needs `p`."""
    kept = []
    for c in candidates:
        if c.p < p_min:
            c.reason = "not confirmed by the Solver"  # Sec. 3.3
        elif c.p > p_max:
            c.reason = "too easy"
        else:
            kept.append(c)
    return kept


def bucket(p: float) -> str:  # Sec. 3.3
    """Return easy, medium or hard, by the edges of the difficulty reward; both edges are medium."""
    if p > BAND_HIGH:
        return "easy"
    return "medium" if p >= BAND_LOW else "hard"


def split_quota(total: int, available: dict[str, int]) -> dict[str, int]:
    """Share `total` equally, a remainder to the first; nobody gets more than is available.

    >>> split_quota(10, {"math": 9, "news": 2, "travel": 9})
    {'math': 4, 'news': 2, 'travel': 4}
    """
    quota = dict.fromkeys(available, 0)
    for _ in range(min(total, sum(available.values()))):
        open_names = [name for name in quota if quota[name] < available[name]]
        neediest = min(open_names, key=quota.get)
        quota[neediest] += 1
    return quota


def select(candidates: list[Candidate], size: int) -> list[Candidate]:
    """Return at most `size` candidates, by mix and by equal domain quotas, from easy to hard."""
    kept = []
    for name, share in MIX.items():
        members = sorted((c for c in candidates if bucket(c.p) == name), key=lambda c: c.id)
        domains = Counter(c.spec.domain for c in members)  # the first by id get the remainder
        left = split_quota(int(share * size + 1e-9), domains)
        for c in members:
            if left[c.spec.domain] > 0:
                left[c.spec.domain] -= 1
                kept.append(c)
            else:
                c.reason = "over quota"
    return sorted(kept, key=lambda c: (-c.p, c.id))  # Sec. 3.3: easy to hard


def funnel(candidates: list[Candidate]) -> dict[str, int]:
    """Count how many candidates ended with each reason, the most frequent first."""
    return dict(Counter(c.reason or "selected" for c in candidates).most_common())
