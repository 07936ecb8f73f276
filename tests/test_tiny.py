"""The base model that ships: its size, and that the held-out tasks lie outside its text."""

import random
import sys

from conftest import ROOT
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from curate import structural_reason
from eval import load_tasks
from generator import DOMAINS, Spec

sys.path.insert(0, str(ROOT / "tiny"))
import make

TASKS = load_tasks(ROOT / "tiny" / "heldout.jsonl")


def keys(task):
    """Every tool name, value and set of two or more arguments of a task."""
    yield from (tool.name for tool in task.tools)
    yield from ("+".join(sorted(t.parameters)) for t in task.tools if len(t.parameters) > 1)
    yield from (str(value) for call in task.calls for value in call.arguments.values())


def test_the_weights_are_safetensors_of_at_most_8_mb():
    assert (ROOT / "tiny" / "model.safetensors").stat().st_size <= 8_000_000


def test_the_held_out_tasks_are_clean_and_varied():
    assert len(TASKS) >= 400 and len({t.id for t in TASKS}) == len(TASKS)
    assert {t.domain for t in TASKS} == set(DOMAINS)
    assert {len(t.tools) for t in TASKS} == set(range(2, 9))
    assert {len(t.calls) for t in TASKS} == {1, 2}
    for t in TASKS:
        assert structural_reason(t, Spec(t.domain, "", len(t.tools), len(t.calls))) is None, t.id


def test_nothing_in_the_held_out_tasks_is_in_the_text():
    assert all(make.held(key) for task in TASKS for key in keys(task))
    rng = random.Random(3)
    world = make.World(rng, heldout=False, weights=make.TEXT)
    for _ in range(200):
        assert not any(map(make.held, keys(world.task(make.base_spec(rng)))))


def test_the_tokenizer_that_loads_is_the_one_that_the_text_was_read_with():
    # AutoTokenizer knows some model types better than their files: it would split "177" in three.
    loaded = AutoTokenizer.from_pretrained(ROOT / "tiny")
    trained = PreTrainedTokenizerFast.from_pretrained(ROOT / "tiny")
    assert loaded.tokenize("177") == ["17", "7"]
    for task in TASKS:
        assert loaded.tokenize(task.question) == trained.tokenize(task.question)


def test_the_held_out_file_is_what_the_script_writes():
    made = make.heldout_tasks(len(TASKS), seed=1)
    assert [task.to_json() for task in made] == [task.to_json() for task in TASKS]
