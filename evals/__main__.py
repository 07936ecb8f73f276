"""Evaluation on benchmarks: cases from files, answers from a model or a file, tables of scores.

    python -m evals --model Qwen/Qwen2.5-0.5B --subset paper --save answers.jsonl
    python -m evals --predictions answers.jsonl --subset paper

evals/cases.py shows the lines of both files, evals/README.md describes the benchmarks.  After an
interruption, the same command with --save continues.
"""

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

import solver
from errors import UsageError
from eval import PREPARED, complete, positive
from evals.cases import Calls, Case, choose, load_answers, load_cases
from evals.tables import comparison, tables
from plumbing.command import run_command
from plumbing.player import Player
from rollout import SAMPLERS


def evaluate(a: Namespace) -> None:
    """Answer the cases, or read the answers; print the tables."""
    known = load_cases(a.data, a.rule)
    cases = choose(known, a.subset, a.limit, a.seed)
    names = [name for name in (a.model or a.predictions, a.compare) if name]
    if a.predictions:
        titles = names
        answers = [load_answers(Path(name), known) for name in names]
    else:
        how = f"temperature {a.temperature:g}, seed {a.seed}" if a.temperature else "greedy"
        how += f", prompt {a.prompt}, at most {a.max_new_tokens} new tokens"
        titles = [f"{name}, {how}" for name in names]
        players = [Player(name, a.device, a.sampler, frozen=True) for name in names]
        files = [a.save, a.save and a.save.with_suffix(".compare.jsonl")]
        answers = []
        for title, player, file in zip(titles, players, files):
            answers.append(answer(player, cases, known, title, file, a))
    answered = [case for case in cases if all(case.id in found for found in answers)]
    if not answered:
        raise UsageError(f"no answer to any of the {len(cases)} cases: change --limit or --subset")
    for title, found in zip(titles, answers):
        print(tables(title, cases, found))
    if a.compare:
        print(comparison(answered, *answers))


def answer(
    player: Player,
    cases: list[Case],
    known: list[Case],
    title: str,
    save: Path | None,
    a: Namespace,
) -> dict[str, Calls]:
    """Return the player's answers by id; `save` keeps them, and cases in it are not asked again."""
    run = f"{title}, weights {player.fingerprint()}"
    template = solver.template_of(a.prompt)
    answers = saved_answers(save, known, run) if save else {}
    texts = complete(
        player,
        cases,
        template,
        a.max_new_tokens,
        a.temperature,
        a.seed,
        done=answers,
        title=title.partition(",")[0],
    )
    with open(save or os.devnull, "a", encoding="utf-8") as file:
        for id, text in texts:
            read = solver.parse(text)
            answers[id] = read.calls if read.parsed else None
            calls = [call.to_json() for call in read.calls] if read.parsed else None
            line = {"id": id, "calls": calls, "text": text, "run": run}
            print(json.dumps(line), file=file, flush=True)
    return answers


def saved_answers(path: Path, known: list[Case], run: str) -> dict[str, Calls]:
    """Return what this run has saved in a file; cut off a torn last line."""
    if not path.exists() or not path.stat().st_size:
        return {}
    answers = load_answers(path, known, run)
    if not answers:  # perhaps not ours at all: leave it alone
        raise UsageError(f"{path}: no complete answer. Delete it, or name another file for --save.")
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return answers


def parse_arguments(argv: list[str] | None) -> Namespace:
    """Parse the command line."""
    raw = RawDescriptionHelpFormatter
    parser = ArgumentParser("python -m evals", description=__doc__, formatter_class=raw)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="folder or hub name")
    source.add_argument("--predictions", metavar="FILE", help="read the answers from a file")
    parser.add_argument("--compare", metavar="NAME", help="a second model, or file of answers")
    parser.add_argument("--data", type=Path, default=PREPARED, help="file or folder of cases")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="save answers here, or continue here"
    )
    parser.add_argument("--subset", choices=["paper"], help="the cases that the paper seems to use")
    parser.add_argument("--limit", type=positive, help="cases per benchmark; default: all")
    parser.add_argument("--rule", choices=["exact", "bfcl"], help="default: each benchmark's own")
    parser.add_argument("--seed", type=int, default=0, help="seed of --limit and of sampling")
    parser.add_argument("--prompt", default="bank", help="bank, placeholders, or a file")
    parser.add_argument("--temperature", type=temperature, default=0.0, help="0: greedy")
    parser.add_argument("--max-new-tokens", type=positive, default=256)
    parser.add_argument("--device", default="", help="default: cuda if available, else cpu")
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), default="hand")
    a = parser.parse_args(argv)
    if a.save and a.predictions:
        parser.error("--save needs --model: with --predictions the answers are saved already")
    return a


def temperature(text: str) -> float:
    """Read an option that is a number of at least 0."""
    number = float(text)
    if not number >= 0:
        raise ArgumentTypeError(f"{text} is not a number of at least 0")
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 2: bad input, 130: Ctrl-C."""
    a = parse_arguments(argv)
    code = run_command("evals", lambda: evaluate(a))
    if code == 130 and a.save:
        print(f"evals: the same command continues from {a.save}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
