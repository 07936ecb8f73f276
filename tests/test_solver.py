"""The Solver: one prompt, and what is read of an answer."""

import pytest

import solver
from ast_match import Call, Tool
from generator import Task

TOOLS = [Tool("get_weather", "Forecast.", {"city": {"type": "string"}}, ("city",))]
GOOD = '<think>\nweather\n</think>\n<tool_call_answer>\n[{"name": "get_weather", "arguments": {"city": "Paris"}}]\n</tool_call_answer>'


def test_the_prompt_shows_the_menu_then_the_request_and_says_how_to_begin():
    system, user = solver.prompt(Task("", "Rain in Paris?", TOOLS, []))
    menu, request = (
        user["content"].index('"get_weather"'),
        user["content"].index("Request: Rain in Paris?"),
    )
    assert menu < request and user["content"].endswith("Begin with <think> and write both blocks.")
    assert "<tool_call_answer>" in system["content"] and "Paris" not in system["content"]


def test_the_gold_calls_are_not_in_the_prompt_and_do_not_change_it():
    gold = [Call("get_weather", {"city": "Paris", "hidden": "gold"})]
    chat = solver.prompt(Task("", "Rain in Paris?", TOOLS, gold))
    assert chat == solver.prompt(Task("", "Rain in Paris?", TOOLS, []))


def test_the_example_of_the_prompt_is_drawn_by_the_task_and_shown_in_the_system_message():
    systems = set()
    for question in ("Rain in Paris?", "Snow in Oslo?", "Sun in Rome?"):
        task = Task("", question, TOOLS, [])
        system, _ = solver.prompt(task)
        assert solver.show(solver.example_of(task)) in system["content"]
        assert "Leave out every optional argument" in system["content"]
        systems.add(system["content"])
    assert len(systems) == 3


def test_the_judge_sees_question_menu_and_answer():
    task = Task("", "Rain in Paris?", TOOLS, [Call("get_weather", {"city": "Paris"})])
    user = solver.judge_prompt(task)[1]["content"]
    assert (
        "Rain in Paris?" in user and '"required": ["city"]' in user and '{"city": "Paris"}' in user
    )


def test_a_good_answer_is_read():
    assert solver.parse(GOOD) == solver.Answer(
        True, True, True, [Call("get_weather", {"city": "Paris"})], None
    )


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "no tool_call_answer"),
        (GOOD.replace("</tool_call_answer>", ""), "no tool_call_answer"),
        (GOOD.replace("]", ""), "answer: not JSON"),
        ("<tool_call_answer>[]</tool_call_answer>", "answer: no call"),
        ("<tool_call_answer>" + "[" * 10_000 + "</tool_call_answer>", "answer: nested too deep"),
    ],
)
def test_a_broken_answer_has_no_calls_and_a_named_reason(text, reason):
    assert solver.parse(text).calls == [] and solver.parse(text).reason == reason


@pytest.mark.parametrize(
    "think",
    [
        "I answer in <tool_call_answer>.",
        "The form is <TOOL_CALL_ANSWER>[]</TOOL_CALL_ANSWER>.",
        "I end with </think> and write <tool_call_answer>.",
        "<tool_call_answer>",
    ],
)
def test_tags_in_the_thinking_open_no_answer(think):
    text = GOOD.replace("weather\n</think>", f"{think}\n</think>")
    assert text != GOOD and solver.parse(text) == solver.parse(GOOD)


def test_an_answer_in_the_thinking_counts_if_there_is_no_other():  # as in the released code
    inside = GOOD.replace("\n</think>", "") + "</think>"
    assert solver.parse(inside) == solver.parse(GOOD)


def test_a_tag_in_a_value_does_not_end_the_answer():
    text = GOOD.replace("Paris", "</tool_call_answer> or </think>, <tool_call_answer>")
    (call,) = solver.parse(text).calls
    assert call.arguments == {"city": "</tool_call_answer> or </think>, <tool_call_answer>"}
