"""The memory of one update with a real vocabulary: no tensor of batch x length x vocabulary.

    python perf/memory.py              # 8 completions of 1,000 tokens, vocabulary 151,936

The shape is Qwen2.5-0.5B's with fewer layers (--layers), since the logits are the question here:
in float32 all of them would take 4.5 GB (of 2**30 bytes) at once, and their gradient as much again.
"""

from __future__ import annotations

import argparse
import resource

import measure
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config, Qwen2ForCausalLM

import grpo
from rollout import Rollout


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned, in elements."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), more=None):
        out = function(*arguments, **(more or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return out


def main() -> None:
    """Measure and report; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--layers", type=int, default=2)
    a = ap.parse_args()
    rows, length, vocabulary = 8, 1000, 151_936
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=a.layers,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )
    ids = torch.randint(0, vocabulary, (rows, length)).tolist()
    rollouts = [Rollout(list(range(200)), row, False) for row in ids]
    cfg = grpo.GRPOConfig(beta=0.0, micro_batch=rows)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    before = peak()
    with Largest() as largest:
        grpo.backward(model, rollouts, torch.linspace(-1, 1, rows), cfg)
    measure.report(
        "memory",
        [
            {
                "rows": rows,
                "completion": length,
                "vocabulary": vocabulary,
                "layers": a.layers,
                "all logits GB": rows * length * vocabulary * 4 / 2**30,
                "largest tensor GB": largest.elements * 4 / 2**30,
                "added peak GB": peak() - before,
                "gradients GB": sum(p.numel() for p in model.parameters()) * 4 / 2**30,
            }
        ],
    )


if __name__ == "__main__":
    main()
