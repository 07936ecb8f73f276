"""Each reward term with an example worked out by hand."""

import math

import pytest
import torch
from test_generator import GOOD as TASK
from test_solver import GOOD as ANSWER

import generator
import rewards
import solver
from ast_match import Call
from rewards import grounded, pair_score, r_acc, r_diff


def parts(text, **measured):
    return rewards.generator_reward(generator.parse(text), **measured)


def test_a_good_task_gets_everything():
    reward = parts(TASK, diff=1.0, sem=0.5)
    assert (reward.fmt, reward.valid, reward.total) == (1.0, 1.0, 1 + 1 + (1.0 + 0.5) / 2)


def test_format_pays_a_third_each_for_blocks_menu_and_answer():
    assert parts(TASK.replace("<think>", "")).fmt == pytest.approx(2 / 3)
    assert parts(
        TASK.replace('"required": ["city"]}]', '"required": ["city"]}')
    ).fmt == pytest.approx(2 / 3)
    assert parts("<question>Will it rain in Paris?</question>").fmt == 0


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


@pytest.mark.parametrize(
    "value, question, found",
    [
        (3, "for three days", True),
        ("three", "for 3 days", True),
        (1000, "pay 1,000 now", True),
        (1000, "pay 1000 now", True),
        (3.5, "3.50 kg", True),
        (5, "5.5 kg", False),
        (5, "15 kg", False),
        ("art", "a party", False),
        ("New York", "to new  york!", True),
        ("2025-06-01", "on 2025-06-01.", True),
        (True, "anything", True),
        (None, "anything", True),
        ("", "anything", False),
        ("café", "the CAFÉ", True),
        ([1, 2], "1 and 2", True),
        ([], "1", False),
        ("A-12", "code a-12", True),
    ],
)
def test_a_value_stands_in_the_question_on_word_boundaries(value, question, found):
    assert grounded(value, question) is found


def test_the_difficulty_reward_on_eighths_is_the_designs_row():
    row = [round(r_diff(k / 8, 8), 4) for k in range(9)]
    assert row == [0, 0.5813, 1, 1, 1, 1, 1, 0.5813, 0.1142]
    assert r_diff(1 / 8, 8) == pytest.approx(math.exp(-(0.125**2) / (2 * 0.12**2)))


def test_the_judge_reward_is_the_expected_digit():
    even, sure = torch.zeros(1, 5), torch.tensor([[0.0, 0, 0, 50, 0]])
    assert rewards.r_sem(even) == [0.5] and rewards.r_sem(sure) == pytest.approx(
        [0.75]
    )  # a 4 of 1..5


@pytest.mark.parametrize(
    "question", ["what the user says", "hm", "Begin with <think> and write all four blocks."]
)
def test_an_echo_of_the_prompt_gets_nothing(question):
    reward = parts(
        TASK.replace("Will it rain in Paris in the next 3 days?", question), diff=1.0, sem=1.0
    )
    assert reward.total == 0


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


def test_without_thinking_there_is_no_accuracy():
    gold = solver.parse(ANSWER).calls
    assert rewards.solver_reward(solver.parse(ANSWER), gold).total == pytest.approx(2.0)
    assert rewards.solver_reward(solver.parse(ANSWER.replace("<think>", "")), gold).acc == 0


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("5", 5, True),
        ("3.50", 3.5, True),
        (1, 1.0, True),
        (True, 1, False),
        ("a  b", "a b", True),
        ("A", "a", False),
        ([1], [1.0], True),
        (10**400, 1, False),
    ],
)
def test_values_are_compared_as_numbers_and_words(a, b, same):
    assert rewards.same_value(a, b) is same
