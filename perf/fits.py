"""Which model fits on which GPU, with which options, and how long the paper's setting may take.

    python perf/fits.py                # the table, computed: no GPU is asked
    python perf/fits.py --gpus 4       # the same with torchrun on four of them and --shard on
    python perf/fits.py --check        # the same formula against peaks measured on this CPU

Bytes a parameter while a player is trained on a GPU (as grpo.py and player.py do it):

    4 weights   8 AdamW   2 bfloat16 copy that samples   2 the frozen Solver   4 reference (beta > 0)
    while it updates also:   4 gradients   2 weights cast by autocast, kept for the backward pass

With --shard on weights, AdamW, gradients and reference of the layers are shared out; embedding and
head are not.

To that comes, while it samples, the cache of ROWS completions and one layer of their prompts; while
it updates, what a micro-batch keeps for the backward pass, and a chunk of logits.  A layer keeps for each token the
input, the scaled input and the output of two norms, queries, keys and values (repeated for all
heads), attention's output, and four times the MLP's width; with --checkpointing on only its input, and
all of it for one layer at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from itertools import product

import measure
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import grpo
from rollout import Rollout, SamplingParams, sample

ROWS, PROMPT, GPUS, GB = 256, 600, (16, 24, 48, 80), 1e9
CONTEXT, ROOM = (
    1.0 * GB,
    0.95,
)  # of CUDA itself; the share of the memory that fragments leave usable
# Assumed for the hours, not measured: mean tokens of a task and of an answer, share of usable tasks,
# and tokens sampled a second by 0.5 B parameters on one GPU (larger models: in proportion slower).
TASK, ANSWER, USABLE, SPEED = 400, 100, 0.5, 10_000


@dataclass
class Shape:
    """What of a model decides its memory."""

    parameters: float
    width: int
    mlp: int
    layers: int
    key_values: int  # width of the keys of a token, as much for its values
    vocabulary: int = 151_936
    tables: int = 1  # embedding and head, which many models have in one

    def weights(self, shared: int, other: int, gpus: int) -> float:
        """Bytes of all weights: `shared` a parameter are shared out where they are in layers."""
        kept = self.tables * self.vocabulary * self.width
        return self.parameters * other + (kept + (self.parameters - kept) / gpus) * shared


MODELS = {
    "Qwen2.5-0.5B": Shape(0.494e9, 896, 4864, 24, 128),
    "Qwen2.5-1.5B": Shape(1.544e9, 1536, 8960, 28, 256),
    "Qwen2.5-3B": Shape(3.086e9, 2048, 11008, 36, 256),
    "Qwen2.5-7B": Shape(7.616e9, 3584, 18944, 28, 512, 152_064, tables=2),
}


def update(
    m: Shape,
    tokens: int,
    checkpointing: bool = False,
    beta: bool = False,
    cuda: bool = True,
    gpus: int = 1,
) -> float:
    """Bytes at the peak of an update with `tokens` in a micro-batch."""
    # x, scaled x, output of both norms; q, k, v, out, and out again as o_proj reads it
    layer = (
        (2 * (4 + 4 + 2) + 5 * 2) * m.width + 4 * 2 * m.mlp
        if cuda
        else 4 * (11 * m.width + 4 * m.mlp)
    )
    kept = m.layers * 4 * m.width + layer if checkpointing else m.layers * layer
    chunk = 4 * 4 * min(grpo.CHUNK, tokens * m.vocabulary)  # logits, log p, p, the gradient
    return m.weights(16 + 4 * beta, 6 * cuda, gpus) + tokens * kept + chunk + CONTEXT * cuda


def rollout(
    m: Shape,
    rows: int,
    prompts: int,
    new: int,
    beta: bool = False,
    cuda: bool = True,
    gpus: int = 1,
) -> float:
    """Bytes at the peak of a rollout of `rows` completions of `new` tokens."""
    size = 2 if cuda else 4
    cache = (rows * new + prompts * PROMPT) * m.layers * 2 * m.key_values * size
    prefill = prompts * PROMPT * (3 * m.mlp + 6 * m.width) * size  # of one layer
    return m.weights(12 + 4 * beta, 4 * cuda, gpus) + cache + prefill + CONTEXT * cuda


WAYS = [
    (16, False),
    (8, False),
    (4, False),
    (2, False),
    (8, True),
    (1, True),
]  # micro-batch, checkpointing


def settings(m: Shape, memory: float, new: int, gpus: int) -> str:
    """The first options, from fast to frugal, with which a training fits."""
    for length, beta, (micro, saving) in product((new, new // 2), (True, False), WAYS):
        need = max(
            update(m, micro * (PROMPT + length), saving, beta, gpus=gpus),
            rollout(m, ROWS, ROWS // 4, length, beta, gpus=gpus),
        )
        if need <= ROOM * memory * GB:
            said = [
                f"`--micro-batch {micro}`",
                "`--checkpointing on`" * saving,
                "`--beta 0`" * (not beta),
                f"`--max-new-tokens {length}`" * (length < new),
            ]
            return f"{need / GB:.0f} GB: {', '.join(filter(None, said))}"
    return "no"


def hours(m: Shape, gpus: int) -> float:
    """Tokens sampled in the paper's setting, over the assumed speed."""
    usable = USABLE * ANSWER * 8
    iteration = 50 * 24 * (TASK + usable) + 10_000 * (TASK + usable) + 50 * 32 * ANSWER
    return 3 * iteration / (SPEED * gpus * 0.494e9 / m.parameters) / 3600


