"""Prompts: the two that ship, and one's own from a file with named fields."""

import pytest

import generator
import solver
from ast_match import Call, Tool
from errors import UsageError
from generator import Spec, Task
from template import Template, read_template

GENERATOR_FILE = "{domain} {context} {menu_size} {calls}"
TASK = Task("", "Rain in Paris?", [Tool("f", "F.", {"x": {"type": "string"}}, ())], [Call("f", {})])


def written(folder, text):
    path = folder / "mine.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_line_of_dashes_separates_the_system_message_from_the_user_message(tmp_path):
    path = written(tmp_path, "You call tools.\n---\n{tools}\n{question}\n")
    system, user = solver.prompt(TASK, solver.template_of(path))
    assert system == {"role": "system", "content": "You call tools."}
    assert user["role"] == "user" and user["content"].endswith("\nRain in Paris?")


def test_without_the_line_all_is_the_user_message(tmp_path):
    path = written(tmp_path, "{tools} -- --- {question}")
    (user,) = solver.prompt(TASK, solver.template_of(path))
    assert user["role"] == "user" and " -- --- Rain" in user["content"]


def test_every_field_is_replaced_and_the_example_is_optional(tmp_path):
    path = written(tmp_path, GENERATOR_FILE + "\n{example}")
    spec = Spec("travel", "multi_turn", 3, 1, example_seed=5)
    (user,) = generator.prompt(spec, generator.template_of(path))
    first, rest = user["content"].split("\n", 1)
    assert first == "travel multi_turn 3 1"
    assert rest == generator.show(generator.examples_of(spec)[0])
    path = written(tmp_path, GENERATOR_FILE)
    assert generator.prompt(spec, generator.template_of(path))[0]["content"] == first


@pytest.mark.parametrize("field", ["domain", "context", "menu_size", "calls"])
def test_a_missing_field_of_the_generator_is_named(tmp_path, field):
    path = written(tmp_path, GENERATOR_FILE.replace(f"{{{field}}}", ""))
    with pytest.raises(UsageError, match=rf"mine\.txt lacks the field \{{{field}\}}"):
        generator.template_of(path)


@pytest.mark.parametrize("field", ["tools", "question"])
def test_a_missing_field_of_the_solver_is_named(tmp_path, field):
    path = written(tmp_path, "{tools} {question}".replace(f"{{{field}}}", ""))
    with pytest.raises(UsageError, match=rf"lacks the field \{{{field}\}}"):
        solver.template_of(path)


def test_an_unknown_field_is_named_with_those_that_there_are(tmp_path):
    path = written(tmp_path, "{tools} {question} {domain}")
    with pytest.raises(UsageError) as error:
        solver.template_of(path)
    assert "unknown field {domain}" in str(error.value)
    assert "{example}, {question}, {tools}" in str(error.value)


def test_braces_of_json_stay_as_they_are(tmp_path):
    form = '[{"name": "f", "arguments": {"x": 1}}] {} { tools } {Name} {3}'
    path = written(tmp_path, form + " {tools} {question}")
    (user,) = solver.prompt(TASK, solver.template_of(path))
    assert user["content"].startswith(form)


def test_a_value_with_braces_is_not_a_field():
    chat = Template("", "{question} {tools}").fill(question="{tools}", tools='{"a": 1}')
    assert chat[0]["content"] == '{tools} {"a": 1}'


@pytest.mark.parametrize("text", [b"\xff\xfe\x00 {tools}", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "mine.txt"
    if text:
        path.write_bytes(text)
    with pytest.raises(UsageError, match="prompt file .*mine.txt cannot be read"):
        read_template(str(path), {"tools"}, set())


@pytest.mark.parametrize("role", [generator, solver])
def test_the_placeholders_prompt_has_a_form_and_no_example(role):
    template = role.template_of("placeholders")
    text = template.system + template.user
    assert "tool_name" in text and "{example}" not in text
    for field in role.FIELDS:
        assert f"{{{field}}}" in text


@pytest.mark.parametrize("role", [generator, solver])
def test_both_default_prompts_end_by_saying_how_to_begin(role):
    assert "Begin with <think>" in role.template_of("bank").user.splitlines()[-1]


# The user messages that `tiny` was trained on; its chat template drops the system message.
GENERATOR_USER = """Domain: travel
Context: single_turn
Tools in the menu: 4
Calls in the answer: 2
Begin with <think> and write all four blocks."""
SOLVER_USER = """Tools:
[{"name": "f", "description": "F.", "parameters": {"x": {"type": "string"}}, "required": []}]

Request: Rain in Paris?

Begin with <think> and write both blocks."""
JUDGE_USER = """Tools:
[{"name": "f", "description": "F.", "parameters": {"x": {"type": "string"}}, "required": []}]

Request: Rain in Paris?

Answer: [{"name": "f", "arguments": {}}]

Reply with one digit from 1 to 5."""


def test_the_user_messages_are_those_that_tiny_was_trained_on():
    assert generator.prompt(Spec("travel", "single_turn", 4, 2))[-1]["content"] == GENERATOR_USER
    assert solver.prompt(TASK)[1]["content"] == SOLVER_USER
    assert solver.judge_prompt(TASK)[1]["content"] == JUDGE_USER
