"""What a run says before it starts, for the configuration of a real model without its weights."""

import pytest
import torch
from transformers import Qwen2Config

from config import Config
from plumbing import estimate, memory

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
    """Return a folder with the configuration of a model of 494 M parameters, and no weights."""
    folder = tmp_path_factory.mktemp("model")
    Qwen2Config(**SHAPE).save_pretrained(folder)
    return str(folder)


def test_the_shape_is_read_from_the_configuration_alone(model, tmp_path):
    shape = memory.local_shape(model)
    assert shape == memory.Shape(494_032_768, 896, 4864, 24, 128, 151_936, tables=1)
    assert memory.local_shape(str(tmp_path)) is None


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


def test_the_plan_says_what_memory_an_update_takes_and_what_to_do_if_there_is_less(
    model, monkeypatch
):
    monkeypatch.setattr(estimate, "dtype_on", lambda *_: torch.bfloat16)
    monkeypatch.setattr(estimate, "memory_of", lambda device: 64e9)
    cfg = Config(model=model, device="cpu")
    text = estimate.plan(cfg)
    assert "494 M parameters: up to 43 GB in an update\n" in text
    monkeypatch.setattr(estimate, "memory_of", lambda device: 24e9)
    text = estimate.plan(cfg)
    assert "cpu has 24 GB: lower --micro-batch 16, or the system may kill the run" in text
    cfg.device = "cuda:0"
    assert "cuda:0 has 24 GB: micro-batches are halved until they fit" in estimate.plan(cfg)


def test_less_memory_is_expected_with_fewer_rows_without_reference_and_with_checkpointing(model):
    shape = memory.local_shape(model)

    def need(rows, **setup):
        setup = memory.Setup(**setup)
        return setup.update(shape, setup.micro_batch_tokens(rows, 8, 1024))

    assert need(4) < need(8) < need(16) < need(16, beta=True)
    assert need(16, checkpointing=True) < need(16) < need(16, half=False)
    frozen = need(16, half=False) - need(16, half=False, frozen_player=False)
    assert frozen == 4 * (shape.parameters + shape.fused())  # in float32


def test_the_memory_of_this_machine_is_known():
    assert estimate.memory_of("cpu") > 2**30


def test_the_plan_says_what_time_it_takes_on_a_cpu(model):
    text = estimate.plan(Config(model=model, device="cpu"))
    assert "on this CPU up to" in text and "lower the counts, or use a GPU" in text
    counts = dict(generator_steps=1, generator_batch=1, solver_steps=1, solver_batch=1)
    short = Config(model=model, device="cpu", candidates=1, **counts)
    assert "on this CPU up to" not in estimate.plan(short)


def test_a_bound_that_drops_what_r_diff_pays_for_is_named(model):
    assert "r_diff" not in estimate.plan(Config(model=model))
    text = estimate.plan(Config(model=model, p_min=0.5))
    assert "--p-min 0.5 drops tasks that r_diff pays the Generator for" in text
    assert "r_diff" in estimate.plan(Config(model=model, p_min=0.2, num_probes=8))
    assert "r_diff" not in estimate.plan(Config(model=model, p_min=0.2, num_probes=4))
