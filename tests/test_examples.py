"""The bank of examples: its breadth, its soundness, and how a drawn example is sized to a spec."""

from dataclasses import replace

import pytest

import curate
import examples
import generator
import guards
import solver
from config import Config
from examples import Example
from generator import Spec, Task
from text_match import grounded

BANK = examples.read_bank()
DOMAINS = pytest.mark.parametrize("domain", BANK)
KINDS = ("string", "integer", "number", "boolean")
SIZES = [(m, 1) for m in range(2, 9)] + [(m, 2) for m in (3, 4, 5)]
OFF = Config(guards="off", spec="gate")


def optional(tool):
    return tool.parameters.keys() - set(tool.required)


def test_the_bank_has_at_least_12_domains_that_no_spec_asks_for():
    assert len(BANK) >= 12
    assert not BANK.keys() & set(generator.DOMAINS)


@DOMAINS
def test_each_domain_has_eight_tools_with_one_to_four_typed_arguments(domain):
    tools, _ = BANK[domain]
    assert len({tool.name for tool in tools}) == len(tools) == 8
    for tool in tools:
        assert tool.description
        assert 1 <= len(tool.parameters) <= 4, tool.name
        assert set(tool.required) <= tool.parameters.keys()
        for schema in tool.parameters.values():
            assert schema["type"] in KINDS, tool.name
    assert len(set(map(curate_kind, tools))) == 8  # a choice among them is a choice


def curate_kind(tool):
    return (tool.description, *sorted(tool.parameters))


def test_the_arguments_of_the_bank_have_every_type_and_half_of_the_tools_optional_ones():
    tools = [tool for menu, _ in BANK.values() for tool in menu]
    schemas = [schema for tool in tools for schema in tool.parameters.values()]
    for kind in KINDS:
        assert sum(schema["type"] == kind for schema in schemas) >= 12, kind
    assert sum("enum" in schema for schema in schemas) >= 12
    assert {len(tool.parameters) for tool in tools} == {1, 2, 3, 4}
    assert sum(bool(optional(tool)) for tool in tools) >= len(tools) / 2


@DOMAINS
def test_each_domain_asks_for_one_call_for_two_and_in_a_dialogue(domain):
    _, requests = BANK[domain]
    kinds = {(request.context, len(request.calls)) for request in requests}
    assert kinds == {("single_turn", 1), ("single_turn", 2), ("multi_turn", 1)}
    for request in requests:
        lines = request.question.splitlines()
        if request.context == "multi_turn":
            assert [line.split(":")[0] for line in lines][:2] == ["User", "Assistant"]
        else:
            assert len(lines) == 1


def test_the_requests_are_questions_orders_and_remarks():
    questions = [r.question for _, requests in BANK.values() for r in requests]
    single = [q for q in questions if not q.startswith("User: ")]
    asked = sum(q.endswith("?") for q in single)
    assert 0.1 < asked / len(single) < 0.9
    assert len({q.split()[0] for q in single}) > len(single) / 3
    assert len(set(questions)) == len(questions)


@DOMAINS
def test_each_value_is_in_its_request_and_fits_its_type(domain):
    tools, requests = BANK[domain]
    menu = {tool.name: tool for tool in tools}
    for request in requests:
        for call in request.calls:
            tool = menu[call.name]
            assert set(tool.required) <= call.arguments.keys() <= tool.parameters.keys()
            for name, value in call.arguments.items():
                schema = tool.parameters[name]
                assert fits(value, schema), (call, name)
                assert grounded(value, request.question), (call, name)


def fits(value, schema):
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    right = isinstance(value, types[schema["type"]])
    if isinstance(value, bool):
        right = schema["type"] == "boolean"
    return right and value in schema.get("enum", [value])


def test_a_value_of_a_wrong_type_would_be_seen():
    assert not fits(True, {"type": "integer"})
    assert not fits("3", {"type": "number"})
    assert not fits("red", {"type": "string", "enum": ["blue"]})


