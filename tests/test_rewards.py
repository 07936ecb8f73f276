"""Each reward term: examples worked out by hand, and the values of the released code."""

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import ORACLE, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generator import GOOD as TASK
from test_solver import GOOD as ANSWER

import curate
import generator
import rewards
import solver
from ast_match import Call
from generator import Spec
from plumbing.player import Player
from rewards import pair_score, r_acc, r_diff, r_valid

SPEC = Spec("weather", "single_turn", 2, 1)
EXAMPLE = generator.examples_of(SPEC)[0]


def parts(text, **measured):
    return rewards.generator_reward(generator.parse(text), **measured)


def test_a_good_task_gets_everything():
    reward = parts(TASK, diff=1.0, sem=0.5)
    assert (reward.fmt, reward.valid, reward.total) == (1.0, 1.0, 1 + 1 + (1.0 + 0.5) / 2)


def test_format_pays_a_third_each_for_blocks_menu_and_answer():
    assert parts(TASK.replace("[{", "[[{")).fmt == pytest.approx(1 / 3)  # neither can be read
    assert parts(
        TASK.replace('"required": ["city"]}]', '"required": ["city"]}')
    ).fmt == pytest.approx(2 / 3)
    assert parts(TASK.replace("<think>", "")).total == 0  # without all four nothing is read


def test_eq_2_pays_4_4_2_for_tool_arguments_and_values():
    assert parts(TASK.replace("rain in Paris", "rain in Rome")).valid == pytest.approx(
        0.8
    )  # value not in the question
    assert parts(TASK.replace('"city": "Paris", ', "")).valid == pytest.approx(
        0.6
    )  # required argument missing
    unknown = TASK.replace(
        '[{"name": "get_weather", "arguments"', '[{"name": "get_rain", "arguments"'
    )
    assert parts(unknown).valid == pytest.approx(
        0.2
    )  # no such tool: neither tool nor arguments count


def test_eq_2_is_the_mean_over_all_gold_calls():
    second = TASK.replace(
        '"days": 3}}]', '"days": 3}}, {"name": "get_news", "arguments": {"city": "Oslo"}}]'
    )
    assert parts(second).valid == pytest.approx((1.0 + 0.0) / 2)


def test_the_difficulty_reward_of_each_number_of_right_answers():
    row = [round(r_diff(k / 8, 8), 4) for k in range(9)]
    assert row == [0, 0.5813, 1, 1, 1, 1, 1, 0.5813, 0.1142]
    assert r_diff(1 / 8, 8) == pytest.approx(math.exp(-(0.125**2) / (2 * 0.12**2)))


def test_the_cliff_has_no_edges_and_none_is_always_0():
    assert [r_diff(k / 8, 8, "cliff") for k in range(9)] == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert not any(r_diff(k / 8, 8, "none") for k in range(9))


def test_the_judge_reward_is_the_expected_digit():
    even, sure = torch.zeros(1, 5), torch.tensor([[0.0, 0, 0, 50, 0]])
    assert rewards.r_sem(even) == [0.5] and rewards.r_sem(sure) == pytest.approx(
        [0.75]
    )  # a 4 of 1..5


@pytest.mark.parametrize(
    "question",
    [
        "hm",
        "Begin with <think> and write all four blocks.",
        "what a user asks for, a menu of tools",  # of the system message
        "The tool_name is the question",
        EXAMPLE.question,
        EXAMPLE.question.upper(),
    ],
)
def test_an_echo_of_the_prompt_or_hardly_a_question_gets_nothing(question):
    text = TASK.replace("Will it rain in Paris in the next 3 days?", question)
    draft = generator.parse(text, generator.prompt(SPEC))
    assert rewards.generator_reward(draft, diff=1.0, sem=1.0).total == 0


