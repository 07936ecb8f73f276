"""The Solver: a question and a menu become a prompt; a completion becomes calls or a named reason.

Paper: Sec. 3.4 and appendix (Solver prompt), Sec. 3.2.1 (the frozen Solver as judge of a task).
Our decision: one prompt wherever the Solver acts; the released code has three that differ.

One raw example of a completion (for the line breaks see SYSTEM), and the command:
    <think>The request needs get_weather.</think>
    <tool_call_answer>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_call_answer>

    python solver.py --model runs/tiny/iter3/solver --tools tools.json "Will it rain in Paris?"
"""
import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path

from ast_match import Call, Malformed, Tool, last_block, parse_menu, parse_value, to_calls
from generator import Task
from player import Player
from rollout import UnusableModel

SYSTEM = """You call tools. You never answer a request yourself: you choose tools from the menu \
and take the values of their arguments from the request.
Reply in exactly this form:
<think>
which tools the request needs
</think>
<tool_call_answer>
[{"name": "tool_name", "arguments": {"argument_name": "value"}}]
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
    user = f"Tools:\n{_json(task.tools)}\n\nRequest: {task.question}\n\nBegin with <think>."
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]

def judge_prompt(task: Task) -> list[dict[str, str]]:
    """Chat messages that ask for one digit, 1 to 5: how good a task is."""
    user = (f"Tools:\n{_json(task.tools)}\n\nRequest: {task.question}\n\n"
            f"Answer: {_json(task.calls)}\n\nReply with one digit from 1 to 5.")
    return [{"role": "system", "content": JUDGE_SYSTEM}, {"role": "user", "content": user}]

def _json(items: list[Tool] | list[Call]) -> str:
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

def main() -> None:
    """Print the calls that answer one question, as JSON; see the head of this file."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--model", required=True, help="folder of a trained Solver, or a hub name")
    parser.add_argument("--tools", required=True, help="JSON file with the menu")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    if a.max_new_tokens < 1:
        parser.error(f"--max-new-tokens {a.max_new_tokens} leaves no room for an answer")
    try:
        tools = parse_menu(Path(a.tools).read_text(encoding="utf-8"))
        player = Player(a.model, a.device)
    except Malformed as reason:
        parser.error(f"{a.tools}: {reason}")
    except (OSError, UnicodeDecodeError, UnusableModel) as error:
        parser.error(str(error))
    chats = [prompt(Task("", a.question, tools, []))]
    answer = parse(player.text(player.ask(chats, 1, a.max_new_tokens, temperature=0)[0]))
    if not answer.calls:
        sys.exit(f"no call: {answer.reason}")
    print(json.dumps([call.to_json() for call in answer.calls]))

if __name__ == "__main__":
    from exercises.demos import demo
    demo("solver") or main()
