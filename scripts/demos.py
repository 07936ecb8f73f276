"""Show what one file of the core does, in a few lines.

    python -m scripts.demos rewards

`python -m scripts.demos` lists the demos.
"""

import json
import math
import sys

import torch

import curate
import eval
import generator
import grpo
import guards
import rewards
import rollout
import solver
from ast_match import exact_match, parse_value, to_calls
from config import Config
from errors import Malformed, UsageError
from generator import Draft, Spec
from plumbing.command import run_command
from plumbing.loading import ROOT
from plumbing.player import Player
from text_match import grounded, same_value

SPEC = Spec("weather", "single_turn", 2, 1)
COMPLETION = """<think>Call 1: get_forecast with city Oslo, days 3</think>
<question>Will it rain in Oslo in the next 3 days?</question>
<available_tools>[{"name": "get_forecast", "description": "The weather to come.", "parameters":
{"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]},
{"name": "get_time", "description": "The time.", "parameters": {"city": {}}}]</available_tools>
<tool_call_answer>
[{"name": "get_forecast", "arguments": {"city": "Oslo", "days": 3}}]
</tool_call_answer>"""


def draft(old: str = "", new: str = "") -> Draft:
    """Return what is read from the completion above after replacing a text in it."""
    return generator.parse(COMPLETION.replace(old, new))


def show_ast_match() -> None:
    """Turn texts into calls or a reason; compare each with the first."""
    texts = [
        '[{"name": "f", "arguments": {"x": 1, "y": "a"}}]',
        "```json\n{'name': 'f', 'arguments': {'y': 'a', 'x': 1.0}}\n```",
        '[{"name": "f", "arguments": {"x": "1", "y": "a"}}]',
        '[{"name": "f", "arguments": {"x": 1',
    ]
    gold = to_calls(parse_value(texts[0]))
    for text in texts:
        try:
            calls = to_calls(parse_value(text))
            equal = "equal to the first" if exact_match(calls, gold) else "another answer"
            print(f"{text}\n    -> {calls}: {equal}")
        except Malformed as reason:
            print(f"{text}\n    -> malformed: {reason}")


def show_text_match() -> None:
    """Search a question for values, and compare spellings of a value."""
    question = "Move 1,000 EUR to Ada's account on 3 May at 14.30."
    print(question)
    for value in (1000, "Ada", "ad", "14:30", "may 3", True):
        print(f"  {value!r:8} {'found' if grounded(value, question) else 'not found'}")
    print(f'"5.0" equals 5.0: {same_value("5.0", 5.0)}, true equals 1: {same_value(True, 1)}')


def show_generator() -> None:
    """Turn a spec into a prompt, and a completion into a task or a reason."""
    spec = generator.sample_specs(0, 1)[0]
    print(spec)
    for message in generator.prompt(spec):
        print(f"--- {message['role']} message\n{message['content']}")
    print("--- a completion is read as")
    print(json.dumps(draft().task("demo", SPEC.domain).to_json(), indent=1))
    print("cut off:", draft("</tool_call_answer>").reasons)
    print("a bracket lost:", draft("}}]\n", "}}\n").reasons)


def show_solver() -> None:
    """Turn a task into a prompt, and an answer into calls or a reason."""
    task = draft().task("demo", SPEC.domain)
    for message in solver.prompt(task):
        print(f"--- {message['role']} message\n{message['content']}")
    print("--- an answer is read as\n", solver.parse(COMPLETION))
    print(" cut off:", solver.parse(COMPLETION[:-20]))


