"""From candidates to a curriculum: check, deduplicate, verify, select, order.  No model here.

    candidates -> readable -> sound -> new -> [K Solver answers] -> p_min <= p <= p_max
               -> mix of easy, medium and hard -> easy to hard

Paper: Sec. 3.3.  Our decisions, where it is silent or the released code differs from it:
  1. The structural check also asks whether the menu offers a choice (no two tools share description
     and arguments), whether the question quotes its own answer, and whether a guard refuses it
     (guards.py).
  2. A spec is graded: any task of 2 to 12 tools and 1 to 3 calls is usable, and `obedience`
     scales r_curr.  `--spec gate` drops every other size, `--spec free` ignores the size, as
     the release does.
  3. p is the share of answers that equal the whole gold answer; the released code compares tool
     names only.
  4. Difficulty is that same p, not a judge's verdict: easy p > .75, hard p < .25, otherwise medium.
  5. The mix .2 / .5 / .3 is a cap, shared equally among the domains as far as they have tasks:
     where medium and hard tasks are few, the set is smaller.  At most a fifth of it is easy, unless
     there are no others.
  6. Within a bucket and a domain, the tasks with more calls and arguments go first: a Generator
     writes few of them, and a Solver that sees too few forgets how to answer them.
  7. The Solver is trained on the selection in its order, from easy to hard.
  8. With --tools the menu is given, so it is not checked.  Each call must fit its schema.  Quotas
     are shared among tools instead of domains; a task counts for the tool of its first call.

Each step writes its reason into the candidates that it drops, so every candidate ends with exactly
one reason, or is selected (None).  A line of candidates.jsonl:

    {"id": "1-00017", "reason": "value not in the question", "p": null, "domain": "travel", ...}
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import generator
import guards
from ast_match import Call, exact_match
from config import Config
from generator import Draft, Spec, Task
from plumbing import toolset
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

    @property
    def share(self) -> str:
        """Return the key of its quota: the domain, or with --tools the first call's tool."""
        return self.task.calls[0].name if self.spec.menu else self.spec.domain

    def to_json(self) -> dict:
        """Return the candidate as one line of candidates.jsonl."""
        task = self.task.to_json() if self.task else {}
        return {"id": self.id, "reason": self.reason, "p": self.p, **task}


def candidate(id: str, spec: Spec, draft: Draft) -> Candidate:
    """Make a candidate from a draft; the first reason against the draft, if any, is kept."""
    reason = draft.reasons[0] if draft.reasons else None
    return Candidate(id, spec, draft.task(id, spec.domain), reason)


def structural_reason(task: Task, spec: Spec, cfg: Config) -> str | None:
    """Return the first flaw of a readable task, or None."""
    reason = _size_flaw(task, spec, cfg.spec) or _menu_flaw(task, spec)
    for call in task.calls:
        reason = reason or _call_flaw(call, task, spec)
    if reason is None and cfg.guards == "on":
        reason = guards.flaw(task, *generator.examples_of(spec))
    return reason


def _size_flaw(task: Task, spec: Spec, rule: str) -> str | None:
    if rule == "free":
        return None
    sizes = MENU_SIZES
    counts = CALL_COUNTS
    if rule == "gate":
        sizes = [spec.menu_size]
        counts = [spec.calls]
    if len(task.tools) not in sizes:
        return "menu size not allowed"
    if len(task.calls) not in counts:
        return "number of calls not allowed"
    if rule == "gate" and called_as_asked(task, spec) < 1:
        return "not the tool that was asked for"
    return None


def _menu_flaw(task: Task, spec: Spec) -> str | None:
    seen = set()
    for tool in task.tools:
        kind = (tool.description.lower(), *sorted(tool.parameters))
        if tool.description and kind in seen and not spec.menu:
            return "two tools that differ only in name"
        seen.add(kind)
    return None


def _call_flaw(call: Call, task: Task, spec: Spec) -> str | None:
    menu = {tool.name: tool for tool in task.tools}
    tool = menu.get(call.name)
    given = call.arguments.keys()
    if tool is None:
        return "tool not in the menu"
    for quote in ('"{}"', "'{}'", "{}("):
        if quote.format(call.name) in task.question:
            return "question quotes the call"
    if not given >= set(tool.required):
        return "required argument missing"
    if not given <= tool.parameters.keys():
        return "argument not in the schema"
    if spec.menu:
        misfit = toolset.call_misfit(call, tool)
    else:
        nested = any(isinstance(value, (list, dict)) for value in call.arguments.values())
        misfit = "argument is not flat" if nested else None
    values = toolset.leaves(call.arguments)
    if misfit is None and not all(grounded(value, task.question) for value in values):
        misfit = "value not in the question"
    return misfit


