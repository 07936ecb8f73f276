"""The rewards of both players.  Pure functions; the two totals keep their named parts.

Paper: Sec. 3.2.1 for the Generator, Sec. 3.4 for the Solver:
    R_G = r_fmt + r_valid + r_curr,   r_curr = (r_diff + r_sem) / 2,   each part in [0, 1]
    R_S = r_fmt + r_acc

Our decisions, where the paper is silent or the released code differs from it:
  1. All gold calls are checked; the released code checks the first only.
  2. r_curr is the mean of its two parts, which fits the paper's Fig. 7.
  3. The judge's score is the expectation over the digits 1 to 5 of one forward pass: no sampling.
  4. A task with a `curate.structural_reason` is not shown to the Solver: its r_curr is 0.
  5. Values are searched as whole words, as in the paper; 5 does not stand in "5.5", -5 not in "5"
     and C not in "C++"; 3.5 stands in "3.50".  Letters of every script count, but vowel signs
     and accents that Unicode has as marks of their own do not, and words need blanks between them.
  6. Left as in the paper, though a player can use it: a call without arguments, of a tool that
     requires none, gets all of r_valid; two calls that differ in the name alone are worth .8.

One raw example: a task that the Solver gets right in k of 8 tries is worth r_diff
    >>> [round(r_diff(k / 8, 8), 4) for k in (0, 1, 2, 6, 7, 8)]
    [0.0, 0.5813, 1.0, 1.0, 0.5813, 0.1142]
"""

import math
import re
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any
from unicodedata import normalize

import torch

from ast_match import Call, canonical
from generator import SYSTEM, Draft
from solver import Answer

W_TOOL, W_ARGUMENTS, W_VALUES = 0.4, 0.4, 0.2  # Eq. (2): the Generator's r_valid
BAND_LOW, BAND_HIGH, SIGMA = 0.25, 0.75, 0.12  # Sec. 3.2.1: the Generator's r_diff
W_TAG, W_PARSED, W_CALL = 0.3, 0.3, 0.4  # Sec. 3.4: the Solver's r_fmt
W_NAME, W_KEYS, W_MATCH = 0.2, 0.3, 0.5  # Sec. 3.4: the Solver's r_acc of a pair of calls
EXTRA_CALL = 0.25  # Sec. 3.4: r_acc is divided by 1 + this for each call too many
MAX_QUESTION = 4_000  # characters in which values are searched; a long dialogue has 1,000
PLACEHOLDERS = ("tool_name", "argument_name", "begin with <think>")  # forms, last words of prompts


@dataclass(frozen=True)
class GeneratorReward:
    """The parts of R_G, each in [0, 1]."""

    fmt: float
    valid: float
    diff: float = 0.0
    sem: float = 0.0

    @property
    def total(self) -> float:
        """R_G."""
        return self.fmt + self.valid + (self.diff + self.sem) / 2  # Sec. 3.2.1


def generator_reward(
    draft: Draft, diff: float = 0.0, sem: float = 0.0, copies: int = 1
) -> GeneratorReward:
    """R_G of a completion.  A placeholder or an echo of generator.SYSTEM as question gets 0 for
    all, as in the released code.

    The paper pays each copy of a task in full.  `copies`, a guard that is not the paper's, says how
    many of the batch are this task (curate.copies): they share all parts but r_fmt.
    """
    if is_placeholder(draft.blocks["question"] or ""):
        return GeneratorReward(0.0, 0.0)
    return GeneratorReward(r_fmt(draft), r_valid(draft) / copies, diff / copies, sem / copies)


def r_fmt(draft: Draft) -> float:  # Sec. 3.2.1
    """A third each: all four blocks, the menu parses, the answer parses; 0 without the first."""
    return (all(draft.blocks.values()) + (draft.tools is not None) + (draft.calls is not None)) / 3


def r_valid(draft: Draft) -> float:
    """Tool in the menu, required arguments given, values in the question; mean over gold calls."""
    menu, scores = {tool.name: tool for tool in draft.tools or []}, []
    for call in draft.calls or []:
        known = call.name in menu
        complete = known and all(name in call.arguments for name in menu[call.name].required)
        found = all(grounded(v, draft.blocks["question"] or "") for v in call.arguments.values())
        scores.append(W_TOOL * known + W_ARGUMENTS * complete + W_VALUES * found)  # Eq. (2)
    return sum(scores) / len(scores) if scores else 0.0


def r_diff(p: float, K: int, form: str = "band") -> float:  # Sec. 3.2.1
    """Band-pass on the share p of K answers that are right: 1 inside, Gaussian edges, 0 at p = 0.

    Table 3 compares it with `form` "cliff", which has no edges, and "none", which is always 0.
    """
    edge = min(max(p, BAND_LOW), BAND_HIGH)
    if form == "none" or p < 1 / K:
        return 0.0
    return math.exp(-((p - edge) ** 2) / (2 * SIGMA**2)) if form == "band" else float(p == edge)


def r_sem(logits: torch.Tensor) -> list[float]:
    """The judge's expected score, brought to [0, 1]; from logits of the digits 1 to 5, (N, 5)."""
    score = (logits.softmax(-1) * torch.arange(1, 6, device=logits.device)).sum(-1)
    return ((score - 1) / 4).tolist()  # Sec. 3.2.1


def is_placeholder(question: str) -> bool:
    """Whether a question is empty, nearly so, or a piece of the prompt."""
    text = question.strip().lower()
    return len(text) < 8 or text in SYSTEM.lower() or any(phrase in text for phrase in PLACEHOLDERS)


