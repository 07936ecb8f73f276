"""User-defined tools and domains: read them, check schemas, check calls against schemas.

Not in the paper, where the Generator invents every menu.  With `--tools FILE` each spec draws its
menu from the file (generator.py), and a gold call must fit the schema of its tool: types, enums,
bounds, required and unknown fields, also of nested objects and lists.

One raw file.  Wrapped tools of OpenAI's form and MCP's `inputSchema` are read as well:

    [{"name": "set_heating", "description": "Heat a room.",
      "parameters": {"room": {"type": "string", "enum": ["kitchen", "bath"]},
                     "degrees": {"type": "integer", "minimum": 5, "maximum": 30}},
      "required": ["room"]}]
"""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from ast_match import SCHEMAS, Call, Tool, canonical, plain
from errors import Malformed, UsageError

TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
CHECKED = {  # keyword of a schema -> the form in which it is supported
    "type": (str, list),
    "enum": list,
    "anyOf": list,
    "minimum": (int, float),
    "maximum": (int, float),
    "items": dict,
    "properties": dict,
    "required": list,
    "additionalProperties": bool,
}
SHOWN_ONLY = {"title", "description", "default", "example", "examples", "format"}


@lru_cache
def read_tools(path: str, check: bool = True) -> tuple[Tool, ...]:
    """Read a JSON list of tools with different names.

    Raises a UsageError that names the file, the tool and what is wrong with it.  Without `check`
    schemas are not checked.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return tuple(_tools(plain(json.loads(text)), check))
    except FileNotFoundError:
        why = "there is no such file"
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
    except Malformed as error:
        why = str(error)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        why = f"not JSON ({error})"
    raise UsageError(f"--tools {path}: {why}. The head of plumbing/toolset.py shows the form.")


def _tools(items: Any, check: bool) -> list[Tool]:
    if isinstance(items, dict):  # what an MCP server returns
        items = items.get("tools")
    fewest = 2 if check else 1  # a menu offers a choice
    if not isinstance(items, list) or len(items) < fewest:
        raise Malformed(f"it needs a list of tools, at least {fewest}")
    tools = []
    for number, item in enumerate(items, 1):
        try:
            tool = Tool.from_json(item)
        except Malformed as reason:
            raise Malformed(f"tool {number}: {reason}") from None
        if tool.name in {other.name for other in tools}:
            raise Malformed(f"two tools are named {tool.name}")
        if check:
            _check_tool(tool, item)
        tools.append(tool)
    return tools


def _check_tool(tool: Tool, item: dict) -> None:
    """Raise `Malformed` if a schema has a keyword or a type that `misfit` cannot check."""
    if not tool.name.isprintable():
        raise Malformed(f"the name {tool.name!r} has a control character")
    if "name" not in item:
        item = item["function"]  # OpenAI's wrapper, as in Tool.from_json
    where = f"tool {tool.name}"
    _check_schema({"required": item.get("required", [])}, where)  # beside the parameters
    whole = next((item[key] for key in SCHEMAS if key in item), {})
    if whole.get("type") == "object":  # the arguments are checked below
        own = {key: whole[key] for key in whole if key not in ("$schema", "properties")}
        _check_schema(own, where)
    for name in tool.required:
        if name not in tool.parameters:
            raise Malformed(f"{where} requires {name}, which is not in its parameters")
    for name, schema in tool.parameters.items():
        _check_schema(schema, f"{where}, argument {name}")


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        raise Malformed(f"{where}: its schema is not an object")
    for keyword, value in schema.items():
        if keyword not in SHOWN_ONLY and not isinstance(value, CHECKED.get(keyword, ())):
            raise Malformed(f"{where}: {keyword} is not supported, or has the wrong type")
        if value == [] and keyword in ("enum", "anyOf"):
            raise Malformed(f"{where}: {keyword} is empty")
    for kind in _kinds(schema):
        if kind not in list(TYPES):
            raise Malformed(f"{where}: the type {kind!r} is not supported")
    if not all(isinstance(name, str) for name in schema.get("required", [])):
        raise Malformed(f"{where}: required is not a list of names")
    for name, part in schema.get("properties", {}).items():
        _check_schema(part, f"{where}.{name}")
    for part in schema.get("anyOf", []):
        _check_schema(part, where)
    if "items" in schema:
        _check_schema(schema["items"], f"{where}[]")


def _kinds(schema: dict) -> list[str]:
    """Return the allowed types; an empty list means any type."""
    kinds = schema.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


@lru_cache
def read_domains(text: str) -> list[str]:
    """Return the domains of --domains: names separated by commas, or the lines of a file.

    >>> read_domains("bakery, night school")
    ['bakery', 'night school']
    """
    try:
        if os.path.isfile(text):  # unlike Path.is_file, it takes text of any length
            text = Path(text).read_text(encoding="utf-8-sig").replace("\n", ",")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--domains {text} cannot be read: {error}") from None
    names = [name.strip() for name in text.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    if not names:
        raise UsageError("--domains names no domain: give names separated by commas, or a file")
    return names


def call_misfit(call: Call, tool: Tool) -> str | None:
    """Return why a call of this tool does not fit its schema, or None.

    >>> heat = Tool("heat", "", {"degrees": {"type": "integer"}}, ("degrees",))
    >>> call_misfit(Call("heat", {"degrees": "20"}), heat)
    'value of the wrong type'
    """
    schema = {"properties": tool.parameters, "required": tool.required}
    return misfit(call.arguments, {**schema, "additionalProperties": False})


def misfit(value: Any, schema: dict) -> str | None:
    """Return why a value does not fit a checked schema, or None."""
    kinds = _kinds(schema)
    if kinds and not any(_has_type(value, kind) for kind in kinds):
        return "value of the wrong type"
    if "enum" in schema and not any(_equal(value, option) for option in schema["enum"]):
        return "value not in the enum"
    if "anyOf" in schema and all(misfit(value, part) for part in schema["anyOf"]):
        return "value fits no alternative"
    if _has_type(value, "number"):
        low = schema.get("minimum", value)
        high = schema.get("maximum", value)
        return None if low <= value <= high else "value out of bounds"
    if isinstance(value, list):
        return _first(misfit(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        return _object_misfit(value, schema)
    return None


def leaves(value: Any) -> list:
    """Return the scalars in a value of any depth, null included, and its empty lists and objects.

    >>> leaves({"to": ["Ann", "Bo"], "when": {"hour": 9}, "copies": []})
    ['Ann', 'Bo', 9, []]
    """
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, list):
        return [value]
    found = []
    for part in parts:
        found += [part] if part in ([], {}) else leaves(part)
    return found


def _object_misfit(value: dict, schema: dict) -> str | None:
    inner = schema.get("properties", {})
    if not value.keys() >= set(schema.get("required", [])):
        return "required argument missing"
    closed = not schema.get("additionalProperties", True)
    if closed and not value.keys() <= inner.keys():
        return "argument not in the schema"
    return _first(misfit(part, inner.get(name, {})) for name, part in value.items())


def _first(reasons: Any) -> str | None:
    return next((reason for reason in reasons if reason), None)


def _has_type(value: Any, kind: str) -> bool:
    """Return whether a value has a JSON type: 2.0 is an integer; true is not a number."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[kind])


def _equal(a: Any, b: Any) -> bool:
    return canonical(Call("", {"": a})) == canonical(Call("", {"": b}))
