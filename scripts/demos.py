"""What each file of the core does, shown in a few lines: `python rewards.py --demo`.

Nothing here is part of the method.  One function a file, in the README's order.  Each imports what
it needs itself, so that a demo starts as fast as its file.
"""

import sys

COMPLETION = """<think>
The request needs get_forecast with city and days.
</think>
<question>
Will it rain in Oslo in the next 3 days?
</question>
<available_tools>
[{"name": "get_forecast", "description": "The weather to come.", "parameters": {"city": {"type":
"string"}, "days": {"type": "integer"}}, "required": ["city", "days"]}, {"name": "get_time",
"description": "The local time.", "parameters": {"city": {"type": "string"}}, "required": ["city"]}]
</available_tools>
<tool_call_answer>
[{"name": "get_forecast", "arguments": {"city": "Oslo", "days": 3}}]
</tool_call_answer>"""


def demo(name: str) -> bool:
    """Show the file of this name, if the command line asks for it, and for nothing else."""
    asked = not {"--demo", "--dry-run"}.isdisjoint(sys.argv[1:])
    if asked and sys.argv[2:]:
        print(f"{name}.py: error: --demo and --dry-run take no other option", file=sys.stderr)
        sys.exit(2)
    if asked:
        globals()[f"demo_{name}"]()
    return asked


def weather(changes: dict[str, str] | None = None) -> tuple:
    """A spec and the draft of its completion, in which texts are replaced by others."""
    import generator

    text = COMPLETION
    for old, new in (changes or {}).items():
        text = text.replace(old, new)
    return generator.Spec("weather", "single_turn", 2, 1), generator.parse(text)


def demo_ast_match() -> None:
    """Texts become calls, or have a reason; the calls are compared with those of the first."""
    from ast_match import Malformed, exact_match, parse_value, to_calls

    gold = None
    for text in (
        '[{"name": "f", "arguments": {"x": 1, "y": "a"}}]',
        "```json\n{'name': 'f', 'arguments': {'y': 'a', 'x': 1.0}}\n```",
        '[{"name": "f", "arguments": {"x": "1", "y": "a"}}]',
        '[{"name": "f", "arguments": {"x": true, "y": "a"}}, {"name": "g"}]',
        '[{"name": "f", "arguments": {"x": 1',
    ):
        try:
            calls = to_calls(parse_value(text))
            gold = gold or calls
            verdict = "equal to the first" if exact_match(calls, gold) else "another answer"
            print(f"{text}\n    -> {calls}: {verdict}")
        except Malformed as reason:
            print(f"{text}\n    -> malformed: {reason}")


def demo_rollout() -> None:
    """Two prompts, three samples each, by the model that ships; rows that have ended leave."""
    from collections import Counter

    import eval
    import solver
    from plumbing.player import Player

    player, rows = Player("tiny"), []
    player.model.register_forward_pre_hook(
        lambda model, args, kwargs: rows.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    tasks = eval.load_tasks(eval.heldout_file("tiny"))[:2]
    rollouts = player.sample(map(solver.prompt, tasks), 3, 96, temperature=1.0)
    print(f"prefill: {rows[0][0]} prompts of up to {rows[0][1]} tokens, each once")
    print(
        "decode, a token a row:",
        ", ".join(f"{times} x {n} rows" for n, times in Counter(n for n, _ in rows[1:]).items()),
    )
    for r in rollouts:
        print(
            f"{len(r.completion)} tokens, {'ended' if r.finished else 'cut off'}: "
            f"{player.text(r)[-70:]!r}"
        )


def demo_grpo() -> None:
    """A group's rewards become advantages; the loss of a token on policy, and when it has moved."""
    import math

    import torch

    from grpo import GRPOConfig, advantages, reduce, token_loss

    rewards, cfg = torch.tensor([[2.0, 1.0, 1.0, 0.0]]), GRPOConfig(beta=0.0)
    A = advantages(rewards)[0]
    old, mask = torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool)
    losses = {}
    for ratio in (1.0, 1.5):
        per_token, _, clipped = token_loss(old + math.log(ratio), old, None, A, cfg)
        losses[ratio] = list(zip(per_token[:, 0].tolist(), clipped[:, 0].tolist()))
        print(f"ratio {ratio}: loss of the batch {reduce(per_token, mask, cfg, 4, 4).item():+.3f}")
    print("reward  advantage  loss at ratio 1  at ratio 1.5")
    for reward, a, (one, _), (moved, clip) in zip(rewards[0], A, *losses.values()):
        print(f"{reward:6.2f} {a:+10.3f} {one:+16.3f} {moved:+13.3f}{' clipped' if clip else ''}")


