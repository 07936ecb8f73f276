"""Slot-steps per sampled token, counted without a clock: what refilling slots saves.

    python -m perf.slot_steps

There are 2,000 answers, 8 per prompt, with realistic lengths: mean 60, tail to 400.  A slot-step is
one slot in one decode step, whether it holds a completion or not.  The minimum is 1 per token, less
the first tokens, which come from the prefill.  Without refilling, a batch lasts as long as its
longest answer: rows are dropped once a quarter of them can go, and all groups keep the same width.
"""

import random
from unittest.mock import patch

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from perf.measure import GROUP
from plumbing.cuda_graph import Workspaces
from plumbing.slots import EXACT, RULES
from rollout import SamplingParams, sample

ANSWERS = 2000
LONGEST = 400
VOCABULARY = 8
END = VOCABULARY - 1


def realistic_lengths(answers: int = ANSWERS, seed: int = 0) -> list[int]:
    """Return lengths with a mean of 60 tokens, a median of 42, and some cut off at 400."""
    rng = random.Random(seed)
    lengths = [int(rng.lognormvariate(3.75, 0.85)) for _ in range(answers)]
    return [max(4, min(LONGEST, length)) for length in lengths]


def without_refill(lengths: list[int], rows: int) -> float:
    """Return slot-steps per token of batches that only shrink; groups stay equally wide."""
    steps = 0
    for start in range(0, len(lengths), rows):
        batch = lengths[start : start + rows]
        groups = [batch[i : i + GROUP] for i in range(0, len(batch), GROUP)]
        width = GROUP
        for t in range(1, max(batch)):
            alive = [sum(length > t for length in group) for group in groups]
            needed = sum(n > 0 for n in alive) * max(alive)
            if needed <= 0.75 * len(groups) * width:
                groups = [group for group, n in zip(groups, alive) if n]
                width = max(alive)
            steps += len(groups) * width
    return steps / sum(lengths)


def uniforms_for(lengths: list[int]) -> torch.Tensor:
    """Return uniforms (N, G, T) with which a model of equally likely ids samples these lengths."""
    uniforms = torch.zeros(len(lengths), LONGEST, dtype=torch.float64)
    for row, length in zip(uniforms, lengths):
        row[length - 1] = 1 - 1e-9
    return uniforms.view(-1, GROUP, LONGEST)


def indifferent_model() -> LlamaForCausalLM:
    """Return a very small model to which all ids are equally likely."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


def with_refill(lengths: list[int], rows: int, device: str = "cpu") -> float:
    """Return slot-steps per token of `rollout.sample`, by the rule of this device."""
    sizes = []
    run = Workspaces.run

    def counted(workspaces, workspace, step, token, position):
        sizes.append(len(token))
        return run(workspaces, workspace, step, token, position)

    prompts = [[1] * (1 + n % 9) for n in range(len(lengths) // GROUP)]
    params = SamplingParams(LONGEST, 1.0, [END], rows)
    rule = RULES.get(device, EXACT)
    with patch.object(Workspaces, "run", counted), patch.dict(RULES, {"cpu": rule}):
        rollouts = sample(indifferent_model(), prompts, GROUP, params, uniforms_for(lengths))
    assert [len(r.completion) for r in rollouts] == lengths
    return sum(sizes) / sum(lengths)


def main() -> None:
    """Print one line per number of slots."""
    lengths = realistic_lengths()
    print(f"{len(lengths)} answers, mean {sum(lengths) / len(lengths):.1f}, longest {max(lengths)}")
    print("slots  without refill  refilled, rule of the CPU  refilled, rule of CUDA")
    for rows in (64, 256):
        cpu, cuda = with_refill(lengths, rows), with_refill(lengths, rows, "cuda")
        print(f"{rows:5}  {without_refill(lengths, rows):14.2f}  {cpu:25.2f}  {cuda:22.2f}")


if __name__ == "__main__":
    main()
