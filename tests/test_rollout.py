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
from perf import slot_steps
from plumbing import cuda_graph, group_cache, slots
from plumbing.player import next_token_logits
from rollout import SamplingParams, sample, sample_hf

RAGGED = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, 19], [20, 21, 22, 23]]
NEVER = 10**6  # an id that no model has
ENDS = [2, 30, 40]
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
    monkeypatch.setitem(slots.RULES, "cpu", slots.Rule(refill_every=5, block=7, fixed=True))
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
        for _ in range(2):  # the first time it checks the model, twice
            sample(model, RAGGED, 2, SamplingParams(8, 1.0, [2], rows=4), uniforms(2, 8))
        assert len(caches) == 4 and [cache() for cache in caches] == [None] * len(caches)
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
    together = next_token_logits(model, RAGGED, list(range(64)))
    alone = torch.stack([model(torch.tensor([p])).logits[0, -1] for p in RAGGED])
    assert torch.allclose(together, alone, atol=1e-5)


# ------------------------------------------------------------------------- refill and memory


@pytest.mark.parametrize("rule", [slots.EXACT, slots.Rule(refill_every=5, block=7, fixed=True)])
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 11])
def test_ids_do_not_depend_on_the_number_of_slots(model, monkeypatch, rule, rows):
    right = sample_hf(model, RAGGED * 2, 3, SamplingParams(24, 1.0, ENDS), uniforms(3, 24, 0, 10))
    monkeypatch.setitem(slots.RULES, "cpu", rule)
    params = SamplingParams(24, 1.0, ENDS, rows)
    assert sample(model, RAGGED * 2, 3, params, uniforms(3, 24, 0, 10)) == right


def test_every_prompt_is_prefilled_once_and_the_cache_is_bounded_by_the_slots(model, monkeypatch):
    prefilled, sizes = [], []
    begin, init = group_cache.GroupCache.begin_prefill, group_cache.GroupCache.__init__

    def counted(cache, places, mask):
        prefilled.extend(mask.sum(1).tolist())
        return begin(cache, places, mask)

    def watched(cache, size, *more):
        sizes.append((size.slots, size.places))
        init(cache, size, *more)

    prompts = RAGGED * 20
    params = SamplingParams(12, 1.0, ENDS, 8)
    sample(model, prompts, 2, params, uniforms(2, 12, 0, len(prompts)))  # the check comes first
    monkeypatch.setattr(group_cache.GroupCache, "begin_prefill", counted)
    monkeypatch.setattr(group_cache.GroupCache, "__init__", watched)
    sample(model, prompts, 2, params, uniforms(2, 12, 0, len(prompts)))
    assert sorted(prefilled) == sorted(map(len, prompts))
    assert sizes == [(8, 12)]  # of 200 completions and 100 prompts


def test_slots_are_seldom_idle_when_answers_have_realistic_lengths():
    lengths = slot_steps.realistic_lengths()
    before = slot_steps.without_refill(lengths, 256)
    cpu, cuda = (slot_steps.with_refill(lengths, 256, device) for device in ("cpu", "cuda"))
    print(f"slot-steps per token: {before:.2f} without refill, {cpu:.2f} CPU, {cuda:.2f} CUDA")
    assert before > 1.5 and cpu <= 1.25 and cuda <= 1.25


def test_a_rollout_that_is_too_large_for_memory_goes_on_with_half_the_slots(model, monkeypatch):
    params = SamplingParams(24, 1.0, ENDS, 8)
    right = sample(model, RAGGED, 4, params, uniforms(4, 24))
    decode, done, starts = rollout.Sampler.decode, [], []
    finished, allocate = rollout.Sampler.finished, rollout.Sampler.allocate

    def short_of_memory(batch):
        if batch.room.slots > 2 and batch.clock == 12:
            raise torch.OutOfMemoryError("fake")
        return decode(batch)

    def watched(batch):
        done.append(finished(batch))
        return done[-1]

    def started(batch):
        starts.append((batch.room.slots, len(batch.ledger.waiting)))
        allocate(batch)

    monkeypatch.setattr(rollout.Sampler, "decode", short_of_memory)
    monkeypatch.setattr(rollout.Sampler, "finished", watched)
    monkeypatch.setattr(rollout.Sampler, "allocate", started)
    assert sample(model, RAGGED, 4, params, uniforms(4, 24)) == right
    assert [slots for slots, _ in starts] == [8, 4, 2]
    assert starts[1][1] == 20 - len(done[0]) < 20  # what had ended is not sampled again