@DOMAINS
def test_each_request_is_a_task_that_curation_and_the_guards_accept(domain):
    """What a prompt shows as good must be good by the project's own rules."""
    tools, requests = BANK[domain]
    for request in requests:
        task = Task("", request.question, tools, list(request.calls))
        spec = Spec("math", request.context, 8, len(request.calls))
        assert curate.structural_reason(task, spec, OFF) is None, request
        assert guards.no_question(task.question, tools) is None, request
        assert not generator.is_placeholder(task.question, "")


def test_a_third_or_more_of_the_requests_leave_an_optional_argument_out():
    left_out = []
    for tools, requests in BANK.values():
        left_out += [examples.leaves_optional_out(r.calls, tools) for r in requests]
    assert sum(left_out) / len(left_out) >= 1 / 3


@pytest.mark.parametrize("menu_size, calls", SIZES)
@pytest.mark.parametrize("context", ["single_turn", "multi_turn"])
def test_an_example_has_the_size_and_context_of_its_spec(menu_size, calls, context):
    if context == "multi_turn" and calls == 2:
        return  # no spec is
    for seed in range(30):
        example = examples.draw(seed, menu_size, calls, context)
        assert (len(example.tools), len(example.calls)) == (menu_size, calls)
        assert example.context == context
        names = [tool.name for tool in example.tools]
        assert len(set(names)) == menu_size
        assert {call.name for call in example.calls} <= set(names)


def test_the_seed_alone_decides_the_example():
    assert examples.draw(7, 5, 1) == examples.draw(7, 5, 1)
    drawn = [examples.draw(seed, 5, 1) for seed in range(300)]
    assert {example.domain for example in drawn} == BANK.keys()
    assert len({example.question for example in drawn}) > 2 * len(BANK)
    places = [[tool.name for tool in e.tools].index(e.calls[0].name) for e in drawn]
    assert set(places) == set(range(5))  # the tool that is called is anywhere in the menu


def test_specs_of_one_seed_have_the_same_examples_and_differ_among_themselves():
    specs = generator.sample_specs(3, 40)
    assert specs == generator.sample_specs(3, 40)
    shown = [generator.examples_of(spec)[0] for spec in specs]
    assert len({example.domain for example in shown}) > 6
    for spec, example in zip(specs, shown):
        assert (example.context, len(example.tools)) == (spec.context, spec.menu_size)
        assert len(example.calls) == spec.calls


def test_the_solvers_example_leaves_an_optional_argument_out_and_is_drawn_by_the_task():
    seen = set()
    for i in range(60):
        task = Task(str(i), f"question {i}", [], [])
        example = solver.example_of(task)
        assert examples.leaves_optional_out(example.calls, example.tools)
        assert example == solver.example_of(replace(task, id="other"))
        seen.add(example.domain)
    assert len(seen) > 6


def test_leaving_out_is_seen_per_called_tool():
    example = examples.draw(0, 8, 1)
    tools = [replace(t, required=tuple(t.parameters)) for t in example.tools]
    given = {name: 1 for name in tools[0].parameters}
    call = replace(example.calls[0], name=tools[0].name, arguments=given)
    assert not examples.leaves_optional_out([call], tools)
    given.pop(next(iter(given)))
    assert examples.leaves_optional_out([replace(call, arguments=given)], tools)


def test_the_plan_numbers_tools_and_calls_and_names_what_is_left_out():
    tools = BANK["library"][0]
    call = BANK["library"][1][0].calls[0]
    shown = generator.show(Example("library", "single_turn", "q", tools[:2], [call]))
    assert "Tool 1: find_book(title, branch, large_print?)\nTool 2: renew_loan(" in shown
    assert (
        "Call 1: find_book with title The Little Prince, branch Harbour; without large_print"
        in (shown)
    )


def test_a_shown_example_reads_back_as_itself():
    """The form that the prompt shows is the form that the parsers read."""
    for seed in range(40):
        example = examples.draw(seed, 4, 1)
        task = generator.parse(generator.show(example)).task("", "")
        assert (task.question, task.calls) == (example.question, example.calls)
        assert [tool.name for tool in task.tools] == [tool.name for tool in example.tools]
        assert [tool.required for tool in task.tools] == [t.required for t in example.tools]
        answer = solver.parse(solver.show(example).split("Request: ")[1])
        assert (answer.think, answer.calls) == (True, example.calls)
