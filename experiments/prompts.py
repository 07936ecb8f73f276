"""Which wording of the two prompts suits a model?  Completions are counted, a line a wording.

    python -m experiments.prompts --model FOLDER --out prompts.jsonl     # hours of a CPU with 0.5B
    python -m experiments.prompts --model FOLDER2 --out prompts.jsonl    # e.g. after training
    python -m experiments.prompts --out prompts.jsonl                    # the table alone

A measurement that is in the file already is not made again.  Generator: specs with menus of 2 to 5,
four completions each at temperature 1.  Solver: held-out tasks of tiny, greedy.  The words:

    example   generator.SYSTEM and solver.SYSTEM, as they ship: rules and one whole example
    plan      the same, but the Generator's plan counts tools and calls and names the values, and
              its question is a request
    form      the same rules, and the form with placeholders in place of an example
    paper     `--prompt paper`, as the release lays them out (plumbing/released.py)
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import torch

import curate
import eval
import generator
import solver
from ast_match import exact_match
from plumbing.player import ROOT, Player
from plumbing.released import generator_prompt, solver_prompt
from plumbing.runfolder import append, read_jsonl

EACH = 4  # completions of a spec, so that its prompt is read once for them
PLAN = """The menu is find_book(title, branch), renew_loan(card_number, days). The request needs \
find_book with title and branch."""
COUNTED = """The 2 tools are find_book(title, branch), renew_loan(card_number, days). The 1 call \
is find_book(title The Little Prince, branch Harbour)."""
QUESTION = "Is The Little Prince on the shelf of the Harbour branch?"
REQUEST = "Look for The Little Prince in the Harbour branch."
assert PLAN in generator.SYSTEM and QUESTION in generator.SYSTEM
RULES = generator.SYSTEM.partition("Write four blocks")[0]
SYSTEMS = {
    "generator": {
        "example": generator.SYSTEM,
        "plan": generator.SYSTEM.replace(PLAN, COUNTED).replace(QUESTION, REQUEST),
        "form": RULES
        + """Write four blocks in this form, then stop:
<think>
your plan in one sentence
</think>
<question>
the request of the user
</question>
<available_tools>
[{"name": "tool_name", "description": "what it does", "parameters": {"argument": {"type": \
"string"}}, "required": ["argument"]}]
</available_tools>
<tool_call_answer>
[{"name": "tool_name", "arguments": {"argument": "value from the question"}}]
</tool_call_answer>""",
    },
    "solver": {
        "example": solver.SYSTEM,
        "form": solver.SYSTEM.partition(" For example:")[0]
        + """ In this form:
<think>
The request needs tool_name.
</think>
<tool_call_answer>
[{"name": "tool_name", "arguments": {"argument": "value from the request"}}]
</tool_call_answer>""",
    },
}

PROMPTS = {
    "generator": (generator.prompt, generator_prompt),  # ours, the release's
    "solver": (solver.prompt, solver_prompt),
}


def chats(role: str, wording: str, items: list) -> list[list[dict[str, str]]]:
    """The prompts of a role for these specs or tasks, in one of the wordings."""
    ours, released = PROMPTS[role]
    if wording == "paper":
        return list(map(released, items))
    system = {"role": "system", "content": SYSTEMS[role][wording]}
    return [[system, *ours(item)[1:]] for item in items]


def of_generator(player: Player, wording: str, count: int) -> dict:
    """Shares of `count` tasks: with all blocks, readable, valid and new; why the others are not."""
    specs = generator.sample_specs(0, count // EACH, p_large_menu=0)
    rollouts = player.sample(chats("generator", wording, specs), EACH, 400, 1.0)
    texts, specs = list(map(player.text, rollouts)), [s for s in specs for _ in range(EACH)]
    drafts = [generator.parse(text) for text in texts]
    candidates = [
        curate.candidate(f"{i:05d}", spec, draft)
        for i, (spec, draft) in enumerate(zip(specs, drafts))
    ]
    return {
        "blocks": sum(None not in draft.blocks.values() for draft in drafts) / count,
        "parsed": sum(not draft.reasons for draft in drafts) / count,
        "right": len(curate.check(candidates)) / count,
        "copies": copies(texts),
        "why": curate.funnel(candidates),
    }


def of_solver(player: Player, wording: str, count: int) -> dict:
    """Shares of `count` answers: with both blocks, readable, right; why some are not readable."""
    tasks = eval.load_tasks(ROOT / "tiny" / "heldout.jsonl")[:count]
    texts = list(map(player.text, player.sample(chats("solver", wording, tasks), 1, 160, 0.0)))
    answers = list(map(solver.parse, texts))
    return {
        "blocks": sum(a.think and a.tag for a in answers) / count,
        "parsed": sum(a.parsed for a in answers) / count,
        "right": sum(exact_match(a.calls, t.calls) for a, t in zip(answers, tasks)) / count,
        "copies": copies(texts),
        "why": Counter(a.reason for a in answers if a.reason),
    }


def copies(texts: list[str]) -> float:
    """The share of completions that have words of the example in them."""
    return sum("Little Prince" in text or "Harbour" in text for text in texts) / len(texts)


def table(lines: list[dict]) -> str:
    """All measurements, as Markdown; a Generator's task is right if it is valid and new."""
    columns = ["model", "role", "wording", "completions", "blocks", "parsed", "right", "copies"]
    shown = lambda x: f"{100 * x:.0f} %" if isinstance(x, float) else str(x)
    rows = [columns, ["---"] * len(columns), *([shown(line[c]) for c in columns] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure what is missing, print all."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--model", help="folder or hub name")
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--completions", type=int, default=100, help=f"a multiple of {EACH}")
    a = ap.parse_args()
    if a.completions < EACH or a.completions % EACH:
        ap.error(f"--completions {a.completions}: it is to be a multiple of {EACH}")
    lines, player = read_jsonl(a.out, torn=True), None
    for role, systems in SYSTEMS.items() if a.model else ():
        measure = {"generator": of_generator, "solver": of_solver}[role]
        for wording in [*systems, "paper"]:
            of = {"model": a.model, "role": role, "wording": wording, "completions": a.completions}
            if not any(of.items() <= line.items() for line in lines):
                player = player or Player(a.model, "cuda" if torch.cuda.is_available() else "cpu")
                lines.append(of | measure(player, wording, a.completions))
                append(a.out, lines[-1])
                print(json.dumps(lines[-1]), flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