def test_a_rollout_gives_up_when_one_completion_does_not_fit(model, monkeypatch):
    def too_large(batch):
        raise torch.OutOfMemoryError("fake")

    sample(model, RAGGED, 1, SamplingParams(4, 0, [2]), uniforms(1, 4))
    monkeypatch.setattr(rollout.Sampler, "allocate", too_large)
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        sample(model, RAGGED, 1, SamplingParams(4, 0, [2]), uniforms(1, 4))


def test_generate_goes_on_with_half_the_rows_when_memory_is_short(model, monkeypatch):
    params = SamplingParams(8, 1.0, ENDS, rows=8)
    right = sample_hf(model, RAGGED, 2, params, uniforms(2, 8))
    generate, sizes = rollout._generate, []

    def short_of_memory(model, prompts, *more):
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("fake")
        return generate(model, prompts, *more)

    monkeypatch.setattr(rollout, "_generate", short_of_memory)
    assert sample_hf(model, RAGGED, 2, params, uniforms(2, 8)) == right
    assert sizes == [4, 2, 1, 1, 1, 1, 1]


def test_auto_is_64_slots_on_a_cpu_and_what_fits_on_a_gpu(model):
    assert slots.number_of_slots(model, RAGGED, 4, 24, "auto") == 64
    assert slots.number_of_slots(model, RAGGED, 4, 24, "100") == 100
    size = group_cache.Size(
        slots=64, places=slots.number_of_places(64, 8, 10**6), lanes=8, prompt_width=9
    )
    cache = group_cache.GroupCache(size, 24, torch.device("cpu"))
    for layer in range(2):
        cache._allocate(layer, torch.zeros(1, 2, 9, 8))
    tensors = [*cache.own.values()] + [x for pair in cache.prompts.values() for x in pair]
    held = sum(x.numel() * x.element_size() for x in tensors)
    logits = slots.LOGIT_BYTES * 64
    assert 64 * (slots.bytes_per_slot(model, 9, 8, 24) - logits) == held
    for free, fit in ((10**12, 1024), (2 * 64 * 1000, 64), (2 * 64 * 1000 - 1, 32), (0, 1)):
        assert slots.slots_that_fit(free, 1000) == fit


# ----------------------------------------------------------------------------- graphs kept


@pytest.fixture
def captured(monkeypatch):
    """Let a CPU "capture" steps, too: a replay reads and writes the same tensors as its capture."""

    def record(step, pool):
        step()  # as a graph's warm-up
        return step

    kept = cuda_graph.Workspaces(record, devices=("cpu",))
    monkeypatch.setattr(rollout, "WORKSPACES", kept)
    monkeypatch.setitem(slots.RULES, "cpu", slots.Rule(refill_every=5, block=8, fixed=True))
    return kept


def test_a_shape_is_captured_once_and_replayed_by_later_batches(model, captured):
    params, given = SamplingParams(24, 1.0, ENDS, 6), uniforms(4, 24)
    right = sample_hf(model, RAGGED, 4, params, given)
    assert sample(model, RAGGED, 4, params, given) == right
    first = captured.captures
    assert 3 <= first <= 9  # three widths, and the slots are halved at the end
    for _ in range(3):
        assert sample(model, RAGGED, 4, params, given) == right
    assert captured.captures == first
    other = SamplingParams(24, 1.0, ENDS, 4)
    assert sample(model, RAGGED, 4, other, given) == right
    assert captured.captures > first  # another number of slots is another shape


def test_weights_that_change_in_place_keep_their_graphs_and_those_that_move_do_not(model, captured):
    params, given = SamplingParams(24, 1.0, ENDS, 6), uniforms(4, 24)
    sample(model, RAGGED, 4, params, given)
    first = captured.captures
    for weight in model.parameters():
        weight.data.mul_(1.1)  # in place
    assert sample(model, RAGGED, 4, params, given) == sample_hf(model, RAGGED, 4, params, given)
    assert captured.captures <= first + 3  # completions of other lengths have other widths
    before = captured.captures
    sample(model, RAGGED, 4, params, given)
    assert captured.captures == before
    for weight in model.parameters():
        weight.data = weight.data.clone()
    assert sample(model, RAGGED, 4, params, given) == sample_hf(model, RAGGED, 4, params, given)
    assert captured.captures > before


