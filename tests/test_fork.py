"""The recipes of docs/fork.md: each diff applies, has as many lines as it says, and works."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

import eval

PAGE = (ROOT / "docs" / "fork.md").read_text(encoding="utf-8")
RECIPE = re.compile(r"\n\*\*([^*]+), (\d+|no) lines?\.\*\*(.*?)(?=\n\*\*|$)", re.DOTALL)
FOLDERS = ("tiny", "plumbing", "tests")


def read_recipes() -> dict[str, tuple[int, str]]:
    """Return title -> the lines that it says it has, its diff."""
    found = {}
    for title, count, text in RECIPE.findall(PAGE):
        diff = "".join(re.findall(r"```diff\n(.*?)```", text, re.DOTALL))
        found[title] = (0 if count == "no" else int(count), diff)
    return found


RECIPES = read_recipes()


def side(hunk: list[str], sign: str) -> str:
    """Return the text before (sign "-") or after (sign "+") a change."""
    return "\n".join(line[1:] for line in hunk if line[0] in (" ", sign))


def apply(diff: str, folder) -> None:
    """Change the files of a folder."""
    for part in diff.split("+++ ")[1:]:
        name, *hunks = re.split(r"\n@@\n", part)
        code = (folder / name).read_text(encoding="utf-8")
        for hunk in hunks:
            lines = hunk.rstrip("\n").split("\n")
            old = side(lines, "-")
            assert code.count(old) == 1, old
            code = code.replace(old, side(lines, "+"))
        (folder / name).write_text(code, encoding="utf-8")


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Return a copy of the project with all recipes applied."""
    folder = tmp_path_factory.mktemp("fork")
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*.txt")]:
        shutil.copy(path, folder)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("oracle", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for _, diff in RECIPES.values():
        apply(diff, folder)
    return folder


def added(diff: str) -> int:
    lines = [line for line in diff.splitlines() if line.startswith("+") and line != "+"]
    return sum(not line.startswith("+++") for line in lines)


def test_each_recipe_has_as_many_lines_as_it_says():
    assert len(RECIPES) == 8
    for title, (count, diff) in RECIPES.items():
        lines = 0 if title == "A model family" else added(diff)  # its line is a test
        assert count == lines, title


def load(folder, name: str):
    """Import a file of the fork under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"forked_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_smoke_run_passes_with_all_of_them(fork):
    options = ["--smoke", "--ablation", "parabola", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "selfplay.py", *options], cwd=fork, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first = json.loads((fork / "runs/smoke/log.jsonl").read_text().splitlines()[0])
    assert 0 < first["long_question"] < 1


def test_the_changed_files_do_what_the_page_says(fork):
    rewards = load(fork, "rewards")
    assert [rewards.r_diff(k / 4, 4, "parabola") for k in range(5)] == [0, 0.75, 1, 0.75, 0]
    assert rewards.r_diff(0.875, 8) == pytest.approx(0.5813, abs=1e-4)
    generator = load(fork, "generator")
    assert "astronomy" in {spec.domain for spec in generator.sample_specs(0, 500)}
    guards = load(fork, "guards")
    assert guards.no_question("word " * 81, []) == "question is too long"


def test_a_file_of_tasks_is_a_benchmark(tmp_path, capsys):
    lines = (ROOT / "tiny/heldout.jsonl").read_text(encoding="utf-8").splitlines()[:2]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    options = ["--model", "tiny", "--data", str(data), "--max-new-tokens", "64"]
    assert eval.main(options) == 0
    assert "mine" in capsys.readouterr().out
