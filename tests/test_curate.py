"""Curation: every candidate ends selected or with exactly one reason."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
import generator
from ast_match import Call
from curate import Candidate
from generator import Spec
from test_generator import GOOD

SPEC = Spec("weather", "single_turn", 2, 1)
TASK = generator.parse(GOOD).task("a", "weather")


def numbered(n, p, domain="weather"):
    return Candidate(f"{n:04d}", replace(SPEC, domain=domain), TASK, p=p)


def test_a_good_task_passes_the_structural_check():
    assert curate.structural_reason(TASK, SPEC) is None


@pytest.mark.parametrize(
    "task, spec, reason",
    [
        (TASK, replace(SPEC, menu_size=3), "menu size is not the spec's"),
        (TASK, replace(SPEC, calls=2), "number of calls is not the spec's"),
        (replace(TASK, tools=TASK.tools[:1] * 2), SPEC, "two tools with one name"),
        (replace(TASK, calls=[Call("fly", {})]), SPEC, "tool not in the menu"),
        (
            replace(TASK, calls=[Call("get_weather", {"days": 3})]),
            SPEC,
            "required argument missing",
        ),
        (
            replace(TASK, calls=[Call("get_weather", {"city": "Paris", "x": 3})]),
            SPEC,
            "argument not in the schema",
        ),
        (
            replace(TASK, calls=[Call("get_weather", {"city": ["Paris"]})]),
            SPEC,
            "argument is not flat",
        ),
        (
            replace(TASK, calls=[Call("get_weather", {"city": "Rome"})]),
            SPEC,
            "value not in the question",
        ),
        (replace(TASK, question="what the user says"), SPEC, "question is a placeholder"),
    ],
)
def test_each_flaw_has_its_name(task, spec, reason):
    assert curate.structural_reason(task, spec) == reason


def test_copies_that_differ_in_case_blanks_digits_and_quotes_collapse():
    other = replace(
        TASK,
        question='will it  RAIN in "Paris" in the next 7 days?',
        calls=[Call("get_weather", {"city": "Paris", "days": 7})],
    )
    candidates = [
        Candidate("1", SPEC, TASK),
        Candidate("2", SPEC, other),
        Candidate("3", SPEC, None, "no question"),
    ]
    assert [c.id for c in curate.check(candidates)] == ["1"]
    assert [c.reason for c in candidates] == [None, "duplicate", "no question"]


def test_p_is_the_share_of_answers_that_are_the_whole_gold_answer():
    right, wrong = TASK.calls, [Call("get_weather", {"city": "Paris"})]
    assert curate.pass_rate([right, wrong, right + right, right], TASK.calls) == 0.5


def test_tasks_that_the_solver_never_confirms_are_dropped():
    candidates = [numbered(1, 0.0), numbered(2, 0.125)]
    assert [c.id for c in curate.verify(candidates, 0.125)] == ["0002"]
    assert candidates[0].reason == "not confirmed by the Solver"


def test_the_selection_goes_from_easy_to_hard():
    selected = curate.select(
        [numbered(1, 0.25), numbered(2, 1.0), numbered(3, 0.5), numbered(4, 0.125)], 10
    )
    assert [c.p for c in selected] == [1.0, 0.5, 0.25, 0.125]


def test_the_mix_is_2_5_3_where_there_is_enough():
    candidates = [numbered(i, p) for i, p in enumerate([1.0, 0.5, 0.125] * 20)]
    buckets = [curate.bucket(c.p) for c in curate.select(candidates, 20)]
    assert [buckets.count(name) for name in ("easy", "medium", "hard")] == [4, 10, 6]


def test_easy_tasks_do_not_fill_up_for_missing_ones():
    candidates = [numbered(i, 1.0) for i in range(50)] + [numbered(50, 0.5)]
    assert [c.p for c in curate.select(candidates, 10)] == [1.0, 1.0, 0.5]


def test_domains_share_equally_up_to_what_they_have():
    candidates = [numbered(i, 0.5, "travel") for i in range(2)] + [
        numbered(i, 0.5, "math") for i in range(10, 40)
    ]
    domains = [c.spec.domain for c in curate.select(candidates, 20)]  # 10 of them medium
    assert domains.count("travel") == 2 and domains.count("math") == 8


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(generator.DOMAINS)), max_size=60),
    st.integers(1, 40),
    st.randoms(),
)
@settings(max_examples=150, deadline=None)
def test_selection_never_gives_more_than_asked_and_accounts_for_every_candidate(
    items, size, random
):
    candidates = [numbered(i, p / 8, domain) for i, (p, domain) in enumerate(items)]
    selected = [c.id for c in curate.select(candidates, size)]
    assert len(selected) == len(set(selected)) <= size
    assert sum(curate.funnel(candidates).values()) == len(items)
    assert {c.id for c in candidates if c.reason is None} == set(selected)
    again = [numbered(i, p / 8, domain) for i, (p, domain) in enumerate(items)]
    random.shuffle(again)
    assert [
        c.id for c in curate.select(again, size)
    ] == selected  # the order of arrival does not matter


def test_questions_in_other_scripts_are_told_apart():
    one, seven = (replace(TASK, question=f"{word} Paris") for word in "一七")
    assert curate.signature(one) != curate.signature(seven)