def test_a_smaller_batch_uses_the_workspace_that_is_there_and_a_larger_one_replaces_it(
    model, captured
):
    def rooms(prompts, rows):
        params, given = SamplingParams(24, 1.0, ENDS, rows), uniforms(4, 24, 0, len(prompts))
        assert sample(model, prompts, 4, params, given) == sample_hf(
            model, prompts, 4, params, given
        )
        return captured.kept[model].cache.room

    large = rooms(RAGGED, 8)
    held = captured.bytes()
    assert held > 0 and rooms(RAGGED[1:3], 4) == large and captured.bytes() == held
    wide = rooms([[7] * 30, *RAGGED[1:]], 4)  # as wide as this prompt, and as many slots as before
    assert (wide.slots, wide.prompt_width) == (large.slots, 30) and captured.bytes() > held
    assert len(captured.kept) == 1


def test_attention_may_lay_out_its_results_as_the_kernel_of_a_gpu_does(model, monkeypatch):
    attend, joined = group_cache.softmax_attention, []
    both = group_cache.GroupCache.attend

    def by_query(query, key, value, bias, scale):
        out, lse = attend(query, key, value, bias, scale)
        padded = torch.nn.functional.pad(lse, (0, -lse.shape[2] % 32))
        out = out.transpose(1, 2).contiguous().transpose(1, 2)
        return out, padded[..., : query.shape[2]]

    def watched(cache, *given):
        joined.append(both(cache, *given))
        return joined[-1]

    params, given = SamplingParams(24, 1.0, ENDS, 4), uniforms(4, 24)
    right = sample(model, RAGGED, 4, params, given)
    monkeypatch.setattr(group_cache, "softmax_attention", by_query)
    monkeypatch.setattr(group_cache.GroupCache, "attend", watched)
    assert sample(model, RAGGED, 4, params, given) == right
    assert joined and all(out.is_contiguous() for out in joined)  # no copy for the next product


def test_on_a_gpu_slots_and_places_are_powers_of_two_and_few_of_them_are_not_dropped():
    rule = slots.RULES["cuda"]
    assert [rule.slots(1024, waiting) for waiting in (1, 5, 8, 300, 5000)] == [1, 8, 8, 512, 1024]
    assert rule.slots(100, 5000) == 100  # as --rows asks
    assert rule.places(512, 8, 10**6) == 256 and rule.places(512, 1, 10**6) == 512
    assert rule.places(512, 8, 5) == 8
    assert [rule.slots_after(live, 256) for live in (200, 128, 70, 9)] == [256, 128, 128, 32]
    assert rule.slots_after(1, 16) == 16


def test_graphs_go_with_their_model_and_on_request(captured):
    other = random_model(seed=1)
    sample(other, RAGGED, 2, SamplingParams(4, 0, [2]), uniforms(2, 4))
    assert len(captured.kept) == 1 and captured.release() and len(captured.kept) == 0
    assert not captured.release()


def test_kept_graphs_are_the_first_to_go_when_memory_is_short(model, captured, monkeypatch):
    params = SamplingParams(24, 1.0, ENDS, 8)
    right = sample(model, RAGGED, 4, params, uniforms(4, 24))
    decode, sizes = rollout.Sampler.decode, []

    def short_once(batch):
        sizes.append(batch.room.slots)
        if len(sizes) == 3:
            raise torch.OutOfMemoryError("fake")
        return decode(batch)

    monkeypatch.setattr(rollout.Sampler, "decode", short_once)
    assert sample(model, RAGGED, 4, params, uniforms(4, 24)) == right
    assert set(sizes) == {8}


def test_slots_are_halved_when_freed_graphs_are_not_enough(model, captured, monkeypatch):
    params = SamplingParams(24, 1.0, ENDS, 8)
    right = sample(model, RAGGED, 4, params, uniforms(4, 24))
    prefill, sizes = rollout.Sampler.prefill, []

    def short(batch):
        slots = batch.workspace.cache.room.slots
        if batch.clock == 0:
            sizes.append(slots)
        if slots > 2:
            raise RuntimeError("CUDA error: out of memory")
        prefill(batch)

    monkeypatch.setattr(rollout.Sampler, "prefill", short)
    assert sample(model, RAGGED, 4, params, uniforms(4, 24)) == right
    assert sizes[:4] == [8, 8, 4, 2]


def test_rotary_factors_that_depend_on_the_length_are_not_captured(captured):
    assert captured.may_capture(random_model())
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert not captured.may_capture(random_model(rope_parameters=scaled))
