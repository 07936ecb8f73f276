"""The update's forward pass with each distinct prompt computed once.

The G completions of a prompt continue on its keys and values, and the gradient flows back through
them, so a prompt costs one forward and one backward pass instead of G.  Prompts and completions
are padded on the right: a causal pass over prompts then needs no mask, and no row of the mask over
prompts and completions is empty.

Shapes: N distinct prompts, R rows, P prompt width, C completion width, M completion tokens,
E hidden size.
"""

import math
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from plumbing import distributed
from plumbing.model_check import arguments
from plumbing.padding import right_pad
from rollout import Rollout

PLAIN_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)  # a subclass remembers more


def supports(model: PreTrainedModel, rollouts: list[Rollout]) -> bool:
    """Return whether these completions may continue on the caches of their prompts.

    They may not if
      (a) the forward pass takes no positions or no cache;
      (b) a layer remembers more than keys and values;
      (c) a layer sees only a window that is shorter than the rows, padding included;
      (d) gradient checkpointing is on, which drops the cache; or
      (e) the layers are sharded, as each must run the same number of times in every process.
    """
    if distributed.is_sharded(model):
        return False
    if "position_ids" not in arguments(model.base_model) or cache_name(model) is None:
        return False
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return False
    prompt = max(len(r.prompt) for r in rollouts)
    completion = max(len(r.completion) for r in rollouts)
    for layer in DynamicCache(config=model.config).layers:
        if type(layer) not in PLAIN_LAYERS:
            return False
        window = getattr(layer, "sliding_window", math.inf)
        if window < prompt + completion:
            return False
    return True


def cache_name(model: PreTrainedModel) -> str | None:
    """Return what the forward pass calls its cache, which differs by version."""
    for name in ("cache", "past_key_values"):
        if name in arguments(model.base_model):
            return name
    return None


def hidden_states(model: PreTrainedModel, rollouts: list[Rollout]) -> Tensor:
    """Return the hidden states that predict the completion tokens, (M, E), row by row."""
    device = model.device
    place: dict[tuple, int] = {}  # prompt -> its row among the distinct ones
    prompt_of = []
    for r in rollouts:
        n = place.setdefault(tuple(r.prompt), len(place))
        prompt_of.append(n)
    prompt_of = torch.tensor(prompt_of, device=device)  # (R,)
    prompts, prompt_mask = right_pad([list(prompt) for prompt in place], device)  # (N, P)
    ids, mask = right_pad([r.completion for r in rollouts], device)  # (R, C)
    lengths = prompt_mask.sum(1)  # (N,)

    cache = DynamicCache(config=model.config)
    forward = partial(model.base_model, use_cache=True, **{cache_name(model): cache})
    out = forward(input_ids=prompts).last_hidden_state  # (N, P, E)
    rows = torch.arange(len(prompts), device=device)
    last = out[rows, lengths - 1]  # (N, E) predicts the first completion token
    hidden = last[prompt_of][:, None]  # (R, 1, E)
    if ids.shape[1] > 1:
        cache.batch_select_indices(prompt_of)  # the gradient flows back through the copies
        seen = torch.cat([prompt_mask[prompt_of], mask[:, :-1]], 1)  # (R, P + C - 1)
        steps = torch.arange(ids.shape[1] - 1, device=device)
        positions = lengths[prompt_of][:, None] + steps  # (R, C - 1)
        rest = forward(input_ids=ids[:, :-1], attention_mask=seen, position_ids=positions)
        hidden = torch.cat([hidden, rest.last_hidden_state], 1)  # (R, C, E)
    return hidden[mask]
