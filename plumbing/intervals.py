"""Shares with their 95 % intervals, and text in columns: what the reports have in common.  Pure.

>>> describe([True, False])
'1 of 2 = 50.0 %  [9.5, 90.5]'
"""

import math
import random

Verdicts = list[bool]  # task by task, whether the answer is right
MeanInterval = tuple[float, float, float]  # a mean and the ends of its 95 % interval

Z95 = 1.959964  # 97.5 % quantile of the normal distribution
RESAMPLES = 2000  # of a bootstrap
LOW = int(0.025 * RESAMPLES)
HIGH = int(0.975 * RESAMPLES)


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, by Wilson's formula.

    >>> [round(x, 3) for x in wilson(50, 100)]
    [0.404, 0.596]
    """
    p = right / total
    z2 = Z95**2 / total
    centre = p + z2 / 2
    variance = p * (1 - p) + z2 / 4
    error = math.sqrt(variance / total)
    half = Z95 * error
    low = (centre - half) / (1 + z2)
    high = (centre + half) / (1 + z2)
    return max(0.0, low), min(1.0, high)


def mean(values: list) -> float:
    """Return the mean of numbers or of verdicts."""
    return sum(values) / len(values)


def bootstrap(groups: list[list]) -> MeanInterval:
    """Return the mean of the groups' means and its 95 % interval.

    Each group has the same weight, whatever its size.  The values are resampled within each group,
    with a fixed seed.  If the values within each group are all equal, the interval has width 0.
    """
    rng = random.Random(0)
    samples = []
    for _ in range(RESAMPLES):
        resampled = []
        for values in groups:
            some = rng.choices(values, k=len(values))
            resampled.append(mean(some))
        samples.append(mean(resampled))
    samples.sort()
    means = [mean(values) for values in groups]
    return mean(means), samples[LOW], samples[HIGH]


def macro_mean(benchmarks: list[Verdicts]) -> MeanInterval:
    """Return the mean accuracy of several benchmarks and its interval.

    >>> macro_mean([[True], [False, False, False]])
    (0.5, 0.5, 0.5)
    """
    return bootstrap(benchmarks)


def macro_difference(pairs: list[tuple[Verdicts, Verdicts]]) -> MeanInterval:
    """Return the mean gain over several benchmarks and its interval, paired by task.

    Each pair holds the verdicts on one benchmark before and after.

    >>> macro_difference([([True, False], [True, True]), ([False], [False])])
    (0.25, 0.0, 0.5)
    """
    groups = []
    for before, after in pairs:
        gains = []
        for was_right, is_right in zip(before, after):
            gains.append(is_right - was_right)
        groups.append(gains)
    return bootstrap(groups)


def paired_difference(before: Verdicts, after: Verdicts) -> MeanInterval:
    """Return the gain on one benchmark and its interval, paired by task."""
    return macro_difference([(before, after)])


def percent(share: float, sign: str = "") -> str:
    """Write a share in percent; `sign` "+" shows the sign of a gain as well.

    >>> percent(0.125), percent(-1e-17), percent(-1e-17, "+")
    ('12.5', '0.0', '+0.0')
    """
    rounded = round(100 * share, 1)
    if rounded == 0:
        rounded = 0.0  # not -0.0
    return f"{rounded:{sign}.1f}"


def interval(low: float, high: float, sign: str = "") -> str:
    """Write the ends of an interval in percent."""
    return f"[{percent(low, sign)}, {percent(high, sign)}]"


def describe_mean(benchmarks: list[Verdicts]) -> str:
    """Write the mean accuracy over benchmarks with its interval.

    >>> describe_mean([[True], [False, False]])
    '50.0 %  [50.0, 50.0]'
    """
    mean, low, high = macro_mean(benchmarks)
    return f"{percent(mean)} %  {interval(low, high)}"


def describe(right: Verdicts) -> str:
    """Write an accuracy with its interval.

    >>> describe([False] * 12)
    '0 of 12 = 0.0 %  [0.0, 24.2]'
    """
    count = sum(right)
    total = len(right)
    low, high = wilson(count, total)
    return f"{count} of {total} = {percent(count / total)} %  {interval(low, high)}"


def aligned(rows: list[list[str]]) -> str:
    """Write rows in aligned columns, the first column to the left and the others to the right.

    >>> print(aligned([["", "n"], ["snips", "12"]]), end="")
            n
    snips  12
    """
    columns = zip(*rows)
    widths = [len(max(column, key=len)) for column in columns]
    text = ""
    for first, *rest in rows:
        line = first.ljust(widths[0])
        for cell, width in zip(rest, widths[1:]):
            line += "  " + cell.rjust(width)
        text += line + "\n"
    return text
