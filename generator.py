"""The Generator: a spec becomes a prompt; a completion becomes a task or a named reason.

Paper: Sec. 3.2 (task specification s = (d, c, m, n)), appendix (Generator prompt).
Our decisions:
  1. A task is kept as data and written anew for the Solver, so all menus have one form.
  2. The prompt shows one example, of a domain that is not in DOMAINS.  With placeholders in its
     place a model of 0.5 B parameters hardly ever kept the form.

One raw example, the completion for the spec (library, single_turn, m = 2, n = 1): see SYSTEM.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from ast_match import Call, Tool, last_block, parse_value, to_calls, to_tools
from errors import Malformed

DOMAINS = str.split("""finance healthcare productivity retail_ecommerce scheduling database
cloud_infrastructure system programming geolocation logistics communication iot cybersecurity
insurance legal news weather sports entertainment education real_estate food_ordering translation
utilities government memory_management web_search social_media math vehicle_control
travel""")  # Sec. 3.2
P_MULTI_TURN = 0.1  # Sec. 3.2
P_TWO_CALLS = 0.2  # Sec. 3.2: of the single-turn specs; a multi-turn one always has one call
P_LARGE_MENU = 0.6  # Sec. 3.2: of the one-call specs
SMALL_MENU, LARGE_MENU = (2, 4), (5, 8)  # Sec. 3.2: fewest and most tools; uniform between
TWO_CALL_MENUS = {3: 0.3, 4: 0.4, 5: 0.3}  # Sec. 3.2: menu size -> probability
BLOCKS = ("think", "question", "available_tools", "tool_call_answer")

SYSTEM = """You invent one task for a tool-calling assistant: a request of a user, a menu of \
tools, and the calls that fulfil the request.
Rules: The menu has exactly the number of tools, the answer exactly the number of calls that are \
asked for. Each call uses a tool of the menu and gives all its required arguments. Arguments are \
flat: text, numbers, true or false. Each value stands word for word in the question. In a \
multi_turn context the question is a short dialogue of User and Assistant.
Write four blocks, then stop. For example, for the domain library, single_turn, 2 tools, 1 call:
<think>
The menu is find_book(title, branch), renew_loan(card_number, days). The request needs find_book \
with title and branch.
</think>
<question>
Is The Little Prince on the shelf of the Harbour branch?
</question>
<available_tools>
[{"name": "find_book", "description": "Look for a book in a branch.", "parameters": {"title": \
{"type": "string"}, "branch": {"type": "string"}}, "required": ["title", "branch"]}, {"name": \
"renew_loan", "description": "Keep a book longer.", "parameters": {"card_number": {"type": \
"string"}, "days": {"type": "integer"}}, "required": ["card_number", "days"]}]
</available_tools>
<tool_call_answer>
[{"name": "find_book", "arguments": {"title": "The Little Prince", "branch": "Harbour"}}]
</tool_call_answer>
Write a new task of your own in exactly this form: other tools, other values."""


@dataclass(frozen=True)
class Spec:
    """What the Generator is asked for: s = (d, c, m, n)."""

    domain: str  # d
    context: str  # c: "single_turn" or "multi_turn"
    menu_size: int  # m
    calls: int  # n


@dataclass(frozen=True)
class Task:
    """A question, the menu that may be used, and the gold calls; the `id` names it in files."""

    id: str
    question: str
    tools: list[Tool]
    calls: list[Call]
    domain: str = ""

    def to_json(self) -> dict:
        """The task as one line of a JSONL file."""
        return {
            "id": self.id,
            "domain": self.domain,
            "question": self.question,
            "tools": [tool.to_json() for tool in self.tools],
            "calls": [call.to_json() for call in self.calls],
        }

    @staticmethod
    def from_json(item: Any) -> "Task":
        """Read one line of a task file.  Raises `Malformed` with what is wrong."""
        if not isinstance(item, dict) or not isinstance(item.get("question"), str):
            raise Malformed("not a task: it needs a text 'question'")
        if not isinstance(item.get("tools"), list):
            raise Malformed("'tools' is not a list")
        gold = item.get("calls")
        if not isinstance(gold, list) or len(calls := to_calls(gold)) != len(gold):
            raise Malformed('\'calls\' is not a list of {"name", "arguments"}')
        return Task(
            str(item.get("id", "")),
            item["question"],
            [Tool.from_json(t) for t in item["tools"]],
            calls,
            str(item.get("domain", "")),
        )


@dataclass(frozen=True)
class Draft:
    """What could be read of a completion; what could not is None, and `reasons` say why."""

    blocks: dict[str, str | None]
    tools: list[Tool] | None
    calls: list[Call] | None
    reasons: list[str] = field(default_factory=list)

    def task(self, id: str, domain: str) -> Task | None:
        """The task, if every part could be read."""
        whole = not self.reasons
        return Task(id, self.blocks["question"], self.tools, self.calls, domain) if whole else None


def sample_spec(rng: random.Random, p_large_menu: float = P_LARGE_MENU) -> Spec:
    """Draw s from the paper's distribution, the domain uniformly."""
    domain = rng.choice(DOMAINS)
    context = "multi_turn" if rng.random() < P_MULTI_TURN else "single_turn"
    calls = 2 if context == "single_turn" and rng.random() < P_TWO_CALLS else 1
    if calls == 2:
        menu_size = rng.choices(list(TWO_CALL_MENUS), list(TWO_CALL_MENUS.values()))[0]
    else:
        menu_size = rng.randint(*(LARGE_MENU if rng.random() < p_large_menu else SMALL_MENU))
    return Spec(domain, context, menu_size, calls)  # Sec. 3.2: s = (d, c, m, n)


def sample_specs(seed: int, count: int, p_large_menu: float = P_LARGE_MENU) -> list[Spec]:
    """The same `count` specs for the same seed."""
    rng = random.Random(seed)
    return [sample_spec(rng, p_large_menu) for _ in range(count)]


def prompt(spec: Spec) -> list[dict[str, str]]:
    """Chat messages that ask for one task."""
    user = (
        f"Domain: {spec.domain}\nContext: {spec.context}\nTools in the menu: {spec.menu_size}\n"
        f"Calls in the answer: {spec.calls}\nBegin with <think> and write all four blocks."
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def parse(completion: str) -> Draft:
    """Read a completion, however broken.  Never raises.

    >>> parse("<think>hm</think>").reasons
    ['no question', 'no available_tools', 'no tool_call_answer']
    """
    blocks = {tag: last_block(completion, tag) for tag in BLOCKS}
    reasons = [f"no {tag}" for tag, text in blocks.items() if text is None]
    tools = calls = None
    if reasons:  # without all four blocks nothing counts, as in the released code
        return Draft(blocks, tools, calls, reasons)
    try:
        tools = to_tools(parse_value(blocks["available_tools"], python=False))
    except Malformed as reason:
        reasons.append(f"menu: {reason}")
    try:
        calls = to_calls(parse_value(blocks["tool_call_answer"], python=False), strict=True)
    except Malformed as reason:
        reasons.append(f"answer: {reason}")
    return Draft(blocks, tools, calls, reasons)


if __name__ == "__main__":
    from scripts.demos import demo

    demo("generator") or print(__doc__)
