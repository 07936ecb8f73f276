"""The Generator: a spec becomes a prompt; a completion becomes a task or a named reason.

Paper: Sec. 3.2 (task specification s = (d, c, m, n)), appendix (Generator prompt).
Our decisions:
  1. A task is kept as data and re-serialised for the Solver, so all menus have the same format.
  2. The prompt shows examples of the spec's own size as earlier turns of the chat, drawn anew for
     each spec from a bank of other domains (examples.py).  `--generator-prompt placeholders` shows
     the form instead, as the release does; any other prompt is read from a file (template.py).
  3. The plan in <think> numbers the tools and the calls, and says which optional arguments the
     request leaves out.
  4. Of two tools with the same name, the later one counts, as in the released code.
  5. With `--tools` the menu of a spec is drawn from the user's tools.  The prompt shows it, the
     Generator writes the other three blocks, and `parse` adds the menu block.

One raw example, the completion for the spec (library, single_turn, m = 2, n = 1):

    <think>
    Tool 1: find_book(title, branch, large_print?)
    Tool 2: pay_fine(card_number, amount)
    Call 1: find_book with title The Little Prince, branch Harbour; without large_print
    </think>
    <question>
    Does the Harbour branch have The Little Prince on its shelves?
    </question>
    <available_tools>
    [{"name": "find_book", "description": "Look for a book.", "parameters": {"title": ...
    </available_tools>
    <tool_call_answer>
    [{"name": "find_book", "arguments": {"title": "The Little Prince", "branch": "Harbour"}}]
    </tool_call_answer>
"""

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import examples
from ast_match import Call, Tool, parse_value, read_blocks, to_calls, to_tools
from errors import Malformed, UsageError
from examples import Example
from template import Chat, Template, read_template

DOMAINS = """finance healthcare productivity retail_ecommerce scheduling database
cloud_infrastructure system programming geolocation logistics communication iot cybersecurity
insurance legal news weather sports entertainment education real_estate food_ordering translation
utilities government memory_management web_search social_media math vehicle_control
travel""".split()  # Sec. 3.2
SHOTS = 4  # examples in a prompt
SHOWN_MENU = 3  # tools in an example whose menu is given
P_MULTI_TURN = 0.1  # Sec. 3.2
P_TWO_CALLS = 0.2  # Sec. 3.2: of the single-turn specs; a multi-turn spec always has one call
P_LARGE_MENU = 0.6  # Sec. 3.2: of the one-call specs
SMALL_MENU, LARGE_MENU = (2, 4), (5, 8)  # Sec. 3.2: fewest and most tools; uniform between
TWO_CALL_MENUS = {3: 0.3, 4: 0.4, 5: 0.3}  # Sec. 3.2: menu size -> probability
BLOCKS = ("think", "question", "available_tools", "tool_call_answer")
PLACEHOLDER_PHRASES = ("tool_name", "argument_name", "begin with <think>")

SYSTEM = """You write tasks for a tool-calling assistant: what a user asks for, a menu of tools, \
and the calls that do it.
Rules:
- The menu has exactly the number of tools, the answer exactly the number of calls that are asked \
for. All tools belong to the domain that is asked for.
- The question is what a real user would say or write: it names things and values, never tools or \
arguments. In a multi_turn context it is a short dialogue of User and Assistant.
- Arguments are flat: text, numbers, true or false. Every value of the calls is in the question, \
word for word.
- A call gives all required arguments. It leaves out each optional argument that the question does \
not mention.
- <think> numbers the tools of the menu, then the calls. An optional argument has a question mark.
- Each task is new: other tools, another question, other values."""

USER = """Domain: {domain}
Context: {context}
Tools in the menu: {menu_size}
Calls in the answer: {calls}
Begin with <think> and write all four blocks."""

