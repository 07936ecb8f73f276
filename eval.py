"""Evaluation: cases from files, answers from a model or a file, the tables of score.py.

Paper: Sec. 4.  Our decision: every model, base or trained, gets the one Solver prompt and the same
greedy decoding.  Exit code 2 and one line that says where and what to do: bad input.

A case, one line of a JSONL file (without `benchmark` the file's name is taken; `accept`, all
accepted values, "" if the argument may be left out, is for BFCL's rule only):
    {"id": "heldout-0", "question": "Book a table for 3.", "tools": [{"name", "description",
     "parameters", "required"}], "calls": [{"name": "book_table", "arguments": {"guests": 3}}],
     "benchmark": "heldout", "accept": [{"guests": [3]}]}
An answer, as --save writes it (and more) and --predictions reads it; null means unreadable:
    {"id": "heldout-0", "calls": [{"name": "book_table", "arguments": {"guests": 2}}]}

    python eval.py --model Qwen/Qwen2.5-0.5B --data benchmarks --save answers.jsonl
    python eval.py --model runs/tiny/iter3/solver --compare tiny --data tiny/heldout.jsonl
"""
import json
import os
import random
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import solver
from ast_match import Malformed, plain, to_calls
from generator import Task
from player import Player
from rollout import SAMPLERS, UnusableModel
from score import Calls, Case, by_benchmark, comparison, report

BATCH_TOKENS = {"cpu": 65_536, "cuda": 262_144}  # of prompts and completions, padding included
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
PAPER_SUBSET = re.compile("toolalpaca-real-|sealtools-.*-easy-|nexusraven-|apibank-|snips-")  # ids

