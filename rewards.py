"""The rewards of both players.  Pure functions; each returns its named parts.

Paper: Sec. 3.1, Eq. (1) to (4) for the Generator, Sec. 3.2 for the Solver.

    R_G = r_fmt + r_valid + r_curr,   r_curr = (r_diff + r_sem) / 2,   each part in [0, 1]
    R_S = r_fmt + r_acc

Our decisions, where the paper is silent or the released code differs from it:
  1. All gold calls are checked; the released code checks the first only.
  2. r_curr is the mean of its two parts, which fits the paper's Fig. 7.
  3. The score in r_sem is the expectation over the digits 1 to 5 of one forward pass: nothing sampled, no fallback.
  4. A task that fails a check in curate.py is not shown to the Solver: its r_curr is 0.
  5. Values are searched as words: 5 does not stand in "5.5", "art" not in "party".

One raw example: p = 1/8 of the Solver's answers right lies .125 under the band [.25, .75], so

    >>> round(r_diff(1 / 8, 8), 4), r_diff(0.5, 8), round(r_diff(1.0, 8), 4), r_diff(0.0, 8)
    (0.5813, 1.0, 0.1142, 0.0)
"""
from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import torch

from ast_match import Call, canonical
from generator import Draft
from solver import Answer

# Each constant stands once, with its place in the paper.
W_TOOL, W_ARGUMENTS, W_VALUES = 0.4, 0.4, 0.2  # Eq. (2)
BAND_LOW, BAND_HIGH, SIGMA = 0.25, 0.75, 0.12  # Eq. (3)
W_TAG, W_PARSED, W_CALL = 0.3, 0.3, 0.4  # Sec. 3.2, Solver r_fmt
W_NAME, W_KEYS, W_MATCH = 0.2, 0.3, 0.5  # Sec. 3.2, Solver r_acc
EXTRA_CALL = 0.25  # Sec. 3.2: accuracy is divided by 1 + this for each call too many
PLACEHOLDERS = ("what the user says", "tool_name", "argument_name", "write the four blocks", "begin with <think>")


# ------------------------------------------------------------------------------------------ Generator
@dataclass(frozen=True)
class GeneratorReward:
    """The parts of R_G, each in [0, 1]."""

    fmt: float
    valid: float
    diff: float = 0.0
    sem: float = 0.0

    @property
    def curr(self) -> float:
        """How well the task suits the Solver now."""
        return (self.diff + self.sem) / 2

    @property
    def total(self) -> float:
        """R_G."""
        return self.fmt + self.valid + self.curr  # Eq. (1)


def generator_reward(draft: Draft, diff: float = 0.0, sem: float = 0.0) -> GeneratorReward:
    """R_G of a completion; `diff` and `sem` are 0 where they were not measured.

    A placeholder or an echo of the prompt as question gets 0 for everything.
    """
    if is_placeholder(draft.blocks["question"] or ""):
        return GeneratorReward(0.0, 0.0)
    return GeneratorReward(r_fmt(draft), r_valid(draft), diff, sem)


def r_fmt(draft: Draft) -> float:
    """A third each: all four blocks, the menu parses, the answer parses."""
    return (all(draft.blocks.values()) + (draft.tools is not None) + (draft.calls is not None)) / 3


def r_valid(draft: Draft) -> float:
    """The tool exists, its required arguments are given, the values stand in the question; mean over the gold calls."""
    menu = {tool.name: tool for tool in draft.tools or []}
    question = draft.blocks["question"] or ""
    scores = []
    for call in draft.calls or []:
        tool = menu.get(call.name)
        has_arguments = tool is not None and all(name in call.arguments for name in tool.required)
        has_values = all(grounded(value, question) for value in call.arguments.values())
        scores.append(W_TOOL * (tool is not None) + W_ARGUMENTS * has_arguments + W_VALUES * has_values)  # Eq. (2)
    return sum(scores) / len(scores) if scores else 0.0


def r_diff(p: float, k: int) -> float:
    """Band-pass on the Solver's success rate p of k tries: 1 inside [.25, .75], a Gaussian edge outside, 0 if never."""
    if p < 1 / k:
        return 0.0
    edge = min(max(p, BAND_LOW), BAND_HIGH)
    return math.exp(-((p - edge) ** 2) / (2 * SIGMA**2))  # Eq. (3)


def r_sem(logits: torch.Tensor) -> list[float]:
    """The judge's expected score, 1 to 5, brought to [0, 1], from the logits of those digits.  (N, 5) -> N

    >>> r_sem(torch.tensor([[0.0, 0, 0, 0, 0], [0, 0, 0, 0, 99]]))
    [0.5, 1.0]
    """
    score = (logits.softmax(-1) * torch.arange(1, 6, device=logits.device)).sum(-1)
    return ((score - 1) / 4).tolist()  # Eq. (4)


