"""Intervals: against exact distributions of small cases, and their text."""

import itertools
from collections import defaultdict

import pytest

from plumbing import intervals


def exact_bootstrap(groups):
    """Return the exact distribution of the mean of means over all resamples: value -> share."""
    found = {0.0: 1.0}
    for values in groups:
        own = defaultdict(float)
        for drawn in itertools.product(values, repeat=len(values)):
            own[sum(drawn) / len(values)] += len(values) ** -len(values)
        joined = defaultdict(float)
        for (x, p), (y, q) in itertools.product(found.items(), own.items()):
            joined[round(x + y / len(groups), 9)] += p * q
        found = joined
    return found


def quantile(distribution, share):
    total = 0.0
    for value in sorted(distribution):
        total += distribution[value]
        if total >= share:
            return value


GROUPS = [
    [[1, 0, 1, 0, 0]],
    [[1, 0], [0, 0, 0, 1, 1]],
    [[1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0, 1]],
    [[1, 0, -1, 1], [0, 0, -1, 1, 1]],
]


@pytest.mark.parametrize("groups", GROUPS)
def test_the_bootstrap_has_the_ends_of_the_exact_distribution(groups):
    mean, low, high = intervals.bootstrap(groups)
    exact = exact_bootstrap(groups)
    assert mean == pytest.approx(sum(value * p for value, p in exact.items()))
    # 2,000 resamples: an end may be off by what changes the tail's probability by a third.
    assert quantile(exact, 0.017) - 1e-9 <= low <= quantile(exact, 0.034) + 1e-9
    assert quantile(exact, 0.966) - 1e-9 <= high <= quantile(exact, 0.983) + 1e-9


def test_each_benchmark_counts_alike_in_the_mean():
    mean, low, high = intervals.macro_mean([[True] * 90 + [False] * 10, [False, True]])
    assert mean == pytest.approx(0.7) and low < 0.5 and high > 0.9
    assert intervals.macro_mean([[True] * 5, [False] * 7]) == (0.5, 0.5, 0.5)


def test_the_difference_of_two_runs_is_paired_by_task():
    before, after = [True, False] * 50, [True] * 60 + [False, True] * 20
    pairs = [(before, after), (after, after)]
    mean, low, high = intervals.macro_difference(pairs)
    gain = sum(after) / 100 - sum(before) / 100
    assert mean == pytest.approx(gain / 2) and 0 < low < mean < high
    assert intervals.macro_difference(pairs[:1]) == intervals.paired_difference(before, after)
    assert intervals.macro_difference([(b, a) for a, b in pairs])[0] == -mean
    same = [(before, before), (after, after)]
    assert intervals.macro_difference(same) == (0, 0, 0)


def test_the_same_input_gives_the_same_interval():
    verdicts = [[True, False, True], [False, False, True, True]]
    assert intervals.macro_mean(verdicts) == intervals.macro_mean(verdicts)


def test_the_wilson_interval_stays_inside_0_and_1():
    for n in range(1, 60):
        assert intervals.wilson(0, n)[0] == pytest.approx(0, abs=1e-12)
        assert intervals.wilson(n, n)[1] == pytest.approx(1)
        assert 0 <= intervals.wilson(0, n)[0] and intervals.wilson(n, n)[1] <= 1
    low, high = intervals.wilson(5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


def test_the_paired_difference_counts_only_tasks_that_changed():
    base = [True] * 50 + [False] * 50
    mean, low, high = intervals.paired_difference(base, [True] * 60 + [False] * 40)
    assert mean == pytest.approx(0.1) and 0.03 < low < 0.1 < high < 0.17
    assert intervals.paired_difference(base, base) == (0, 0, 0)


def test_no_end_of_an_interval_is_minus_zero():
    for n in range(1, 200):
        assert "-0.0" not in intervals.describe([False] * n) + intervals.describe([True] * n)
    assert intervals.interval(-1e-9, -0.0, "+") == "[+0.0, +0.0]"
    assert intervals.interval(-0.0006, 0.5) == "[-0.1, 50.0]"
