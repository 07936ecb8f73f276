"""Each file of the core shows what it does, by --demo; the loop, by --dry-run, without a model."""

import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

import selfplay
from plumbing import report
from scripts import demos

SHOWN = {  # file -> what stands in its output
    "ast_match": ["malformed: not JSON", "equal to the first", "another answer"],
    "rollout": ["prefill: 2 prompts", " x 6 rows", "ended: "],
    "grpo": ["2.00     +1.225           -1.225        -1.470 clipped"],
    "generator": ["Tools in the menu: 2", '"city": "Oslo", "days": 3', "['answer: not JSON']"],
    "solver": [
        "Begin with <think> and write both blocks.",
        "Answer(think=True, tag=True",
        "reason='no tool_call_answer'",
    ],
    "rewards": ["valid 0.80", "7/8 0.5813 #", "fmt + 0.75 acc = 1.75   a wrong value"],
    "curate": ["d duplicate", "order of training: f a", "'not confirmed by the Solver': 1"],
    "eval": ["tiny, greedy: ", "240 of 480 = 50.0 %  [45.5, 54.5]", "+10.0 points [+5.0, +16.0]"],
}


def test_every_file_of_the_core_has_one():
    assert {*SHOWN, "selfplay"} == {path.stem for path in ROOT.glob("*.py")}


@pytest.mark.parametrize("name", [*SHOWN, "selfplay"])
def test_its_last_line_leads_to_it(name):
    hook = "    from scripts.demos import demo\n    demo("
    assert (ROOT / f"{name}.py").read_text().split(hook)[1].startswith(f'"{name}") or ')


def test_the_command_shows_it_and_without_the_flag_the_head_of_the_file(tmp_path):
    for flags, text in (["--demo"], "malformed: not JSON"), ([], "One raw example"):
        command = [sys.executable, ROOT / "ast_match.py", *flags]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and text in done.stdout and not done.stderr


def test_an_option_beside_it_is_refused_rather_than_ignored(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["selfplay.py", "--dry-run", "--difficulty", "cliff"])
    with pytest.raises(SystemExit) as left:
        demos.demo("selfplay")
    assert left.value.code == 2 and "take no other option" in capsys.readouterr().err


@pytest.mark.parametrize("name", SHOWN)
def test_the_demo_shows_its_concept(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--demo"])
    assert demos.demo(name)
    out = capsys.readouterr().out
    for text in SHOWN[name]:
        assert text in out, (text, out)


def test_the_loop_without_a_model_shows_every_phase_and_leaves_the_files_of_a_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["selfplay.py", "--dry-run"])
    for module, name in (selfplay, "Run"), (report, "Player"):  # put back afterwards
        monkeypatch.setattr(module, name, getattr(module, name))
    before = signal.getsignal(signal.SIGINT)
    assert demos.demo("selfplay")
    signal.signal(signal.SIGINT, before)
    out = capsys.readouterr().out
    phases = re.findall(r"^== iteration (\d), (\w+): in (.+?)[,\n]", out, re.MULTILINE)
    assert phases == [
        ("1", "generator", "scripted"),
        ("1", "curation", "iter1/generator"),
        ("1", "solver", "scripted"),
        ("2", "generator", "iter1/generator"),
        ("2", "curation", "iter2/generator"),
        ("2", "solver", "iter1/solver"),
    ]
    assert "R 2.75 A +1.14 = fmt 1.00 valid 1.00 diff 1.00 sem 0.50 |" in out
    assert re.search(r"\d+ not confirmed by the Solver, \d+ selected", out)
    right = [int(n) for n in re.findall(r"held-out exact match (\d+) of 40", out)]
    assert len(right) == 3 and right == sorted(right) and right[2] > right[0]
    left = {path.name for path in (tmp_path / "runs/dry-run/iter2").iterdir()}
    assert left >= {"candidates.jsonl", "tasks.jsonl", "heldout.json"}
