"""The rewards of both players: pure functions; every component is kept and logged.

Paper: Sec. 3.2.1 for the Generator, Sec. 3.4 for the Solver:

    R_G = r_fmt + r_valid + r_curr,   r_curr = (r_diff + r_sem) / 2,   each part in [0, 1]
    R_S = r_fmt + r_acc

Our decisions, where the paper is silent or the released code differs from it:
  1. All gold calls are checked; the released code checks the first only.
  2. r_curr is the mean of its two parts, which fits the paper's Fig. 7.
  3. The judge is the frozen Solver.  Its score is the expectation over the digits 1 to 5 of one
     forward pass: no sampling.
  4. r_curr is multiplied by how well the task meets its spec (`curate.obedience`).
  5. A task that fails the structural check is never shown to the Solver: its r_curr is 0.
  6. Guards (guards.py) scale r_valid, and n near-duplicates of a batch share all but r_fmt.

With these, what runs is

    R_G = r_fmt + (guards * r_valid + obedience * r_curr) / n     0 for a placeholder question

One raw example: a task that the Solver gets right in k of 8 tries earns r_diff

    >>> [round(r_diff(k / 8, 8), 4) for k in (0, 1, 2, 6, 7, 8)]
    [0.0, 0.5813, 1.0, 1.0, 0.5813, 0.1142]
"""

import math
from dataclasses import dataclass, fields

import torch

from ast_match import Call
from generator import Draft
from plumbing import toolset
from solver import Answer
from text_match import grounded, same_value

W_TOOL, W_ARGUMENTS, W_VALUES = 0.4, 0.4, 0.2  # Eq. (2): the Generator's r_valid
BAND_LOW, BAND_HIGH, SIGMA = 0.25, 0.75, 0.12  # Sec. 3.2.1: the Generator's r_diff
W_TAG, W_PARSED, W_CALL = 0.3, 0.3, 0.4  # Sec. 3.4: the Solver's r_fmt
W_NAME, W_KEYS, W_MATCH = 0.2, 0.3, 0.5  # Sec. 3.4: the Solver's r_acc of a pair of calls
EXTRA_CALL = 0.25  # Sec. 3.4: r_acc is divided by 1 + this * the number of surplus calls
FACTORS = ("obedience", "near_duplicates")  # of R_G, not parts of it: phases.py logs them


@dataclass(frozen=True)
class GeneratorReward:
    """The parts of R_G, each in [0, 1], and what `total` scales them by."""

    fmt: float
    valid: float
    diff: float = 0.0
    sem: float = 0.0
    obedience: float = 1.0  # how well the task meets its spec
    near_duplicates: int = 1  # tasks of the batch with nearly this question; they share all but fmt

    @property
    def total(self) -> float:
        """Return R_G."""
        curr = self.obedience * (self.diff + self.sem) / 2
        return self.fmt + (self.valid + curr) / self.near_duplicates  # Sec. 3.2.1


def generator_reward(
    draft: Draft,
    diff: float = 0.0,
    sem: float = 0.0,
    obedience: float = 1.0,
    near_duplicates: int = 1,
    valid_factor: float = 1.0,
) -> GeneratorReward:
    """Return R_G of a completion; 0 if the question is a placeholder or text from the prompt.

    `valid_factor` scales r_valid (guards.valid_factor).
    """
    if draft.placeholder:  # as in the released code
        return GeneratorReward(0.0, 0.0)
    valid = valid_factor * r_valid(draft)
    return GeneratorReward(r_fmt(draft), valid, diff, sem, obedience, near_duplicates)


def r_fmt(draft: Draft) -> float:  # Sec. 3.2.1
    """Return a third each for: all four blocks, a menu that parses, an answer that parses.

    Without all four blocks neither menu nor answer is read.  A given menu (--tools) needs no block.
    """
    blocks = all(draft.blocks.values())
    menu = draft.tools is not None
    answer = draft.calls is not None
    return (blocks + menu + answer) / 3


