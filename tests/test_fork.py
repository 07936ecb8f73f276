"""The README's recipes for a fork: each diff applies, has as many lines as it says, and works."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

GUIDE = (ROOT / "README.md").read_text().split("## Fork it")[1].split("\n## ")[0]
TITLE = r"\n\*\*([^*]+), (\d+|no) lines?\.\*\*"
RECIPES = {  # its title -> the lines it says it has, its diff
    title: (
        0 if count == "no" else int(count),
        "".join(re.findall(r"```diff\n(.*?)```", text, re.S)),
    )
    for title, count, text in re.findall(TITLE + "(.*?)(?=\n\\*\\*|$)", GUIDE, re.S)
}


def apply(diff, folder):
    """Change the files of a folder."""
    for part in diff.split("+++ ")[1:]:
        name, *hunks = re.split(r"\n@@\n", part)
        code = (folder / name).read_text()
        for hunk in hunks:
            lines = hunk.rstrip("\n").split("\n")
            old, new = ("\n".join(x[1:] for x in lines if x[0] in kept) for kept in (" -", " +"))
            assert code.count(old) == 1, old
            code = code.replace(old, new)
        (folder / name).write_text(code)


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """A copy of the project with all recipes applied."""
    folder = tmp_path_factory.mktemp("fork")
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for name in ("tiny", "experiments", "exercises", "plumbing", "tests", "evals", "scripts"):
        ignored = shutil.ignore_patterns("data", "results", "oracle", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for _, diff in RECIPES.values():
        apply(diff, folder)
    return folder


def test_each_recipe_has_as_many_lines_as_it_says():
    assert len(RECIPES) == 6
    for title, (count, diff) in RECIPES.items():
        added = sum(
            line.startswith("+") and not line.startswith("+++") and line != "+"
            for line in diff.splitlines()
        )
        assert count == (0 if title == "A model family" else added), title


def load(folder, name):
    spec = importlib.util.spec_from_file_location(f"forked_{name}", folder / f"{name}.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_the_smoke_run_passes_with_all_of_them(fork):
    options = ["--smoke", "--candidates", "24", "--eval-tasks", "4", "--generator-steps", "1"]
    done = subprocess.run(
        [sys.executable, "selfplay.py", *options, "--difficulty", "parabola", "--loss", "cispo"],
        cwd=fork,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first = json.loads((fork / "runs/smoke/log.jsonl").read_text().splitlines()[0])
    assert 0 < first["long_question"] < 1
    rewards, generator = load(fork, "rewards"), load(fork, "generator")
    assert [rewards.r_diff(k / 4, 4, "parabola") for k in range(5)] == [0, 0.75, 1, 0.75, 0]
    assert rewards.r_diff(0.875, 8) == pytest.approx(0.5813, abs=1e-4)
    assert "astronomy" in {spec.domain for spec in generator.sample_specs(0, 500)}


def test_a_file_of_tasks_is_a_benchmark(tmp_path, monkeypatch, capsys):
    from evals.command import main

    lines = (ROOT / "tiny/heldout.jsonl").read_text().splitlines()[:2]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    options = ["--model", "tiny", "--data", str(tmp_path / "mine.jsonl"), "--max-new-tokens", "64"]
    monkeypatch.setattr(sys, "argv", ["eval.py", *options])
    assert not main() and "mine" in capsys.readouterr().out
