"""Curation: every candidate ends selected or with exactly one reason."""

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generator import GOOD

import curate
import generator
import guards
import rewards
from ast_match import Call, Tool
from config import Config
from curate import Candidate
from generator import Spec

OFF = Config(guards="off")
GATE = Config(spec="gate", guards="off")
FREE = Config(spec="free", guards="off")
GRADED = Config(guards="off")

SPEC = Spec("weather", "single_turn", 2, 1)
TASK = generator.parse(GOOD).task("a", "weather")


def numbered(n, p, domain="weather"):
    return Candidate(f"{n:04d}", replace(SPEC, domain=domain), TASK, p=p)


def test_a_good_task_passes_the_structural_check():
    for rule in ("graded", "gate", "free"):
        assert curate.structural_reason(TASK, SPEC, Config(spec=rule)) is None


@pytest.mark.parametrize(
    "task, spec, reason",
    [
        (TASK, replace(SPEC, menu_size=3), "menu size not allowed"),
        (TASK, replace(SPEC, calls=2), "number of calls not allowed"),
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
        (
            replace(TASK, tools=[TASK.tools[0], replace(TASK.tools[0], name="forecast")]),
            SPEC,
            "two tools that differ only in name",
        ),
        (
            replace(TASK, question=TASK.question + ' {"name": "get_weather"}'),
            SPEC,
            "question quotes the call",
        ),
        (
            replace(TASK, question=TASK.question + " get_weather(city='Paris')"),
            SPEC,
            "question quotes the call",
        ),
    ],
)
def test_each_flaw_has_its_name(task, spec, reason):
    assert curate.structural_reason(task, spec, GATE) == reason


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
    assert [c.id for c in curate.check(candidates, OFF)] == ["1"]
    assert [c.reason for c in candidates] == [None, "duplicate", "no question"]


def test_p_is_the_share_of_answers_that_are_the_whole_gold_answer():
    right, wrong = TASK.calls, [Call("get_weather", {"city": "Paris"})]
    assert curate.pass_rate([right, wrong, right + right, right], TASK.calls) == 0.5


def test_tasks_that_the_solver_never_confirms_are_dropped():
    candidates = [numbered(1, 0.0), numbered(2, 0.125)]
    assert [c.id for c in curate.verify(candidates, 0.125)] == ["0002"]
    assert candidates[0].reason == "not confirmed by the Solver"


def test_the_selection_goes_from_easy_to_hard():
    rates = [0.25, 1.0, 0.5, 0.125, 0.375]
    selected = curate.select([numbered(i, p) for i, p in enumerate(rates)], 10)
    assert [c.p for c in selected] == [1.0, 0.5, 0.375, 0.25, 0.125]


def test_of_a_bucket_and_a_domain_the_larger_tasks_are_kept():
    small = [numbered(i, 0.5) for i in range(6)]
    large = numbered(6, 0.5)
    call = large.task.calls[0]
    large.task = replace(large.task, calls=[call, call])
    assert curate.size_of(large.task) == 2 * curate.size_of(small[0].task)
    assert [c.id for c in curate.select([*small, large], 4)] == [small[0].id, large.id]


def test_the_mix_is_2_5_3_where_there_is_enough():
    candidates = [numbered(i, p) for i, p in enumerate([1.0, 0.5, 0.125] * 20)]
    buckets = [curate.bucket(c.p) for c in curate.select(candidates, 20)]
    assert [buckets.count(name) for name in ("easy", "medium", "hard")] == [4, 10, 6]


def test_easy_tasks_do_not_make_up_for_missing_ones():
    easy = [numbered(i, 1.0) for i in range(50)]
    medium = [numbered(i, 0.5) for i in range(50, 55)]
    assert [c.p for c in curate.select([*easy, *medium], 100)] == [1.0] + [0.5] * 5
    assert len(curate.select([numbered(i, 1.0) for i in range(50)], 100)) == 20  # no others


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


