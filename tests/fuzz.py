"""Throw broken text at every parser and reward; a script, not collected by pytest.

    python tests/fuzz.py --count 200000 --seed 0
    pip install atheris && python tests/fuzz.py     # and 60 seconds guided by what code is reached

Ends with exit code 1 at the first input that raises anything but `Malformed`, takes more than
50 ms, or leaves something that cannot be written as JSON.
"""

import argparse
import json
import random
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import atheris
except ImportError:
    atheris = None
OURS = ["ast_match", "benchmarks", "generator", "rewards", "solver"]
with atheris.instrument_imports(include=OURS) if atheris else nullcontext():
    import generator
    import rewards
    import solver
    from ast_match import Call, Malformed, exact_match, parse_value
    from evals.bfcl import parse_python_calls

GOOD = """<think>hm</think><question>Will it rain in Paris in the next 3 days?</question>
<available_tools>[{"name": "get_weather", "description": "d", "parameters": {"city": {"type":
"string"}, "days": {"type": "integer"}}, "required": ["city"]}]</available_tools>
<tool_call_answer>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
</tool_call_answer>"""
TOKENS = """<think> </think> <question> </question> <available_tools> </available_tools> { } [ ] ( )
<tool_call_answer> </tool_call_answer> "name" "arguments" "function" "tool_name" "parameters" "type"
"properties" "required" 'a' "a" "\\ud800" \ud800 "\\d" : , ; = == := . ... - + * ** / % ~ @ ! f f( x=
x lambda for in if else not and or await yield None True False null true NaN Infinity -Infinity 1
-1 1e999 1.5 0x1F 1_000 1j b'a' f'{a}' r'\\' ''' \"\"\" ``` ```json # \\ \n \t \0 \x85 é İ ½ ５ 東京 😀
1,000 1.000,5 minus five C++ 99999999999999999999 \u2028 \ufeff""".split(" ")


def make(rng: random.Random) -> str:
    """Soup of tokens, a damaged good completion, or pieces repeated many times."""
    kind = rng.random()
    if kind < 0.45:
        return "".join(rng.choices(TOKENS, k=rng.randint(0, 60)))
    if kind < 0.9:
        text = GOOD
        for _ in range(rng.randint(1, 4)):
            i, j = sorted(rng.choices(range(len(text) + 1), k=2))
            j = min(j, i + rng.randint(0, 30))
            text = text[:i] + rng.choice(["", text[i:j] * 2, *rng.choices(TOKENS, k=3)]) + text[j:]
        return text
    piece = "".join(rng.choices(TOKENS, k=rng.randint(1, 4)))
    size = 100_000 if kind > 0.997 else rng.randint(1, 3000)
    return "".join(rng.choices(TOKENS, k=2)) + (piece * size)[:size] + rng.choice(TOKENS)


def try_all(text: str) -> None:
    """Everything that reads what a model wrote."""
    draft, answer = generator.parse(text), solver.parse(text)
    reward = rewards.generator_reward(draft, 1.0, 1.0)
    assert 0 <= reward.total <= 3
    gold = draft.calls or [Call("get_weather", {"city": "Paris", "days": 3})]
    assert 0 <= rewards.solver_reward(answer, gold).total <= 2
    assert exact_match(answer.calls, answer.calls)
    task = draft.task("a", "b")
    json.dumps(task.to_json() if task else [call.to_json() for call in answer.calls]).encode()


def read_all(text: str) -> None:
    """The readers of values alone."""
    for read in (parse_value, parse_python_calls):
        try:
            json.dumps(read(text), default=lambda call: call.to_json(), allow_nan=False).encode()
        except Malformed as reason:
            assert 0 < len(str(reason)) < 60
    rewards.grounded(text, text[::-1])


def guided(seconds: int) -> None:
    """Let atheris look for inputs that reach new code; it ends the process."""

    def try_bytes(data: bytes) -> None:
        text = atheris.FuzzedDataProvider(data).ConsumeUnicode(sys.maxsize)
        try_all(text)
        read_all(text)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=20000"], try_bytes)
    atheris.Fuzz()


def main() -> None:
    """The command line; see the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng, slowest = random.Random(a.seed), 0.0
    for n in range(a.count):
        text = make(rng)
        for work in (try_all, read_all):
            seconds = []
            while len(seconds) < 5 and min(seconds, default=1) > 0.05:  # a busy machine is no fault
                rewards.words.cache_clear()
                start = time.process_time()
                try:
                    work(text)
                except Exception:
                    print(f"input {n}, {work.__name__}: {ascii(text[:2000])}", file=sys.stderr)
                    raise
                seconds.append(time.process_time() - start)
            slowest = max(slowest, min(seconds))
            if min(seconds) > 0.05:
                sys.exit(f"input {n}, {work.__name__}: {min(seconds):.3f} s: {ascii(text[:500])}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{a.count} inputs, slowest {1000 * slowest:.0f} ms, peak memory {peak:.0f} MB", flush=True
    )
    if atheris:
        guided(seconds=60)


if __name__ == "__main__":
    main()
