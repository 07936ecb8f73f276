"""The Solver: a question and a menu become a prompt; a completion becomes calls or a named reason.

Paper: Sec. 3.4 and appendix (Solver prompt), Sec. 3.2.1 (the frozen Solver as judge of a task).
Our decisions:
  1. One prompt wherever the Solver answers; the released code has three that differ.
  2. The prompt shows one whole example from the bank, chosen by a hash of the question.  The
     example leaves an optional argument out, and the rules say to do so; otherwise a small model
     fills in every argument.
  3. The last words say how to begin; otherwise a small model stops after <think>.

One raw completion, and the command that asks a trained Solver:

    <think>
    The request needs get_weather with city.
    </think>
    <tool_call_answer>
    [{"name": "get_weather", "arguments": {"city": "Paris"}}]
    </tool_call_answer>

    python -m scripts.ask --tools tools.json "Will it rain in Paris?"
"""

import zlib
from dataclasses import dataclass

import examples
from ast_match import Call, last_block, parse_value, read_blocks, to_calls
from errors import Malformed
from examples import Example
from generator import Task, as_json
from template import Chat, Template, read_template

SYSTEM = """You call tools. You never answer a request yourself: you choose tools from the menu \
and take the values of their arguments from the request.
Rules:
- Give every required argument.
- Leave out every optional argument that the request does not mention. Never make up a value.
- Reply with two blocks and nothing else: one sentence that names the tools that the request \
needs, then their calls.

This is an example with a menu of its own:
{example}

The next message has another menu and another request."""

USER = """Tools:
{tools}

Request: {question}

Begin with <think> and write both blocks."""

# The structure of the released prompt in our own words: R1-style, the request before the menu.
PLACEHOLDERS = Template(
    """The following is a conversation between a user and an assistant that can call tools. \
Before it acts the assistant reasons about the request, enclosed in <think> </think> tags. Then it \
gives its tool calls, enclosed in <tool_call_answer> </tool_call_answer> tags, as a JSON list of \
objects with "name" and "arguments".""",
    """{question}

Available tools:
{tools}

Use exactly this form:
<think>
your reasoning
</think>
<tool_call_answer>
[{"name": "tool_name", "arguments": {"argument_name": "value"}}]
</tool_call_answer>""",
)
TEMPLATES = {"bank": Template(SYSTEM, USER), "placeholders": PLACEHOLDERS}
FIELDS = {"tools", "question"}  # every prompt has them; {example} is optional

JUDGE = Template(
    """You rate tasks for a tool-calling assistant. A good task has a natural, clear request, a \
sensible menu, and an answer that follows from the request alone. Rate from 1 (useless) to 5 \
(excellent). Reply with one digit.""",
    """Tools:
{tools}

Request: {question}

Answer: {calls}

Reply with one digit from 1 to 5.""",
)


@dataclass(frozen=True)
class Answer:
    """What could be read from a completion; `reason` says why `calls` is empty, or is None."""

    think: bool  # a <think> block that is not empty
    tag: bool  # a <tool_call_answer> block that is not empty
    parsed: bool  # its text could be read
    calls: list[Call]
    reason: str | None


def example_of(task: Task) -> Example:
    """Return the example that the prompt for this task shows; it leaves an argument out."""
    seed = zlib.crc32(task.question.encode())
    return examples.draw(seed, menu_size=3, calls=1, leaves_out=True)


def prompt(task: Task, template: Template = TEMPLATES["bank"]) -> Chat:
    """Return the chat messages that ask for the calls; the gold calls are not in them."""
    example = show(example_of(task))
    return template.fill(tools=as_json(task.tools), question=task.question, example=example)


def template_of(name: str) -> Template:
    """Return the template with this name, or read it from the file with this name."""
    return TEMPLATES.get(name) or read_template(name, FIELDS, {"example"})


def judge_prompt(task: Task) -> Chat:
    """Return the chat messages that ask for one digit, 1 to 5: how good a task is."""
    return JUDGE.fill(tools=as_json(task.tools), question=task.question, calls=as_json(task.calls))


def show(example: Example) -> str:
    """Write an example: menu, request, and the reply that the Solver should give."""
    needs = [f"{call.name} with {' and '.join(call.arguments)}" for call in example.calls]
    return f"""Tools:
{as_json(example.tools)}

Request: {example.question}

<think>
The request needs {", then ".join(needs)}.
</think>
<tool_call_answer>
{as_json(example.calls)}
</tool_call_answer>"""


def parse(completion: str) -> Answer:
    """Read a completion, however broken.  Never raises.

    >>> parse("<tool_call_answer>[{'name': 'f'}]</tool_call_answer>")
    Answer(think=False, tag=True, parsed=True, calls=[Call(name='f', arguments={})], reason=None)
    """
    blocks = read_blocks(completion, ("think", "tool_call_answer"), any_case=True)
    think = blocks["think"] is not None
    block = blocks["tool_call_answer"]
    if block is None:  # as in the released code, the thinking may hold the only answer
        block = last_block(completion, "tool_call_answer", any_case=True)
    if block is None:
        return Answer(think, False, False, [], "no tool_call_answer")
    try:
        calls = to_calls(parse_value(block))
    except Malformed as reason:
        return Answer(think, True, False, [], f"answer: {reason}")
    return Answer(think, True, True, calls, None if calls else "answer: no call")
