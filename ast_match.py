"""A tool and a tool call: read them from untrusted text, normalise, compare.  Pure: no model.

Paper: Sec. 4 (AST-based accuracy).  Whatever a model writes ends here as a value or as `Malformed`
with a short reason that can be counted, never as another exception.  Text is parsed, not evaluated.
Our decisions:
  1. `required` counts beside and inside `parameters`; the released code looks inside only.
  2. Equal means equal JSON: 1 equals 1.0; true does not equal 1; "5" does not equal 5.
  3. [[f, g]] is [f, g]; the released code reads [f], so that g escapes the price of an extra call.
  4. "arguments" that are null, "" or [] are none; the released code reads one of that name.
  5. What JSON cannot carry (NaN, bytes, sets, keys that are not text) is refused.

One raw example, the text inside <tool_call_answer>:
    [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
"""

import ast
import json
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from errors import Malformed

MAX_CHARS = 10_000  # a menu of 8 long-winded tools has about 6,000 characters
MAX_DEPTH = 200  # brackets open at once, as in Python; the parsers below recurse once a bracket


@dataclass(frozen=True)
class Call:
    """One tool call."""

    name: str
    arguments: dict[str, Any]

    def to_json(self) -> dict:
        """The call as it stands in prompts and files."""
        return {"name": self.name, "arguments": self.arguments}


