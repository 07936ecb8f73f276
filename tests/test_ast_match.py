"""Tool calls: what is read, what is refused, and when two calls are the same."""

import json
import re
import time
from collections import Counter

import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_match import (
    Call,
    Tool,
    exact_match,
    last_block,
    parse_value,
    read_blocks,
    to_calls,
    to_tools,
)
from errors import Malformed
from evals.bfcl import bfcl_match

F = Call("f", {"x": 1})


def menu(text):
    """Read the tools from the text of a menu."""
    return to_tools(parse_value(text, python=False))


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "f", "arguments": {"x": 1}}]',
        "[{'name': 'f', 'arguments': {'x': 1}}]",
        '{"name": "f", "arguments": {"x": 1}}',
        '```json\n[{"name": "f", "arguments": {"x": 1}}]\n```',
        '```JSON\n[{"name": "f", "arguments": {"x": 1}}]',
        '[[{"name": "f", "arguments": {"x": 1}}]]',
        '[{"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]',
        '[{"tool_name": "f", "x": 1}]',
    ],
)
def test_one_call_may_be_spelled_in_many_ways(text):
    assert to_calls(parse_value(text)) == [F]


EMPTY = [
    "null",
    "[]",
    '""',
    "{}",
    '"null"',
    '" "',
    '"{}"',
    '"[]"',
    '" null\\n"',
    '"None"',
    '"\\"\\""',
]


@pytest.mark.parametrize("empty", EMPTY)
def test_no_arguments_may_be_spelled_in_many_ways(empty):
    for text in (
        '[{"name": "f", "arguments": %s}]',
        '[{"function": {"name": "f", "arguments": %s}}]',
    ):
        for strict in (False, True):
            assert to_calls(parse_value(text % empty), strict) == [Call("f", {})]


@pytest.mark.parametrize(
    "item",
    [
        {"function": {"name": "f"}},
        {"type": "function", "function": {"name": "f"}},
        {"id": "call_7", "type": "function", "function": {"name": "f", "arguments": None}},
        {"id": "call_7", "type": "function", "function": {"name": "f", "arguments": " "}},
        {"type": "function", "function": {"tool_name": "f"}},
    ],
)
def test_a_wrapped_call_may_lack_arguments(item):
    for strict in (False, True):
        assert to_calls([item, F.to_json()], strict) == [Call("f", {}), F]


def test_arguments_may_be_beside_the_name_in_the_wrapper():
    assert to_calls({"function": {"name": "f", "x": 1}}) == [F]
    assert to_calls({"function": {"x": 1}}) == to_calls({"function": {"name": " "}}) == []
    assert to_calls({"function": {"name": "f", "arguments": "{oops"}}) == []  # as in the release


def test_json_with_the_words_of_python_is_read():
    assert parse_value('{"a": null, "b": True, "c": "True \\" None"}') == {
        "a": None,
        "b": True,
        "c": 'True " None',
    }
    assert parse_value('{"a": True, "b": None, "c": false}') == {"a": True, "b": None, "c": False}


@pytest.mark.parametrize(
    "text, value",
    [
        (r'{"url": "http:\/\/a.io\/b", "on": True}', {"url": "http://a.io/b", "on": True}),
        (r'{"path": "a\/b", "x": None, "y": null}', {"path": "a/b", "x": None, "y": None}),
        (r'{"path": "a\/b", "x": null,}', None),  # one comma too many is Python, null is JSON
        (r'["a\/b", "c",]', ["a/b", "c"]),
        (r"{'path': 'a\/b'}", {"path": "a/b"}),
        (r'["back\\/slash", True]', ["back\\/slash", True]),
        (r'["\\\/", False]', ["\\/", False]),
        (r'["\ud83d\ude00", True]', ["😀", True]),
        (r'["\uD83D\uDE00 and \ud83c\udf89",]', ["😀 and 🎉"]),
        (r"{'\ud83d\ude00': None}", {"😀": None}),
        (r'["caf\u00e9", None]', ["café", None]),
        (r'["a\"b\/c", True, "None"]', ['a"b/c', True, "None"]),
        (r'{"a": "\b\f\n\r\t", "b": False}', {"a": "\b\f\n\r\t", "b": False}),
        ("{'a': 1}  # a comment", {"a": 1}),
        (r'["\ud83d", True]', None),
        (r'["\ude00\ud83d", None]', None),
        (r"['\ud83d ', 1]", None),
    ],
)
def test_jsons_escapes_are_read_beside_pythons_words_and_commas(text, value):
    if value is None:
        with pytest.raises(Malformed):
            parse_value(text)
    else:
        assert parse_value(text) == value
        json.dumps(parse_value(text), ensure_ascii=False).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
    max_leaves=8,
)


