"""What an update holds at once: no mask of P x P, no row without a token to see, no whole logits."""

import pytest
import torch
import torch.nn.functional as F
from conftest import random_model
from torch.utils._python_dispatch import TorchDispatchMode

import grpo
from config import Config
from plumbing import microbatch
from plumbing.attention import causal
from rollout import Rollout

LONG = 8000
RAGGED = [
    Rollout([5, 6, 7, 8], [9, 2], True),
    Rollout([5, 6, 7, 8], [10, 11, 12, 13], False),
    Rollout([20], [9, 2], True),
]


class Largest(TorchDispatchMode):
    """Remember the bytes of the largest tensor that any operation returned."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), more=None):
        out = function(*arguments, **(more or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("kv_heads", [2, 8])
def test_left_padded_prompts_attend_as_with_a_mask(kv_heads):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(3, 8, 6, 4),
        torch.randn(3, kv_heads, 6, 4),
        torch.randn(3, kv_heads, 6, 4),
    )
    padding = torch.tensor([0, 2, 5])
    real = torch.arange(6) >= padding[:, None]
    mask = torch.ones(6, 6).tril().bool() & real[:, None] | torch.eye(6).bool()
    masked = F.scaled_dot_product_attention(q, k, v, mask[:, None], scale=0.3, enable_gqa=True)
    found = causal(q, k, v, padding, 0.3).transpose(1, 2)
    assert torch.allclose(found[real], masked.transpose(1, 2)[real], atol=1e-6)
    assert found.isfinite().all()  # padding has something to attend to


@pytest.mark.parametrize("shared", [True, False])
def test_in_the_update_no_row_of_a_mask_is_empty(shared, monkeypatch):
    attend, masks = F.scaled_dot_product_attention, []

    def spy(*arguments, attn_mask=None, is_causal=False, **more):
        masks.append(attn_mask)
        assert is_causal or attn_mask is not None
        return attend(*arguments, attn_mask=attn_mask, is_causal=is_causal, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    grpo.token_logprobs(random_model(), RAGGED, 1.0, shared)
    assert masks and all(mask is None or mask.any(-1).all() for mask in masks)
    assert shared == any(mask is not None for mask in masks)  # the plain way needs none


@pytest.mark.parametrize("work", ["update", "prefill"])
def test_memory_of_a_long_prompt_does_not_grow_with_its_square(work):
    # With masks over prompts, the update had a tensor of 488 MB here.
    peaks = {}
    for kv_heads in (1, 4):
        model = random_model(num_key_value_heads=kv_heads, num_hidden_layers=1)
        prompt = torch.randint(3, 64, (LONG,)).tolist()
        with Largest() as largest:
            if work == "update":
                rows = [Rollout(prompt, [9, 2], True), Rollout(prompt[:9], [9, 8, 2], True)]
                grpo.add_gradient(model, rows, torch.tensor([1.0, -1.0]), Config(beta=0.0))
            else:
                q, k = torch.randn(2, 4, LONG, 8), torch.randn(2, kv_heads, LONG, 8)
                causal(q, k, k, torch.tensor([0, LONG - 9]), 0.3)
        peaks[kv_heads] = largest.bytes
    print(f"{work}: largest tensor {peaks} bytes, by key/value heads")
    assert max(peaks.values()) < LONG**2 / 4  # a mask alone would take LONG**2


def test_no_tensor_holds_the_logits_of_a_whole_micro_batch(monkeypatch):
    rows, length, vocabulary = 8, 100, 4096
    monkeypatch.setattr(microbatch, "CHUNK", 50 * vocabulary)
    model = random_model(vocab_size=vocabulary)
    ids = torch.randint(3, vocabulary, (rows, length)).tolist()
    rollouts = [Rollout([5, 6], row, False) for row in ids]
    with Largest() as largest:
        grpo.add_gradient(model, rollouts, torch.linspace(-1, 1, rows), Config(beta=0.0))
    assert largest.bytes <= 4 * 50 * vocabulary < 4 * rows * length * vocabulary / 10
