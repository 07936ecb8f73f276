"""What a model writes before any training: how usable its tasks are, how right its answers.

    python -m experiments.survey generator --model FOLDER --out tasks.jsonl
    python -m experiments.survey solver --model FOLDER --out answers.jsonl --heldout evals/data
    python -m experiments.survey solver --model FOLDER --out answers.jsonl --prompt FILE

The Generator's part prints the share of usable completions, every reason, copies, near-duplicates
and a histogram of the pass rates.  The Solver's part prints accuracy per benchmark, the answers
that hold a value of the prompt's example, and the arguments given that the gold answer omits.
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
from plumbing.intervals import aligned, describe, interval, macro_mean
from plumbing.player import Player
from plumbing.runfolder import in_pieces

PIECE = 16  # prompts that are sampled together
FIXED_VALUES = ("Little Prince", "Harbour")  # of the one example in wordings/fixed_solver.txt


def survey_generator(a: argparse.Namespace, player: Player) -> None:
    """Sample tasks, check them as curation does, let the Solver answer the usable ones."""
    cfg = Config(spec=a.spec, guards=a.guards, answer_tokens=a.answer_tokens)
    template = generator.template_of(a.prompt)
    specs = generator.sample_specs(a.seed, a.specs)
    specs = sorted(specs, key=lambda spec: spec.menu_size)  # rows of like length end together

    def write(n: int, some: list) -> list[str]:
        chats = [generator.prompt(spec, template) for spec in some]
        rollouts = player.sample(chats, a.group, a.max_new_tokens, a.temperature, a.seed + n)
        return [player.text(rollout) for rollout in rollouts]

    texts = in_pieces(a.out, specs, PIECE, write, "tasks")
    candidates = []
    for i, text in enumerate(texts):
        spec = specs[i // a.group]
        draft = generator.parse(text, generator.prompt(spec, template))
        candidates.append(curate.candidate(f"{i:05d}", spec, draft))
    usable = curate.check(candidates, cfg)

    def rate(n: int, some: list) -> list[float]:
        phases.measure(cfg, player, some, a.seed + n)
        return [c.p for c in some]

    rates = in_pieces(a.out.with_suffix(".rates.jsonl"), usable, PIECE, rate, "pass rates")
    for c, p in zip(usable, rates):
        c.p = p
    print_generator(candidates, usable)


def print_generator(candidates: list[curate.Candidate], usable: list[curate.Candidate]) -> None:
    """Print the shares, the reasons and the pass rates."""
    numbers = phases.describe(candidates, usable)
    near = guards.near_duplicates([c.task for c in candidates])
    print(f"{len(candidates)} completions")
    for name, value in numbers.items():
        print(f"  {name:<16} {value:.3f}")
    print(f"  near_duplicates  {sum(near) / len(near):.2f}")
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
        return [player.text(rollout) for rollout in rollouts]

    texts = dict(zip([t.id for t in tasks], in_pieces(a.out, tasks, PIECE, answer, "answers")))
    rows = [["benchmark", "right", "parsed", "leaks", "surplus arguments"]]
    verdicts = []
    for name, some in benchmarks.items():
        answers = [solver.parse(texts[task.id]) for task in some]
        right = [exact_match(x.calls, task.calls) for x, task in zip(answers, some)]
        leaks = [has_leak(x, task, texts[task.id]) for x, task in zip(answers, some)]
        surplus = sum(surplus_arguments(x, task) for x, task in zip(answers, some))
        parsed = sum(x.parsed for x in answers)
        rows.append([name, describe(right), str(parsed), str(sum(leaks)), str(surplus)])
        verdicts.append(right)
    mean, low, high = macro_mean(verdicts)
    print(aligned(rows) + f"mean {100 * mean:.1f} %  {interval(low, high)}")


def has_leak(answer: solver.Answer, task: Task, text: str) -> bool:
    """Whether a call has a value of the prompt's example (the fixed one, or the task's own)."""
    fixed = any(value in text for value in FIXED_VALUES)
    return fixed or any(guards.leaks(answer.calls, solver.example_of(task), task.question))


def surplus_arguments(answer: solver.Answer, task: Task) -> int:
    """Count the arguments given that the gold call of the same tool omits."""
    gold = {call.name: call.arguments.keys() for call in task.calls}
    return sum(
        len(call.arguments.keys() - gold[call.name]) for call in answer.calls if call.name in gold
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("survey", description=__doc__, formatter_class=raw)
    parser.add_argument("role", choices=["generator", "solver"])
    parser.add_argument("--model", required=True, help="folder or hub name")
    parser.add_argument("--prompt", default="bank", help="bank, placeholders, or a file")
    parser.add_argument("--specs", type=int, default=64)
    parser.add_argument("--group", type=int, default=4, help="completions per spec")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--spec", default="graded", choices=["graded", "gate", "free"])
    parser.add_argument("--guards", default="on", choices=["on", "off"])
    parser.add_argument("--heldout", default="", help="file or folder of held-out tasks")
    parser.add_argument("--cases", type=int, default=20, help="cases per benchmark")
    parser.add_argument("--max-new-tokens", type=int, default=700)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--device", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file of the completions")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one survey.  Exit code 2: bad input."""
    a = parse_arguments(argv)
    try:
        player = Player(a.model, a.device, frozen=True)
        survey = {"generator": survey_generator, "solver": survey_solver}[a.role]
        print(json.dumps({key: str(value) for key, value in vars(a).items()}))
        survey(a, player)
    except (UsageError, OSError) as error:
        print(f"survey: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