def demo_generator() -> None:
    """A spec becomes a prompt; a completion a task, a broken one its reason."""
    import json
    import random

    import generator

    print(f"a spec is drawn: {generator.sample_spec(random.Random(0))}")
    spec, draft = weather()
    print(f"the user message for {spec}:\n{generator.prompt(spec)[1]['content']}")
    task = draft.task("", spec.domain).to_json()
    print("a completion is read:")
    for part, value in task.items():
        print(f"  {part}: {json.dumps(value)}")
    print("cut off:", weather({"</tool_call_answer>": ""})[1].reasons)
    print("a bracket lost:", weather({"}}]\n": "}}\n"})[1].reasons)


def demo_solver() -> None:
    """A task becomes a prompt; what the model that ships answers; what is read of a bad answer."""
    import eval
    import solver
    from plumbing.player import Player

    player, task = Player("tiny"), eval.load_tasks(eval.heldout_file("tiny"))[0]
    chat = solver.prompt(task)
    said = player.text(player.sample([chat], 1, 96, temperature=0)[0])
    print(
        f"{chat[1]['content']}\n--- the answer of tiny:\n{said}\n--- is read as\n"
        f"{solver.parse(said)}\n--- gold\n{task.calls}\n--- cut off before its end\n"
        f"{solver.parse(said[:-20])}"
    )


def demo_rewards() -> None:
    """A task's R_G term by term, r_diff as a curve, R_S of some answers."""
    import torch

    import rewards
    import solver

    _, draft = weather()
    p, sem = 7 / 8, rewards.r_sem(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]))[0]
    r = rewards.generator_reward(draft, rewards.r_diff(p, 8), sem)
    print(
        f"{draft.blocks['question']} {draft.calls}\n"
        f"is worth, if the Solver is right in {p} of its tries:\n"
        f"R_G = {r.total:.2f}, of {', '.join(f'{n} {x:.2f}' for n, x in vars(r).items())}"
    )
    unsaid = rewards.r_valid(weather({"Oslo in": "Rome in"})[1])
    print(f"its answer names a city that the question does not: valid {unsaid:.2f}\n\nr_diff")
    for k in range(9):
        value = rewards.r_diff(k / 8, 8)
        print(f"  {k}/8 {value:.4f} {'#' * round(40 * value)}")
    gold = draft.calls
    for what, old, new in (
        ("the gold answer", "", ""),
        ("a wrong value", "Oslo", "Bergen"),
        ("another tool", "get_forecast", "get_time"),
        ("broken", "]", ""),
    ):
        answer = solver.parse(COMPLETION.replace(old, new) if old else COMPLETION)
        s = rewards.solver_reward(answer, gold)
        print(f"R_S = {s.fmt:.2f} fmt + {s.acc:.2f} acc = {s.total:.2f}   {what}")


def demo_curate() -> None:
    """Six candidates through the funnel."""
    import curate

    rows = {  # id -> what is changed in the completion, the Solver's share of right answers
        "a": ({}, 0.5),
        "b": ({"</tool_call_answer>": ""}, None),
        "c": ({"Oslo in": "Rome in"}, None),
        "d": ({"3 days": "4 days", '"days": 3': '"days": 4'}, None),
        "e": ({"it rain": "it be dry"}, 0.0),
        "f": ({"it rain": "it snow"}, 1.0),
    }
    candidates = [curate.candidate(id, *weather(changes)) for id, (changes, _) in rows.items()]
    for c in curate.check(candidates):
        c.p = rows[c.id][1]  # in a run the Solver's answers are counted here
    usable = [c for c in candidates if c.reason is None]
    selected = curate.select(curate.verify(usable, tau=0.125), size=5)
    for c in candidates:
        print(c.id, c.reason or f"selected, p = {c.p}, {curate.bucket(c.p)}")
    print("in the order of training:", *(c.id for c in selected))
    print("funnel:", curate.funnel(candidates))


def demo_eval() -> None:
    """The model that ships on some held-out tasks; how wide an interval is; a paired difference."""
    import eval
    from plumbing import intervals
    from plumbing.player import Player

    tasks = eval.load_tasks(eval.heldout_file("tiny"))[:12]
    print("tiny, greedy:", intervals.describe(eval.grade(Player("tiny"), tasks, 96)))
    for n in (20, 480):
        print("the interval narrows:", intervals.describe([True, False] * (n // 2)))
    mean, *ends = intervals.paired_difference([False, True] * 50, [True] * 20 + [False, True] * 40)
    print(
        f"two models on the same 100 tasks: {100 * mean:+.1f} points {intervals.interval(*ends, '+')}"
    )


def demo_selfplay() -> None:
    """The whole loop with scripted players."""
    from scripts import dry_run

    dry_run.main()
