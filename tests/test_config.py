"""The settings: the paper's values are the defaults, and each preset changes what exists."""

from dataclasses import fields

import pytest

from config import GROUPS, SMOKE, TINY, Config

FIELDS = {f.name: f for f in fields(Config)}


def test_the_papers_numbers_are_the_defaults():
    cfg = Config()
    assert (cfg.iterations, cfg.generator_steps, cfg.solver_steps) == (3, 50, 50)
    assert (cfg.candidates, cfg.select, cfg.num_probes) == (10_000, 2000, 8)
    assert (cfg.beta, cfg.weight_decay) == (1e-2, 1e-2)
    assert (cfg.temperature, cfg.probe_temperature, cfg.p_large_menu) == (1.0, 0.7, 0.6)
    assert (cfg.loss, cfg.ablation) == ("grpo", "none")


def test_a_larger_rate_and_larger_batches_are_the_projects():
    cfg = Config()
    assert (cfg.lr, cfg.group, cfg.generator_batch, cfg.solver_batch) == (5e-6, 8, 16, 32)


def test_where_the_paper_is_silent_the_defaults_are_the_projects():
    cfg = Config()
    assert (cfg.spec, cfg.guards, cfg.schedule) == ("graded", "on", "linear")
    assert (cfg.candidate_temperature, cfg.answer_tokens) == (0.7, 256)
    assert (cfg.p_min, cfg.p_max) == (1 / cfg.num_probes, 1.0)
    assert (cfg.replay, cfg.passes) == (0, 6)
    assert (cfg.generator_prompt, cfg.solver_prompt) == ("bank", "bank")


@pytest.mark.parametrize("preset", [TINY, SMOKE])
def test_a_preset_changes_fields_that_there_are_to_values_of_their_type(preset):
    for name, value in preset.items():
        assert isinstance(value, FIELDS[name].type), name
    Config(**preset)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(TypeError):
        Config(tau=0.5)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_has_a_meaning_and_a_heading_or_is_a_constant(name):
    metadata = FIELDS[name].metadata
    assert metadata["help"] and metadata["group"] in (*GROUPS, "")
    if metadata["choices"]:
        assert FIELDS[name].default == metadata["choices"][0]


def test_a_field_that_the_paper_gives_says_where():
    cited = {name for name, f in FIELDS.items() if f.metadata["paper"]}
    assert cited >= {"iterations", "lr", "beta", "group", "candidates", "num_probes", "temperature"}
    for name in cited - {"loss", "ablation"}:
        paper = FIELDS[name].metadata["paper"]
        assert "Sec. " in paper or "Table " in paper, name


def test_the_smoke_run_saves_each_step():
    assert SMOKE["save_every"] == 1 and "save_every" not in TINY
    assert FIELDS["save_every"].metadata["group"] == ""  # a constant
