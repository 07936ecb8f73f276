"""What only a GPU can show; skipped where there is none."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import random_model

import grpo
import rollout
from config import Config
from plumbing import cuda_graph, group_cache, precision
from rollout import Rollout, SamplingParams, sample, sample_hf

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

RAGGED = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [20], [21, 22, 23, 24, 25]]
ENDS = [2, 30, 40]


@pytest.fixture
def model():
    return random_model().cuda()


def uniforms(group, new, prompts=len(RAGGED)):
    rng = torch.Generator().manual_seed(0)
    return torch.rand(prompts, group, new, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("shape", [(6, 2, 7, 256), (3, 2, 56, 512), (5, 1, 1, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_denominators(shape, dtype):
    B, K, Q, L = shape
    torch.manual_seed(0)
    query = torch.randn(B, K, Q, 64, device="cuda", dtype=dtype)
    key, value = torch.randn(2, B, K, L, 64, device="cuda", dtype=dtype)
    bias = torch.zeros(B, L, device="cuda", dtype=dtype)
    bias[:, L // 2 :] = -torch.inf
    out, lse = group_cache.softmax_attention(query, key, value, bias, 0.125)
    scores = query.double() @ key.double().mT * 0.125 + bias[:, None, None].double()
    right = scores.softmax(-1) @ value.double()
    close = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(out.double(), right, atol=close)
    assert torch.allclose(lse.double(), scores.logsumexp(-1), atol=close)


@pytest.mark.parametrize("rows", [3, 8, "auto"])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_ids_are_those_of_generate_and_of_a_cpu(model, rows, temperature):
    given = uniforms(4, 40)
    params = SamplingParams(40, temperature, ENDS, rows)
    right = sample_hf(random_model(), RAGGED, 4, params, given)
    for _ in range(2):  # captured, then replayed
        assert sample(model, RAGGED, 4, params, given) == right
    assert sample_hf(model, RAGGED, 4, params, given) == right


def test_many_prompts_refill_few_slots(model):
    prompts = RAGGED * 20
    given = uniforms(2, 150, len(prompts))
    right = sample_hf(random_model(), prompts, 2, SamplingParams(150, 1.0, ENDS), given)
    for rows in (8, 64):
        assert sample(model, prompts, 2, SamplingParams(150, 1.0, ENDS, rows), given) == right


def test_graphs_are_kept_and_see_new_weights(model):
    params, given = SamplingParams(24, 1.0, ENDS, 8), uniforms(4, 24)
    sample(model, RAGGED, 4, params, given)
    before = cuda_graph.WORKSPACES.captures
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    moved = copy.deepcopy(model).cpu()
    assert sample(model, RAGGED, 4, params, given) == sample_hf(moved, RAGGED, 4, params, given)
    assert cuda_graph.WORKSPACES.captures <= before + 1  # completions of another length


@pytest.mark.parametrize("name", ["run", "prefill"])  # before and after the cache is allocated
def test_memory_that_runs_out_halves_the_slots(model, monkeypatch, name):
    params, given = SamplingParams(24, 1.0, ENDS, 8), uniforms(4, 24)
    right = sample(model, RAGGED, 4, params, given)
    method, slots = getattr(rollout.Sampler, name), []

    def too_large(sampler):
        slots.append(sampler.room.slots)
        if sampler.room.slots > 2:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return method(sampler)

    monkeypatch.setattr(rollout.Sampler, name, too_large)
    assert sample(model, RAGGED, 4, params, given) == right
    assert slots[0] == 8 and slots[-1] == 2


def gradient_of(model, rollouts, advantage, cfg):
    grpo.add_gradient(model, rollouts, advantage, cfg)
    return torch.cat([weight.grad.flatten().double().cpu() for weight in model.parameters()])


def test_the_gradient_in_bfloat16_points_where_that_of_a_cpu_does():
    torch.manual_seed(0)
    rollouts = []
    for n in range(4):
        prompt = torch.randint(3, 64, (120 + n,)).tolist()
        for row in torch.randint(3, 64, (4, 70 + n)).tolist():
            rollouts.append(Rollout(prompt, row, True))
    advantage = torch.randn(len(rollouts))
    cfg = Config(beta=0.0, device="cuda")
    right = gradient_of(random_model(), rollouts, advantage, cfg)
    found = gradient_of(random_model().cuda(), rollouts, advantage, cfg)
    assert F.cosine_similarity(found, right, 0) > 0.995


@pytest.mark.parametrize("length", [64, 129, 192, 257])  # 129 + 63 is 64 modulo 128
def test_no_length_gives_a_gradient_of_nan(length):
    model = random_model().cuda()
    with torch.no_grad():
        for layer in model.model.layers:  # scores of about -120, as one head of Qwen2.5-0.5B has
            attention = layer.self_attn
            for linear, value in ((attention.q_proj, 30.0), (attention.k_proj, -11.5)):
                linear.bias.zero_()
                linear.bias.view(-1, 8)[:, 3] = value  # the slowest rotary frequency
    policy = precision.training_model(model)
    rollouts = [Rollout([5] * length, [6] * 64, True), Rollout([5], [6], True)]
    logps, _, mask = grpo.token_logprobs(policy, rollouts, 1.0)
    (logps * mask).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