def test_a_remainder_goes_by_id_and_not_by_the_alphabet():
    names = ["web_search", "math", "finance", "travel"]
    candidates = [numbered(i, 0.5, names[i % 4]) for i in range(40)]
    domains = [c.spec.domain for c in curate.select(candidates, 12)]  # 6 of them medium
    assert sorted(domains) == ["finance", "math", "math", "travel", "web_search", "web_search"]


@given(st.integers(0, 60), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 12)))
@settings(max_examples=200, deadline=None)
def test_quotas_use_what_there_is_and_differ_by_one_at_most_where_there_is_more(total, available):
    quota = curate.split_quota(total, available)
    assert sum(quota.values()) == min(total, sum(available.values()))
    assert all(quota[name] <= available[name] for name in available)
    open_ = [quota[name] for name in available if quota[name] < available[name]]
    assert all(n <= least + 1 for n in quota.values() for least in open_)


CITIES = ["Paris", "Rome", "Oslo"]


def varied(rng, i):
    """Return a candidate that may have any flaw, or be a near-copy of another."""
    city, days, flaw = rng.choice(CITIES), rng.randint(2, 9), rng.randint(0, 5)
    question = f"Will it rain in {city} in the next {days} days?"
    question = rng.choice(
        [question, question.upper(), f'"{question}"', question.replace(" ", "  ")]
    )
    call = Call("get_weather", {"city": "Lima" if flaw == 0 else city, "days": days})
    task = replace(TASK, id=f"{i:05d}", question=question, calls=[call] * (2 if flaw == 1 else 1))
    reason = "no question" if flaw == 2 else None
    spec = replace(SPEC, domain=rng.choice(generator.DOMAINS))
    return Candidate(f"{i:05d}", spec, None if reason else task, reason)


def funnel(candidates, size=30):
    sound = curate.check(candidates, OFF)
    for c in sound:
        c.p = len(c.task.question) * 7 % 9 / 8
    return [c.id for c in curate.select(curate.verify(sound, 0.125), size)]


