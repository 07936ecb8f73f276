"""The memory of training, by formula; `python -m perf.fits --check` compares it with peaks.

Bytes per parameter while a player is trained and its device computes in bfloat16:

    4 weights   8 AdamW   2 bfloat16 copy that samples and computes   2 the frozen other player
    2 reference (beta > 0)   during an update also 4 gradients

A device that computes in float32 needs no copy; frozen player and reference take 4 bytes each.
Both players also keep the fused weights with which they sample (plumbing/decode.py).
With --shard on, the layers' weights, AdamW, gradients and reference (4) are sharded, and autocast
adds 2; embedding and head are not sharded.

Sampling adds the cache of prompts and completions, and the activations of one layer in the prefill.
An update adds what a micro-batch keeps for the backward pass, and a chunk of logits.  Per token a
layer keeps the input (in float32 and scaled) and the output of two norms, queries, keys and values
(repeated for all heads), attention's output in two layouts, and four times the MLP's width.  With
--checkpointing on, each layer keeps its input only, and one layer at a time keeps all of this.
"""

import math
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from errors import UnusableModel
from plumbing import microbatch
from plumbing.slots import key_value_width

GB = 1e9
PROMPT = 2000  # tokens of a Generator prompt with its examples, in Qwen's vocabulary
CONTEXT = 1.0 * GB  # of CUDA itself
ROOM = 0.95  # the share of the memory that fragmentation leaves usable


@dataclass
class Shape:
    """What determines the memory of a model."""

    parameters: float
    width: int
    mlp: int
    layers: int
    key_values: int  # width of the keys of a token; its values take as much
    vocabulary: int = 151_936
    tables: int = 1  # embedding and head; many models have one for both

    def weights(self, shared: int, whole: int, gpus: int) -> float:
        """Return a GPU's bytes: `whole` per parameter, and its part of `shared` per parameter."""
        kept = self.tables * self.vocabulary * self.width
        in_layers = self.parameters - kept
        return self.parameters * whole + (kept + in_layers / gpus) * shared

    def fused(self) -> float:
        """Return the parameters of queries, keys, values, gate and up projections."""
        return self.layers * self.width * (2 * self.mlp + self.width + 2 * self.key_values)


@dataclass
class Setup:
    """How a model is trained."""

    beta: bool = False
    checkpointing: bool = False
    half: bool = True  # computes in bfloat16
    frozen_player: bool = True  # is in memory as well
    cuda: bool = True
    gpus: int = 1

    def weights(self, m: Shape, updating: bool) -> float:
        """Return the bytes of all that belongs to parameters, as this file's head counts them."""
        sharded = self.gpus > 1
        trained = 4 + 8 + 4 * updating + 4 * (self.beta and sharded)
        size = 2 if self.half else 4
        whole = size * (self.frozen_player + (self.beta and not sharded))
        if self.half:
            whole += 2 + 2 * (updating and sharded)
        fused = size * m.fused() * (1 + self.frozen_player)
        return m.weights(trained, whole, self.gpus) + fused + CONTEXT * self.cuda

    def update(self, m: Shape, tokens: int) -> float:
        """Return the bytes at the peak of an update with `tokens` in a micro-batch."""
        size = 2 if self.half else 4
        norm = 4 + 2 * size  # its input in float32 and scaled, and its output
        layer = (2 * norm + 5 * size) * m.width + 4 * size * m.mlp
        chunk = microbatch.CHUNKS["cuda"] if self.cuda else microbatch.CHUNK
        kept = m.layers * layer
        if self.checkpointing:
            kept = m.layers * size * m.width + layer
        logits = 4 * 4 * min(chunk, tokens * m.vocabulary)  # logits, log p, p, the gradient
        return self.weights(m, updating=True) + tokens * kept + logits

    def rollout(self, m: Shape, rows: int, prompts: int, new: int, length: int = PROMPT) -> float:
        """Return the bytes at the peak of a rollout of `rows` completions of `new` tokens."""
        size = 2 if self.half else 4
        cache = (rows * new + prompts * length) * m.layers * 2 * m.key_values * size
        prefill = prompts * length * (3 * m.mlp + 6 * m.width) * size  # of one layer
        return self.weights(m, updating=False) + cache + prefill

    def micro_batch_tokens(self, rows: int, group: int, new: int) -> int:
        """Return the tokens of `rows` completions of `new` tokens, and of their prompts.

        Completions of one prompt share it, but not with --checkpointing on or sharded layers.
        """
        alone = self.checkpointing or self.gpus > 1
        prompts = rows if alone else math.ceil(rows / group)
        return prompts * PROMPT + rows * new


def shape_of(config: PretrainedConfig) -> Shape | None:
    """Return the shape of a model, from its config alone; None for an unusual architecture."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        return Shape(
            parameters=sum(p.numel() for p in model.parameters()),
            width=config.hidden_size,
            mlp=config.intermediate_size,
            layers=config.num_hidden_layers,
            key_values=key_value_width(config),
            vocabulary=config.vocab_size,
            tables=1 if config.tie_word_embeddings else 2,
        )
    except (AttributeError, ValueError, UnusableModel):
        return None


def local_shape(name: str) -> Shape | None:
    """Return the shape of a model by folder or hub name; None if its config is not on this disk."""
    try:
        return shape_of(AutoConfig.from_pretrained(name, local_files_only=True))
    except (OSError, ValueError):  # loading says what is wrong with it
        return None
