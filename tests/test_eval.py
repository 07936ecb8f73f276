"""Evaluation: the score, its interval, and what a bad file gets."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

import eval
from ast_match import Malformed
from player import Player

GOOD = {
    "id": "a",
    "question": "q",
    "tools": [{"name": "f"}],
    "calls": [{"name": "f", "arguments": {}}],
}


def test_the_wilson_interval_stays_inside_0_and_1():
    assert eval.wilson(0, 10)[0] == pytest.approx(0, abs=1e-9) and eval.wilson(10, 10)[
        1
    ] == pytest.approx(1)
    low, high = eval.wilson(5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


def test_the_paired_difference_counts_only_tasks_that_changed():
    base = [True] * 50 + [False] * 50
    mean, low, high = eval.paired_difference(base, [True] * 60 + [False] * 40)
    assert mean == pytest.approx(0.1) and 0.03 < low < 0.1 < high < 0.17
    assert eval.paired_difference(base, base) == (0, 0, 0)


@pytest.mark.parametrize(
    "line, what",
    [
        ("{", "line 2"),
        ("[]", "line 2: not a task"),
        ('{"question": "q"}', "line 2: 'tools'"),
        ("[" * 5000, "line 2"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path, line, what):
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(Malformed, match=f"tasks.jsonl, {what}"):
        eval.load_tasks(path)


def test_an_empty_or_missing_file_is_named(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(Malformed, match="no task"):
        eval.load_tasks(tmp_path / "none.jsonl")
    with pytest.raises(Malformed, match="gone.jsonl: cannot be read"):
        eval.load_tasks(tmp_path / "gone.jsonl")


def test_the_base_model_that_ships_is_weak_but_alive():
    tasks = eval.load_tasks(ROOT / "tiny" / "heldout.jsonl")
    right = eval.judge(Player(str(ROOT / "tiny")), tasks, 320)
    assert len(tasks) >= 400 and 0.15 <= sum(right) / len(right) <= 0.45


def test_the_command_line_compares_two_models(tmp_path):
    data = tmp_path / "few.jsonl"
    data.write_text("".join((ROOT / "tiny" / "heldout.jsonl").open().readlines()[:8]))
    done = subprocess.run(
        [sys.executable, "eval.py", "--model", "tiny", "--compare", "tiny", "--data", str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny minus tiny: +0.0 points" in done.stdout


def test_a_bad_file_on_the_command_line_exits_with_2_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "eval.py", "--model", "tiny", "--data", str(tmp_path / "gone")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "gone" in done.stderr and "Traceback" not in done.stderr