_NAMES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
NUMBER_WORDS = dict(zip(_NAMES.split(), map(str, [*range(20), *range(20, 100, 10)])))
_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+[.,][0-9]+"  # 1,000.50 or 5.5
# In this order: a number with its sign, commas and point; a negative whole number; a plain word.
_WORD = re.compile(
    rf"(?<!\w)(?<![0-9][.,])-?(?:{_NUMBER})(?![.,]?[0-9])|(?<!\w)-[0-9]+"
    r"|[^\W_]+(?:(?<=[^\W\d_])[+#]+(?!\w))?"
)  # C is not in "C++"


@lru_cache(maxsize=64)
def words(text: str, split: bool = False) -> str:
    """Lower-case words between blanks, "Three trips, 1,000.50 EUR" -> " 3 trips 1000.5 eur ".

    With `split` 14.30 is two words, like 14:30, and 1.000 is two, like 1 000.
    """
    text = normalize("NFKC", text[:MAX_QUESTION]).casefold().replace("\u2212", "-")
    text = re.sub(r"\bminus (?=[0-9])", "-", text)
    text = re.sub(r"(?<![\w.])\.(?=[0-9])", "0.", text)  # .5
    if split:
        text = re.sub(r"(?<![0-9.,])([0-9]+)[.,]([0-9]+)(?![.,]?[0-9])", r"\1 \2", text)
    return f" {' '.join(map(_spelling, _WORD.findall(text)))} "


def _spelling(word: str) -> str:
    word = re.sub(r",(?=[0-9]{3}(?![0-9]))", "", word).replace(",", ".")
    return NUMBER_WORDS.get(word, word.rstrip("0").rstrip(".") if "." in word else word)


def grounded(value: Any, question: str) -> bool:  # Sec. 3.2.1
    """Whether a value stands in the question, as whole words; Booleans and null need not.

    >>> grounded(1000, "Pay 1,000 now"), grounded("art", "a party"), grounded(-5, "5 degrees")
    (True, False, False)
    """
    if value is None or isinstance(value, bool):
        return True
    spellings = {str(value)}
    with suppress(ValueError):  # what reads as a number may be spelled like one
        spellings |= {f"{float(str(value)):.15g}", f"{float(str(value)):,.15g}".replace(",", " ")}
    # Three blanks: two words or more.  The value "14:30" also stands in a question's "14.30".
    return any(
        w in words(question) or w.count(" ") > 2 and w in words(question, split=True)
        for w in map(words, spellings)
        if w.strip()
    )


@dataclass(frozen=True)
class SolverReward:
    """The parts of R_S, each in [0, 1]."""

    fmt: float
    acc: float

    @property
    def total(self) -> float:
        """R_S."""
        return self.fmt + self.acc  # Sec. 3.4


def solver_reward(answer: Answer, gold: list[Call]) -> SolverReward:  # Sec. 3.4
    """R_S of an answer.  Without a <think> block r_acc is 0, as in the released code."""
    fmt = W_TAG * answer.tag + W_PARSED * answer.parsed + W_CALL * bool(answer.calls)
    return SolverReward(fmt, r_acc(answer.calls, gold) if answer.think else 0.0)


def r_acc(predicted: list[Call], gold: list[Call]) -> float:  # Sec. 3.4
    """Mean over gold calls of the best unused prediction's score, divided for calls too many."""
    unused, scores = list(predicted), []
    for wanted in gold:
        best = max(unused, key=lambda call: pair_score(call, wanted), default=None)
        scores.append(pair_score(best, wanted) if best else 0.0)
        if scores[-1] > 0:
            unused = [call for call in unused if call is not best]
    extra = max(0, len(predicted) - len(gold))
    return sum(scores) / len(gold) / (1 + EXTRA_CALL * extra) if gold else 0.0


def pair_score(predicted: Call, gold: Call) -> float:  # Sec. 3.4
    """.2 name + .3 F1 of argument names + .5 share of equal values among the common names."""
    common = predicted.arguments.keys() & gold.arguments.keys()
    total = len(predicted.arguments) + len(gold.arguments)
    keys = 2 * len(common) / total if total else 1.0
    equal = sum(same_value(predicted.arguments[k], gold.arguments[k]) for k in common)
    values = equal / len(common) if common else float(total == 0)
    return W_NAME * (predicted.name == gold.name) + W_KEYS * keys + W_MATCH * values


def same_value(a: Any, b: Any) -> bool:
    """Equal for r_acc: "5" = 5, "5.0" = 5.0, text but for its blanks.  p and eval are stricter."""
    if not {type(a), type(b)} <= {int, float, str}:  # a Boolean is no number
        return canonical(Call("", {"": a})) == canonical(Call("", {"": b}))
    x, y = _number(a), _number(b)
    if float in (type(a), type(b)) and None not in (x, y):
        return x == y or abs(x - y) <= 1e-9
    return str(a).split() == str(b).split()


def _number(value: int | float | str) -> int | float | None:
    if not isinstance(value, str):
        return value if abs(value) < 1e308 else None
    return float(value) if re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,15})?\s*", value) else None


def means(parts: list) -> dict[str, float]:
    """The mean of each named part of some rewards."""
    return {f.name: sum(getattr(p, f.name) for p in parts) / len(parts) for f in fields(parts[0])}


if __name__ == "__main__":
    from scripts.demos import demo

    demo("rewards") or print(__doc__)