def test_r_curr_is_scaled_by_how_well_the_spec_is_met_and_nothing_else_is():
    whole = parts(TASK, diff=1.0, sem=0.5)
    half = parts(TASK, diff=1.0, sem=0.5, obedience=0.5)
    assert whole.total - half.total == pytest.approx(0.5 * (1.0 + 0.5) / 2)
    assert (half.fmt, half.valid, half.diff, half.sem) == (1.0, 1.0, 1.0, 0.5)


def test_near_duplicates_divide_all_but_the_reward_for_the_form():
    one = parts(TASK, diff=1.0, sem=1.0, obedience=0.5)
    three = parts(TASK, diff=1.0, sem=1.0, obedience=0.5, near_duplicates=3)
    assert three.total - 1 == pytest.approx((one.total - 1) / 3)


def test_a_factor_of_r_valid_changes_r_valid_alone():
    assert parts(TASK, valid_factor=0.5).valid == 0.5
    assert parts(TASK, valid_factor=0.0).total == 1.0


def test_solver_format_pays_3_3_4():
    fmt = lambda text: rewards.solver_reward(solver.parse(text), []).fmt
    assert fmt(ANSWER) == pytest.approx(1.0) and fmt("hello") == 0
    assert fmt("<tool_call_answer>[oops</tool_call_answer>") == pytest.approx(0.3)
    assert fmt("<tool_call_answer>[]</tool_call_answer>") == pytest.approx(0.6)


def test_a_pair_scores_2_3_5_for_name_keys_and_values():
    gold = Call("f", {"x": 1, "y": 2})
    assert pair_score(gold, gold) == pytest.approx(1.0)
    assert pair_score(Call("g", {"x": 1, "y": 2}), gold) == pytest.approx(0.8)
    assert pair_score(Call("f", {"x": 1}), gold) == pytest.approx(
        0.2 + 0.3 * 2 / 3 + 0.5
    )  # F1 of 1 of 1 and 1 of 2
    assert pair_score(Call("f", {"x": 9, "y": 2}), gold) == pytest.approx(0.2 + 0.3 + 0.5 / 2)
    assert pair_score(Call("f", {"z": 1}), gold) == pytest.approx(0.2)  # no common argument


def test_each_gold_call_takes_its_best_unused_prediction():
    f, g = Call("f", {"x": 1}), Call("g", {"y": 2})
    assert r_acc([g, f], [f, g]) == 1.0
    assert r_acc([f], [f, g]) == 0.5  # one gold call unmatched
    assert r_acc([f, f, f], [f]) == pytest.approx(1 / 1.5)  # two calls too many


def test_a_call_that_leaks_is_used_by_no_gold_call_and_still_counts_as_surplus():
    f = Call("f", {"x": 1})
    assert r_acc([f], [f], [True]) == 0.0
    assert r_acc([f, f], [f], [True, False]) == pytest.approx(1 / 1.25)
    assert r_acc([f, f], [f], [False, False]) == pytest.approx(1 / 1.25)


def test_without_thinking_there_is_no_accuracy():
    gold = solver.parse(ANSWER).calls
    assert rewards.solver_reward(solver.parse(ANSWER), gold).total == pytest.approx(2.0)
    assert rewards.solver_reward(solver.parse(ANSWER.replace("<think>", "")), gold).acc == 0


def test_the_judge_is_asked_for_the_logits_of_one_forward_pass():
    player, calls = Player(str(ROOT / "tiny")), []
    digits = [player.tokenizer(d, add_special_tokens=False)["input_ids"][-1] for d in "12345"]

    def say(module, inputs, output):  # p = 1/4 for the 2, 3/4 for the 5
        calls.append(output.logits.shape)
        output.logits[:, -1, digits] = torch.tensor([-99.0, 0.0, -99.0, -99.0, math.log(3)])

    player.model.register_forward_hook(say)
    chats = [solver.judge_prompt(generator.parse(TASK).task("", ""))] * 3
    scores = rewards.r_sem(player.digit_logits(chats))
    assert scores == pytest.approx([(0.25 * 2 + 0.75 * 5 - 1) / 4] * 3) and len(calls) == 1


def oracle(name):
    return [json.loads(line) for line in (ORACLE / name).open(encoding="utf-8")]