def show_rewards() -> None:
    """Compute R_G of a task, r_diff of pass rates, and R_S of some answers."""
    task = draft()
    p = 7 / 8
    reward = rewards.generator_reward(task, rewards.r_diff(p, 8), sem=0.5)
    print(f"{task.question}\n  pass rate {p}: R_G = {reward.total:.2f}, {reward}")
    wrong = rewards.r_valid(draft("Oslo in", "Rome in"))
    print(f"  with a city that the question does not name: valid {wrong:.2f}\nr_diff")
    for right in range(9):
        value = rewards.r_diff(right / 8, 8)
        print(f"  {right}/8 {value:.4f} {'#' * round(40 * value)}")
    for old, new in (("", ""), ('"Oslo"', '"Rome"'), ('{"city": "Oslo", ', "{"), ("}}]", "}")):
        answer = solver.parse(COMPLETION.replace(old, new))
        reward = rewards.solver_reward(answer, task.calls)
        print(f"R_S = {reward.total:.2f}, {reward}: {answer.calls or answer.reason}")


def show_guards() -> None:
    """Find a copy, a question in code and near-duplicates."""
    example = generator.examples_of(SPEC)[0]
    copy = generator.parse(generator.show(example)).task("copy", "")
    print("the example of the prompt, copied:", guards.flaw(copy, example))
    code = draft("Will it rain in Oslo", "Run get_forecast with city=Oslo").task("code", "")
    print("a question in code:", guards.flaw(code, example))
    tasks = [draft("Oslo", city).task(city, "") for city in ("Oslo", "Rome", "Bergen")]
    print("near-duplicates of three that differ in a value:", guards.near_duplicates(tasks))


def show_curate() -> None:
    """Send five candidates through the funnel."""
    drafts = {"a": draft(), "b": draft("</tool_call_answer>"), "c": draft("Oslo in", "Rome in")}
    drafts |= {"d": draft("3", "4"), "e": draft("it rain", "it snow")}
    candidates = [curate.candidate(id, SPEC, read) for id, read in drafts.items()]
    usable = curate.check(candidates, Config())
    for c, p in zip(usable, (0.25, 0.5)):
        c.p = p  # in a run, the Solver's answers are counted here
    selected = curate.select(curate.verify(usable, p_min=0.125), size=5)
    for c in candidates:
        print(c.id, c.reason or f"selected, p = {c.p}, {curate.bucket(c.p)}")
    print("in training order:", *[c.id for c in selected])


def show_rollout() -> None:
    """Let the model that ships answer two tasks, three times each."""
    player = Player("tiny")
    tasks = eval.load_tasks(ROOT / "tiny" / "heldout.jsonl")[:2]
    for r in player.sample([solver.prompt(task) for task in tasks], 3, 96, 1.0, 0):
        end = "ended" if r.finished else "cut off"
        print(f"{len(r.prompt)} + {len(r.completion)} tokens, {end}: {player.text(r)[-70:]!r}")
    print("the two samplers, one signature:", ", ".join(rollout.SAMPLERS))


def show_grpo() -> None:
    """Turn rewards into advantages; show a token's loss before and after the policy moves."""
    group = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    A = grpo.advantages(group)[0]
    old = torch.zeros(4, 1)
    print("reward  advantage  loss at ratio 1  at ratio 1.5")
    here = grpo.token_loss(old, old, None, A, Config())[0]
    moved = grpo.token_loss(old + math.log(1.5), old, None, A, Config())[0]
    for row in zip(group[0], A, here[:, 0], moved[:, 0]):
        print("{:6.2f} {:+10.3f} {:+16.3f} {:+13.3f}".format(*row))


SHOWS = (show_ast_match, show_text_match, show_generator, show_solver, show_rewards, show_guards)
SHOWS += (show_curate, show_rollout, show_grpo)


def main() -> None:
    """Show the files that the command line names, or print all names."""
    demos = {show.__name__.removeprefix("show_"): show for show in SHOWS}
    for name in sys.argv[1:]:
        if name not in demos:
            raise UsageError(f"there is no demo {name}: choose one of {', '.join(demos)}")
        demos[name]()
    if not sys.argv[1:]:
        for name, show in demos.items():
            print(f"python -m scripts.demos {name:<11} # {show.__doc__}")


if __name__ == "__main__":
    sys.exit(run_command("demos", main))
