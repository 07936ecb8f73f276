"""The command `python eval.py`: cases from files, answers from a model or a file, the tables.

    python eval.py --model Qwen/Qwen2.5-0.5B --data benchmarks --save answers.jsonl

A case is a task (the head of eval.py shows one) with, if need be, the name of its benchmark and,
for BFCL's own rule, all accepted values; "" among them if the argument may be left out:
    {..., "benchmark": "bfcl", "accept": [{"guests": [3, ""]}]}
An answer, as --save writes it (and more) and --predictions reads it; null means unreadable:
    {"id": "heldout-0", "calls": [{"name": "book_table", "arguments": {"guests": 2}}]}

Exit code 2 and one line that says where and what to do: bad input.
"""

import json
import os
import random
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

import torch

from ast_match import to_calls
from errors import Malformed, UnusableModel
from eval import complete, with_own_id
from evals.score import Calls, Case, by_benchmark, comparison, tables
from generator import Task
from plumbing.player import Player
from plumbing.runfolder import read_jsonl
from rollout import SAMPLERS
from solver import parse

PAPER_SUBSET = re.compile("toolalpaca-real-|sealtools-.*-easy-|nexusraven-|apibank-|snips-")  # ids


def load_cases(path: Path, rule: str | None = None) -> list[Case]:
    """The cases of a JSONL file, or of all in a folder.  Raises `Malformed`."""
    cases, file = [], path
    read = with_own_id(lambda item: to_case(item, file.stem, rule))
    for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
        cases += read_jsonl(file, read)
    if not cases:
        raise Malformed(f"{path}: no task in it. Name a JSONL file of cases, or a folder of them.")
    return cases


def to_case(item: dict, file: str, rule: str | None) -> Case:
    """One line of a file as a case.  Raises `Malformed` with what is wrong."""
    task, benchmark = Task.from_json(item), str(item.get("benchmark", file))
    rule = rule or ("bfcl" if benchmark.startswith("bfcl") else "exact")
    if absent := {call.name for call in task.calls} - {tool.name for tool in task.tools}:
        raise Malformed(f"no tool of the menu is called {min(absent)}, but a gold call is")
    accept = [{k: [v] for k, v in call.arguments.items()} for call in task.calls]
    if rule == "bfcl":
        accept = item.get("accept", [])
        if not (
            isinstance(accept, list)
            and len(accept) == len(task.calls)
            and all(isinstance(a, dict) for a in accept)
            and all(isinstance(v, list) for a in accept for v in a.values())
            and all(
                isinstance(s, dict) and isinstance(s.get("type", ""), str)
                for tool in task.tools
                for s in tool.parameters.values()
            )
        ):
            raise Malformed(
                "BFCL's rule needs 'accept' with {argument: [values]} for each gold "
                "call, and schemas of one type each; --rule exact does not"
            )
    return Case(**vars(task), benchmark=benchmark, rule=rule, accept=tuple(accept))


def load_answers(path: Path, cases: list[Case], run: str | None = None) -> dict[str, Calls]:
    """The answers in a JSONL file, by id.  With `run`: what that run has saved so far."""
    known, answers = {case.id for case in cases}, {}

    def read(item: dict) -> None:
        id = str(item.get("id")) if isinstance(item, dict) else ""
        if id not in known:
            raise Malformed(f"no case has the id {id}: name the --data that was answered")
        if id in answers:
            raise Malformed(f"a second line with the id {id}")
        if run not in (None, item.get("run")):
            raise Malformed(f"of another run ({item.get('run')}): name another file for --save")
        calls = item.get("calls", "")
        answers[id] = calls if calls in (None, []) else to_calls(calls, strict=True)

    read_jsonl(path, read, torn=run is not None)
    return answers


def choose(cases: list[Case], subset: str | None, limit: int | None, seed: int) -> list[Case]:
    """At most `limit` cases of each benchmark; a smaller sample is part of a larger one."""
    groups = by_benchmark([c for c in cases if not subset or PAPER_SUBSET.match(c.id)])
    for name, group in groups.items():
        random.Random(f"{seed}/{name}").shuffle(group)
    if not any(chosen := [group[:limit] for group in groups.values()]):
        raise Malformed("no case is left: change --subset or --limit")
    return sum(chosen, [])


