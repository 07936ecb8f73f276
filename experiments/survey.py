"""What a model writes before any training: how usable its tasks are, and how accurate its answers.

    python -m experiments.survey generator --model FOLDER --out tasks.jsonl
    python -m experiments.survey generator --model FOLDER --out own.jsonl --tools FILE
    python -m experiments.survey solver --model FOLDER --out answers.jsonl --heldout evals/data
    python -m experiments.survey solver --model FOLDER --out other.jsonl --prompt FILE

The Generator's part prints the share of usable completions, every reason, copies, near-duplicates
and a histogram of the pass rates.  The Solver's part prints accuracy per benchmark.  It counts
answers that repeat a value of the prompt's example, and surplus arguments.
Completions are kept in --out, so a stopped survey continues with the same command.  The files in
experiments/wordings/ are earlier prompts with one fixed example.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import curate
import eval
import generator
import guards
import phases
import solver
from ast_match import exact_match
from config import Config
from errors import UsageError
from generator import Task
from plumbing.command import run_command
from plumbing.intervals import aligned, describe, describe_mean
from plumbing.player import Player
from plumbing.runfolder import in_pieces, write_whole

PIECE = 16  # prompts that are sampled together
FIXED_VALUES = ("Little Prince", "Harbour")  # of the one example in wordings/fixed_solver.txt


def survey_generator(a: argparse.Namespace, player: Player) -> None:
    """Sample tasks, check them as curation does, and let the model answer the usable ones."""
    cfg = Config(spec=a.spec, guards=a.guards, answer_tokens=a.answer_tokens, tools=a.tools)
    template = generator.template_of(a.prompt, bool(a.tools))
    specs = generator.sample_specs(a.seed, a.specs, cfg.p_large_menu, *phases.world(cfg))
    specs = sorted(specs, key=lambda spec: spec.menu_size)  # similar lengths end together

    def write(n: int, some: list) -> list[str]:
        chats = [generator.prompt(spec, template) for spec in some]
        rollouts = player.sample(chats, a.group, a.max_new_tokens, a.temperature, a.seed + n)
        each = [chat for chat in chats for _ in range(a.group)]
        return [player.text(rollout, chat) for rollout, chat in zip(rollouts, each)]

    texts = in_pieces(a.out, specs, PIECE, write, "tasks")
    candidates = []
    for i, text in enumerate(texts):
        spec = specs[i // a.group]
        draft = generator.parse(text, generator.prompt(spec, template), spec.menu)
        candidates.append(curate.candidate(f"{i:05d}", spec, draft))
    usable = curate.check(candidates, cfg)

    def rate(n: int, some: list) -> list[float]:
        phases.measure(cfg, player, some, a.seed + n)
        return [c.p for c in some]

    rates = in_pieces(a.out.with_suffix(".rates.jsonl"), usable, PIECE, rate, "pass rates")
    for c, p in zip(usable, rates):
        c.p = p
    print_generator(candidates, usable, bool(a.tools))


def print_generator(
    candidates: list[curate.Candidate], usable: list[curate.Candidate], given: bool
) -> None:
    """Print the shares, the reasons and the pass rates; `given`: with --tools."""
    numbers = phases.describe(candidates, usable)
    near = guards.near_duplicates([c.task for c in candidates], given)
    print(f"{len(candidates)} completions")
    for name, value in numbers.items():
        print(f"  {name:<16} {value:.3f}")
    print(f"  {'near_duplicates':<16} {sum(near) / len(near):.3f}")
    for reason, count in Counter(c.reason or "usable" for c in candidates).most_common():
        print(f"  {count:5d}  {reason}")
    histogram = sorted(Counter(c.p for c in usable).items())
    print("  pass rates: " + ", ".join(f"{p:.3f}: {count}" for p, count in histogram))


def survey_solver(a: argparse.Namespace, player: Player) -> None:
    """Answer held-out cases greedily and count leaks and surplus arguments."""
    template = solver.template_of(a.prompt)
    benchmarks = eval.load_heldout(a.heldout, a.cases)
    tasks = [task for some in benchmarks.values() for task in some]

    def answer(n: int, some: list[Task]) -> list[str]:
        chats = [solver.prompt(task, template) for task in some]
        rollouts = player.sample(chats, 1, a.answer_tokens, 0.0)
        return [player.text(rollout, chat) for rollout, chat in zip(rollouts, chats)]

    fixed = Path(a.prompt).name == "fixed_solver.txt"
    texts = dict(zip([t.id for t in tasks], in_pieces(a.out, tasks, PIECE, answer, "answers")))
    rows = [["benchmark", "right", "parsed", "leaks", "surplus arguments"]]
    verdicts = []
    for name, some in benchmarks.items():
        answers = [solver.parse(texts[task.id]) for task in some]
        right = [exact_match(x.calls, task.calls) for x, task in zip(answers, some)]
        leaks = [has_leak(x, task, texts[task.id], fixed) for x, task in zip(answers, some)]
        surplus = sum(surplus_arguments(x, task) for x, task in zip(answers, some))
        parsed = sum(x.parsed for x in answers)
        rows.append([name, describe(right), str(parsed), str(sum(leaks)), str(surplus)])
        verdicts.append(right)
    print(aligned(rows) + f"mean: {describe_mean(verdicts)}")


def has_leak(answer: solver.Answer, task: Task, text: str, fixed: bool) -> bool:
    """Return whether an answer repeats a value of its prompt's example.

    `fixed`: the prompt is wordings/fixed_solver.txt, whose one example has FIXED_VALUES.
    """
    if fixed:
        return any(value in text for value in FIXED_VALUES)
    return any(guards.leaks(answer.calls, solver.example_of(task), task.question))


def surplus_arguments(answer: solver.Answer, task: Task) -> int:
    """Count the arguments given that the gold call of the same tool omits."""
    gold = {call.name: call.arguments.keys() for call in task.calls}
    return sum(
        len(call.arguments.keys() - gold[call.name]) for call in answer.calls if call.name in gold
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("survey", description=__doc__, formatter_class=raw)
    parser.add_argument("role", choices=["generator", "solver"])
    parser.add_argument("--model", required=True, help="folder or hub name")
    parser.add_argument("--prompt", default="bank", help="bank, placeholders, or a file")
    parser.add_argument("--specs", type=eval.positive, default=64)
    parser.add_argument("--group", type=eval.positive, default=4, help="completions per spec")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--spec", default="graded", choices=["graded", "gate", "free"])
    parser.add_argument("--guards", default="on", choices=["on", "off"])
    parser.add_argument("--tools", default="", help="JSON file of your own tools")
    parser.add_argument("--heldout", default="", help="file or folder of held-out tasks")
    parser.add_argument("--cases", type=eval.positive, default=20, help="cases per benchmark")
    parser.add_argument("--max-new-tokens", type=int, default=700)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--device", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file of the completions")
    return parser.parse_args(argv)


def refuse_other_options(a: argparse.Namespace) -> None:
    """Print the options and keep them beside --out.

    Raises UsageError if --out was made with others.
    """
    path = a.out.with_suffix(".options.json")
    options = json.dumps({key: str(value) for key, value in vars(a).items()})
    if a.out.exists() and path.exists() and path.read_text() != options:
        raise UsageError(f"{a.out} holds a survey with other options: name another --out.")
    write_whole(path, options)
    print(options)


def main(argv: list[str] | None = None) -> int:
    """Run one survey.  Exit code 2: bad input; 130: Ctrl-C."""
    a = parse_arguments(argv)

    def work() -> None:
        refuse_other_options(a)
        player = Player(a.model, a.device, frozen=True)
        survey = {"generator": survey_generator, "solver": survey_solver}[a.role]
        survey(a, player)

    return run_command("survey", work, f"The same command continues from {a.out}.")


if __name__ == "__main__":
    sys.exit(main())
