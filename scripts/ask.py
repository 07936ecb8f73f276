"""Ask a trained Solver: a question and a menu of tools in, its calls out as JSON.

    python -m scripts.ask --tools tools.json "Will it rain in Paris?"
    python -m scripts.ask --tools tools.json       # one question per line, until Ctrl-D
    python -m scripts.ask "Will it rain in Paris?" # the tools that the Solver was trained on

Without --model, the most recently trained Solver under runs/ answers, with the prompt that it was
trained with.  tools.json has the menu; OpenAI's form {"type": "function", "function": {...}} is
read as well:

    [{"name": "get_weather", "parameters": {"city": {"type": "string"}}, "required": ["city"]}]

Warnings and raw answers go to standard error.  Exit code 1: the answer has no call; 2: bad
input.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import solver
from ast_match import Call, Tool, plain
from errors import UsageError
from generator import Task
from plumbing import report, toolset
from plumbing.command import run_command
from plumbing.player import Player
from plumbing.runfolder import TOOLS
from template import Template


def newest_solver() -> str:
    """Return the folder of the most recently trained Solver under runs/, or "tiny" without one."""
    found = {}
    for path in Path("runs").glob("*/iter*/solver/config.json"):
        found[path.stat().st_mtime] = str(path.parent)
    if not found:
        say("no trained Solver under runs/: tiny, the untrained base model, answers")
        return "tiny"
    newest = found[max(found)]
    say(f"{newest} answers")
    return newest


def prompt_of(model: str) -> str:
    """Return the name of the prompt that a Solver in a run folder was trained with."""
    folder = Path(model).parent.parent
    if not (folder / "config.json").exists():
        return "bank"
    return report.config(folder).get("solver_prompt", "bank")


def menu_of(model: str) -> str:
    """Return the path of the tools that a Solver was trained on (--tools), or ""."""
    run = Path(model).parent.parent
    if (run / "log.jsonl").exists() and (run / TOOLS).exists():
        return str(run / TOOLS)
    if (Path(model) / TOOLS).exists():
        return str(Path(model) / TOOLS)
    return ""


def doubts(calls: list[Call], menu: list[Tool]) -> list[str]:
    """Return what the menu does not allow in these calls, a sentence each.

    >>> doubts([Call("f", {"x": 1})], [Tool("f", "", {"y": {}}, ("y",))])
    ['f has no argument x', 'f lacks the required argument y']
    """
    tools = {tool.name: tool for tool in menu}
    found = []
    for call in calls:
        tool = tools.get(call.name)
        if tool is None:
            found.append(f"{call.name} is not in the menu")
            continue
        for name in call.arguments:
            if name not in tool.parameters:
                found.append(f"{call.name} has no argument {name}")
        for name in tool.required:
            if name not in call.arguments:
                found.append(f"{call.name} lacks the required argument {name}")
    return found


def answer(
    player: Player, template: Template, task: Task, max_new_tokens: int, show_raw: bool
) -> bool:
    """Print the calls that answer a task's question; return whether there are any."""
    chat = solver.prompt(task, template)
    (rollout,) = player.sample([chat], 1, max_new_tokens, 0.0, 0)
    text = player.text(rollout, chat)
    found = solver.parse(text)
    if show_raw or not found.calls:
        say(text)
    if not rollout.finished:
        say(f"the answer was cut off at {max_new_tokens} tokens: raise --max-new-tokens")
    if not found.calls:
        say(f"no call: {found.reason}")
        return False
    print(json.dumps([call.to_json() for call in found.calls], ensure_ascii=False), flush=True)
    for doubt in doubts(found.calls, task.tools):
        say(f"warning: {doubt}")
    return True


def typed_questions() -> Iterator[str]:
    """Yield the questions that are typed, until Ctrl-D."""
    sign = "> " if sys.stdin.isatty() else ""
    with suppress(EOFError):
        while True:
            line = input(sign).strip()
            if line:
                yield line


def say(text: str) -> None:
    """Print to standard error; standard output holds calls only."""
    print(text, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Answer one question, or each one that is typed; see the head of this file."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("ask", description=__doc__, formatter_class=raw)
    parser.add_argument("question", nargs="?", help="default: read questions from standard input")
    parser.add_argument("--tools", help="JSON file with the menu; default: the Solver's own")
    parser.add_argument("--model", help="folder or hub name; default: the newest, else tiny")
    parser.add_argument("--prompt", help="bank, placeholders or a file; default: as trained")
    parser.add_argument("--raw", action="store_true", help="also print the raw answer")
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--device", default="", help="default: cuda if available, else cpu")
    parser.add_argument("--sampler", default="hand", choices=["hand", "hf"])
    a = parser.parse_args(argv)
    if a.max_new_tokens < 1:
        parser.error(f"--max-new-tokens {a.max_new_tokens} is too small: give at least 1")

    def work() -> int:
        model = a.model or newest_solver()
        path = a.tools or menu_of(model)
        if not path:
            raise UsageError(f"{model} has no {TOOLS} beside it: name the menu with --tools FILE.")
        menu = list(toolset.read_tools(path, check=False))
        template = solver.template_of(a.prompt or prompt_of(model))
        player = Player(model, a.device, a.sampler, frozen=True)
        for question in [a.question] if a.question else typed_questions():
            task = Task("", plain(question), menu, [])
            answered = answer(player, template, task, a.max_new_tokens, a.raw)
        return 1 if a.question and not answered else 0

    return run_command("ask", work)


if __name__ == "__main__":
    sys.exit(main())
