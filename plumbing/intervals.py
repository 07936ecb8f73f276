"""Shares with their intervals, and rows of text in columns: what the reports share.  Pure."""

import math
import random

Z95 = 1.959964  # of the normal distribution


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share.

    >>> [round(x, 3) for x in wilson(50, 100)]
    [0.404, 0.596]
    """
    p, z2 = right / total, Z95**2 / total
    centre, half = p + z2 / 2, Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total))
    return (centre - half) / (1 + z2), (centre + half) / (1 + z2)


def paired_difference(a: list[bool], b: list[bool], draws: int = 2000) -> tuple[float, ...]:
    """Mean of b - a over the same tasks, and its 95 % bootstrap interval over tasks."""
    differences, rng = [int(y) - int(x) for x, y in zip(a, b)], random.Random(0)
    n = len(differences)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(draws))
    return sum(differences) / n, means[int(0.025 * draws)], means[int(0.975 * draws)]


def interval(low: float, high: float, sign: str = "") -> str:
    """The ends of an interval in percent, as text; `sign` "+" shows the sign of both."""
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def describe(right: list[bool]) -> str:
    """Accuracy with its interval, as text.

    >>> describe([True, False])
    '1 of 2 = 50.0 %  [9.5, 90.5]'
    """
    n, of = sum(right), len(right)
    return f"{n} of {of} = {100 * n / of:.1f} %  {interval(*wilson(n, of))}"


def aligned(rows: list[list[str]]) -> str:
    """Rows in aligned columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return (
        "\n".join(
            f"{first:<{widths[0]}}  " + "  ".join(map(str.rjust, rest, widths[1:]))
            for first, *rest in rows
        )
        + "\n"
    )


def macro_mean(verdicts):
    shares = [sum(v) / len(v) for v in verdicts]
    return sum(shares) / len(shares), 0.0, 1.0


def macro_difference(pairs):
    if len(pairs) == 1:
        return paired_difference(*pairs[0])
    d = [sum(b) / len(b) - sum(a) / len(a) for a, b in pairs]
    return sum(d) / len(d), -1.0, 1.0