def r_valid(draft: Draft) -> float:
    """Return the mean score of the gold calls, Eq. (2).

    A call scores .4 [tool in the menu] + .4 [all required arguments] + .2 [all values in the
    question].  With a given menu (--tools) the second part is earned if the call fits its schema.
    """
    menu = {tool.name: tool for tool in draft.tools or []}
    scores = []
    for call in draft.calls or []:
        known = call.name in menu
        required = menu[call.name].required if known else ()
        complete = known and all(name in call.arguments for name in required)
        values = call.arguments.values()
        if known and draft.given:
            complete = toolset.call_misfit(call, menu[call.name]) is None
            values = toolset.leaves(call.arguments)
        found = all(grounded(value, draft.question) for value in values)
        scores.append(W_TOOL * known + W_ARGUMENTS * complete + W_VALUES * found)  # Eq. (2)
    return sum(scores) / max(1, len(scores))


def r_diff(p: float, K: int, form: str = "band") -> float:  # Sec. 3.2.1
    """Return the band-pass of the pass rate p of K answers: 1 inside, Gaussian edges, 0 at p = 0.

    The band is from .25 to .75.  Table 3 compares it with `form` "cliff", which is 0 outside the
    band, and "none", which is always 0.
    """
    edge = min(max(p, BAND_LOW), BAND_HIGH)  # the point of the band nearest to p
    if form == "none" or p < 1 / K:
        return 0.0
    if form == "cliff":
        return float(p == edge)
    distance = abs(p - edge)
    return math.exp(-(distance**2) / (2 * SIGMA**2))


def r_sem(logits: torch.Tensor) -> list[float]:
    """Return the judge's expected score in [0, 1] from logits of the digits 1 to 5, (N, 5)."""
    digits = torch.arange(1, 6, device=logits.device)
    score = (logits.softmax(-1) * digits).sum(-1)  # (N,)
    return ((score - 1) / 4).tolist()  # Sec. 3.2.1


@dataclass(frozen=True)
class SolverReward:
    """The parts of R_S, each in [0, 1]."""

    fmt: float
    acc: float

    @property
    def total(self) -> float:
        """Return R_S."""
        return self.fmt + self.acc  # Sec. 3.4


def solver_reward(
    answer: Answer, gold: list[Call], leaks: list[bool] | None = None
) -> SolverReward:
    """Return R_S of an answer.  Without a <think> block r_acc is 0, as in the released code.

    `leaks` marks the calls that earn no r_acc: they have a value of the prompt's own example that
    is not in the question (guards.leaks).
    """
    has_call = len(answer.calls) > 0
    fmt = W_TAG * answer.tag + W_PARSED * answer.parsed + W_CALL * has_call  # Sec. 3.4
    acc = r_acc(answer.calls, gold, leaks) if answer.think else 0.0
    return SolverReward(fmt, acc)


def r_acc(predicted: list[Call], gold: list[Call], leaks: list[bool] | None = None) -> float:
    """Match each gold call with its best unused prediction; return the mean of the pair scores.

    The result is divided by 1 + EXTRA_CALL * the number of surplus calls.
    """
    if not gold:
        return 0.0
    leaks = leaks or [False] * len(predicted)
    unused = [i for i, leak in enumerate(leaks) if not leak]
    total = 0.0
    for wanted in gold:  # Sec. 3.4: each takes the best that is left
        scores = {i: pair_score(predicted[i], wanted) for i in unused}
        best = max(scores, key=scores.get, default=None)
        if best is not None and scores[best] > 0:
            total += scores[best]
            unused.remove(best)
    surplus = max(0, len(predicted) - len(gold))
    return total / len(gold) / (1 + EXTRA_CALL * surplus)  # Sec. 3.4


def pair_score(predicted: Call, gold: Call) -> float:  # Sec. 3.4
    """Return .2 name + .3 F1 of argument names + .5 share of equal values among common names."""
    common = predicted.arguments.keys() & gold.arguments.keys()
    total = len(predicted.arguments) + len(gold.arguments)
    if total == 0:
        keys = 1.0
        values = 1.0
    else:
        keys = 2 * len(common) / total
        equal = sum(same_value(predicted.arguments[k], gold.arguments[k]) for k in common)
        values = equal / max(1, len(common))
    name = predicted.name == gold.name
    return W_NAME * name + W_KEYS * keys + W_MATCH * values


def means(parts: list) -> dict[str, float]:
    """Return the mean of each component over the rewards of a batch."""
    result = {}
    for field in fields(parts[0]):
        if field.name not in FACTORS:
            values = [getattr(part, field.name) for part in parts]
            result[field.name] = sum(values) / len(values)
    return result