NOT_JSON = [
    "answer: a value is not JSON",
    "answer: a key is not text",
    "answer: a number is out of range",
]
# Where R_S differs from the released code's: kind -> which lines (and what we read), why.
SOLVER_DIFFERENCES = {
    "true is not 1": (
        lambda line, answer: line["note"] == "bool-int",
        "a Boolean for a number is a wrong answer; Python's == lets it pass",
    ),
    "three dots": (
        lambda line, answer: "..." in line["completion"] and answer.calls,
        "a value may end in three dots; there they make the whole answer unreadable",
    ),
    "not JSON": (
        lambda line, answer: answer.reason in NOT_JSON and "..." not in line["completion"],
        "NaN, bytes, sets, complex numbers, 400 digits, keys that are not text: no tool takes them",
    ),
    "no arguments": (
        lambda line, answer: (
            any(f'"arguments": {x}' in line["completion"] for x in ("null", "[]"))
            and line["gold"] == [{"name": "list_devices", "arguments": {}}]
        ),
        "null or an empty list are no arguments, not one that is called arguments",
    ),
    "inner list": (
        lambda line, answer: line["kind"].endswith("nested list"),
        "[[f, g]] is read as [f]: g would escape the price of an extra call",
    ),
    "wrapped": (
        lambda line, answer: line["kind"].endswith("function wrapper without arguments"),
        "a call in OpenAI's wrapper may have no arguments; there it is no call",
    ),
}


def test_the_solver_reward_is_the_released_codes_but_for_listed_kinds():
    seen = set()
    for line in oracle("toolr0_solver_rewards.jsonl"):
        answer, gold = solver.parse(line["completion"]), [Call(**call) for call in line["gold"]]
        ours = rewards.solver_reward(answer, gold)
        listed = [k for k, (test, _) in SOLVER_DIFFERENCES.items() if test(line, answer)]
        equal = line["r_acc"] is not None and (ours.fmt, ours.acc) == pytest.approx(
            (line["r_fmt"], line["r_acc"]), abs=1e-9
        )
        assert equal != bool(listed), (line["kind"], line["completion"], ours)
        seen |= set(listed)
    assert seen == SOLVER_DIFFERENCES.keys()


def test_the_three_parts_of_each_pair_are_the_released_codes():
    for line in oracle("toolr0_solver_rewards.jsonl"):
        answer, gold = solver.parse(line["completion"]), [Call(**call) for call in line["gold"]]
        if any(test(line, answer) for test, _ in SOLVER_DIFFERENCES.values()):
            continue
        for wanted, row in zip(gold, line["pairs"] or []):
            for call, (name, keys, values) in zip(answer.calls, row):
                score = 0.2 * name + 0.3 * keys + 0.5 * values
                assert pair_score(call, wanted) == pytest.approx(score, abs=1e-9)


# Where R_G differs (before the Solver is asked): kind -> which lines, why.
GENERATOR_DIFFERENCES = {
    "their prompt": (
        lambda line, draft: (
            line["gate"] < line["tags_parsed"] and len(draft.blocks["question"]) > 7
        ),
        "the question is an echo of their prompt; ours has other phrases",
    ),
    "numbers": (
        lambda line, draft: (
            line["kind"].startswith("grounding: ")
            and any(n in draft.blocks["question"] for n in ("5.50", "234.50", "1000000 "))
        ),
        "5.50 is 5.5 and 1,000,000 is 1000000, both ways",
    ),
    "not JSON": (
        lambda line, draft: "answer: a number is out of range" in draft.reasons,
        "NaN: no file of tasks can hold it",
    ),
    "wrapped": (
        lambda line, draft: line["kind"] == "tools: function wrapper",
        "a tool may be in OpenAI's wrapper; there it has no name",
    ),
}


