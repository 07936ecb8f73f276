"""Throw broken text at every parser and reward; a script that pytest does not collect.

    python tests/fuzz.py --count 100000 --seed 0
    pip install atheris && python tests/fuzz.py     # and 60 seconds guided by coverage

Exit code 1 at the first input that raises anything but `Malformed`, takes more than 50 ms in one
reader, or leaves a value that JSON and UTF-8 cannot carry.
"""

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import atheris
except ImportError:
    atheris = None
OURS = ["ast_match", "generator", "rewards", "solver", "text_match"]
with atheris.instrument_imports(include=OURS) if atheris else nullcontext():
    import generator
    import rewards
    import solver
    import text_match
    from ast_match import Call, Tool, exact_match, parse_value, read_blocks
    from errors import Malformed

LIMIT = 0.05  # seconds

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
1,000 1.000,5 1,00,000 1.5,2.5,-3.5 1e-05 6.02e+23 1e99999 x10^8 10⁻⁵ minus five C++ ++ 👍🏽 ❤️ 👩‍💻
القَاهِرَة ٣٫٥ ﷺ दिल्ली กรุงเทพ 서울 e\u0301 \u200f \u202f 99999999999999999999 \u2028 \ufeff \\/ \\ud83d\\ude00
"input_schema" "inputSchema" "$schema" "additionalProperties" "null" "description" "title"
</THINK> <Tool_Call_Answer>""".split(" ")


def make(rng: random.Random) -> str:
    """Return random tokens, a damaged good completion, or a piece repeated many times."""
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


def read_task(text: str) -> None:
    """Read a Generator's completion and score it."""
    draft = generator.parse(text)
    reward = rewards.generator_reward(draft, 1.0, 1.0)
    assert 0 <= reward.total <= 3
    task = draft.task("a", "b")
    if task:
        json.dumps(task.to_json()).encode()


def read_answer(text: str) -> None:
    """Read a Solver's completion and score it."""
    answer = solver.parse(text)
    gold = [Call("get_weather", {"city": "Paris", "days": 3})]
    assert 0 <= rewards.solver_reward(answer, gold).total <= 2
    assert exact_match(answer.calls, answer.calls)
    calls = [call.to_json() for call in answer.calls]
    json.dumps(calls, ensure_ascii=False).encode()


def read_value(text: str) -> None:
    """Read a value, and a tool from it."""
    try:
        value = parse_value(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        Tool.from_json(value[0] if isinstance(value, list) and value else value)
    except Malformed as reason:
        assert 0 < len(str(reason)) < 60


def read_question(text: str) -> None:
    """Search a question for a piece of itself."""
    text_match.words.cache_clear()
    text_match.fold.cache_clear()
    piece = text[len(text) // 3 : len(text) // 2]
    text_match.grounded(piece, text)
    text_match.grounded(5, text)
    text_match.same_value(piece, text)


def read_any_block(text: str) -> None:
    """Read blocks of any case; what is found is in the text."""
    for block in read_blocks(text, generator.BLOCKS, any_case=True).values():
        assert block is None or block == block.strip() != ""


READERS = (read_task, read_answer, read_value, read_question, read_any_block)


def guided(seconds: int) -> None:
    """Let atheris look for inputs that reach new code; it ends the process."""

    def try_bytes(data: bytes) -> None:
        text = atheris.FuzzedDataProvider(data).ConsumeUnicode(sys.maxsize)
        for read in READERS:
            read(text)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=20000"], try_bytes)
    atheris.Fuzz()


def measure(read: Callable[[str], None], text: str, n: int) -> float:
    """Return the seconds of CPU time that a reader takes; the best of five if it is slow."""
    best = float("inf")
    for _ in range(5):  # a busy machine is not the reader's fault
        start = time.process_time()
        try:
            read(text)
        except Exception:
            print(f"input {n}, {read.__name__}: {ascii(text[:2000])}", file=sys.stderr)
            raise
        best = min(best, time.process_time() - start)
        if best <= LIMIT:
            break
    return best


def main() -> None:
    """Run the fuzzer; see the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng = random.Random(a.seed)
    slowest = dict.fromkeys(READERS, 0.0)
    for n in range(a.count):
        text = make(rng)
        for read in READERS:
            seconds = measure(read, text, n)
            slowest[read] = max(slowest[read], seconds)
            if seconds > LIMIT:
                sys.exit(f"input {n}, {read.__name__}: {seconds:.3f} s: {ascii(text[:500])}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = ", ".join(f"{read.__name__} {1000 * s:.0f} ms" for read, s in slowest.items())
    print(f"{a.count} inputs, peak memory {peak:.0f} MB; slowest: {times}", flush=True)
    if atheris:
        guided(seconds=60)


if __name__ == "__main__":
    main()