def answer(
    player: Player, cases: list[Case], known: list[Case], run: str, save: Path | None, a: Namespace
) -> dict[str, Calls]:
    """The player's answers, by id; those in `save` are taken from there, the others added."""
    answers = {}
    if save and save.exists() and save.stat().st_size:
        answers = load_answers(save, known, run)
        if not answers:  # perhaps not ours at all: leave it alone
            raise Malformed(f"{save}: no whole answer in it. Delete it or name another for --save.")
        os.truncate(save, save.read_bytes().rfind(b"\n") + 1)  # without the torn line
    with open(save or os.devnull, "a", encoding="utf-8") as file:
        for id, text in complete(player, cases, a.max_new_tokens, a.temperature, a.seed, answers):
            read = parse(text)
            answers[id] = read.calls if read.parsed else None
            calls = [call.to_json() for call in read.calls] if read.parsed else None
            line = {"id": id, "calls": calls, "text": text, "run": run}
            print(json.dumps(line), file=file, flush=True)
    return answers


def evaluate(a: Namespace) -> None:
    """Answer, or read the answers; print the tables."""
    known = load_cases(a.data, a.rule)
    cases = choose(known, a.subset, a.limit, a.seed)
    names = [name for name in (a.model or a.predictions, a.compare) if name]
    if a.predictions:
        titles, answers = names, [load_answers(Path(name), known) for name in names]
    else:
        how = f"temperature {a.temperature}, seed {a.seed}" if a.temperature else "greedy"
        how += ", prompt paper" if a.prompt == "paper" else ""
        titles = [f"{name}, {how}, at most {a.max_new_tokens} new tokens" for name in names]
        players = [
            Player(name, a.device, a.sampler, frozen=True) for name in names
        ]  # a typo shows at once
        files = [a.save, a.save and a.save.with_suffix(".compare.jsonl")]
        runs = [
            f"{title}, weights {player.fingerprint()}" for player, title in zip(players, titles)
        ]
        answers = [
            answer(player, cases, known, run, file, a)
            for player, run, file in zip(players, runs, files)
        ]
    answered = [case for case in cases if all(case.id in found for found in answers)]
    if not answered:
        raise Malformed(f"no answer to any of the {len(cases)} cases: change --limit or --subset")
    for title, found in zip(titles, answers):
        print(tables(title, cases, found))
    if a.compare:
        print(comparison(answered, *answers))


def at_least(low: int | float) -> Callable[[str], int | float]:
    """The type of an option that is a number from `low` on."""

    def number(text: str) -> int | float:
        if not (value := type(low)(text)) >= low:
            raise ValueError
        return value

    return number


def parse_arguments(argv: list[str] | None) -> Namespace:
    """The command line."""
    parser = ArgumentParser(
        "eval.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="folder or hub name")
    what.add_argument("--predictions", help="JSONL file of answers; no model is asked")
    parser.add_argument(
        "--compare", help="a second one of the same kind, model or file: first minus second"
    )
    parser.add_argument("--data", required=True, type=Path, help="JSONL file of cases, or a folder")
    parser.add_argument("--rule", choices=["exact", "bfcl"], help="default: bfcl for bfcl*")
    parser.add_argument("--subset", choices=["paper"], help="the cases that the paper seems to use")
    parser.add_argument("--limit", type=at_least(1), help="so many cases of each benchmark, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of --limit and of sampling")
    parser.add_argument(
        "--save",
        type=Path,
        help="write the answers here; goes on where it stopped"
        " (those of --compare: beside it, NAME.compare.jsonl)",
    )
    parser.add_argument(
        "--prompt",
        default="short",
        help="wording; paper: as in the release",
    )
    parser.add_argument("--temperature", type=at_least(0.0), default=0.0, help="0: greedy")
    parser.add_argument("--max-new-tokens", type=at_least(1), default=256)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), default="hand")
    a = parser.parse_args(argv)
    if a.save and a.predictions:
        parser.error("--save goes with --model: --predictions has its answers already")
    return a


def main(argv: list[str] | None = None) -> int:
    """Run.  Exit code 2: bad input; 130: Ctrl-C."""
    try:
        evaluate(parse_arguments(argv))
    except (Malformed, UnusableModel, OSError) as error:
        print(f"eval.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; with --save the same command goes on from here", file=sys.stderr)
        return 130
    return 0