@given(st.integers(0, 2**32), st.integers(0, 80), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_the_whole_funnel_accounts_for_everyone_whatever_the_order_of_arrival(seed, count, size):
    rng = random.Random(seed)
    candidates = [varied(rng, i) for i in range(count)]
    again = [replace(c) for c in candidates]
    rng.shuffle(again)
    selected = funnel(candidates, size)
    assert selected == funnel(again, size) and len(selected) <= size
    assert {c.id: c.reason for c in candidates} == {c.id: c.reason for c in again}
    assert {c.id for c in candidates if c.reason is None} == set(selected)
    p = {c.id: c.p for c in candidates}
    assert [p[i] for i in selected] == sorted((p[i] for i in selected), reverse=True)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_of_near_copies_only_the_one_with_the_lowest_id_is_left(seed):
    rng = random.Random(seed)
    candidates = [varied(rng, i) for i in range(40)]
    left = curate.check(candidates, GATE)
    folded = lambda c: c.task.question.lower().split(" in ")[1].split()[0].strip('"')  # the city
    assert len({folded(c) for c in left}) == len(left) <= len(CITIES)
    for c in candidates:
        if c.reason == "duplicate":
            assert any(folded(c) == folded(kept) and kept.id < c.id for kept in left)


def menu_of(size):
    return [Tool(f"tool_{i}", f"Does {i}.", {}, ()) for i in range(size)]


def sized(tools, calls):
    """Return a task with a menu of this size and this many calls, but otherwise sound."""
    menu = menu_of(tools)
    return replace(TASK, tools=menu, calls=[Call(menu[i % tools].name, {}) for i in range(calls)])


@pytest.mark.parametrize(
    "tools, calls, graded, gate, free",
    [
        (2, 1, True, True, True),
        (1, 1, False, False, True),
        (3, 1, True, False, True),
        (12, 1, True, False, True),
        (13, 1, False, False, True),
        (2, 2, True, False, True),
        (2, 3, True, False, True),
        (2, 4, False, False, True),
    ],
)
def test_each_rule_for_the_spec_accepts_its_own_sizes(tools, calls, graded, gate, free):
    task = sized(tools, calls)
    for cfg, accepted in ((GRADED, graded), (GATE, gate), (FREE, free)):
        reason = curate.structural_reason(task, SPEC, cfg)
        assert (reason is None) == accepted, (cfg.spec, reason)
        assert accepted or reason.endswith("not allowed")


@pytest.mark.parametrize(
    "tools, calls, share",
    [(2, 1, 1.0), (4, 1, 1 / 2), (8, 1, 1 / 4), (2, 2, 1 / 2), (4, 3, 1 / 6)],
)
def test_a_graded_spec_scales_by_menu_size_and_number_of_calls(tools, calls, share):
    task = sized(tools, calls)
    assert curate.obedience(task, SPEC, GRADED) == pytest.approx(share)
    assert curate.obedience(task, SPEC, GATE) == curate.obedience(task, SPEC, FREE) == 1.0


def test_fewer_tools_than_asked_for_cost_as_much_as_more():
    spec = replace(SPEC, menu_size=4, calls=2)
    assert curate.obedience(sized(2, 1), spec, GRADED) == pytest.approx(1 / 4)
    assert curate.obedience(sized(8, 3), spec, GRADED) == pytest.approx(1 / 2 * 2 / 3)


def test_a_guard_refuses_a_task_with_its_own_reason_unless_the_guards_are_off():
    example = generator.examples_of(SPEC)[0]
    task = replace(TASK, tools=[*TASK.tools, example.tools[0]])
    assert curate.structural_reason(task, SPEC, Config()) == guards.COPIES[0]
    assert curate.structural_reason(task, SPEC, OFF) is None
    named = replace(TASK, question=TASK.question + " get_time")
    assert curate.structural_reason(named, SPEC, Config()) == "question names a tool or argument"
    assert curate.structural_reason(named, SPEC, OFF) is None


def test_tasks_above_the_highest_pass_rate_are_too_easy():
    candidates = [numbered(1, 1.0), numbered(2, 0.875), numbered(3, 0.125), numbered(4, 0.0)]
    assert [c.id for c in curate.verify(candidates, 0.125, 0.875)] == ["0002", "0003"]
    assert candidates[0].reason == "too easy"
    assert candidates[3].reason == "not confirmed by the Solver"
    easy = numbered(5, 1.0)
    assert curate.verify([easy], 0.125) == [easy]  # by default no task is too easy


def test_by_default_curation_keeps_every_task_that_r_diff_pays_for():
    cfg = Config()
    for right in range(cfg.num_probes + 1):
        p = right / cfg.num_probes
        kept = curate.verify([numbered(1, p)], cfg.p_min, cfg.p_max)
        assert bool(kept) == (rewards.r_diff(p, cfg.num_probes) > 0)


@pytest.mark.parametrize("cfg", [OFF, Config()], ids=["guards off", "guards on"])
def test_10_000_candidates_are_curated_in_8_seconds(cfg):
    rng, candidates = random.Random(0), []
    for i in range(10_000):
        values = [f"{rng.choice('bcdfg')}{rng.getrandbits(40):x}" for _ in range(3)]
        tools = [
            Tool(
                f"tool_{j}_{values[j % 3]}",
                f"Does {j}.",
                {a: {"type": "string"} for a in "xyz"},
                ("x",),
            )
            for j in range(8)
        ]
        call = Call(tools[0].name, dict(zip("xyz", values)))
        question = (
            f"Please take {values[0]} to {values[1]} and tell {values[2]} about it by letter."
        )
        task = replace(TASK, id=f"{i:05d}", question=question, tools=tools, calls=[call])
        spec = Spec(rng.choice(generator.DOMAINS), "single_turn", 8, 1)
        candidates.append(Candidate(f"{i:05d}", spec, task))
    start = time.process_time()
    sound = curate.check(candidates, cfg)
    for c in sound:
        c.p = curate.pass_rate([c.task.calls] * 5 + [[]] * 3, c.task.calls)
    selected = curate.select(curate.verify(sound, 0.125), 2000)
    assert time.process_time() - start < 8 and len(sound) == 10_000 and len(selected) == 1000
