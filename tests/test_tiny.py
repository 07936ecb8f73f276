"""The base model that ships: its size, and that the held-out tasks lie outside its text."""

import hashlib
import random
from dataclasses import replace

from conftest import ROOT
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ast_match import Call
from config import Config
from curate import structural_reason
from eval import load_tasks
from experiments.audit import is_right, share_right
from generator import DOMAINS, Spec, sample_spec
from tiny import make

TASKS = load_tasks(ROOT / "tiny" / "heldout.jsonl")
DEV = load_tasks(ROOT / "tiny" / "dev.jsonl")


SHA256 = {  # of what the results of the README were made with
    "model.safetensors": "9e295b6e48cbf403c91123db770de6bd3b2e15bccfe2379af8dbbfcb507e0c44",
    "heldout.jsonl": "e06595e703d08cc0bb7749240f5130a70f735c07109089378c652232edf5fd3b",
    "dev.jsonl": "dd0f0e44ec4e0b436170e15377909e7bf42a0a359f3d94a0490fa958edea49a4",
}


def test_the_base_model_and_its_tasks_are_those_of_the_results():
    for name, sha in SHA256.items():
        assert hashlib.sha256((ROOT / "tiny" / name).read_bytes()).hexdigest() == sha


def keys(task):
    """Yield every tool name, value and set of two or more arguments of a task."""
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
        assert (
            structural_reason(
                t, Spec(t.domain, "single_turn", len(t.tools), len(t.calls)), Config()
            )
            is None
        ), t.id


def test_nothing_in_the_held_out_tasks_is_in_the_text():
    assert all(make.held(key) for task in TASKS for key in keys(task))
    rng = random.Random(3)
    for weights in make.WRITTEN, make.ASKED:
        world = make.World(rng, heldout=False, weights=weights)
        for _ in range(100):
            assert not any(map(make.held, keys(world.task(sample_spec(rng)))))


def test_a_program_can_tell_a_right_gold_answer_from_a_wrong_one():
    assert share_right(TASKS) == share_right(DEV) == 1
    for task in TASKS[:100]:
        call, *rest = task.calls
        name = next(iter(call.arguments))
        for changed in ({**call.arguments, name: "Nobody"}, {}):
            assert not is_right(replace(task, calls=[Call(call.name, changed), *rest]))


def test_the_tokenizer_that_loads_is_the_one_that_the_text_was_read_with():
    # AutoTokenizer knows some model types better than their files: it would split "177" in three.
    loaded = AutoTokenizer.from_pretrained(ROOT / "tiny")
    trained = PreTrainedTokenizerFast.from_pretrained(ROOT / "tiny")
    assert loaded.tokenize("177") == ["17", "7"]
    for task in TASKS:
        assert loaded.tokenize(task.question) == trained.tokenize(task.question)


def test_the_task_files_are_what_the_script_writes_and_have_no_task_in_common():
    assert make.heldout_tasks("heldout", len(TASKS), seed=1) == TASKS
    assert make.heldout_tasks("dev", len(DEV), seed=2) == DEV
    assert not {task.question for task in TASKS} & {task.question for task in DEV}
