"""The Generator: the distribution of specs, the prompt, and what is read of a completion."""

import json
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import generator
import guards
from errors import Malformed
from generator import Spec, Task

GOOD = """<think>
A weather request.
</think>
<question>
Will it rain in Paris in the next 3 days?
</question>
<available_tools>
[{"name": "get_weather", "description": "Forecast.", "parameters": {"city": {"type": "string"}, "days": {"type": "integer"}},
  "required": ["city"]}, {"name": "get_time", "parameters": {"city": {"type": "string"}}, "required": ["city"]}]
</available_tools>
<tool_call_answer>
[{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
</tool_call_answer>"""


def test_specs_follow_the_papers_distribution():
    specs = [generator.sample_spec(random.Random(i)) for i in range(20_000)]
    share = lambda test, among=specs: sum(map(test, among)) / len(among)
    single = [s for s in specs if s.context == "single_turn"]
    one, two = [s for s in specs if s.calls == 1], [s for s in specs if s.calls == 2]
    assert share(lambda s: s.context == "multi_turn") == pytest.approx(0.1, abs=0.01)
    assert share(lambda s: s.calls == 2, single) == pytest.approx(0.2, abs=0.01)
    assert all(s.calls == 1 for s in specs if s.context == "multi_turn")
    assert share(lambda s: s.menu_size >= 5, one) == pytest.approx(0.6, abs=0.015)
    assert share(lambda s: s.menu_size == 4, two) == pytest.approx(0.4, abs=0.03)
    assert {s.menu_size for s in one} == set(range(2, 9)) and {s.menu_size for s in two} == {
        3,
        4,
        5,
    }
    assert len(generator.DOMAINS) == 32 and min(Counter(s.domain for s in specs).values()) > 500


def test_examples_of_the_specs_size_are_earlier_turns_and_the_spec_is_the_last_message():
    rules = set()
    for domain, menu_size, calls in (("travel", 4, 2), ("math", 2, 1)):
        spec = Spec(domain, "single_turn", menu_size, calls, example_seed=menu_size)
        system, *turns, user = generator.prompt(spec)
        rules.add(system["content"])
        for what in (f"Domain: {domain}", f"menu: {menu_size}", f"answer: {calls}"):
            assert what in user["content"] and what not in system["content"]
        shown = generator.examples_of(spec)
        assert len({example.domain for example in shown}) == generator.SHOTS
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * generator.SHOTS
        for example, ask, reply in zip(shown, turns[::2], turns[1::2], strict=True):
            assert ask["content"] == user["content"].replace(domain, example.domain)
            draft = generator.parse(reply["content"])
            assert (draft.question, draft.calls) == (example.question, example.calls)
    assert len(rules) == 1


def test_of_two_tools_with_one_name_the_later_one_counts():
    draft = generator.parse(GOOD.replace("get_time", "get_weather"))
    assert [(tool.name, list(tool.parameters)) for tool in draft.tools] == [
        ("get_weather", ["city"])
    ]


def test_the_share_of_large_menus_is_an_argument():
    for share, sizes in ((0.0, {2, 3, 4}), (1.0, {5, 6, 7, 8})):
        specs = generator.sample_specs(0, 400, share)
        assert {s.menu_size for s in specs if s.calls == 1} == sizes


def test_a_piece_of_the_prompt_is_a_placeholder_whatever_the_prompt():
    """An echo of the example, or of a custom prompt, earns nothing either."""
    spec = Spec("travel", "single_turn", 3, 1, example_seed=4)
    question = generator.examples_of(spec)[0].question
    text = GOOD.replace("Will it rain in Paris in the next 3 days?", question)
    assert generator.parse(text, generator.prompt(spec)).placeholder
    assert not generator.parse(text).placeholder
    own = [{"role": "user", "content": "Write: Will it rain in Paris in the next 3 days?"}]
    assert generator.parse(GOOD, own).placeholder