# The structure of the released prompt in our own words: rules, then the form with placeholders.
PLACEHOLDERS = Template(
    """You are an expert at designing tasks for assistants that call tools. First reason about \
the design in <think> </think> tags. Then give the request of the user, the available tools and \
the right calls, each in tags of its own.""",
    """Design one {context} task for the domain {domain}.
Rules:
1. Give exactly {menu_size} tools, each fit for the domain.
2. The answer has exactly {calls} calls, each of a tool in the list.
3. Every required argument is given.
4. Values are flat: text, numbers or booleans.
5. Every value can be read in the request, word for word.
6. The request is natural and complete, and does not name the tools.
Use exactly this form:
<think>
your reasoning
</think>
<question>
the request of the user
</question>
<available_tools>
[{"name": "tool_name", "description": "what it does", "parameters": {"argument_name": {"type": \
"string"}}, "required": ["argument_name"]}]
</available_tools>
<tool_call_answer>
[{"name": "tool_name", "arguments": {"argument_name": "value"}}]
</tool_call_answer>""",
)
BANK = Template(SYSTEM, USER)
TEMPLATES = {"bank": BANK, "placeholders": PLACEHOLDERS}
FIELDS = {"domain", "context", "menu_size", "calls"}  # every prompt has them; {example} is optional

# The prompt with a given menu (--tools).
GIVEN = Template(
    """You write tasks for a tool-calling assistant: what a user asks for, and the calls that do \
it. The tools are given.
Rules:
- The answer has exactly the number of calls that is asked for, of the tools that are asked for.
- The question is what a real user would say or write: it names things and values, never tools or \
arguments. In a multi_turn context it is a short dialogue of User and Assistant.
- Every value of the calls is in the question, word for word, and has the type of its argument.
- A call gives all required arguments. It leaves out each optional argument that the question does \
not mention.
- <think> numbers the tools that are asked for, with a question mark after optional arguments. \
Then it says the request, with a value for each argument that is given. Then it numbers the calls.
- Each task is new: another question, other values.""",
    """Tools:
{tools}

Domain: {domain}
Context: {context}
Calls in the answer: {calls}, of {asked}
Begin with <think> and write all three blocks.""",
    "<think>\n{signatures}\nRequest:",
)
GIVEN_FIELDS = set("domain menu_size tools outline asked first signatures".split())


@dataclass(frozen=True)
class Spec:
    """What the Generator is asked for: s = (d, c, m, n)."""

    domain: str  # d
    context: str  # c: "single_turn" or "multi_turn"
    menu_size: int  # m
    calls: int  # n
    example_seed: int = 0  # decides the examples of the prompt; not part of the paper's s
    menu: tuple[Tool, ...] = ()  # given with --tools, otherwise the Generator invents it
    asked: tuple[Tool, ...] = ()  # the tools of a given menu that the answer should call


@dataclass(frozen=True)
class Task:
    """A question, the menu that may be used, and the gold calls; the `id` names it in files."""

    id: str
    question: str
    tools: list[Tool]
    calls: list[Call]
    domain: str = ""

    def to_json(self) -> dict:
        """Return the task as one line of a JSONL file."""
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
        calls = to_calls(gold) if isinstance(gold, list) else None
        if calls is None or len(calls) != len(gold):
            raise Malformed('\'calls\' is not a list of {"name", "arguments"}')
        id = item.get("id")
        return Task(
            "" if id is None else str(id),
            item["question"],
            [Tool.from_json(tool) for tool in item["tools"]],
            calls,
            str(item.get("domain", "")),
        )


@dataclass(frozen=True)
class Draft:
    """The parsed parts of a completion; None where parsing failed, and `reasons` say why."""

    blocks: dict[str, str | None]
    tools: list[Tool] | None
    calls: list[Call] | None
    reasons: list[str] = field(default_factory=list)
    placeholder: bool = False  # the question is a placeholder: R_G is 0
    given: bool = False  # the menu was given, not written

    @property
    def question(self) -> str:
        """Return the question, or "" if there is none."""
        return self.blocks["question"] or ""

    def task(self, id: str, domain: str) -> Task | None:
        """Return the task; None if a part could not be read or the question is a placeholder."""
        if self.reasons:
            return None
        return Task(id, self.question, self.tools, self.calls, domain)


