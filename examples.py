"""The bank of examples: what a prompt shows instead of placeholders.

A small model copies the form of an example, and often the example itself.  So the bank has many
domains, none of which is in `generator.DOMAINS`.  A seed decides the domain, the request and the
order of the menu of each example.  In the Generator's prompt, examples have the context, the number
of calls and, without --tools, the menu size that the spec asks for.  More than half of the tools
have optional arguments, and most requests leave some of them out.

One raw entry of examples.txt.  A question mark after a name marks an optional argument, bars
separate the values of an enumeration, and ` | ` separates the turns of a dialogue:

    find_book(title: string, branch: string, large_print?: boolean) Look for a book in a branch.
    Q: Does the Harbour branch have The Little Prince?
    A: find_book(title="The Little Prince", branch="Harbour")
"""

import ast
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ast_match import Call, Tool

BANK_FILE = Path(__file__).with_name("examples.txt")

_TOOL = re.compile(r"(\w+)\((.*?)\) (.+)")  # name, arguments, description


@dataclass(frozen=True)
class Request:
    """A request of the bank and the calls that answer it."""

    question: str
    calls: tuple[Call, ...]

    @property
    def context(self) -> str:
        """Return "multi_turn" for a dialogue, else "single_turn"."""
        return "multi_turn" if self.question.startswith("User: ") else "single_turn"


@dataclass(frozen=True)
class Example:
    """A whole task of the bank, sized as a spec asks."""

    domain: str
    context: str
    question: str
    tools: list[Tool]
    calls: list[Call]


@lru_cache(maxsize=2**16)  # the prompt, the check and the log of a spec draw the same examples
def draw(
    seed: int,
    menu_size: int,
    calls: int,
    context: str = "single_turn",
    leaves_out: bool = False,
) -> Example:
    """Draw an example of this size; the seed decides domain, request and order of the menu.

    With `leaves_out` the calls leave out at least one optional argument.  Do not change the result:
    it is shared.
    """
    rng = random.Random(f"example/{seed}")
    bank = read_bank()
    domain = rng.choice(list(bank))
    tools, requests = bank[domain]
    fitting = [r for r in requests if r.context == context and len(r.calls) == calls]
    if leaves_out:
        fitting = [r for r in fitting if leaves_optional_out(r.calls, tools)]
    request = rng.choice(fitting)
    needed = [call.name for call in request.calls]
    others = [tool for tool in tools if tool.name not in needed]
    menu = [tool for tool in tools if tool.name in needed]
    menu += rng.sample(others, menu_size - len(menu))
    rng.shuffle(menu)
    return Example(domain, context, request.question, menu, list(request.calls))


def leaves_optional_out(calls: Sequence[Call], menu: list[Tool]) -> bool:
    """Return whether a call leaves out an argument of its tool."""
    given = {call.name: call.arguments.keys() for call in calls}
    return any(tool.parameters.keys() - given[tool.name] for tool in menu if tool.name in given)


@lru_cache
def read_bank() -> dict[str, tuple[list[Tool], list[Request]]]:
    """Read examples.txt; return domain -> its tools and its requests."""
    bank = {}
    for line in BANK_FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            tools = []
            requests = []
            bank[line.strip("[]")] = (tools, requests)
        elif line.startswith("Q: "):
            question = line.removeprefix("Q: ").replace(" | ", "\n")
            requests.append(Request(question, ()))
        elif line.startswith("A: "):
            call = _read_call(line.removeprefix("A: "))
            requests[-1] = Request(requests[-1].question, (*requests[-1].calls, call))
        elif line:
            tools.append(_read_tool(line))
    return bank


def _read_tool(line: str) -> Tool:
    name, arguments, description = _TOOL.fullmatch(line).groups()
    parameters = {}
    required = []
    for argument in arguments.split(", "):
        key, kind = argument.split(": ")
        parameters[key.rstrip("?")] = _schema(kind)
        if not key.endswith("?"):
            required.append(key)
    return Tool(name, description, parameters, tuple(required))


def _schema(kind: str) -> dict:
    if "|" in kind:
        return {"type": "string", "enum": kind.split("|")}
    return {"type": kind}


def _read_call(text: str) -> Call:
    call = ast.parse(text, mode="eval").body
    arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    return Call(call.func.id, arguments)
