"""Tool calls: what is read, what is refused, and when two calls are the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_match import (
    Call,
    Malformed,
    Tool,
    exact_match,
    last_block,
    parse_menu,
    parse_value,
    to_calls,
)

F = Call("f", {"x": 1})


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "f", "arguments": {"x": 1}}]',
        "[{'name': 'f', 'arguments': {'x': 1}}]",
        '{"name": "f", "arguments": {"x": 1}}',
        '```json\n[{"name": "f", "arguments": {"x": 1}}]\n```',
        '[{"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]',
        '[{"tool_name": "f", "x": 1}]',
    ],
)
def test_one_call_may_be_spelled_in_many_ways(text):
    assert to_calls(parse_value(text)) == [F]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "not JSON"),
        ("I cannot help.", "not JSON"),
        ("[" * 10_000, "nested too deep"),
        ("[" * 3_000_000, "too long"),
        ('[{"name": "f", "arguments": {"x": NaN}}]', "a number is not finite"),
        ("1e999", "a number is not finite"),
        ('["\\ud800"]', "text is not valid Unicode"),
        ("9" * 400, "a number is too large"),
        ("{1: 2}", "a key is not text"),
        ("-" * 9_000 + "1", "not JSON"),
        ("1+" * 9_000 + "1", "not JSON"),
        ("{1, 2}", "not JSON"),
        ("b'a'", "not JSON"),
    ],
)
def test_text_that_cannot_be_used_ends_as_a_named_reason(text, reason):
    with pytest.raises(Malformed, match=reason):
        parse_value(text)


def test_code_in_an_answer_is_never_run():
    with pytest.raises(Malformed):
        parse_value("f(x=1+__import__('os').getpid())")


@given(st.text() | st.text(alphabet="[]{}()\"':,\\ndaf01-.eE<>/ _", max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused_but_never_raises_anything_else(text):
    for read in (parse_value, parse_menu):
        try:
            json.dumps(read(text), default=lambda item: item.to_json()).encode()
        except Malformed as reason:
            assert str(reason)


def test_the_last_complete_block_counts_in_any_case_of_letters():
    assert last_block("<a>1</a> <A>2</A> <a>3", "a") == "2"
    assert last_block("<a> </a>", "a") is None and last_block("</a><a>", "a") is None
    assert last_block("İ<a>x</a>", "a") == "x"


def test_required_is_found_beside_and_inside_parameters():
    beside = {"name": "f", "parameters": {"x": {"type": "string"}}, "required": ["x"]}
    inside = {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "string"}},
            "required": ["x"],
        },
    }
    flat = {"name": "f", "parameters": {"x": {"type": "string"}, "required": ["x"]}}
    assert Tool.from_json(beside) == Tool.from_json(inside) == Tool.from_json(flat)


@pytest.mark.parametrize(
    "menu", ['{"name": "f"}', "[]", "[1]", '[{"name": ""}]', '[{"name": "f", "parameters": [1]}]']
)
def test_one_bad_tool_spoils_the_menu(menu):
    with pytest.raises(Malformed):
        parse_menu(menu)


def test_calls_match_in_any_order_but_none_may_be_missing_or_extra():
    g = Call("g", {})
    assert exact_match([g, F], [F, g]) and exact_match([], [])
    assert (
        not exact_match([F], [F, g])
        and not exact_match([F, F], [F])
        and not exact_match([F, F], [F, g])
    )


@pytest.mark.parametrize(
    "value, same",
    [(1.0, True), (True, False), ("1", False), (2, False), ([1], False), (None, False)],
)
def test_equal_means_equal_json(value, same):
    assert exact_match([Call("f", {"x": value})], [F]) is same


def test_brackets_inside_text_do_not_hide_deep_nesting():
    with pytest.raises(Malformed, match="nested too deep"):
        parse_value('["' + "]" * 905 + '",' + "[" * 900 + "]" * 900 + "]")