def without_unpaired(value):
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


@given(json_values.filter(without_unpaired), st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_value_is_read_from_json_from_python_and_from_a_mixture(value, escaped, slashes):
    text = json.dumps([value], ensure_ascii=escaped)
    if slashes:
        text = text.replace("/", "\\/")
    mixed = "".join(
        part
        if i % 2
        else part.replace("true", "True").replace("false", "False").replace("null", "None")
        for i, part in enumerate(re.split(r'("(?:\\.|[^"\\])*")', text))
    )
    assert parse_value(text) == parse_value(mixed) == parse_value(mixed[:-1] + ",]") == [value]
    assert parse_value(repr([value])) == [value]
    assert to_calls({"name": "f", "arguments": json.dumps({"x": value})}) == [
        Call("f", {"x": value})
    ]


@pytest.mark.parametrize(
    "item, arguments",
    [
        ({"name": "f", "arguments": "{oops"}, {"arguments": "{oops"}),
        ({"name": "f", "arguments": [1]}, {"arguments": [1]}),
        ({"name": "f", "arguments": 0}, {"arguments": 0}),
        ({"name": "f", "parameters": {"x": 1}}, {"parameters": {"x": 1}}),
        ({"name": "f"}, {}),
        ({"function": {"name": "g"}, "name": "f", "x": 1}, {"function": {"name": "g"}, "x": 1}),
    ],
)
def test_what_is_not_an_object_of_arguments_counts_as_one_argument_of_that_name(item, arguments):
    assert to_calls(item) == [Call("f", arguments)]


def test_a_call_that_hides_in_an_inner_list_is_found():
    f, g = F.to_json(), {"name": "g", "arguments": {}}
    assert to_calls([[f, g]]) == to_calls([f, g]) and len(to_calls([f, g])) == 2
    assert to_calls([[[f]], [], 42, None]) == []
    assert to_calls((f, g)) == []  # a tuple is not a list of calls, as in the released code


@pytest.mark.parametrize(
    "value, reason",
    [
        ([], "no call"),
        ([{"x": 1}], "no call"),
        ([F.to_json(), "text"], "an item is not a call"),
        ([[F.to_json()]], "no call"),
    ],
)
def test_one_bad_item_spoils_a_gold_answer(value, reason):
    with pytest.raises(Malformed, match=reason):
        to_calls(value, strict=True)


def test_a_gold_answer_is_json_and_its_names_are_kept_as_they_are():
    assert to_calls({"name": "f "}, strict=True) == [Call("f ", {})]
    assert to_calls({"name": "f "}) == [Call("f", {})]
    with pytest.raises(Malformed):
        parse_value("[{'name': 'f'}]", python=False)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "not JSON"),
        ("null", "not JSON"),
        ("I cannot help.", "not JSON"),
        ("[" * 9_000, "nested too deep"),
        ("[" * 3_000_000, "too long"),
        ('[{"name": "f", "arguments": {"x": NaN}}]', "a number is out of range"),
        ("1e999", "a number is out of range"),
        ("9" * 400, "a number is out of range"),
        ("9" * 5_000, "not JSON"),
        ('["\\ud800"]', "text is not valid Unicode"),
        ("{1: 2}", "a key is not text"),
        ("-" * 9_000 + "1", "not JSON"),
        ("1+" * 4_000 + "1", "not JSON"),
        ("{1, 2}", "a value is not JSON"),
        ("b'a'", "a value is not JSON"),
        ("...", "a value is not JSON"),
    ],
)
def test_text_that_cannot_be_used_ends_as_a_named_reason(text, reason):
    with pytest.raises(Malformed, match=reason):
        parse_value(text)