def obedience(task: Task, spec: Spec, cfg: Config) -> float:
    """Return min / max of requested and actual menu size, times the same for the number of calls.

    With --tools this is multiplied by the share of the requested tools that the answer calls.

    Always 1 with `--spec gate`, which drops every other size, and with `free`.
    """
    if cfg.spec != "graded":
        return 1.0
    sizes = (len(task.tools), spec.menu_size)
    counts = (len(task.calls), spec.calls)
    met = min(sizes) / max(sizes) * called_as_asked(task, spec)
    return met * min(counts) / max(counts)


def called_as_asked(task: Task, spec: Spec) -> float:
    """Return the share of the requested tools (--tools) that the answer calls."""
    if not spec.asked:
        return 1.0
    called = {call.name for call in task.calls}
    met = [tool.name in called for tool in spec.asked]
    return sum(met) / len(met)


def signature(task: Task, given: bool = False) -> str:
    """Return the key that duplicates share: question, names of tools, calls and arguments.

    Case, digits, quotes and the number of spaces do not count, and neither does a `given` menu.
    """
    menu = [] if given else sorted(tool.name for tool in task.tools)
    calls = sorted([call.name, *sorted(call.arguments)] for call in task.calls)
    text = json.dumps([task.question, menu, calls], ensure_ascii=False)
    text = re.sub(r"\d+", "0", text.lower())
    text = re.sub(r"[\s\"'`\\]+", " ", text)
    return text.strip()


def refuse_flawed(candidates: list[Candidate], cfg: Config) -> list[Candidate]:
    """Give a reason to every unusable candidate; return the usable ones."""
    for c in candidates:
        if c.reason is None:
            c.reason = structural_reason(c.task, c.spec, cfg)  # Sec. 3.3
    return [c for c in candidates if c.reason is None]


def check(candidates: list[Candidate], cfg: Config) -> list[Candidate]:
    """Give a reason to every unusable or repeated candidate; return the rest in order of id."""
    seen = set()
    usable = []
    for c in sorted(refuse_flawed(candidates, cfg), key=lambda c: c.id):
        key = signature(c.task, bool(cfg.tools))
        if key in seen:
            c.reason = "duplicate"  # Sec. 3.3
        else:
            seen.add(key)
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


def quotas(available: dict[str, int], size: int) -> dict[str, int]:
    """Return how many tasks of each bucket to keep, at most its share of `size`.

    The easy ones are also at most their share of what is kept, unless there are no others.

    >>> quotas({"easy": 90, "medium": 30, "hard": 6}, size=240)
    {'easy': 9, 'medium': 30, 'hard': 6}
    """
    quota = {name: min(available[name], int(share * size)) for name, share in MIX.items()}
    others = quota["medium"] + quota["hard"]
    if others:
        most = others / (1 / MIX["easy"] - 1)
        quota["easy"] = min(quota["easy"], int(most))
    return quota


def size_of(task: Task) -> int:
    """Return the number of calls and arguments of the gold answer."""
    return sum(1 + len(call.arguments) for call in task.calls)


def select(candidates: list[Candidate], size: int) -> list[Candidate]:
    """Return at most `size` candidates, by mix and by equal domain quotas, from easy to hard."""
    kept = []
    in_order = sorted(candidates, key=lambda c: (-size_of(c.task), c.id))
    quota = quotas(Counter(bucket(c.p) for c in candidates), size)
    for name in MIX:
        members = [c for c in in_order if bucket(c.p) == name]
        shares = Counter(c.share for c in members)  # the first get the remainder
        left = split_quota(quota[name], shares)
        for c in members:
            if left[c.share] > 0:
                left[c.share] -= 1
                kept.append(c)
            else:
                c.reason = "over quota"
    return sorted(kept, key=lambda c: (-c.p, c.id))  # Sec. 3.3: easy to hard


def funnel(candidates: list[Candidate]) -> dict[str, int]:
    """Count how many candidates ended with each reason, the most frequent first."""
    reasons = Counter(c.reason or "selected" for c in candidates)
    return dict(reasons.most_common())