@dataclass(frozen=True)
class Tool:
    """One entry of a menu.  `parameters` maps each argument's name to its schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    required: tuple[str, ...]

    def to_json(self) -> dict:
        """The tool as it stands in prompts and files: flat, `required` beside."""
        return {**vars(self), "required": list(self.required)}

    @staticmethod
    def from_json(item: Any) -> "Tool":
        """Read both usual forms: `parameters` as {argument: schema} or as a JSON-schema object."""
        if not isinstance(item, dict):
            raise Malformed("a tool is not an object")
        name, parameters = item.get("name"), item.get("parameters", {})
        if not isinstance(name, str) or not name.strip():
            raise Malformed("a tool has no name")
        if not isinstance(parameters, dict):
            raise Malformed("a tool's parameters are not an object")
        required = item.get("required", parameters.get("required"))
        inner = parameters.get("properties")  # of a JSON schema, or an argument of that name
        if isinstance(inner, dict) and (
            parameters.get("type") == "object" or all(isinstance(v, dict) for v in inner.values())
        ):
            parameters = inner
        elif parameters.get("type") == "object" and parameters.keys() <= {"type", "required"}:
            parameters = {}  # a JSON schema without properties
        elif isinstance(parameters.get("required"), list):  # a list is no argument's schema
            parameters = {k: v for k, v in parameters.items() if k != "required"}
        required = [r for r in required if isinstance(r, str)] if isinstance(required, list) else []
        return Tool(name.strip(), str(item.get("description") or ""), parameters, tuple(required))


def last_block(text: str, tag: str, any_case: bool = False) -> str | None:
    """The text in the last <tag>...</tag>, stripped; None if there is none or blank."""
    # Not text.lower(): that can change the length, and positions in `lower` cut `text`.
    lower = re.sub("[A-Z]+", lambda m: m[0].lower(), text) if any_case else text
    block, end = "", 0  # a block goes on to the first closing tag, whatever is opened in it
    while (start := lower.find(f"<{tag}>", end)) >= 0 and (
        end := lower.find(f"</{tag}>", start)
    ) >= 0:
        block = text[start + len(tag) + 2 : end]
    return block.strip() or None


def parse_value(text: str, python: bool = True) -> Any:
    """JSON, or with `python` also a Python literal, perhaps in a ``` fence -> a plain value."""
    text = re.sub(r"^```(json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    check_size(text)
    for read in _READERS if python else _READERS[:1]:
        try:
            value = read(text)
        except UNREADABLE:
            continue  # the next spelling
        if value is not None:
            return plain(value)
    raise Malformed("not JSON")


def check_size(text: str) -> None:
    """Raise `Malformed` for text that no parser should be given."""
    if len(text) > MAX_CHARS:
        raise Malformed("too long")
    steps = (1 if char in "[({" else -1 for char in text if char in "[](){}")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise Malformed("nested too deep")


def syntax_tree(text: str) -> ast.expr:
    """The syntax tree of a Python expression; nothing is evaluated.  Raises one of UNREADABLE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's "\d" is no business of the terminal
        return ast.parse(text, mode="eval").body


UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_READERS = (
    json.loads,
    lambda text: ast.literal_eval(syntax_tree(text)),
    lambda text: json.loads(
        re.sub(r'"(?:\\.|[^"\\])*"|\b(?:True|False|None)\b', lambda m: _WORDS.get(m[0], m[0]), text)
    ),
)


def plain(value: Any, depth: int = 0) -> Any:
    """A parsed value, if JSON and UTF-8 can carry it, else `Malformed`."""
    if depth > MAX_DEPTH:  # brackets inside strings can hide nesting from parse_value's count
        raise Malformed("nested too deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Malformed("a key is not text")
        return {plain(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([plain(item, depth + 1) for item in value])
    if isinstance(value, (int, float)) and not abs(value) < 1e308:  # NaN is not smaller either
        raise Malformed("a number is out of range")
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise Malformed("text is not valid Unicode")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Malformed("a value is not JSON")


def to_calls(value: Any, strict: bool = False) -> list[Call]:
    """Every call in a parsed value.  Items that are no call are skipped and names trimmed, for a
    Solver's answer; a Generator's is `strict`: names as they stand, a bad item spoils the list.

    >>> to_calls([{"name": "f", "arguments": {"x": 1}}, 42, {"tool_name": "g", "y": 2}])
    [Call(name='f', arguments={'x': 1}), Call(name='g', arguments={'y': 2})]
    """
    items = value if isinstance(value, list) else [value]
    if not strict:  # lists in the list are opened
        items = [x for item in items for x in (item if isinstance(item, list) else [item])]
    calls = [call for item in items if isinstance(item, dict) and (call := _to_call(item, strict))]
    if strict and not 0 < len(items) == len(calls):
        raise Malformed("an item is not a call" if calls else "no call")
    return calls


def _to_call(item: dict, strict: bool) -> Call | None:
    """One call, or None; its arguments are an object, that as text, or stand beside the name."""
    wrapped = item.get("function")  # OpenAI's form
    for source in (wrapped, item) if isinstance(wrapped, dict) else (item,):
        name, arguments = source.get("name") or source.get("tool_name"), source.get("arguments")
        if isinstance(arguments, str):
            with suppress(Malformed):
                arguments = parse_value(arguments)
        if "arguments" in source and arguments in (None, "", []):
            arguments = {}
        if source is item and not isinstance(arguments, dict):  # they stand beside it
            arguments = {k: v for k, v in item.items() if k not in ("name", "tool_name")}
        if isinstance(name, str) and name.strip() and isinstance(arguments, dict):
            return Call(name if strict else name.strip(), arguments)
    return None


def to_tools(value: Any) -> list[Tool]:
    """The tools of a menu, a parsed value.  Raises `Malformed`; one bad tool spoils the menu."""
    if not isinstance(value, list) or not value:
        raise Malformed("the menu is not a list of tools")
    return [Tool.from_json(item) for item in value]


def canonical(call: Call) -> str:
    """One text for all spellings of a call: f(b=2.0, a=True) is '["f", {"a": true, "b": 2}]'."""
    whole = lambda text: int(float(text)) if float(text).is_integer() else float(text)
    arguments = json.loads(json.dumps(call.arguments), parse_float=whole)
    return json.dumps([call.name, arguments], sort_keys=True)


def exact_match(predicted: list[Call], gold: list[Call]) -> bool:
    """The paper's rule: the same calls, all of them and no other, in any order."""
    return sorted(map(canonical, predicted)) == sorted(map(canonical, gold))  # Sec. 4


if __name__ == "__main__":
    from scripts.demos import demo

    demo("ast_match") or print(__doc__)