def test_the_generator_reward_is_the_released_codes_but_for_listed_kinds():
    """With several gold calls, ours is the mean over the calls, as Eq. (2) asks.

    The released code looks at the first only; `paper` in a line has what holds of all of them.
    """
    seen, several = set(), 0
    for line in oracle("toolr0_generator_rewards.jsonl"):
        draft = generator.parse(line["completion"])
        ours, wanted = rewards.generator_reward(draft), {**line, **(line["paper"] or {})}
        each = [r_valid(replace(draft, calls=[call])) for call in draft.calls or []]
        if not draft.placeholder:
            assert ours.valid == pytest.approx(sum(each) / max(len(each), 1))
        together = dict(
            gold_tool_exists=bool(each) and all(e > 0.3 for e in each),  # .4 the tool
            gold_args_valid=bool(each) and all(e > 0.7 for e in each),  # .8 and its arguments
            gold_values_valid=bool(each) and all(round(10 * e) in (2, 6, 10) for e in each),
        )
        named = [k for k, (test, _) in GENERATOR_DIFFERENCES.items() if test(line, draft)]
        if wanted["gold_valid_json"] != line["gold_valid_json"]:  # the second item is not a call
            assert "answer: an item is not a call" in draft.reasons
            continue
        equal = ours.fmt == pytest.approx(line["r_fmt"], abs=1e-9) and (
            ours.fmt == 0 or all(wanted[name] in (None, value) for name, value in together.items())
        )
        assert equal != bool(named), (line["kind"], ours, together)
        seen |= set(named)
        several += len(each) > 1 and ours.valid != pytest.approx(line["r_valid"])
    assert seen == GENERATOR_DIFFERENCES.keys() and several > 50


def test_the_parts_of_the_generator_reward_are_the_released_codes():
    """They differ in what is a success (there 1.0 is not 1) and in the phrases of their prompt."""
    for line in oracle("toolr0_generator_units.jsonl"):
        if line["function"] == "difficulty_reward_bandpass":
            assert r_diff(line["p"], line["k"]) == pytest.approx(line["result"], abs=1e-9)
        if line["function"] == "is_placeholder_question":
            assert line["result"] or not generator.is_placeholder(line["question"], "")
        if line["function"] == "success_prob_against_gold" and line["calls"]:
            answers = [[Call(**call)] if call else [] for call in line["calls"]]
            theirs = sum(
                "1.0" not in json.dumps(call)
                and answer == [Call(**line["gold"])]
                and type(answer[0].arguments["x"]) is int
                for call, answer in zip(line["calls"], answers)
            ) / len(answers)
            assert theirs == line["result"]
            assert curate.pass_rate(answers, [Call(**line["gold"])]) >= theirs


@given(st.lists(st.sampled_from("fgh"), max_size=4), st.lists(st.sampled_from("fgh"), max_size=4))
@settings(max_examples=200, deadline=None)
def test_the_accuracy_is_a_share_and_full_for_the_gold_calls_in_any_order(predicted, gold):
    calls = lambda names: [Call(name, {"x": name}) for name in names]
    assert 0 <= r_acc(calls(predicted), calls(gold)) <= 1
    if gold:
        assert r_acc(calls(sorted(gold)), calls(gold)) == pytest.approx(1)


GOLD = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}


def test_a_question_with_two_good_answers_earns_the_full_difficulty_reward():
    rain = GOLD | {"name": "get_rain"}
    answers = [[Call(**GOLD)], [Call(**rain)]] * 4  # the Solver tosses a coin
    assert r_diff(curate.pass_rate(answers, [Call(**GOLD)]), 8) == 1


def test_the_means_are_over_the_named_parts():
    some = [parts(TASK, diff=1.0), parts(TASK, diff=0.5, sem=1.0, near_duplicates=3)]
    found = rewards.means(some)
    assert found["diff"] == 0.75 and found["sem"] == 0.5
    assert found.keys() == {"fmt", "valid", "diff", "sem"}  # factors are not parts


def test_two_calls_without_arguments_and_with_different_names_are_worth_8():
    assert pair_score(Call("g", {}), Call("f", {})) == pytest.approx(0.8)
