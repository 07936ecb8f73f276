"""The fused decode step: the ids of transformers' own forward pass, in fewer operators."""

import pytest
import torch
from conftest import random_model
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import rollout
from plumbing import decode
from rollout import SamplingParams, sample, sample_hf

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, 19], [20, 21, 22, 23]]
FAMILIES = {
    "Llama": (LlamaForCausalLM, LlamaConfig, {}),
    "Llama, tied": (LlamaForCausalLM, LlamaConfig, dict(tie_word_embeddings=True)),
    "Llama, biases": (LlamaForCausalLM, LlamaConfig, dict(attention_bias=True, mlp_bias=True)),
    "Mistral": (MistralForCausalLM, MistralConfig, dict(sliding_window=None)),
    "Qwen2": (Qwen2ForCausalLM, Qwen2Config, dict(tie_word_embeddings=True)),
    "Qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "Qwen3, tied": (Qwen3ForCausalLM, Qwen3Config, dict(tie_word_embeddings=True)),
}
VIEWS = (
    "view reshape transpose permute slice select unsqueeze squeeze expand unflatten flatten chunk "
    "split as_strided t numpy_T mT alias detach narrow view_as_complex view_as_real unsafe_split "
    "contiguous empty result_type resolve_conj lift_fresh to"
).split()


def family(name, **more):
    cls, config, settings = FAMILIES[name]
    model = random_model(cls, config, **settings, **more)
    for key, weight in model.named_parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 1.0 if "norm" in key else 0.0, 0.2)
    return model


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows", [3, 64])
def test_ids_equal_those_of_generate(name, rows):
    model = family(name)
    assert decode.supports(model)
    for temperature in (0, 1.0):
        params = SamplingParams(24, temperature, [2, 30, 40], rows)
        given = torch.rand(
            5, 4, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        assert sample(model, PROMPTS, 4, params, given) == sample_hf(
            model, PROMPTS, 4, params, given
        )


def test_the_fused_weights_follow_the_model_and_stay_where_they_are():
    model = family("Qwen3")
    params, given = SamplingParams(16, 0, [2]), torch.zeros(5, 1, 16)
    before = sample(model, PROMPTS, 1, params, given)
    places = [x.data_ptr() for x in decode.fused_step(model).fused.values()]
    for weight in model.parameters():
        weight.data = weight.data + 0.1 * torch.randn_like(weight)
    after = sample(model, PROMPTS, 1, params, given)
    assert after != before and after == sample_hf(model, PROMPTS, 1, params, given)
    assert [x.data_ptr() for x in decode.fused_step(model).fused.values()] == places


def test_the_step_lives_no_longer_than_its_model():
    model = family("Llama")
    decode.fused_step(model)
    known = len(decode._steps)
    del model
    assert len(decode._steps) == known - 1


def test_other_families_and_changed_layers_keep_the_way_of_transformers():
    model = family("Llama")
    model.model.layers[0].self_attn.q_proj = torch.nn.Sequential(torch.nn.Linear(32, 32))
    assert not decode.supports(model)
    assert not decode.supports(family("Llama", hidden_act="gelu"))


def operators(model, fused: bool, monkeypatch) -> int:
    """Count the operators of one decode step, without views."""
    step = rollout.Sampler.step
    counts = []

    def counted(batch, token, position):
        if not fused:
            batch.fused = batch.cache.order = None
        with profile(activities=[ProfilerActivity.CPU]) as record:
            logits = step(batch, token, position)
        calls = [e for e in record.events() if e.device_type == DeviceType.CPU]
        top = [e for e in calls if e.name.startswith("aten::") and e.cpu_parent is None]
        counts.append(sum(e.name.removeprefix("aten::") not in VIEWS for e in top))
        return logits

    with monkeypatch.context() as patched:
        patched.setattr(rollout.Sampler, "step", counted)
        sample(model, PROMPTS, 2, SamplingParams(3, 0, [2]), torch.zeros(5, 2, 3))
    return counts[-1]


@pytest.mark.parametrize(
    "name, most", [("Llama", 18), ("Qwen2", 18), ("Mistral", 18), ("Qwen3", 20)]
)
def test_operators_per_layer(name, most, monkeypatch):
    few, many = family(name), family(name, num_hidden_layers=4)
    fused = (operators(many, True, monkeypatch) - operators(few, True, monkeypatch)) / 2
    plain = (operators(many, False, monkeypatch) - operators(few, False, monkeypatch)) / 2
    print(f"{name}: {fused:.0f} operators per layer, {plain:.0f} by transformers' forward pass")
    assert fused <= most < plain
