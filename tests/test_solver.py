"""The Solver: one prompt, and what is read of an answer."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

import solver
from ast_match import Call, Tool
from generator import Task
from scripts import ask

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


def test_the_command_prints_the_calls_as_json(tmp_path):
    menu = [
        {
            "name": "cancel_order",
            "description": "Cancel the order.",
            "parameters": {"person": {"type": "string"}},
            "required": ["person"],
        },
        {
            "name": "find_coupon",
            "description": "Find the coupon.",
            "parameters": {"city": {"type": "string"}},
            "required": ["city"],
        },
    ]
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(menu))
    command = [sys.executable, "solver.py", "--model", "tiny", "--tools", str(tools)]
    command.append("Please cancel the order for Tora.")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["name"] in ("cancel_order", "find_coupon")


def test_a_users_menu_may_be_long_in_openais_form_and_begin_with_a_byte_order_mark(tmp_path):
    tools = [
        {"type": "function", "function": {"name": f"tool_{i}", "description": "x" * 300}}
        for i in range(40)
    ]
    (tmp_path / "tools.json").write_text("\ufeff" + json.dumps(tools), encoding="utf-8")
    assert len(ask.read_menu(tmp_path / "tools.json")) == 40


@pytest.mark.parametrize(
    "menu, more, what",
    [
        ('{"name": "f"}', [], "tools.json: the menu is not a list"),
        ("{", [], "tools.json: not JSON"),
        (None, [], "tools.json"),
        ("[]", ["--max-new-tokens", "0"], "--max-new-tokens 0"),
        ('[{"name": "f"}]', ["--device", "tpu"], "--device tpu"),
        ('[{"name": "f"}]', ["--max-new-tokens", "9", "\udcff"], "not valid Unicode"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(
    tmp_path, monkeypatch, capsys, menu, more, what
):
    tools = tmp_path / "tools.json"
    if menu:
        tools.write_text(menu)
    options = [
        "--model",
        "tiny",
        "--tools",
        str(tools),
        *more,
        *(["hello"] if len(more) < 3 else []),
    ]
    monkeypatch.setattr(sys, "argv", ["solver.py", *options])
    with pytest.raises(SystemExit) as left:
        ask.main()
    assert left.value.code == 2 and what in capsys.readouterr().err.splitlines()[-1]