def sample_spec(
    rng: random.Random,
    p_large_menu: float = P_LARGE_MENU,
    domains: Sequence[str] = DOMAINS,
) -> Spec:
    """Draw s from the paper's distribution; the domain is uniform."""
    domain = rng.choice(domains)
    context = "multi_turn" if rng.random() < P_MULTI_TURN else "single_turn"
    calls = 2 if context == "single_turn" and rng.random() < P_TWO_CALLS else 1
    if calls == 2:
        menu_size = rng.choices(list(TWO_CALL_MENUS), list(TWO_CALL_MENUS.values()))[0]
    else:
        sizes = LARGE_MENU if rng.random() < p_large_menu else SMALL_MENU
        menu_size = rng.randint(*sizes)
    return Spec(domain, context, menu_size, calls)  # Sec. 3.2: s = (d, c, m, n)


def sample_specs(
    seed: int,
    count: int,
    p_large_menu: float = P_LARGE_MENU,
    domains: Sequence[str] = DOMAINS,
    tools: Sequence[Tool] = (),
) -> list[Spec]:
    """Return the same `count` specs for the same seed, each with a seed for its own examples.

    With `tools`, the menu of each spec and the tools to call are drawn from them.
    """
    rng = random.Random(seed)
    specs = []
    for i in range(count):
        spec = sample_spec(rng, p_large_menu, domains)
        example_seed = zlib.crc32(f"{seed}/{i}".encode())
        spec = replace(spec, example_seed=example_seed)
        if tools:
            size = min(spec.menu_size, len(tools))
            own = random.Random(example_seed)
            menu = tuple(own.sample(tools, size))
            asked = tuple(own.sample(menu, spec.calls))
            spec = replace(spec, menu_size=size, menu=menu, asked=asked)
        specs.append(spec)
    return specs


def examples_of(spec: Spec) -> list[Example]:
    """Return the examples that the prompt for this spec shows, each from a different domain.

    No example has a tool with the same name as one in a given menu.
    """
    shown: dict[str, Example] = {}
    seed = spec.example_seed
    menu_size = SHOWN_MENU if spec.menu else spec.menu_size
    given = {tool.name.lower() for tool in spec.menu}
    while len(shown) < SHOTS:
        example = examples.draw(seed, menu_size, spec.calls, spec.context)
        if not given & {tool.name.lower() for tool in example.tools}:
            shown.setdefault(example.domain, example)
        seed += 1
    return list(shown.values())


def prompt(spec: Spec, template: Template = BANK) -> Chat:
    """Return the chat messages that ask for one task."""
    shown = examples_of(spec)
    chat = template.fill(
        domain=spec.domain,
        context=spec.context,
        menu_size=spec.menu_size,
        calls=spec.calls,
        tools=as_json(spec.menu),
        outline=", ".join(outline(tool) for tool in spec.menu),
        asked=" and ".join(tool.name for tool in spec.asked),
        first=spec.asked[0].name if spec.asked else "",
        signatures=signatures(spec.asked),
        example=show(shown[0]),
    )
    if template not in (BANK, GIVEN):
        return chat
    turns = []
    for example in shown:
        turns += as_turn(example, bool(spec.menu))
    return [chat[0], *turns, *chat[1:]]


def as_turn(example: Example, given: bool = False) -> Chat:
    """Return an example as a turn of the chat: what the user asked for, what the model wrote."""
    template = GIVEN if given else BANK
    (user,) = Template("", template.user).fill(
        domain=example.domain,
        context=example.context,
        menu_size=len(example.tools),
        calls=len(example.calls),
        tools=as_json(example.tools),
        asked=" and ".join(call.name for call in example.calls),
    )
    return [user, {"role": "assistant", "content": write(example, given)}]


def template_of(name: str, given: bool = False) -> Template:
    """Return the template with this name, or read it from the file with this name.

    `given`: the prompt shows a menu (--tools).  Raises UsageError.
    """
    if not given:
        return TEMPLATES.get(name) or read_template(name, FIELDS, {"example"})
    if name == "bank":
        return GIVEN
    template = read_template(name, {"context", "calls"}, GIVEN_FIELDS)
    if not re.search(r"\{(tools|outline)\}", f"{template}"):
        raise UsageError(f"prompt file {name} shows no menu: use {{tools}} or {{outline}}")
    return template


