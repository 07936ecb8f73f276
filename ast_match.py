"""A tool and a tool call: read them from untrusted text, normalise, compare.  Pure: no model.

Paper: Sec. 4 (AST-based accuracy).  Whatever a model writes ends here as a value or as `Malformed`
with a short reason that can be counted, never as another exception.  Text is parsed, not evaluated.
Our decisions:
  1. `required` counts beside and inside `parameters`; the released code looks inside only.
  2. Equal means equal JSON: 1 equals 1.0; true does not equal 1; "5" does not equal 5.

One raw example, the text inside <tool_call_answer>:
    [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
"""
import ast
import json
import math
import re
import warnings
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

MAX_CHARS = 20_000  # a menu of 8 long-winded tools has about 6,000 characters
MAX_DEPTH = 50  # brackets open at once; the parsers below recurse once a bracket

class Malformed(ValueError):
    """Something read is not what it should be; the message names the reason in a few words."""

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
        name, parameters = item.get("name"), item.get("parameters") or {}
        if not isinstance(name, str) or not name.strip():
            raise Malformed("a tool has no name")
        if not isinstance(parameters, dict):
            raise Malformed("a tool's parameters are not an object")
        required = item.get("required", parameters.get("required"))
        if isinstance(parameters.get("properties"), dict):
            parameters = parameters["properties"]
        elif isinstance(parameters.get("required"), list):  # a list is no argument's schema
            parameters = {k: v for k, v in parameters.items() if k != "required"}
        required = [r for r in required if isinstance(r, str)] if isinstance(required, list) else []
        return Tool(name.strip(), str(item.get("description") or ""), parameters, tuple(required))

def last_block(text: str, tag: str) -> str | None:
    """The text in the last complete <tag>...</tag>, stripped; None if there is none or blank."""
    lower = text.lower() if len(text.lower()) == len(text) else text  # 'İ' grows: indices shift
    end = lower.rfind(f"</{tag}>")
    start = lower.rfind(f"<{tag}>", 0, max(end, 0))
    return text[start + len(tag) + 2:end].strip() or None if start >= 0 else None

def parse_value(text: str) -> Any:
    """JSON or a Python literal, perhaps in a ``` fence -> a plain JSON value."""
    text = re.sub(r"^```(json)?|```$", "", text.strip()).strip()
    if len(text) > MAX_CHARS:
        raise Malformed("too long")
    steps = (1 if char in "[({" else -1 for char in text if char in "[](){}")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise Malformed("nested too deep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's "\d" is no business of the terminal
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue  # the next spelling
            return plain(value)
    raise Malformed("not JSON")

def plain(value: Any, depth: int = 0) -> Any:
    """Bring a parsed value to what JSON and UTF-8 can carry, or refuse it with a reason."""
    if depth > MAX_DEPTH:  # brackets inside strings can hide nesting from parse_value's count
        raise Malformed("nested too deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Malformed("a key is not text")
        return {plain(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed("a number is not finite")
    if isinstance(value, int) and abs(value) > 10**18:  # more digits than any tool takes
        raise Malformed("a number is too large")
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise Malformed("text is not valid Unicode")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Malformed("not JSON")

def to_calls(value: Any) -> list[Call]:
    """Every call in a parsed value; items that are no call are skipped.

    >>> to_calls([{"name": "f", "arguments": {"x": 1}}, 42, {"tool_name": "g", "y": 2}])
    [Call(name='f', arguments={'x': 1}), Call(name='g', arguments={'y': 2})]
    """
    items = value if isinstance(value, list) else [value]
    items = [item[0] if isinstance(item, list) and item else item for item in items]
    return [call for item in items if isinstance(item, dict) and (call := _to_call(item))]

def _to_call(item: dict) -> Call | None:
    item = item["function"] if isinstance(item.get("function"), dict) else item  # OpenAI's wrapper
    name, arguments = item.get("name") or item.get("tool_name"), item.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = parse_value(arguments)
        except Malformed:
            return None
    if arguments is None:  # the arguments stand beside the name
        arguments = {k: v for k, v in item.items() if k not in ("name", "tool_name", "arguments")}
    usable = isinstance(name, str) and name.strip() and isinstance(arguments, dict)
    return Call(name.strip(), arguments) if usable else None

def parse_menu(text: str) -> list[Tool]:
    """The tools in a menu.  Raises `Malformed`; one bad tool spoils the menu."""
    value = parse_value(text)
    if not isinstance(value, list) or not value:
        raise Malformed("the menu is not a list of tools")
    return [Tool.from_json(item) for item in value]

def canonical(call: Call) -> str:
    """One text for all spellings of a call: f(b=2.0, a=True) is '["f", {"a": true, "b": 2}]'."""
    return json.dumps([call.name, _normal(call.arguments)], sort_keys=True)

def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

def exact_match(predicted: list[Call], gold: list[Call]) -> bool:
    """The paper's rule: the same calls, all of them and no other, in any order."""
    return sorted(map(canonical, predicted)) == sorted(map(canonical, gold))
