"""The Solver: a question and a menu become a prompt; a completion becomes calls or a named reason.

Paper: Sec. 3.4 and appendix (Solver prompt), Sec. 3.2.1 (the frozen Solver as judge of a task).
Our decisions: one prompt wherever the Solver answers; the released code has three that differ.  It
shows an example and ends by asking for both blocks: else a small model stops after <think>.

One raw example of a completion (for the line breaks see SYSTEM), and the command:
    <think>The request needs get_weather.</think>
    <tool_call_answer>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_call_answer>
    python solver.py --model runs/tiny/iter3/solver --tools tools.json "Will it rain in Paris?"
"""

import json
from dataclasses import dataclass

from ast_match import Call, Tool, last_block, parse_value, to_calls
from errors import Malformed
from generator import Task

SYSTEM = """You call tools. You never answer a request yourself: you choose tools from the menu \
and take the values of their arguments from the request.
Reply with two blocks and nothing else: one sentence that names the tools that the request needs, \
then their calls. For example:
<think>
The request needs find_book with title and branch.
</think>
<tool_call_answer>
[{"name": "find_book", "arguments": {"title": "The Little Prince", "branch": "Harbour"}}]
</tool_call_answer>"""

JUDGE_SYSTEM = """You rate tasks for a tool-calling assistant. A good task has a natural, clear \
request, a sensible menu, and an answer that follows from the request alone. Rate from 1 (useless) \
to 5 (excellent). Reply with one digit."""


@dataclass(frozen=True)
class Answer:
    """What could be read of a completion; `reason` names why `calls` is empty, or is None."""

    think: bool  # a <think> block that is not blank
    tag: bool  # a <tool_call_answer> block that is not blank
    parsed: bool  # its text could be read
    calls: list[Call]
    reason: str | None


def prompt(task: Task) -> list[dict[str, str]]:
    """Chat messages that ask for the calls; the gold ones are not in them."""
    user = (
        f"Tools:\n{as_json(task.tools)}\n\nRequest: {task.question}\n\n"
        "Begin with <think> and write both blocks."
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def judge_prompt(task: Task) -> list[dict[str, str]]:
    """Chat messages that ask for one digit, 1 to 5: how good a task is."""
    user = (
        f"Tools:\n{as_json(task.tools)}\n\nRequest: {task.question}\n\n"
        f"Answer: {as_json(task.calls)}\n\nReply with one digit from 1 to 5."
    )
    return [{"role": "system", "content": JUDGE_SYSTEM}, {"role": "user", "content": user}]


def as_json(items: list[Tool] | list[Call]) -> str:
    """Tools or calls as a prompt shows them."""
    return json.dumps([item.to_json() for item in items], ensure_ascii=False)


def parse(completion: str) -> Answer:
    """Read a completion, however broken.  Never raises.

    >>> parse("<tool_call_answer>[{'name': 'f'}]</tool_call_answer>")
    Answer(think=False, tag=True, parsed=True, calls=[Call(name='f', arguments={})], reason=None)
    """
    think = last_block(completion, "think", any_case=True) is not None
    block = last_block(completion, "tool_call_answer", any_case=True)
    if block is None:
        return Answer(think, False, False, [], "no tool_call_answer")
    try:
        calls = to_calls(parse_value(block))
    except Malformed as reason:
        return Answer(think, True, False, [], f"answer: {reason}")
    return Answer(think, True, True, calls, None if calls else "answer: no call")


if __name__ == "__main__":
    from scripts.ask import main
    from scripts.demos import demo

    demo("solver") or main()
