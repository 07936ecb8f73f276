"""A tool and a tool call: read them from untrusted text, normalise, compare.  Pure: no model.

Paper: Sec. 4 (AST-based accuracy).  Whatever a model writes becomes a value, or a `Malformed` with
a short reason that can be counted; only `syntax_tree` raises anything else.  Text is parsed, never
evaluated.
Our decisions:
  1. `required` counts both beside and inside `parameters`; the released code looks only inside.
  2. Equal means equal JSON: 1 equals 1.0; true does not equal 1; "5" does not equal 5.
  3. [[f, g]] is [f, g]; the released code reads [f], so g escapes the penalty for a surplus call.
  4. "arguments" that are null, empty or [], even written as text, mean a call without arguments;
     the released code reads one argument of that name.  If "arguments" is missing, the other keys
     beside the name are the arguments.
  5. What JSON cannot carry (NaN, bytes, sets, keys that are not text) is refused.
  6. A tag in the thinking, in another block or in a string of a value opens and closes nothing;
     the released code looks at the tags only.

One raw example, the text inside <tool_call_answer>:

    [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from errors import Malformed

MAX_CHARS = 10_000  # of a value; a menu of 8 tools with long descriptions has about 6,000
MAX_DEPTH = 200  # open brackets, as in Python; the parsers below recurse once per bracket
UNOPENED = "unopened"  # names thinking whose opening tag is in the prompt
# A list or an object, perhaps fenced, up to the first "<" outside its strings.  A backslash outside
# a string ends the match; otherwise the search could take quadratic time.
VALUE = re.compile(
    r"""\s*(?:```(?:json)?\s*)?[\[{][^"'<\\]*"""
    r"""(?:(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')[^"'<\\]*)*""",
    re.DOTALL | re.IGNORECASE,
)
# A string that never ends is matched, too; otherwise the search would restart at each quote.
STRING_OR_WORD = re.compile(r'"(?:\\.|[^"\\])*(?:"|\\?\Z)|\b(?:True|False|None)\b', re.DOTALL)
UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)

SCHEMAS = ("parameters", "input_schema", "inputSchema")  # OpenAI, Anthropic, MCP
# Keywords of JSON Schema whose value is an object, which could be taken for arguments.
KEYWORDS = set(
    """additionalProperties unevaluatedProperties patternProperties propertyNames
    dependentRequired dependentSchemas dependencies $defs definitions default const example
    examples not if then else""".split()
)


@dataclass(frozen=True)
class Call:
    """One tool call."""

    name: str
    arguments: dict[str, Any]

    def to_json(self) -> dict:
        """Return the call as prompts and files show it."""
        return {"name": self.name, "arguments": self.arguments}


@dataclass(frozen=True)
class Tool:
    """One entry of a menu.  `parameters` maps the name of each argument to its schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    required: tuple[str, ...]

    def to_json(self) -> dict:
        """Return the tool as prompts and files show it: flat, `required` beside `parameters`."""
        return {**vars(self), "required": list(self.required)}

    @staticmethod
    def from_json(item: Any) -> "Tool":
        """Read a tool in any usual form: see the functions below.  Raises `Malformed`.

        >>> Tool.from_json({"type": "function", "function": {"name": "f"}})
        Tool(name='f', description='', parameters={}, required=())
        """
        if not isinstance(item, dict):
            raise Malformed("a tool is not an object")
        if isinstance(item.get("function"), dict) and "name" not in item:  # OpenAI's wrapper
            item = item["function"]
        name = item.get("name")
        if not isinstance(name, str) or not name.strip():
            raise Malformed("a tool has no name")
        schemas = [item[key] for key in SCHEMAS if key in item]
        schema = schemas[0] if schemas else {}
        if not isinstance(schema, dict):
            raise Malformed("a tool's parameters are not an object")
        required = _texts(item.get("required")) + _texts(schema.get("required"))
        required = tuple(dict.fromkeys(required))  # each name once
        description = str(item.get("description") or "")
        return Tool(name.strip(), description, _arguments(schema), required)


def to_tools(value: Any) -> list[Tool]:
    """Read a menu from a parsed value.  Raises `Malformed` even if only one tool is bad."""
    if not isinstance(value, list) or not value:
        raise Malformed("the menu is not a list of tools")
    return [Tool.from_json(item) for item in value]


def _texts(value: Any) -> list[str]:
    """Return the texts in a list; an empty list if it is not a list."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str)]


def _arguments(schema: dict) -> dict[str, Any]:
    """Return argument -> schema, from a dict of that form or from a JSON Schema of an object."""
    inner = schema.get("properties")
    if isinstance(inner, dict):
        # Without a type, "properties" may be the name of an argument.
        if _is_object(schema) or all(isinstance(value, dict) for value in inner.values()):
            return inner
    if _is_object(schema):  # without properties: arguments may be beside the keywords
        schemas = {name: value for name, value in schema.items() if isinstance(value, dict)}
        return {name: value for name, value in schemas.items() if name not in KEYWORDS}
    if isinstance(schema.get("required"), list):  # a list is not an argument's schema
        return {name: value for name, value in schema.items() if name != "required"}
    return schema


def _is_object(schema: dict) -> bool:
    """Return whether this is a JSON Schema of an object rather than a dict of arguments."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" in kinds or "OBJECT" in kinds:
        return True
    if isinstance(schema.get("$schema"), str):
        return True
    if isinstance(schema.get("additionalProperties"), bool):
        return True
    return "properties" in schema and schema["properties"] in (None, [])


def read_blocks(text: str, tags: Sequence[str], any_case: bool = False) -> dict[str, str | None]:
    """Return what the last <tag>...</tag> of each tag holds, stripped; None if absent or empty.

    Blocks do not nest: a tag inside another block opens nothing, so a tag that the thinking
    mentions does not count.  The thinking may mention its own closing tag, and the text may begin
    inside the thinking.  A tag that has no block of its own is looked for once more inside the
    other blocks, except the thinking.

    >>> read_blocks("<think>First <a>, or <a>0</a>.</think> <a>1</a>", ["think", "a"])
    {'think': 'First <a>, or <a>0</a>.', 'a': '1'}
    """
    found = {}
    outside = ""  # the text without its thinking
    position = 0
    for tag, start, end in _scan(text, tags, any_case):
        if tag == UNOPENED:
            found = {}
        found[tag] = text[start:end].strip()
        if tag in ("think", UNOPENED):
            outside += text[position:start]
            position = end
    outside += text[position:]
    for tag in tags:
        if tag not in found:
            found[tag] = last_block(outside, tag, any_case)
    return {tag: found[tag] or None for tag in tags}


def last_block(text: str, tag: str, any_case: bool = False) -> str | None:
    """Return the stripped text of the last <tag>...</tag> anywhere; None if empty or absent."""
    block = ""
    for _, start, end in _scan(text, [tag], any_case):
        block = text[start:end].strip()
    return block or None


def _scan(text: str, tags: Sequence[str], any_case: bool) -> Iterator[tuple[str, int, int]]:
    """Yield tag, start and end of each block, from left to right.

    Thinking without an opening tag, with which the text begins, is a block called UNOPENED.
    """
    opening = None  # the match of the open block's tag
    name = ""  # of the open block
    strings_end = 0  # tags before this position are in a string
    thought = False  # whether any <think> or </think> was seen
    nested = False  # whether a <think> is open within the open block
    mentioned = False  # whether the last tag was a </think> within the open block
    flags = re.ASCII | re.IGNORECASE if any_case else re.ASCII
    for token in re.finditer(rf"<(/?)({'|'.join(tags)})>", text, flags):
        if token.start() < strings_end:
            continue
        closes = token[1] == "/"
        tag = token[2].lower()
        if mentioned and not closes:
            opening = None  # the thinking went on: it mentioned this tag and its own end
        mentioned = False
        if closes and tag == "think" and not thought:
            yield UNOPENED, 0, token.end()
            opening = None
        elif opening is None and not closes:
            opening = token
            name = tag
            nested = False
            strings_end = _strings_end(text, token.end(), tag)
        elif opening and closes and tag == name:
            yield tag, opening.end(), token.start()
            opening = None
        elif opening and tag == "think":
            mentioned = closes and not nested
            nested = not closes
        thought = thought or tag == "think"


def _strings_end(text: str, start: int, tag: str) -> int:
    """Return where a list or object that begins at `start` meets its closing tag, else `start`."""
    value = VALUE.match(text, start)
    if value is None:
        return start
    end = value.end()
    closing = f"</{tag}>"
    return end if text[end : end + len(closing)].lower() == closing else start


def parse_value(text: str, python: bool = True) -> Any:
    """Read JSON, or with `python` also a Python literal, perhaps in a ``` fence.

    Both grammars may be mixed: True in JSON, and JSON's escapes in a Python literal.  Raises
    `Malformed`.

    >>> parse_value("{'url': 'http:\\\\/\\\\/a.io', 'ok': True,}")
    {'url': 'http://a.io', 'ok': True}
    """
    text = re.sub(r"^```(json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    check_size(text)
    readers = (json.loads, _read_python, _read_mixed) if python else (json.loads,)
    for read in readers:
        try:
            value = read(text)
        except UNREADABLE:
            continue  # the next grammar
        if value is not None:
            return plain(value)
    raise Malformed("not JSON")


def check_size(text: str) -> None:
    """Raise `Malformed` for text that is too long or nested too deeply for the parsers."""
    if len(text) > MAX_CHARS:
        raise Malformed("too long")
    depth = 0
    for bracket in re.findall(r"[][(){}]", text):
        depth += 1 if bracket in "[({" else -1
        if depth > MAX_DEPTH:
            raise Malformed("nested too deep")


def syntax_tree(text: str) -> ast.expr:
    """Return the syntax tree of a Python expression; evaluate nothing.  Raises UNREADABLE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's "\d" is not our mistake
        return ast.parse(text, mode="eval").body


def _read_python(text: str) -> Any:
    """Read a Python literal.  JSON's escape of the slash, which Python lacks, counts too."""
    text = re.sub(r"\\(.)", _unescape_slash, text, flags=re.DOTALL)
    return ast.literal_eval(syntax_tree(text))


def _unescape_slash(escape: re.Match) -> str:
    return "/" if escape[1] == "/" else escape[0]


def _read_mixed(text: str) -> Any:
    """Read JSON in which True, False or None are Python's."""
    return json.loads(STRING_OR_WORD.sub(_json_word, text))


def _json_word(match: re.Match) -> str:
    return {"True": "true", "False": "false", "None": "null"}.get(match[0], match[0])


def plain(value: Any, depth: int = 0) -> Any:
    """Return a parsed value if JSON and UTF-8 can carry it; raise `Malformed` if not."""
    if depth > MAX_DEPTH:  # brackets inside strings can hide nesting from check_size
        raise Malformed("nested too deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Malformed("a key is not text")
        return {plain(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item, depth + 1) for item in value)
    if isinstance(value, str):
        return _valid_text(value)
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, (int, float)):
        raise Malformed("a value is not JSON")
    if not abs(value) < 1e308:  # NaN is not smaller either
        raise Malformed("a number is out of range")
    return value


def _valid_text(text: str) -> str:
    """Join each pair of surrogates, JSON's spelling of one character; refuse a lone one."""
    if not re.search("[\ud800-\udfff]", text):
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise Malformed("text is not valid Unicode") from None


def to_calls(value: Any, strict: bool = False) -> list[Call]:
    """Return every call in a parsed value.

    A Solver's answer is read leniently: items that are not calls are skipped, names are trimmed,
    and lists in the list are flattened.  A Generator's answer is read with `strict`: one bad item,
    or no call, raises `Malformed`, and names are kept as they are.

    >>> to_calls([{"name": "f", "arguments": {"x": 1}}, 42, {"tool_name": "g", "y": 2}])
    [Call(name='f', arguments={'x': 1}), Call(name='g', arguments={'y': 2})]
    """
    items = value if isinstance(value, list) else [value]
    if not strict:
        items = _flat(items)
    calls = [_to_call(item, strict) for item in items if isinstance(item, dict)]
    calls = [call for call in calls if call]
    if strict and not calls:
        raise Malformed("no call")
    if strict and len(calls) < len(items):
        raise Malformed("an item is not a call")
    return calls


def _flat(items: list) -> list:
    """Flatten the lists in a list, one level deep."""
    flat = []
    for item in items:
        flat += item if isinstance(item, list) else [item]
    return flat


def _to_call(item: dict, strict: bool) -> Call | None:
    """Return the call in an item, or None; its arguments may stand beside its name."""
    wrapped = item.get("function")  # OpenAI's form
    if isinstance(wrapped, dict) and _name(wrapped):
        bare = "arguments" not in wrapped and not _name(item)
        if bare or _given(wrapped) is not None:
            item = wrapped
    name = _name(item)
    if name is None:
        return None
    arguments = _given(item)
    if arguments is None:
        arguments = {k: v for k, v in item.items() if k not in ("name", "tool_name")}
    return Call(name if strict else name.strip(), arguments)


def _name(item: dict) -> str | None:
    name = item.get("name") or item.get("tool_name")
    return name if isinstance(name, str) and name.strip() else None


def _given(item: dict) -> dict | None:
    """Return the object under "arguments", perhaps written as text; None without an object."""
    if "arguments" not in item:
        return None
    arguments = item["arguments"]
    if isinstance(arguments, str):
        if arguments.strip() in ("", "null", "None"):
            return {}
        try:
            arguments = parse_value(arguments)
        except Malformed:
            return None
    if arguments in (None, "", []):
        return {}
    return arguments if isinstance(arguments, dict) else None


def canonical(call: Call) -> str:
    """Return the same text for all spellings of a call.

    >>> canonical(Call("f", {"b": 2.0, "a": True}))
    '["f", {"a": true, "b": 2}]'
    """
    arguments = WHOLE_NUMBERS.decode(json.dumps(call.arguments))
    return json.dumps([call.name, arguments], sort_keys=True)


def _whole(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


WHOLE_NUMBERS = json.JSONDecoder(parse_float=_whole)  # reads 2.0 as 2


def exact_match(predicted: list[Call], gold: list[Call]) -> bool:
    """Apply the paper's rule: the same calls, all of them and no others, in any order."""
    return sorted(map(canonical, predicted)) == sorted(map(canonical, gold))  # Sec. 4
