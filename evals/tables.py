"""The tables that `python -m evals` prints: accuracy, errors, Table 1, and two models compared.

Paper: Table 1, whose average gives the five benchmarks equal weights.
"""

import math
from collections import Counter

from evals.cases import Calls, Case, by_benchmark
from evals.score import ERRORS, Verdict, verdict
from plumbing.intervals import aligned, interval, mean, paired_difference, percent, wilson

Answers = dict[str, Calls]  # id of a case -> its answer

SHARES = ("name", "argument", "value", "unparsable")
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
REMARK = """Some averages that the paper prints are not the means of their rows.
Its cases seem to be those of --subset paper; its prompts, menus and scorer differ, so compare
changes, not levels.
"""


def tables(title: str, cases: list[Case], answers: Answers) -> str:
    """Write the tables of one model; include Table 1 if one of its benchmarks was run."""
    scores = [["", "cases", "accuracy", "95 % interval", *SHARES]]
    errors = [["% of the cases", *ERRORS]]
    accuracy = {}
    answered = [case for case in cases if case.id in answers]
    for name, group in by_benchmark(answered).items():
        verdicts = [verdict(case, answers[case.id]) for case in group]
        counts = Counter(v.error for v in verdicts)
        total = len(verdicts)
        right = counts[None]
        accuracy[name] = 100 * right / total
        low, high = wilson(right, total)
        row = [name, str(total), percent(right / total), interval(low, high)]
        for share in SHARES:
            row.append(pooled_share(share, verdicts))
        scores.append(row)
        row = [name]
        for error in ERRORS:
            row.append(percent(counts[error] / total))
        errors.append(row)
    parts = [title, aligned(scores), aligned(errors)]
    left_out = len(cases) - len(answered)
    if left_out:
        parts.append(f"{left_out} cases without an answer are left out.")
    return "\n".join(parts) + "\n" + beside_the_paper(accuracy)


def pooled_share(share: str, verdicts: list[Verdict]) -> str:
    """Write one share, pooled over all answers, in percent; "-" if there is nothing to share."""
    part = sum(v.shares[share][0] for v in verdicts)
    whole = sum(v.shares[share][1] for v in verdicts)
    return percent(part / whole) if whole else "-"


def beside_the_paper(accuracy: dict[str, float]) -> str:  # Table 1
    """Write our row of Table 1 above the paper's; nothing if `accuracy` has none of its columns."""
    if not accuracy.keys() & FIVE.keys():
        return ""
    rows = [["accuracy, %", *FIVE.values(), "average", "as printed"]]
    ours = [accuracy.get(name) for name in FIVE]
    for name, numbers in {"this run": (*ours, None), **TABLE_1}.items():
        *five, printed = numbers
        average = None if None in five else mean(five)  # the macro-average
        cells = ["-" if x is None else f"{x:.2f}" for x in (*five, average, printed)]
        rows.append([name, *cells])
    return f"{aligned(rows)}\n{REMARK}"


def comparison(cases: list[Case], first: Answers, second: Answers) -> str:
    """Write how many more `first` gets right than `second`, per benchmark and over all cases."""
    counts = ["only first right", "only second right", "McNemar p"]
    rows = [["first minus second", "cases", "points", "95 % interval", *counts]]
    for name, group in {**by_benchmark(cases), "all cases": cases}.items():
        a = [case.is_right(first[case.id]) for case in group]
        b = [case.is_right(second[case.id]) for case in group]
        gain, low, high = paired_difference(b, a)
        pairs = list(zip(a, b))
        only_a = pairs.count((True, False))
        only_b = pairs.count((False, True))
        row = [name, str(len(group)), percent(gain, "+"), interval(low, high, "+")]
        rows.append([*row, str(only_a), str(only_b), f"{mcnemar(only_a, only_b):.3g}"])
    return aligned(rows)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p of McNemar's test on the cases that only one model gets right.

    >>> mcnemar(5, 1)
    0.21875
    """
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)