def test_code_in_an_answer_is_never_run(tmp_path):
    for code in ("f(x=1+open({!r}, 'w').write('')", "f(x=[open({!r}, 'w') for _ in '1'])"):
        with pytest.raises(Malformed):
            parse_value(code.format(str(tmp_path / "made")))
    assert not list(tmp_path.iterdir())


@given(st.text() | st.text(alphabet="[]{}()\"':,\\ndaf01-.eE<>/ _", max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused_but_never_raises_anything_else(text):
    for read in (parse_value, menu):
        try:
            json.dumps(read(text), default=lambda item: item.to_json()).encode()
        except Malformed as reason:
            assert str(reason)


def test_the_last_complete_block_counts():
    assert last_block("<a>1</a> <a>2</a> <a>3", "a") == "2"
    assert last_block("<a> </a>", "a") is None and last_block("</a><a>", "a") is None
    assert last_block("<a>1</a><a> </a>", "a") is None
    assert last_block("<a>1</a> <A>2</A>", "a") == "1"
    assert last_block("<a>1</a> <A>2</A>", "a", any_case=True) == "2"
    assert last_block("İ<A>x</a>", "a", any_case=True) == "x"
    assert last_block("<\u017f>1</\u017f>", "s", any_case=True) is None  # a letter that folds to s


def test_a_tag_opened_in_its_own_block_is_part_of_the_text():
    assert last_block("<a><a>1</a>", "a") == "<a>1" and last_block("<a>1<b>2</b></a>", "b") == "2"
    assert last_block("<a><a>1</a></a>", "a") == "<a>1"


T = "<think>hm</think>"


@pytest.mark.parametrize(
    "text, a, b",
    [
        (f"{T}<a>1</a><b>2</b>", "1", "2"),
        (f"<b>2</b>{T}<a>1</a>", "1", "2"),
        (f"<a>1</a><b>2</b>{T}", "1", "2"),
        (f"{T}<a>1</a><b>2</b><a>3</a>", "3", "2"),
        (f"{T}<a>1</a><b>2</b><a> </a>", None, "2"),
        ("<think>I write <a> first.</think><a>1</a><b>2</b>", "1", "2"),
        ("<think>I write </a> last.</think><a>1</a><b>2</b>", "1", "2"),
        ("<think>First <a>, then </b>.</think><a>1</a><b>2</b>", "1", "2"),
        ("<think>A draft: <a>0</a></think><a>1</a><b>2</b>", "1", "2"),
        ("<think>A draft: <a>0</a></think><b>2</b>", None, "2"),
        ("<think>I begin with <think> and <a>.</think><a>1</a><b>2</b>", "1", "2"),
        ("<think>I end with </think> and open <a>.</think><a>1</a><b>2</b>", "1", "2"),
        ("<think>Then <a>, </think>, <b>.</think><a>1</a><b>2</b>", "1", "2"),
        (f"{T}<a>1</a><b>2</b></think>", "1", "2"),
        (f"{T}<a>1</a></think><b>2</b>", "1", "2"),
        ("<think></think><a>1</a><b>2</b>", "1", "2"),
        ("<think>never closed <a>1</a><b>2</b>", "1", "2"),
        ("I write <a> first.</think><a>1</a><b>2</b>", "1", "2"),
        ("A draft: <a>0</a></think><b>2</b>", None, "2"),
        ("no tag at all</think><a>1</a><b>2</b>", "1", "2"),
        (f"{T}<a>1 <b> 1</a><b>2</b>", "1 <b> 1", "2"),
        (f"{T}<a>1 </b> 1</a><b>2</b>", "1 </b> 1", "2"),
        (f"{T}<a>1 </think> 1</a><b>2</b>", "1 </think> 1", "2"),
        (f"{T}<a>1 <b>0</b> 1</a><b>2</b>", "1 <b>0</b> 1", "2"),
        (f"{T}<a>1<b>2</b></a>", "1<b>2</b>", "2"),
        (f"{T}<a>1<b>2</b>", None, "2"),
        (f"{T}<a>1</a><b>2", "1", None),
        ('<a>1</a><b>["</b>"]</b>', "1", '["</b>"]'),
        (
            '<a>1</a><b>\n{"x": "<a> </b> </think> <b>"}\n</b>',
            "1",
            '{"x": "<a> </b> </think> <b>"}',
        ),
        ('<a>1</a><b>```json\n["</b>"]\n```</b>', "1", '```json\n["</b>"]\n```'),
        ('<a>1</a><b>["\\"</b>"]</b>', "1", '["\\"</b>"]'),
        ("<a>1</a><b>[{'x': '</b>', 'y': \"</b>\"}]</b>", "1", "[{'x': '</b>', 'y': \"</b>\"}]"),
        (
            '<a>1</a><b>[{"x": "</b> it\'s", "y": True},]</b>',
            "1",
            '[{"x": "</b> it\'s", "y": True},]',
        ),
        ("<a>1</a><b>[I don't know]</b><b>[\"it's\"]</b>", "1", '["it\'s"]'),
        ('<a>1</a><b>["x]</b><b>["y"]</b>', "1", '["y"]'),  # the first is not JSON
        ('<a>1</a><b>["x]</b> said "hi" <b>[2]</b>', "1", "[2]"),
        ("<a>1</a><b>" + "[" * 5_000 + "</b>", "1", "[" * 5_000),
        ("", None, None),
        ("</think>", None, None),
    ],
)
def test_blocks_are_read_in_order_and_do_not_nest(text, a, b):
    blocks = read_blocks(text, ("think", "a", "b"))
    assert (blocks["a"], blocks["b"]) == (a, b)
    upper = text.replace("<a>", "<A>").replace("</b>", "</B>").replace("<think>", "<Think>")
    if "<a>" not in (a or "") + (b or "") and "</b>" not in (a or "") + (b or ""):
        loose = read_blocks(upper, ("think", "a", "b"), any_case=True)
        assert (loose["a"], loose["b"]) == (a, b)


@pytest.mark.parametrize(
    "text, think",
    [
        (T, "hm"),
        ("<think> </think>", None),
        ("hm</think>", None),  # a caller whose prompt opens the thinking puts the tag before it
        ("<think>hm", None),
        (f"{T}<think>ah</think>", "ah"),
        ("<a>1<think>hm</think><a>2</a>", "hm"),
        ("<think>I close with </think>.", "I close with"),
    ],
)
def test_the_thinking_is_a_block_too(text, think):
    assert read_blocks(text, ("think", "a"))["think"] == think


words = st.lists(
    st.sampled_from(["<a>", "</a>", "<b>", "</b>", "<think>", "hm", " ", "<a>draft</a>"]),
    max_size=6,
)


@given(words.map("".join), st.booleans())
@settings(max_examples=500, deadline=None)
def test_whatever_the_thinking_mentions_the_blocks_after_it_are_read(thinking, opened):
    if not opened:
        thinking = thinking.replace("<think>", "")
    text = f"{'<think>' * opened}{thinking}</think><a>[1]</a>\n<b>2</b>"
    blocks = read_blocks(text, ("think", "a", "b"))
    assert (blocks["a"], blocks["b"]) == ("[1]", "2")


@given(
    st.text(alphabet='<>/ab"\\[]{},: ', max_size=30), st.text(alphabet="<>/abthink ", max_size=30)
)
@settings(max_examples=500, deadline=None)
def test_any_json_value_is_read_whole_whatever_tags_it_holds(value, more):
    value = json.dumps([value, more, "</b> </think> <a> <b>"])
    blocks = read_blocks(f"{T}<a>1</a><b>{value}</b>", ("think", "a", "b"))
    assert blocks == {"think": "hm", "a": "1", "b": value}


@pytest.mark.parametrize(
    "piece",
    ["<a>", "<a>x</a>", "</a>", "[", "{'a':", '"\\d"', "f(x=", "f'{a}'", " "]
    + ["<b>", "<think>", "</think>", "<a></think>", "<think><a>", "<a></think><b>", '<a>["</a>']
    + ['<a>[\\"</a>', '<a>["\\"</a>', '<a>[",\\"</a>', '<a>["a","</a>', "<a>[[1,", '<a>{"":', "\\/"]
    + ["<a>```json", '"', '"\\', "True,", "[True,", "-1e5,", "<a> ", "</a><a>["],
)
def test_100_kb_of_anything_is_read_or_refused_in_50_ms(piece):
    piece = piece.replace("a>", "question>").replace("b>", "tool_call_answer>")
    text = piece * (100_000 // len(piece))
    both = lambda t: read_blocks(t, ("think", "question", "tool_call_answer"), any_case=True)
    for read in (both, parse_value):
        for size in (len(text), 9_900):
            seconds = []
            for _ in range(3):
                start = time.process_time()
                try:
                    read(text[:size])
                except Malformed:
                    pass
                seconds.append(time.process_time() - start)
            assert min(seconds) < 0.05


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


CITY = {"city": {"type": "string"}}
SCHEMA = {"type": "object", "properties": CITY, "required": ["city"]}


@pytest.mark.parametrize(
    "item",
    [
        {"parameters": SCHEMA},
        {"parameters": SCHEMA, "required": []},
        {"parameters": SCHEMA, "required": None},
        {"parameters": SCHEMA, "required": ["city"]},
        {"parameters": CITY, "required": ["city", "city"]},
        {"parameters": SCHEMA | {"required": []}, "required": ["city"]},
        {"parameters": SCHEMA | {"additionalProperties": False, "$schema": "x", "title": "t"}},
        {"parameters": SCHEMA | {"type": ["object", "null"]}},
        {"parameters": {"properties": CITY, "required": ["city"]}},
        {"parameters": {"type": "object", "required": ["city"], **CITY}},
        {"input_schema": SCHEMA},
        {"inputSchema": SCHEMA, "title": "F", "annotations": {"readOnlyHint": True}},
        {"inputSchema": SCHEMA, "outputSchema": {"type": "object"}, "required": []},
        {"input_schema": CITY, "required": ["city"]},
    ],
)
def test_every_usual_form_of_a_tool_is_read(item):
    tool = {"name": "f", "description": "d", **item}
    for form in (tool, {"type": "function", **tool}, {"function": tool}):
        assert Tool.from_json(form) == Tool("f", "d", CITY, ("city",))
    assert to_tools([{"type": "function", "function": tool}]) == [Tool("f", "d", CITY, ("city",))]


names = st.sampled_from(
    "name function parameters input_schema inputSchema properties required type title $schema "
    "additionalProperties description arguments tool_name x".split()
)
objects = st.recursive(
    st.sampled_from(["f", "object", "null", "", None, True, 1, 1.5]),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(names, x, max_size=4),
)


@given(objects)
@settings(max_examples=500, deadline=None)
def test_any_object_is_a_tool_or_is_refused_and_is_calls_or_none(item):
    try:
        tool = Tool.from_json(item)
        assert Tool.from_json(tool.to_json()).name == tool.name
        json.dumps(tool.to_json())
    except Malformed as reason:
        assert str(reason).startswith("a tool")
    for call in to_calls(item):
        assert call.name and json.dumps(call.to_json())


def test_required_beside_and_inside_are_joined():
    both = {"name": "f", "parameters": {"properties": {"x": {}, "y": {}}, "required": ["y", "x"]}}
    assert Tool.from_json(both | {"required": ["x"]}).required == ("x", "y")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "required": []},
        {"type": "object", "properties": None},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": []},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "additionalProperties": True, "properties": None},
        {"type": "object", "additionalProperties": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "title": "fArguments"},
        {"type": "object", "description": "It takes nothing."},
        {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"},
        {"type": "object", "$defs": {"City": {"type": "string"}}, "$id": "f", "$comment": "none"},
        {"type": "object", "definitions": {}, "default": {}, "examples": [{}], "nullable": True},
        {"type": "object", "minProperties": 0, "maxProperties": 0, "x-order": 3},
        {"type": "object", "patternProperties": {"^x": {}}, "unevaluatedProperties": False},
        {"type": ["object", "null"], "title": "f"},
        {"type": "OBJECT"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False},
        {"additionalProperties": False},
        {"properties": None},
        {"properties": {}, "title": "f"},
        {"required": []},
    ],
)
def test_a_schema_may_be_without_properties(schema):
    for form in ("parameters", "input_schema", "inputSchema"):
        assert Tool.from_json({"name": "f", form: schema}) == Tool("f", "", {}, ())


@pytest.mark.parametrize(
    "name", ["title", "description", "$filter", "strict", "format", "properties"]
)
def test_arguments_may_be_called_like_keywords(name):
    schema = {name: {"type": "string"}}
    assert Tool.from_json({"name": "f", "parameters": schema}).parameters == schema
    inside = {"type": "object", "properties": schema, "title": "f"}
    assert Tool.from_json({"name": "f", "parameters": inside}).parameters == schema


def test_an_argument_may_be_called_properties_or_required_or_type():
    schema = {"type": "string", "description": "which"}
    flat = {"properties": schema, "required": schema, "type": schema}
    assert Tool.from_json({"name": "f", "parameters": flat}).parameters == flat
    inside = {"type": "object", "properties": {"properties": schema}}
    assert list(Tool.from_json({"name": "f", "parameters": inside}).parameters) == ["properties"]
    assert Tool.from_json({"name": "f", "parameters": {"properties": {}}}).parameters == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f"}',
        "[]",
        "[1]",
        '[{"name": ""}]',
        '[{"name": "f", "parameters": [1]}]',
        '[{"name": "f", "parameters": null}]',
        '[{"name": "f"},]',
        '[{"function": {}}]',
        '[{"function": "f"}]',
        '[{"type": "function", "function": {"parameters": {}}}]',
        '[{"name": "f", "inputSchema": "city"}]',
    ],
)
def test_one_bad_tool_spoils_the_menu(text):
    with pytest.raises(Malformed):
        menu(text)


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