SMALL = Shape(0, 512, 2048, 8, 128, 8192)  # for --check


def measured(what: str) -> dict:
    """Peak of one update or rollout of SMALL on this CPU, above what the process had before."""
    torch.set_num_threads(1)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    before, m = peak(), SMALL
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=m.vocabulary,
            hidden_size=m.width,
            intermediate_size=m.mlp,
            num_hidden_layers=m.layers,
            num_attention_heads=8,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            eos_token_id=None,
        )
    )
    m.parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()
    if what == "rollout":
        prompts = torch.randint(0, m.vocabulary, (16, PROMPT)).tolist()
        params = SamplingParams(128, 1.0, [-1], rows=256)
        sample(model, prompts, 16, params, torch.rand(16, 16, 128, dtype=torch.float64))
        return {"computed": rollout(m, 256, 16, 128, cuda=False), "measured": peak() - before}
    checkpointing = what == "update, checkpointing"
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()
    rollouts = [
        Rollout([1, 2], row, True) for row in torch.randint(0, m.vocabulary, (8, 512)).tolist()
    ]
    cfg = grpo.GRPOConfig(beta=0.0, micro_batch=8)
    grpo.step(model, optimizer, rollouts, torch.linspace(-1, 1, 8).view(1, 8), cfg)
    return {"computed": update(m, 8 * 512, checkpointing, cuda=False), "measured": peak() - before}


def main() -> None:
    """Print the table, or check the formula; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--check", action="store_true")
    ap.add_argument(
        "--measure", help=argparse.SUPPRESS
    )  # one of the peaks, in a process of its own
    ap.add_argument("--max-new-tokens", type=int, default=1024)
    ap.add_argument("--gpus", type=int, default=1)
    a = ap.parse_args()
    if a.measure:
        print(json.dumps(measured(a.measure)))
    elif a.check:
        rows = []
        for what in ("update", "update, checkpointing", "rollout"):
            out = subprocess.run(
                [sys.executable, __file__, "--measure", what],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(out.stdout)
            rows.append(
                {
                    "peak, GB": what,
                    **{k: v / GB for k, v in found.items()},
                    "ratio": found["measured"] / found["computed"],
                }
            )
        measure.report("fits", rows)
    else:
        print(
            "| | "
            + " | ".join(f"{n} GB" for n in GPUS)
            + " | hours |\n|"
            + " --- |" * (len(GPUS) + 2)
        )
        for name, m in MODELS.items():
            cells = [settings(m, n, a.max_new_tokens, a.gpus) for n in GPUS]
            print(f"| {name} | " + " | ".join(cells) + f" | {hours(m, a.gpus):.1f} |")


if __name__ == "__main__":
    main()