def show(example: Example) -> str:
    """Write an example below a line with its spec: what {example} becomes in a prompt file.

    >>> show(examples.draw(0, 2, 1)).split("\\n")[:3]
    ['observatory, single_turn, 2 tools, 1 call:', '<think>', 'Tool 1: sky_forecast(night)']
    """
    tools, calls = len(example.tools), len(example.calls)
    plural = "" if calls == 1 else "s"
    spec = f"{example.domain}, {example.context}, {tools} tools, {calls} call{plural}:"
    return f"{spec}\n{write(example)}"


def write(example: Example, given: bool = False) -> str:
    """Write an example as the Generator should have written it; a given menu is left out."""
    texts = {
        "think": plan(example, given),
        "question": example.question,
        "available_tools": as_json(example.tools),
        "tool_call_answer": as_json(example.calls),
    }
    if given:
        texts.pop("available_tools")
    lines = []
    for tag, text in texts.items():
        lines += [f"<{tag}>", text, f"</{tag}>"]
    return "\n".join(lines)


def as_json(items: Sequence[Tool | Call]) -> str:
    """Write tools or calls as the prompts show them."""
    return json.dumps([item.to_json() for item in items], ensure_ascii=False)


def plan(example: Example, given: bool) -> str:
    """Write the numbered plan of a task: the tools' signatures, then the calls with their values.

    With a given menu: the signatures of the tools to call, the request, then the same calls.
    """
    menu = {tool.name: tool for tool in example.tools}
    lines = [signatures(example.tools)]
    if given:
        called = [menu[call.name] for call in example.calls]
        lines = [signatures(called), f"Request: {example.question}"]
    for n, call in enumerate(example.calls, 1):
        values = ", ".join(f"{name} {value}" for name, value in call.arguments.items())
        left_out = menu[call.name].parameters.keys() - call.arguments.keys()
        without = "; without " + ", ".join(sorted(left_out)) if left_out else ""
        lines.append(f"Call {n}: {call.name} with {values}{without}")
    return "\n".join(lines)


def signatures(tools: Sequence[Tool]) -> str:
    """List these tools with numbers, one per line."""
    return "\n".join(f"Tool {n}: {outline(tool)}" for n, tool in enumerate(tools, 1))


def outline(tool: Tool) -> str:
    """Write a tool's name and arguments on one line, optional ones with a question mark.

    >>> outline(Tool("find_book", "", {"title": {}, "branch": {}}, ("title",)))
    'find_book(title, branch?)'
    """
    names = [name if name in tool.required else f"{name}?" for name in tool.parameters]
    return f"{tool.name}({', '.join(names)})"


def is_placeholder(question: str, prompt_text: str) -> bool:
    """Return whether a question is very short, part of the prompt, or has a placeholder phrase."""
    text = question.strip().lower()
    if len(text) < 8 or text in prompt_text.lower():
        return True
    return any(phrase in text for phrase in PLACEHOLDER_PHRASES)


def parse(
    completion: str,
    chat: Sequence[dict[str, str]] = (),
    menu: Sequence[Tool] = (),
) -> Draft:
    """Read a completion, however broken.  Never raises.

    `chat` is the prompt: a question that is a piece of it counts as a placeholder.  A given `menu`
    replaces whatever menu the completion has.

    >>> parse("<think>hm</think>").reasons
    ['no question', 'no available_tools', 'no tool_call_answer']
    """
    blocks = read_blocks(completion, BLOCKS)
    if menu:
        blocks["available_tools"] = as_json(menu)
    reasons = [f"no {tag}" for tag, text in blocks.items() if text is None]
    tools = None
    calls = None
    if reasons:  # without all four blocks nothing counts, as in the released code
        return Draft(blocks, tools, calls, reasons, given=bool(menu))
    placeholder = is_placeholder(blocks["question"], "\n".join(m["content"] for m in chat))
    if placeholder:
        reasons.append("question is a placeholder")
    try:
        written = menu or to_tools(parse_value(blocks["available_tools"], python=False))
        tools = list({tool.name: tool for tool in written}.values())
    except Malformed as reason:
        reasons.append(f"menu: {reason}")
    try:
        calls = to_calls(parse_value(blocks["tool_call_answer"], python=False), strict=True)
    except Malformed as reason:
        reasons.append(f"answer: {reason}")
    return Draft(blocks, tools, calls, reasons, placeholder, bool(menu))