def lines(*path):
    file = SHARED.joinpath(*path)
    if not file.exists():
        pytest.skip(f"{file} is not here; conftest.py says where outside data is looked for")
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def test_every_verdict_is_that_of_bfcls_checker():
    cases = {c["id"]: c for f in ("bfcl", "bfcl_live") for c in lines("benchmarks", f"{f}.jsonl")}
    wrong = Counter()
    for line in lines("oracle", "bfcl_verdicts.jsonl"):
        case, predicted = cases[line["id"]], [Call(**call) for call in line["calls"]]
        gold, tools = [Call(**c) for c in case["calls"]], map(Tool.from_json, case["tools"])
        verdict = bfcl_match(predicted, gold, case["accept"], list(tools))
        wrong[line["mutation"]] += verdict != line["valid"]
    assert sum(wrong.values()) == 0, wrong


def bfcl(value, schema, accepted):
    tool = Tool("f", "", {"x": schema}, ())
    return bfcl_match([Call("f", {"x": value})], [Call("f", {})], [{"x": accepted}], [tool])


@pytest.mark.parametrize(
    "value, schema, accepted, right",
    [
        ("new-york.", {"type": "string"}, ["New York"], True),
        ("new york!", {"type": "string"}, ["New York"], False),
        (5, {"type": "number"}, [5.0], True),
        (5.0, {"type": "integer"}, [5], False),
        (True, {"type": "integer"}, [1], False),
        (None, {"type": "string"}, ["", None], True),
        ("-", {"type": "string"}, ["a", ""], True),
        ([1, 2], {"type": "array", "items": {"type": "number"}}, [[1.0, 2.0]], False),
        ([1.0, 2], {"type": "array", "items": {"type": "number"}}, [[1, 2]], True),
        (["A"], {"type": "array", "items": {"type": "string"}}, [["a"]], True),
        ([["A"]], {"type": "array", "items": {"type": "array"}}, [[["a"]]], False),
        ([], {"type": "array", "items": {"type": "string"}}, [["a"], ""], True),
        ({"k": True}, {"type": "object"}, [{"k": [1]}], True),
        ({"k": 1, "z": 2}, {"type": "object"}, [{"k": [1]}], False),
        ({}, {"type": "object"}, [{"k": [1, ""]}], True),
        ([5], {"type": "array", "items": {"type": "object"}}, ["", [{"k": [1]}]], False),
        ("a", {}, ["A"], True),
    ],
)
def test_bfcls_rule_is_loose_in_text_and_strict_in_types(value, schema, accepted, right):
    assert bfcl(value, schema, accepted) is right


def test_bfcls_rule_takes_greedily_and_can_miss_a_right_assignment():
    tool = Tool("f", "", {"x": {"type": "integer"}}, ())
    both, accept = [Call("f", {"x": 1}), Call("f", {})], [{"x": [1, ""]}, {"x": [1]}]
    gold = [Call("f", {}), Call("f", {"x": 1})]
    assert not bfcl_match(both, gold, accept, [tool])
    assert bfcl_match(both[::-1], gold, accept, [tool])