def read_jsonl(path: Path, read: Callable[[dict], Any], found: dict, torn: bool = False) -> None:
    """Add id -> read(line) for each line to `found`; `torn`: a kill may have cut the last one off.
    Raises `Malformed` naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: cannot be read ({error}). Name a JSONL file.") from None
    for n, line in enumerate(lines[:-1] if torn else lines, 1):
        try:
            if line.strip():
                item = plain(json.loads(line))
                if not isinstance(item, dict) or item.get("id") in (None, ""):
                    raise Malformed("not an object with an 'id'")
                if str(item["id"]) in found:
                    raise Malformed(f"a second line with the id {item['id']}: keep one")
                found[str(item["id"])] = read(item)
        except (ValueError, RecursionError) as e:  # Malformed is a ValueError
            raise Malformed(f"{path}, line {n}: {e}. The head of eval.py shows the form.") from None

def load_tasks(path: str | Path, rule: str | None = None) -> list[Case]:
    """The cases of a JSONL file, or of all in a folder.  Raises `Malformed`."""
    path, cases = Path(path), {}
    for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
        read_jsonl(file, lambda item: to_case(item, file.stem, rule), cases)
    if not cases:
        raise Malformed(f"{path}: no task in it. Name a JSONL file of cases, or a folder of them.")
    return list(cases.values())

def to_case(item: dict, file: str, rule: str | None) -> Case:
    """One line of a file as a case.  Raises `Malformed` with what is wrong."""
    task, benchmark = Task.from_json(item), str(item.get("benchmark", file))
    rule = rule or ("bfcl" if benchmark.startswith("bfcl") else "exact")
    if absent := {call.name for call in task.calls} - {tool.name for tool in task.tools}:
        raise Malformed(f"no tool of the menu is called {min(absent)}, but a gold call is")
    accept = [{k: [v] for k, v in call.arguments.items()} for call in task.calls]
    if rule == "bfcl":
        accept = item.get("accept", [])
        if not (isinstance(accept, list) and len(accept) == len(task.calls)
                and all(isinstance(a, dict) for a in accept)
                and all(isinstance(v, list) for a in accept for v in a.values())
                and all(isinstance(s, dict) and isinstance(s.get("type", ""), str)
                        for tool in task.tools for s in tool.parameters.values())):
            raise Malformed("BFCL's rule needs 'accept' with {argument: [values]} for each gold "
                            "call, and schemas of one type each; --rule exact does not")
    return Case(**vars(task), benchmark=benchmark, rule=rule, accept=tuple(accept))

def load_answers(path: Path, cases: list[Case], run: str | None = None) -> dict[str, Calls]:
    """The answers in a JSONL file, by id.  With `run`: what that run has saved so far."""
    known, answers = {case.id for case in cases}, {}

    def read(item: dict) -> Calls:
        if str(item["id"]) not in known:
            raise Malformed(f"no case has the id {item['id']}: name the --data that was answered")
        if run not in (None, item.get("run")):
            raise Malformed(f"of another run ({item.get('run')}): name another file for --save")
        calls = item.get("calls", "")
        return calls if calls in (None, []) else to_calls(calls, strict=True)

    read_jsonl(path, read, answers, torn=run is not None)
    return answers

def choose(cases: list[Case], subset: str | None, limit: int | None, seed: int) -> list[Case]:
    """At most `limit` cases of each benchmark; a smaller sample is part of a larger one."""
    groups = by_benchmark([c for c in cases if not subset or PAPER_SUBSET.match(c.id)])
    for name, group in groups.items():
        random.Random(f"{seed}/{name}").shuffle(group)
    if not any(chosen := [group[:limit] for group in groups.values()]):
        raise Malformed("no case is left: change --subset or --limit")
    return sum(chosen, [])

def complete(player: Player, cases: list[Case], max_new_tokens: int, temperature: float = 0.0,
             seed: int = 0, done: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Id and completion of each case that is not `done`, in batches."""
    chats = [solver.prompt(case) for case in cases]
    widths = [len(player.ids(chat)) + max_new_tokens for chat in chats]
    order = sorted(range(len(cases)), key=lambda i: -widths[i])  # too little memory shows at once
    left = sum(case.id not in done for case in cases)
    with tqdm(total=left, unit="case", bar_format=BAR, leave=False) as bar:
        while order:  # batches do not depend on what is done: each keeps its own seed
            size = max(1, BATCH_TOKENS[player.model.device.type] // widths[order[0]])
            batch, order = order[:size], order[size:]
            drawn = random.Random(f"{seed}/{cases[batch[0]].id}").getrandbits(32)
            todo = [i for i in batch if cases[i].id not in done]
            rollouts = player.ask([chats[i] for i in todo], 1, max_new_tokens, temperature, drawn)
            yield from ((cases[i].id, player.text(r)) for i, r in zip(todo, rollouts))
            bar.update(len(todo))

def read_text(text: str) -> Calls:
    """The calls in a completion."""
    answer = solver.parse(text)
    return answer.calls if answer.parsed else None

def judge(player: Player, cases: list[Case], max_new_tokens: int, temperature: float = 0.0,
          seed: int = 0) -> list[bool]:
    """Whether the player's one answer to each case is right."""
    texts = dict(complete(player, cases, max_new_tokens, temperature, seed))
    return [case.right(read_text(texts[case.id])) for case in cases]

def answer(player: Player, cases: list[Case], known: list[Case], run: str, save: Path | None,
           a: Namespace) -> dict[str, Calls]:
    """The player's answers, by id; those in `save` are taken from there, the others added."""
    answers = {}
    if save and save.exists() and save.stat().st_size:
        answers = load_answers(save, known, run)
        if not answers:  # perhaps not ours at all: leave it alone
            raise Malformed(f"{save}: no whole answer in it. Delete it or name another for --save.")
        os.truncate(save, save.read_bytes().rfind(b"\n") + 1)  # without the torn line
    with open(save or os.devnull, "a", encoding="utf-8") as file:
        for id, text in complete(player, cases, a.max_new_tokens, a.temperature, a.seed, answers):
            answers[id] = calls = read_text(text)
            calls = calls and [call.to_json() for call in calls]
            line = {"id": id, "calls": calls, "text": text, "run": run}
            print(json.dumps(line), file=file, flush=True)
    return answers

def evaluate(a: Namespace) -> None:
    """Answer, or read the answers; print the tables."""
    known = load_tasks(a.data, a.rule)
    cases = choose(known, a.subset, a.limit, a.seed)
    names = [name for name in (a.model or a.predictions, a.compare) if name]
    if a.predictions:
        titles, answers = names, [load_answers(Path(name), known) for name in names]
    else:
        how = f"temperature {a.temperature}, seed {a.seed}" if a.temperature else "greedy"
        titles = [f"{name}, {how}, at most {a.max_new_tokens} new tokens" for name in names]
        players = [Player(name, a.device, a.sampler) for name in names]  # a typo shows at once
        files = [a.save, a.save and a.save.with_suffix(".compare.jsonl")]
        answers = [answer(player, cases, known, title, file, a)
                   for player, title, file in zip(players, titles, files)]
    answered = [case for case in cases if all(case.id in found for found in answers)]
    if not answered:
        raise Malformed(f"no answer to any of the {len(cases)} cases: change --limit or --subset")
    for title, found in zip(titles, answers):
        print(report(title, cases, found))
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
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="folder or hub name")
    what.add_argument("--predictions", help="JSONL file of answers; no model is asked")
    parser.add_argument("--compare", help="a second model, or file of answers: first minus second")
    parser.add_argument("--data", required=True, help="JSONL file of cases, or a folder of them")
    parser.add_argument("--rule", choices=["exact", "bfcl"], help="default: bfcl for bfcl*")
    parser.add_argument("--subset", choices=["paper"], help="the cases that the paper seems to use")
    parser.add_argument("--limit", type=at_least(1), help="so many cases of each benchmark, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of --limit and of sampling")
    parser.add_argument("--save", type=Path, help="write the answers here; goes on where it stopped"
                        " (those of --compare: beside it, NAME.compare.jsonl)")
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

if __name__ == "__main__":
    sys.exit(main())