def test_a_good_completion_becomes_a_task():
    task = generator.parse(GOOD).task("1-0", "weather")
    assert task.question == "Will it rain in Paris in the next 3 days?"
    assert [t.name for t in task.tools] == ["get_weather", "get_time"] and task.tools[
        0
    ].required == ("city",)
    assert task.calls[0].arguments == {"city": "Paris", "days": 3}
    assert Task.from_json(task.to_json()) == task


@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("</think>", "", "no think"),
        ("Will it rain in Paris in the next 3 days?", "hm", "question is a placeholder"),
        ("<question>", "", "no question"),
        ('"city": "Paris",', '"city": "Paris"', "answer: not JSON"),
        ('[{"name": "get_weather", "desc', '{"name": "get_weather", "desc', "menu: not JSON"),
        ('"name": "get_time", ', "", "menu: a tool has no name"),
        ('"name": "get_weather", "arguments"', '"x"', "answer: no call"),
    ],
)
def test_what_is_broken_ends_as_a_named_reason(old, new, reason):
    assert old in GOOD
    draft = generator.parse(GOOD.replace(old, new))
    assert reason in draft.reasons and draft.task("", "") is None


@pytest.mark.parametrize(
    "thought",
    [
        "The user writes in <question>, I answer in <tool_call_answer>.",
        "A draft: <question>Is it cold in Rome?</question>",
        "First </question>, then </available_tools>.",
        "I end with </think> and begin with <available_tools>.",
        '<tool_call_answer>[{"name": "get_time", "arguments": {}}]</tool_call_answer>',
    ],
)
def test_tags_in_the_thinking_open_and_close_nothing(thought):
    draft = generator.parse(GOOD.replace("A weather request.", thought))
    assert draft.task("", "weather") == generator.parse(GOOD).task("", "weather")


def test_a_block_that_is_in_the_thinking_alone_does_not_count():
    text = GOOD.replace("A weather request.", "<question>Is it cold in Rome today?</question>")
    draft = generator.parse(re.sub(r"(?s)</think>\n<question>.*?</question>", "</think>", text))
    assert draft.reasons == ["no question"]


@pytest.mark.parametrize("tag", ["<think>", "</tool_call_answer>", "<Question>"])
def test_a_question_that_holds_a_tag_is_read_and_left_to_the_guards(tag):
    draft = generator.parse(GOOD.replace("in Paris in", f"in Paris {tag} in"))
    task = draft.task("", "weather")
    assert tag in task.question
    assert guards.no_question(task.question, task.tools) == "question holds a tag"


def test_a_menu_may_be_in_openais_wrapper():
    menu = json.loads(
        re.search(r"<available_tools>\s(.*?)\s</available_tools>", GOOD, re.DOTALL)[1]
    )
    wrapped = json.dumps([{"type": "function", "function": tool} for tool in menu])
    text = GOOD.replace(GOOD[GOOD.index("[{") : GOOD.index("</available_tools>")], wrapped)
    task = generator.parse(text).task("", "weather")
    assert task == generator.parse(GOOD).task("", "weather")
    line = task.to_json() | {"tools": json.loads(wrapped)}
    assert Task.from_json(line) == task


@given(
    st.text(alphabet='<>/thinkquestionavailable_toolscall_answer[]{}":,1\ud800', max_size=200)
    | st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut] + GOOD[cut + 3 :])
)
@settings(max_examples=300, deadline=None)
def test_no_completion_raises(text):
    draft = generator.parse(text)
    assert draft.reasons or draft.task("", "").to_json()


@pytest.mark.parametrize(
    "line, what",
    [
        ([], "not a task"),
        ({"question": "q", "tools": {}}, "'tools' is not a list"),
        ({"question": "q", "tools": [1], "calls": []}, "a tool is not"),
        ({"question": "q", "tools": [], "calls": [1]}, "'calls' is not"),
    ],
)
def test_a_line_that_is_not_a_task_is_refused_with_what_is_wrong(line, what):
    with pytest.raises(Malformed, match=what):
        Task.from_json(line)
