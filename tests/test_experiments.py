"""The tasks of another make, and the table of the ablations."""

import json
import random
import time

import pytest
from conftest import ROOT

import eval
import generator
import solver
from curate import structural_reason
from experiments import ablations, other_make, prompts
from generator import Spec
from plumbing import released
from tiny import make as tiny


def test_each_set_is_sound_always_the_same_and_new_in_what_it_says():
    for name in other_make.SETS:
        tasks = other_make.make(name, 20)
        assert tasks == other_make.make(name, 20) and len({task.id for task in tasks}) == 20
        for task in tasks:
            size, calls = len(task.tools), len(task.calls)
            assert structural_reason(task, Spec("", "", size, calls)) is None, task
            assert calls == (2 if name == "two calls" else 1)
            assert name != "menus of 8" or size == 8
            if name == "names that differ by one word":
                gold, words = (
                    task.calls[0].name,
                    {tool.name: tool.name.split("_") for tool in task.tools},
                )
                twins = sum(len({*words[gold]} & {*other}) == 1 for other in words.values())
                assert twins >= 1, task


def test_the_other_words_are_not_in_tinys_world():
    known = {*" ".join(tiny.NOUNS.values()).split(), *tiny.VERBS, *tiny.ARGUMENTS}
    assert not known & {*other_make.VERBS, *other_make.NOUNS, *other_make.ARGUMENTS}


def test_the_table_of_any_number_of_seeds(tmp_path):
    run = json.loads(next((ROOT / "experiments/results").glob("full-0.json")).read_text())
    for seed in range(13):
        for variant, final in ("full", 0.4), ("frozen", 0.3 + 0.001 * seed):
            played = run | {"variant": variant, "seed": seed, "accuracy": [0.2, final]}
            (tmp_path / f"{variant}-{seed}.json").write_text(json.dumps(played))
    row = ablations.table(tmp_path).splitlines()[2].split()
    assert row[:7] == "frozen Generator 13 30.6 ± 0.4 1.53".split()
    assert ablations.dynamics(tmp_path) == ""


def test_the_means_over_seeds_of_each_iteration(tmp_path):
    run = json.loads((ROOT / "experiments/results/five-0.json").read_text())
    for seed, most in enumerate((0.1, 0.3)):
        told = run | {"seed": seed, "accuracy": [0, *(most + 0.01 * k for k in range(5))]}
        (tmp_path / f"five-{seed}.json").write_text(json.dumps(told))
    rows = ablations.dynamics(tmp_path).splitlines()
    assert rows[1].split() == "held-out, % 20.0 21.0 22.0 23.0 24.0".split()
    assert f"{run['iterations'][4]['tasks']['right']:.3g}" == rows[7].split()[-1]
    assert ablations.each(tmp_path).splitlines()[1].split()[:3] == ["five", "0", "0.0"]


def test_a_stopped_command_begins_no_further_run(tmp_path, monkeypatch):
    begun = []

    def stopped(variant, *_):
        begun.append(variant)
        if len(begun) == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)

    monkeypatch.setattr(ablations, "play", stopped)
    monkeypatch.setattr("sys.argv", ["ablations", "--jobs", "1", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        ablations.main()
    assert ended.value.code == 130 and len(begun) < len(ablations.VARIANTS)


def test_the_released_layout_takes_the_place_of_ours_everywhere():
    task, spec = eval.load_tasks(ROOT / "tiny" / "dev.jsonl")[0], Spec("legal", "single_turn", 3, 2)
    ours = generator.prompt, solver.prompt
    try:
        released.use("paper")
        asked, invented = solver.prompt(task)[1]["content"], generator.prompt(spec)[1]["content"]
    finally:
        released.use("short")
    assert (generator.prompt, solver.prompt) == ours
    assert asked.startswith(task.question) and asked.endswith("]")
    assert all(tool.name in asked for tool in task.tools)
    assert all(word in invented for word in ("legal", "single_turn", "exactly 3", "exactly 2"))


def test_each_wording_has_a_system_message_of_its_own():
    for role, systems in prompts.SYSTEMS.items():
        item = {
            "generator": Spec("legal", "single_turn", 3, 2),
            "solver": other_make.framed(random.Random(0)),
        }[role]
        said = [
            prompts.chats(role, wording, [item])[0][0]["content"] for wording in [*systems, "paper"]
        ]
        assert len(set(said)) == len(said) and all("<think>" in text for text in said)