def is_placeholder(question: str) -> bool:
    """Whether a question is empty, nearly so, or a piece of the prompt."""
    return len(question) < 8 or any(phrase in question.lower() for phrase in PLACEHOLDERS)


NUMBER_WORDS = {word: str(n) for n, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty".split())} | {word: str(10 * n) for n, word in enumerate(
        "thirty forty fifty sixty seventy eighty ninety".split(), 3)}


def words(text: str) -> str:
    """Text as lower-case words between single blanks; numbers in one spelling.

    >>> words("Three trips, 1,000.50 EUR")
    ' 3 trips 1000.5 eur '
    """
    found = re.findall(r"\d+(?:[.,]\d+)+|[^\W_]+", unicodedata.normalize("NFKC", text).casefold())
    return f" {' '.join(map(_spelling, found))} "


def _spelling(word: str) -> str:
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", word):
        word = word.replace(",", "")
    if re.fullmatch(r"[0-9]+\.[0-9]+", word):
        word = word.rstrip("0").rstrip(".")
    return NUMBER_WORDS.get(word, word)


def grounded(value: Any, question: str) -> bool:
    """Whether a value stands in the question, on word boundaries; Booleans and null need not.

    >>> grounded(3, "for three days"), grounded(1000, "1,000 euros"), grounded("art", "a party"), grounded(True, "")
    (True, True, False, True)
    """
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, (list, dict)):
        items = value.values() if isinstance(value, dict) else value
        return bool(items) and all(grounded(item, question) for item in items)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    wanted = words(str(value))
    return bool(wanted.strip()) and wanted in words(question)


# ------------------------------------------------------------------------------------------ Solver
@dataclass(frozen=True)
class SolverReward:
    """The parts of R_S, each in [0, 1]."""

    fmt: float
    acc: float

    @property
    def total(self) -> float:
        """R_S."""
        return self.fmt + self.acc


def solver_reward(answer: Answer, gold: list[Call]) -> SolverReward:
    """R_S of an answer.  Without a <think> block the accuracy counts 0."""
    fmt = W_TAG * answer.tag + W_PARSED * answer.parsed + W_CALL * bool(answer.calls)
    return SolverReward(fmt, r_acc(answer.calls, gold) if answer.think else 0.0)


def r_acc(predicted: list[Call], gold: list[Call]) -> float:
    """Each gold call takes its best unused prediction; mean over gold, divided for calls too many.

    >>> r_acc([Call("f", {"x": 1}), Call("g", {})], [Call("f", {"x": 1})])
    0.8
    """
    unused, scores = list(predicted), []
    for wanted in gold:
        best = max(unused, key=lambda call: pair_score(call, wanted), default=None)
        scores.append(pair_score(best, wanted) if best else 0.0)
        if scores[-1] > 0:
            unused = [call for call in unused if call is not best]
    extra = max(0, len(predicted) - len(gold))
    return sum(scores) / len(gold) / (1 + EXTRA_CALL * extra) if gold else 0.0


def pair_score(predicted: Call, gold: Call) -> float:
    """.2 name + .3 F1 of argument names + .5 share of equal values among the common names.

    >>> pair_score(Call("f", {"x": 1, "y": 2}), Call("f", {"x": 1, "z": 2}))  # .2 + .3 * .5 + .5 * 1
    0.85
    """
    name = predicted.name == gold.name
    common = predicted.arguments.keys() & gold.arguments.keys()
    total = len(predicted.arguments) + len(gold.arguments)
    keys = 2 * len(common) / total if total else 1.0
    equal = sum(same_value(predicted.arguments[k], gold.arguments[k]) for k in common)
    values = equal / len(common) if common else float(total == 0)
    return W_NAME * name + W_KEYS * keys + W_MATCH * values


def same_value(a: Any, b: Any) -> bool:
    """Equal for the Solver's reward: numbers as numbers even in text ("5" = 5), text but for runs of blanks.

    >>> same_value("5", 5), same_value("New  York", "New York"), same_value(True, 1)
    (True, True, False)
    """
    if isinstance(a, (int, float, str)) and isinstance(b, (int, float, str)) and bool not in (type(a), type(b)):
        x, y = _number(a), _number(b)
        if x is not None and y is not None:
            return abs(x - y) <= 1e-9
        return " ".join(str(a).split()) == " ".join(str(b).split())
    return canonical(Call("", {"": a})) == canonical(Call("", {"": b}))


def _number(value: int | float | str) -> float | None:
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*-?[0-9]{1,12}(\.[0-9]{1,12})?\s*", value) else None
    return float(value) if abs(value) < 1e15 else None  # beyond, a float no longer tells neighbours apart
