"""The command `python solver.py`: a question and a menu in, the calls of a trained Solver out.

    python solver.py --model runs/tiny/iter3/solver --tools tools.json "Will it rain in Paris?"

The menu, tools.json: [{"name": "get_weather", "parameters": {"city": {"type": "string"}}}]
Exit code 1: the answer has no call; 2 and one line that says where and what to do: bad input.
Tools in OpenAI's form, {"type": "function", "function": {...}}, are read, too.
"""

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import solver
from ast_match import Tool, plain, to_tools
from errors import Malformed, UnusableModel
from generator import Task
from plumbing.player import Player


def read_menu(path: str) -> list[Tool]:
    """The tools in a JSON file, however many.  Raises `Malformed` naming the file."""
    try:
        menu = plain(json.loads(Path(path).read_text(encoding="utf-8-sig")))
        if isinstance(menu, list):
            menu = [x["function"] if isinstance(x, dict) and "function" in x else x for x in menu]
        return to_tools(menu)
    except (ValueError, RecursionError) as error:  # Malformed and UnicodeDecodeError among them
        why = error if isinstance(error, Malformed) else f"not JSON ({error})"
        raise Malformed(f"{path}: {why}. Write it as `solver.py --help` shows.") from None


def main() -> None:
    """Print the calls that answer one question, as JSON; see the head of this file."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--model", required=True, help="folder of a trained Solver, or a hub name")
    parser.add_argument("--tools", required=True, help="JSON file with the menu")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sampler", default="hand", choices=["hand", "hf"])
    parser.add_argument(
        "--prompt",
        default="short",
        help="the wording it was trained with",
    )
    a = parser.parse_args()
    if a.max_new_tokens < 1:
        parser.error(f"--max-new-tokens {a.max_new_tokens} leaves no room for an answer")
    try:
        tools, question = read_menu(a.tools), plain(a.question)
        player = Player(a.model, a.device, a.sampler, frozen=True)
        chats = [solver.prompt(Task("", question, tools, []))]
        text = player.text(player.sample(chats, 1, a.max_new_tokens, temperature=0)[0])
    except (Malformed, OSError, UnusableModel) as error:
        parser.exit(2, f"solver.py: error: {error}\n")
    answer = solver.parse(text)
    if not answer.calls:
        sys.exit(f"no call: {answer.reason}")
    print(json.dumps([call.to_json() for call in answer.calls]))
