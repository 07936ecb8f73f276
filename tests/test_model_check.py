"""Models whose logits depend on who shares the batch: served right, or refused by name."""

import pytest
import torch
import transformers

import grpo
import rollout
from config import Config
from errors import UnusableModel
from plumbing import model_check
from rollout import Rollout, SamplingParams

TOY = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=64,
    max_position_embeddings=128,
)
LONGROPE = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    short_factor=[1.0] * 4,
    long_factor=[4.0] * 4,
    factor=10.6,
    original_max_position_embeddings=12,
    partial_rotary_factor=1.0,
)
DYNAMIC = dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0)
YARN = dict(rope_type="yarn", factor=2.0, rope_theta=10000.0, original_max_position_embeddings=8)
MOE = dict(attention_chunk_size=8, num_local_experts=2, intermediate_size_mlp=64)
# Name, settings, prompts, new tokens, and whether each way supports it: hand, hf, update.
NEAR, FAR = [[5, 6, 7], [8]], [[5, 6, 7, 8, 9, 10, 11, 12], [8, 9]]
BATCHED = [
    ("Phi3", dict(rope_parameters=LONGROPE, original_max_position_embeddings=12), NEAR, 6, "yyy"),
    ("Phi3", dict(rope_parameters=LONGROPE, original_max_position_embeddings=12), FAR, 12, "nnn"),
    (
        "Phi3",
        dict(rope_parameters=LONGROPE, original_max_position_embeddings=12),
        FAR[:1],
        12,
        "nnn",
    ),
    ("Llama", dict(rope_parameters=DYNAMIC, max_position_embeddings=16), NEAR, 12, "yyy"),
    ("Llama", dict(rope_parameters=DYNAMIC, max_position_embeddings=16), FAR, 12, "nnn"),
    ("Llama", dict(rope_parameters=YARN), FAR, 12, "yyy"),
    ("Llama4Text", MOE, NEAR, 4, "yy-"),
    ("Llama4Text", MOE, FAR, 8, "ny-"),
    ("Rwkv", dict(attention_hidden_size=32, context_length=64), NEAR, 4, "nny"),
    ("Rwkv", dict(attention_hidden_size=32, context_length=64), [[5, 6, 7]], 4, "nyy"),
    ("RecurrentGemma", dict(lru_width=32, num_hidden_layers=3), NEAR, 4, "nnn"),
    ("Mamba", dict(state_size=4), NEAR, 4, "nyy"),
    ("Lfm2", dict(layer_types=["conv", "full_attention"]), FAR, 4, "nyy"),
    ("Mistral", dict(sliding_window=6), FAR, 8, "nyy"),
    ("Mistral", dict(sliding_window=4096), FAR, 8, "yyy"),
]


def greedy_alone(model, prompt, new_tokens):
    ids = list(prompt)
    for _ in range(new_tokens):
        ids.append(
            model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
        )
        if ids[-1] == 2:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("family, settings, prompts, new, served", BATCHED)
def test_a_model_is_sampled_and_scored_in_batches_as_alone_or_refused_by_name(
    family, settings, prompts, new, served
):
    torch.manual_seed(0)
    ends = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = getattr(transformers, f"{family}Config")(**TOY | ends | settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(0, 0.3)

    params = SamplingParams(new, 0, [2])
    with torch.no_grad():
        alone = [greedy_alone(model, prompt, new) for prompt in prompts]
    for way, answer in zip(("hand", "hf"), served):
        run = (model, prompts, 1, params, torch.zeros(len(prompts), 1, new))
        if answer == "y":
            assert [r.completion for r in rollout.SAMPLERS[way](*run)] == alone
        else:
            with pytest.raises(UnusableModel, match=f"{config.model_type}|--sampler hf"):
                rollout.SAMPLERS[way](*run)
    rollouts = [Rollout(prompt, [9] * new, False) for prompt in prompts]
    update = (model, rollouts, torch.ones(len(prompts)), Config(beta=0.0))
    if served[2] == "y":
        grpo.add_gradient(*update)
        assert all(weight.grad is not None for weight in model.parameters())
    elif served[2] == "n":
        with pytest.raises(UnusableModel, match=f"the update.*{config.model_type}"):
            grpo.add_gradient(*update)


def test_what_has_passed_is_not_checked_again(monkeypatch):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TOY)).eval()
    lengths = []
    difference = model_check.difference

    def watched(model, text, length, *more):
        lengths.append(length)
        return difference(model, text, length, *more)

    monkeypatch.setattr(model_check, "difference", watched)
    for new in (20, 10, 20, 30):
        params = SamplingParams(new, 0, [2])
        rollout.sample(model, NEAR, 1, params, torch.zeros(2, 1, new))
    assert lengths == [model_check.FEW, 23, 33]
