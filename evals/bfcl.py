"""BFCL's own spelling of calls, and its own rule for when they are right.  Pure: no model.

Source: the package bfcl-eval, its AST checker; verdicts agree with it on 3,008 fixed inputs.

The call {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}} in that spelling:
    [get_weather(city="Paris", days=3)]
"""

import ast
import re
from typing import Any

from ast_match import UNREADABLE, Call, Tool, check_size, plain, syntax_tree
from errors import Malformed

TYPES = {"integer": int, "number": float, "boolean": bool, "array": list, "object": dict}


def parse_python_calls(text: str) -> list[Call]:
    """Calls in Python's syntax, parsed and never evaluated.  Raises `Malformed`.

    >>> parse_python_calls("[f(x=-1), a.g(y=['b', None])]")
    [Call(name='f', arguments={'x': -1}), Call(name='a.g', arguments={'y': ['b', None]})]
    """
    text = text.strip().strip("'")
    check_size(text)
    try:
        body = syntax_tree(text)
    except UNREADABLE:
        raise Malformed("not Python") from None
    for node in ast.walk(body):
        if isinstance(node, ast.Constant) and node.value is ...:
            node.value = "..."  # what BFCL reads
    return [_python_call(node) for node in getattr(body, "elts", [body])]


def _python_call(node: ast.expr) -> Call:
    func, name = getattr(node, "func", None), ""
    while isinstance(func, ast.Attribute):
        func, name = func.value, f".{func.attr}{name}"
    if not isinstance(func, ast.Name):
        raise Malformed("not a call of a name")
    names = [keyword.arg for keyword in node.keywords]
    if node.args or None in names or len(set(names)) < len(names):
        raise Malformed("an argument has no name, or one twice")
    try:
        values = [ast.literal_eval(keyword.value) for keyword in node.keywords]
    except UNREADABLE:
        raise Malformed("a value is not a literal") from None
    return Call(func.id + name, dict(zip(names, map(plain, values))))


def bfcl_match(
    predicted: list[Call], gold: list[Call], accept: list[dict[str, list]], tools: list[Tool]
) -> bool:
    """BFCL's rule: each gold call in turn takes the first unused prediction that fits.

    `accept` has the accepted values of each argument of each gold call; "" means: may be left out.
    """
    menu, unused = {tool.name: tool for tool in tools}, list(predicted)
    for call, accepted in zip(gold, accept):
        fits = (c for c in unused if c.name == call.name and _fits(c, menu[c.name], accepted))
        if (taken := next(fits, None)) is None:
            return False
        unused.remove(taken)
    return not unused


def _fits(call: Call, tool: Tool, accepted: dict[str, list]) -> bool:
    given = call.arguments
    return (
        set(tool.required) <= given.keys() <= tool.parameters.keys() & accepted.keys()
        and all(name in given or "" in values for name, values in accepted.items())
        and all(_value(given[n], tool.parameters[n], accepted[n]) for n in given)
    )


def _value(value: Any, schema: dict, accepted: list) -> bool:
    kind, first = TYPES.get(schema.get("type"), str), _first_type(accepted)
    if not (kind is type(value) is (first or kind)):  # also a type that only `accept` knows
        return type(value) in (kind, first, int if kind is float else kind) and value in accepted
    if kind is dict:
        return any(_dict(value, a) for a in accepted)
    if kind is not list:
        return _loose(value) in map(_loose, accepted)
    item = TYPES.get((schema.get("items") or {}).get("type"), str)
    if all(a != "" and {*map(type, value)} - {item, _first_type(a)} for a in accepted):
        return False
    if item is dict:
        return any(len(value) == len(a) and all(map(_dict, value, a)) for a in accepted)
    return [*map(_loose, value)] in ([*map(_loose, a)] for a in accepted)


def _first_type(accepted: list) -> type | None:
    return next((type(a) for a in accepted if a != ""), None)


def _dict(value: Any, accepted: Any) -> bool:
    return (
        type(value) is type(accepted) is dict
        and value.keys() <= accepted.keys()
        and all(
            isinstance(a, list) and (_loose(value[k]) in map(_loose, a) if k in value else "" in a)
            for k, a in accepted.items()
        )
    )


def _loose(x: Any) -> Any:
    return re.sub(r"[ ,./\-_*^]", "", x).lower().replace("'", '"') if isinstance(x, str) else x
