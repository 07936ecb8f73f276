"""What a run says before it starts, for the configuration of a real model without its weights."""

import pytest
import torch
from transformers import Qwen2Config

from config import Config
from plumbing import estimate

SHAPE = dict(
    vocab_size=151_936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)  # Qwen2.5-0.5B


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the configuration of a model of 494 M parameters, and no weights."""
    folder = tmp_path_factory.mktemp("model")
    Qwen2Config(**SHAPE).save_pretrained(folder)
    return str(folder)


def test_the_parameters_are_counted_from_the_configuration_alone(model, tmp_path):
    assert estimate.parameters(model) == 494_032_768
    assert estimate.parameters(str(tmp_path)) == 0


def test_the_plan_counts_completions_and_tokens(model):
    text = estimate.plan(Config(model=model, device="cpu"))
    assert f"{model}, 3 iterations of" in text
    assert "50 steps of 16 specs x 8" in text and "50 steps of 32 tasks x 8" in text
    assert "10,000 candidates, 8 answers per usable task" in text
    tasks, answers, candidates = 50 * 16 * 8, 50 * 32 * 8, 10_000
    probes = 8 * (tasks + candidates)
    completions = tasks + answers + candidates + probes
    tokens = (tasks + candidates) * 1024 + (answers + probes) * 256
    assert f"{completions:,} completions and {tokens:,} tokens per iteration" in text


def test_the_plan_says_what_memory_and_on_a_cpu_what_time_it_takes(model, monkeypatch):
    text = estimate.plan(Config(model=model, device="cpu"))
    assert "494 M parameters: 10.9 GB plus activations and cache" in text  # 22 bytes each
    assert "on a CPU up to" in text and "lower the counts, or use a GPU" in text
    assert "9.9 GB" in estimate.plan(Config(model=model, device="cpu", beta=0.0))  # 20 bytes
    counts = dict(generator_steps=1, generator_batch=1, solver_steps=1, solver_batch=1)
    short = Config(model=model, device="cpu", candidates=1, **counts)
    assert "on a CPU up to" not in estimate.plan(short)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "on a CPU" not in estimate.plan(Config(model=model, device="cuda"))


def test_a_bound_that_drops_what_r_diff_pays_for_is_named(model):
    assert "r_diff" not in estimate.plan(Config(model=model))
    text = estimate.plan(Config(model=model, p_min=0.5))
    assert "--p-min 0.5 drops tasks that r_diff pays the Generator for" in text
    assert "r_diff" in estimate.plan(Config(model=model, p_min=0.2, num_probes=8))
    assert "r_diff" not in estimate.plan(Config(model=model, p_min=0.2, num_probes=4))
