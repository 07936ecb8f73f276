"""The update's forward pass with each distinct prompt computed once.

The G completions of a prompt continue on its keys and values, and the gradient flows back through
them, so a prompt costs one forward and one backward pass instead of G.

Shapes: N distinct prompts, R rows, P prompt width, C completion width, E hidden size.
"""

import inspect
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from plumbing import distributed
from plumbing.padding import left_pad

PLAIN_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)  # a subclass remembers more


def serves(model: PreTrainedModel) -> bool:
    """Return whether the completions of this model may continue on the cache of a prompt.

    Not if (a) the forward pass takes no positions or no cache, (b) layers remember more than keys
    and values, (c) gradient checkpointing, which drops the cache, is on, or (d) the layers are
    sharded, as they must then run equally often in each process.
    """
    takes = inspect.signature(model.base_model.forward).parameters
    if "position_ids" not in takes or not _cache_argument(model):
        return False
    if any(type(x) not in PLAIN_LAYERS for x in DynamicCache(config=model.config).layers):
        return False
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return False
    return not distributed.is_sharded(model)


def _cache_argument(model: PreTrainedModel) -> str:
    """Return the forward pass's name for its cache, which differs by version; "" if it has none."""
    takes = inspect.signature(model.base_model.forward).parameters
    names = [name for name in ("cache", "past_key_values") if name in takes]
    return names[0] if names else ""


def hidden_states(
    model: PreTrainedModel, prompts: list[list[int]], ids: Tensor, mask: Tensor
) -> Tensor:
    """Return the hidden states that predict each completion token, (R, C, E)."""
    place = {prompt: n for n, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    of_row = torch.tensor([place[tuple(p)] for p in prompts], device=model.device)  # (R,)
    prompt_ids, prompt_mask, positions = left_pad([list(p) for p in place], model.device)  # (N, P)
    cache = DynamicCache(config=model.config)
    forward = partial(model.base_model, use_cache=True, **{_cache_argument(model): cache})
    out = forward(input_ids=prompt_ids, attention_mask=prompt_mask, position_ids=positions)
    first = out.last_hidden_state[of_row, -1:]  # (R, 1, E) predicts the first completion token
    if ids.shape[1] == 1:
        return first
    cache.batch_select_indices(of_row)  # the gradient flows back through the copies
    both = torch.cat([prompt_mask[of_row], mask], 1)[:, :-1]  # (R, P + C - 1)
    positions = (both.cumsum(1) - 1)[:, prompt_ids.shape[1] :]  # (R, C - 1)
    rest = forward(input_ids=ids[:, :-1], attention_mask=both, position_ids=positions)
    return torch.cat([first, rest.last_hidden_state], 1)
