"""BFCL's own rule for when calls are right.  Pure: no model.

Source: the AST checker of the package bfcl-eval; verdicts agree with it on 3,008 fixed inputs.

The gold call get_weather(city="Paris", days=3), and the values that BFCL accepts for it:
    {"city": ["Paris", "Paris, France"], "days": [3, ""]}
"""

import re
from typing import Any

from ast_match import Call, Tool
from errors import Malformed

Accepted = dict[str, list]  # argument -> its accepted values; "" among them: may be left out
TYPES = {"integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
IGNORED = re.compile(r"[ ,./\-_*^]")  # characters that do not count in text


def bfcl_match(
    predicted: list[Call], gold: list[Call], accept: list[Accepted], tools: list[Tool]
) -> bool:
    """Return whether the predicted calls are right.

    Each gold call takes the first unused prediction that fits, and none may be left over.  `accept`
    has the accepted values of each gold call.
    """
    menu = {tool.name: tool for tool in tools}
    unused = list(predicted)
    for call, accepted in zip(gold, accept):
        same_tool = [other for other in unused if other.name == call.name]
        fitting = [other for other in same_tool if _fits(other, menu[call.name], accepted)]
        if not fitting:
            return False
        unused.remove(fitting[0])
    return not unused


def _fits(call: Call, tool: Tool, accepted: Accepted) -> bool:
    """Return whether a call has all the arguments it needs and each value is accepted."""
    given = call.arguments.keys()
    if not given >= set(tool.required):
        return False
    for name, values in accepted.items():
        if name not in given and "" not in values:
            return False
    return all(argument_fits(name, call, tool, accepted) for name in given)


def argument_fits(name: str, call: Call, tool: Tool, accepted: Accepted) -> bool:
    """Return whether one argument of a call is known and its value accepted."""
    if name not in tool.parameters or name not in accepted:
        return False
    return _value_fits(call.arguments[name], tool.parameters[name], accepted[name])


def _value_fits(value: Any, schema: dict, accepted: list) -> bool:
    """Return whether a value has the declared type and is one of the accepted ones."""
    kind = TYPES.get(schema.get("type"), str)
    first = _first_type(accepted)
    if type(value) is not kind or first not in (kind, None):  # types differ: no loose comparison
        allowed = {kind, first, int if kind is float else kind}
        return type(value) in allowed and value in accepted
    if kind is dict:
        return any(_dict_fits(value, other) for other in accepted)
    if kind is list:
        return _list_fits(value, schema, accepted)
    return _loose(value) in [_loose(other) for other in accepted]


def _list_fits(value: list, schema: dict, accepted: list) -> bool:
    """Return whether a list has items of the declared type and is one of the accepted ones."""
    items = schema.get("items") or {}
    kind = TYPES.get(items.get("type"), str)
    types = {type(item) for item in value}
    if not any(other == "" or types <= {kind, _first_type(other)} for other in accepted):
        return False
    for other in accepted:
        if kind is dict:
            if len(value) == len(other) and all(map(_dict_fits, value, other)):
                return True
        elif [_loose(item) for item in value] == [_loose(item) for item in other]:
            return True
    return False


def _dict_fits(value: Any, accepted: Any) -> bool:
    """Return whether all keys of an object are known and their values accepted."""
    if type(value) is not dict or type(accepted) is not dict:
        return False
    if not value.keys() <= accepted.keys():
        return False
    for key, values in accepted.items():
        if not isinstance(values, list):
            return False
        if key in value:
            fits = _loose(value[key]) in [_loose(other) for other in values]
        else:
            fits = "" in values
        if not fits:
            return False
    return True


def _first_type(accepted: list) -> type | None:
    """Return the type of the first accepted value that is not ""."""
    for value in accepted:
        if value != "":
            return type(value)
    return None


def _loose(value: Any) -> Any:
    """Return text in lower case without ignored characters; return other values as they are."""
    if not isinstance(value, str):
        return value
    return IGNORED.sub("", value).lower().replace("'", '"')


def check_accept(accept: Any, calls: list[Call], tools: list[Tool]) -> None:
    """Raise `Malformed` if the rule cannot judge these gold calls."""
    entries = accept if isinstance(accept, list) else []
    if len(entries) != len(calls) or not all(isinstance(entry, dict) for entry in entries):
        raise Malformed("'accept' needs {argument: [values]} for each gold call")
    menu = {tool.name: tool for tool in tools}
    for call, entry in zip(calls, entries):
        for schema in menu[call.name].parameters.values():
            _check_type(schema)
            if schema.get("items") is not None:
                _check_type(schema["items"])
        for name, values in entry.items():
            if not isinstance(values, list):
                raise Malformed(f"'accept' has no list of values for {name}")
            schema = menu[call.name].parameters.get(name, {})
            for value in values:
                _check_accepted(name, value, schema)


def _check_type(schema: Any) -> None:
    """Raise `Malformed` unless a schema is an object with at most one type."""
    if not isinstance(schema, dict) or not isinstance(schema.get("type", ""), str):
        raise Malformed("BFCL's rule needs one type per schema, `items` too; --rule exact does not")


def _check_accepted(name: str, value: Any, schema: dict) -> None:
    """Raise `Malformed` if an accepted value does not have the form that its schema needs."""
    kind = schema.get("type")
    objects = [value] if kind == "object" else []
    if kind == "array":
        if not isinstance(value, (list, str)):
            raise Malformed(f"'accept' has a value for {name} that is not a list")
        objects = value
    for item in objects:
        if isinstance(item, dict) and not all(isinstance(v, list) for v in item.values()):
            raise Malformed(f"'accept' has an object for {name} without lists of values")
