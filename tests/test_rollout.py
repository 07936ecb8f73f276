"""The hand-written rollout: the same greedy ids as `generate`, and honest sampling."""

import gc
import weakref

import pytest
import torch
from conftest import random_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import grpo
import rollout
from plumbing import group_cache, slots
from plumbing.player import next_token_logits
from rollout import SamplingParams, sample, sample_hf

RAGGED = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, 19], [20, 21, 22, 23]]
NEVER = 10**6  # an id that no model has
FAMILIES = [
    (Qwen2ForCausalLM, Qwen2Config),
    (LlamaForCausalLM, LlamaConfig),
    (Qwen3ForCausalLM, Qwen3Config),
]


def uniforms(group, new_tokens, seed=0, prompts=len(RAGGED)):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(prompts, group, new_tokens, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("cls, config", FAMILIES, ids=lambda x: x.__name__)
@pytest.mark.parametrize("end", [[2], [2, 30, 40]], ids=["one end id", "three end ids"])
def test_greedy_and_sampled_ids_equal_those_of_generate(cls, config, end):
    model = random_model(cls, config)
    model.generation_config.repetition_penalty = 1.1  # as in Qwen2.5-Instruct: not to be applied
    by_hand = sample(model, RAGGED, 1, SamplingParams(24, 0, end), uniforms(1, 24))
    assert by_hand == sample_hf(model, RAGGED, 1, SamplingParams(24, 0, end), uniforms(1, 24))
    sampled = sample(model, RAGGED, 2, SamplingParams(24, 0.7, end), uniforms(2, 24))
    assert sampled == sample_hf(model, RAGGED, 2, SamplingParams(24, 0.7, end), uniforms(2, 24))
    assert len({len(r.completion) for r in by_hand}) > 1 or len(end) == 1  # some rows end early


def test_rows_that_leave_change_no_other_row(model):
    alone = [
        sample(model, [p], 1, SamplingParams(24, 0, [2, 30, 40]), uniforms(1, 24))[0]
        for p in RAGGED
    ]
    assert sample(model, RAGGED, 1, SamplingParams(24, 0, [2, 30, 40]), uniforms(1, 24)) == alone


def test_results_come_in_the_order_of_the_prompts_whatever_the_batches(model):
    few = sample(model, RAGGED, 2, SamplingParams(8, 0, [2], rows=4), uniforms(2, 8))
    assert [r.prompt for r in few] == [p for p in RAGGED for _ in range(2)]
    assert few == sample(model, RAGGED, 2, SamplingParams(8, 0, [2], rows=64), uniforms(2, 8))


def test_a_completion_ends_with_its_end_id_or_at_the_limit(model):
    for r in sample(model, RAGGED, 8, SamplingParams(12, 1.0, [2, 30]), uniforms(8, 12)):
        assert 1 <= len(r.completion) <= 12
        assert r.finished == (r.completion[-1] in (2, 30)) and not set(r.completion[:-1]) & {2, 30}
        assert r.finished or len(r.completion) == 12


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_frequencies_follow_the_softmax(model, temperature):
    tokens = [
        r.completion[0]
        for r in sample(
            model,
            [[5, 6, 7]],
            4000,
            SamplingParams(1, temperature, [2]),
            uniforms(4000, 1, prompts=1),
        )
    ]
    p = (model(torch.tensor([[5, 6, 7]])).logits[0, -1] / temperature).softmax(-1)
    seen = torch.bincount(torch.tensor(tokens), minlength=64)
    likely = 4000 * p > 5
    chi2 = ((seen - 4000 * p)[likely] ** 2 / (4000 * p)[likely]).sum().item()
    assert (
        chi2 < likely.sum().item() + 4 * (2 * likely.sum().item()) ** 0.5
    )  # mean + 4 sd of chi-square


@pytest.mark.parametrize("choose", [rollout.pick, rollout.choose])
@pytest.mark.parametrize("vocabulary", [100, 128, 1000])  # less than a span, one span, several
def test_each_id_is_chosen_as_often_as_its_probability_says(vocabulary, choose):
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, vocabulary, generator=rng)
    logits[0, 3] = -torch.inf
    p, count = (logits[0] / 0.7).softmax(-1), 200_000
    few, heights = logits.expand(count // 10, -1), torch.rand(10, count // 10, generator=rng)
    ids = torch.cat([choose(few, 0.7, drawn.double()) for drawn in heights])
    seen, likely = torch.bincount(ids, minlength=vocabulary), count * p > 5
    assert len(seen) == vocabulary and seen[3] == 0
    chi2 = ((seen - count * p)[likely] ** 2 / (count * p)[likely]).sum().item()
    freedom = likely.sum().item() - 1
    assert chi2 < freedom + 4 * (2 * freedom) ** 0.5  # mean + 4 sd of chi-square


@pytest.mark.parametrize("choose", [rollout.pick, rollout.choose])
def test_of_a_model_whose_weights_are_spoiled_some_id_is_chosen(choose):
    ids = choose(torch.full((3, 300), torch.nan), 1.0, torch.rand(3, dtype=torch.float64))
    assert all(0 <= i < 300 for i in ids.tolist())


def test_the_same_seed_gives_the_same_samples_and_another_gives_others(model):
    draw = lambda seed: sample(
        model, RAGGED, 4, SamplingParams(12, 1.0, [2]), uniforms(4, 12, seed)
    )
    assert draw(1) == draw(1) != draw(2)


def test_scored_again_the_ids_have_the_log_probabilities_they_were_sampled_with(model, monkeypatch):
    steps, choose = [], rollout.choose  # for each token: how likely the chosen ids were

    def watched(logits, temperature, drawn):
        token = choose(logits, temperature, drawn)
        steps.append((logits / temperature).log_softmax(-1).gather(1, token[:, None])[:, 0])
        return token

    monkeypatch.setattr(rollout, "choose", watched)
    rollouts = sample(model, RAGGED, 4, SamplingParams(12, 0.7, [NEVER]), uniforms(4, 12, 1))
    in_the_batch = sorted(rollouts, key=lambda r: -len(r.prompt))
    logps, _, mask = grpo.token_logprobs(model, in_the_batch, 0.7)
    assert mask.all() and torch.allclose(logps, torch.stack(steps, 1), atol=1e-4)


def test_whole_blocks_of_the_cache_hide_what_is_not_written_yet(model, monkeypatch):
    right = sample(model, RAGGED, 2, SamplingParams(24, 0, [2, 30, 40]), uniforms(2, 24))
    monkeypatch.setitem(slots.RULES, "cpu", slots.Rule(look_every=5, block=7, fixed=True))
    for rows in (3, 4, 64):
        params = SamplingParams(24, 0, [2, 30, 40], rows)
        assert sample(model, RAGGED, 2, params, uniforms(2, 24)) == right


def test_a_model_left_in_train_mode_with_checkpointing_still_rolls_out_right(model):
    right = sample(model, RAGGED, 1, SamplingParams(12, 0, [2]), uniforms(1, 12))
    model.gradient_checkpointing_enable()
    model.train()
    assert sample(model, RAGGED, 1, SamplingParams(12, 0, [2]), uniforms(1, 12)) == right
    assert model.training and model.config._attn_implementation == "sdpa"  # put back


def test_the_cache_is_gone_when_a_rollout_is_over(model, monkeypatch):
    caches, init = [], group_cache.GroupCache.__init__
    watched = lambda cache, *given: (caches.append(weakref.ref(cache)), init(cache, *given))[1]
    monkeypatch.setattr(group_cache.GroupCache, "__init__", watched)
    gc.collect()
    gc.disable()  # only what nothing refers to goes
    try:
        for _ in range(2):
            sample(model, RAGGED, 2, SamplingParams(8, 1.0, [2], rows=4), uniforms(2, 8))
        assert len(caches) == 2 and [cache() for cache in caches] == [None] * len(caches)
    finally:
        gc.enable()


def test_attention_that_the_hand_written_path_cannot_serve_is_refused_with_a_hint():
    model = random_model(use_sliding_window=True, sliding_window=4, max_window_layers=0)
    with pytest.raises(rollout.UnusableModel, match="--sampler hf"):
        sample(model, RAGGED, 1, SamplingParams(12, 0, [2]), uniforms(1, 12))


@pytest.mark.parametrize(
    "cls, config",
    [(MambaForCausalLM, MambaConfig), (BloomForCausalLM, BloomConfig)],
    ids=lambda x: x.__name__,
)
def test_a_family_without_plain_attention_is_refused_with_a_hint(cls, config):
    torch.manual_seed(0)
    other = cls(config(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4))
    with pytest.raises(rollout.UnusableModel, match="--sampler hf"):
        sample(other, RAGGED, 1, SamplingParams(12, 0, [2]), uniforms(1, 12))
    assert len(sample_hf(other, RAGGED, 2, SamplingParams(4, 0, [2]), uniforms(2, 4))) == 2 * len(
        RAGGED
    )


def test_next_token_logits_are_those_of_each_prompt_alone(model):
    together = next_token_logits(model, RAGGED)
    alone = torch.stack([model(torch.tensor([p])).logits[0, -1] for p in RAGGED])
    assert torch.allclose(together, alone, atol=1e-5)
