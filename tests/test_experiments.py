"""The tasks of another make, and the table of the ablations."""

import json

from conftest import ROOT

from curate import structural_reason
from experiments import ablations, other_make
from generator import Spec
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
                gold, words = task.calls[0].name, {tool.name: tool.name.split("_") for tool in task.tools}
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
