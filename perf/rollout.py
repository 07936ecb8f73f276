"""Our rollout against `generate`, and `generate` with a static cache: same prompts and lengths.

    python perf/rollout.py             # tiny, 64 and 256 rows, prompts of 120 and 600 tokens
    python perf/rollout.py --large     # a Qwen2 of 0.5B's shape, random weights, 32 rows

Eight samples a prompt at temperature 1; no row ends before the limit, so what is won by dropping
finished rows is not in these numbers.  CPU seconds are of one thread, wall seconds of all.
The last column, of tiny, asks whether a token late in the completion costs more than an early one.
"""

from __future__ import annotations

import argparse
import time
from unittest.mock import patch

import measure
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import rollout
from plumbing import player

NEVER = [10**6]  # an end id that no model has
GROUP = 8


def large() -> Qwen2ForCausalLM:
    """The shape of Qwen2.5-0.5B with random weights."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151_936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).eval()


def contenders(model, prompts: list[list[int]], new_tokens: int) -> dict:
    """Name -> a run that samples GROUP completions of `new_tokens` of each prompt."""
    uniforms = torch.rand(len(prompts), GROUP, new_tokens, dtype=torch.float64)
    ids, mask, _ = rollout.left_pad(prompts, model.device)
    params = rollout.SamplingParams(new_tokens, 1.0, NEVER, rows=len(prompts) * GROUP)
    common = dict(
        input_ids=ids,
        attention_mask=mask.long(),
        num_return_sequences=GROUP,
        do_sample=True,
        top_k=0,
        max_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    return {
        "ours": lambda: rollout.sample(model, prompts, GROUP, params, uniforms),
        "generate": lambda: model.generate(**common),
        "static": lambda: model.generate(
            **common, cache_implementation="static", disable_compile=True
        ),
    }


def late_over_early(model, prompts: list[list[int]], new_tokens: int, repeats: int) -> float:
    """What one of the last 40 tokens of a rollout costs over one of the tokens 40 to 80: medians
    over `repeats` rollouts."""
    choose, stamps, early, late = rollout.choose, [], [], []
    uniforms = torch.rand(len(prompts), GROUP, new_tokens, dtype=torch.float64)
    params = rollout.SamplingParams(new_tokens, 1.0, NEVER, rows=len(prompts) * GROUP)

    def stamped(*arguments):
        stamps.append(time.perf_counter())
        return choose(*arguments)

    with patch("rollout.choose", stamped):
        for _ in range(repeats):
            stamps.clear()
            rollout.sample(model, prompts, GROUP, params, uniforms)
            steps = [b - a for a, b in zip(stamps, stamps[1:])]
            early, late = early + steps[40:80], late + steps[-40:]
    return measure.median(late) / measure.median(early)


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--large", action="store_true")
    ap.add_argument("--repeats", type=int, default=3)
    ap.add_argument("--new-tokens", type=int, default=128)
    a = ap.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = large() if a.large else player.load_model(str(measure.HERE.parent / "tiny"))[0]
    model = model.to(device, dtype)
    threads, rows = torch.get_num_threads(), []
    sizes = ([64, 256] if device == "cuda" else [32]) if a.large else [64, 256]
    for count in sizes:
        for width in (120, 600):
            prompts = torch.randint(10, 1000, (count // GROUP, width)).tolist()
            runs = contenders(model, prompts, a.new_tokens)
            wall = measure.in_turns(runs, a.repeats)
            torch.set_num_threads(1)
            cpu = measure.in_turns(runs, 1 if a.large else a.repeats)
            torch.set_num_threads(threads)
            row = {"rows": count, "prompt": width, "new": a.new_tokens}
            row |= {f"{name} wall s": t["wall"] for name, t in wall.items()}
            row |= {f"{name} CPU s": t["cpu"] for name, t in cpu.items()}
            row["wall ratio"] = wall["generate"]["wall"] / wall["ours"]["wall"]
            row["CPU ratio"] = cpu["generate"]["cpu"] / cpu["ours"]["cpu"]
            if not a.large:
                row["token 400 / 40"] = late_over_early(model, prompts, 400, a.repeats)
            rows.append(row)
            print(row, flush=True)
    measure.report("rollout_large" if a.large else "rollout", rows)


if __name__ == "__main__":
    main()
