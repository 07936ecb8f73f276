"""The exercises: unsolved as shipped, right with the project's own function, wrong with a near miss."""

import doctest
import re
import runpy
import subprocess
import sys

import pytest
from conftest import ROOT

FOLDER = ROOT / "exercises"
BODY = "    raise NotImplementedError\n"
SOLUTIONS = {
    "ex1_format_reward": "rewards.r_fmt(draft)",
    "ex2_value_grounding": "text_match.grounded(value, question)",
    "ex3_difficulty_reward": "rewards.r_diff(p, k)",
    "ex4_pass_rate": "curate.pass_rate(answers, gold)",
    "ex5_greedy_pairing": "rewards.r_acc(predicted, gold)",
    "ex6_advantages": "grpo.advantages(rewards)",
    "ex7_clipped_loss": "wanted(logps, old, advantage, low, high)",
    "ex8_completion_mask": "wanted(ids, eos_ids)",
}
NEAR_MISSES = {
    "any block is enough": (
        "ex1_format_reward",
        "(any(draft.blocks.values()) + (draft.tools is not None) + (draft.calls is not None)) / 3",
    ),
    "inside of words": (
        "ex2_value_grounding",
        "value is None or value in (True, False) or str(value).lower() in question.lower()",
    ),
    "1 and 0 taken for Booleans": (
        "ex2_value_grounding",
        "value in (None, True, False) or words(question).find(words(str(value))) >= 0",
    ),
    "a cliff": ("ex3_difficulty_reward", "rewards.r_diff(p, k, 'cliff')"),
    "paid at p = 0": ("ex3_difficulty_reward", "rewards.r_diff(max(p, 1 / k), k)"),
    "at least one": ("ex4_pass_rate", "float(curate.pass_rate(answers, gold) > 0)"),
    "names alone": (
        "ex4_pass_rate",
        "sum([c.name for c in a] == [c.name for c in gold] for a in answers) / len(answers)",
    ),
    "no price for calls too many": (
        "ex5_greedy_pairing",
        "rewards.r_acc(predicted, gold) * (1 + 0.25 * max(0, len(predicted) - len(gold)))",
    ),
    "predictions used again": (
        "ex5_greedy_pairing",
        "rewards.r_acc([c for c in predicted for _ in gold], gold)",
    ),
    "std over G": (
        "ex6_advantages",
        "(rewards - rewards.mean(1, True)) / (rewards.std(1, keepdim=True, correction=0) + 1e-4)",
    ),
    "mean in float32": (
        "ex6_advantages",
        "(rewards - rewards.mean(1, True)) / (rewards.std(1, keepdim=True) + 1e-4)",
    ),
    "no min": (
        "ex7_clipped_loss",
        "-(logps - old).exp().clamp(1 - low, 1 + high) * advantage[:, None]",
    ),
    "never clipped": ("ex7_clipped_loss", "-(logps - old).exp() * advantage[:, None]"),
    "end token left out": (
        "ex8_completion_mask",
        "torch.isin(ids, torch.tensor(eos_ids)).cumsum(1) == 0",
    ),
    "one kind of end token": ("ex8_completion_mask", "wanted(ids, eos_ids[:1])"),
}


@pytest.fixture
def with_body(tmp_path):
    """Return a function that copies an exercise with a body that returns something."""

    def copy(name, returned):
        source, path = (FOLDER / f"{name}.py").read_text(), tmp_path / f"{name}.py"
        assert source.count(BODY) == 1
        path.write_text(source.replace(BODY, f"    return {returned}\n"))
        return path

    return copy


def exit_code(path):
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    return end.value.code


def test_every_exercise_has_a_solution_here_and_a_line_in_the_list():
    assert sorted(SOLUTIONS) == sorted(path.stem for path in FOLDER.glob("ex*.py"))
    assert {name for name, _ in NEAR_MISSES.values()} == set(SOLUTIONS)
    listed = re.findall(r"^\| \[?`(ex\w+)\.py`", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert listed == list(SOLUTIONS)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_as_shipped_an_exercise_says_that_its_body_is_missing(name, capsys):
    assert exit_code(FOLDER / f"{name}.py") == 1
    assert re.fullmatch(r"\w+: write its body first\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_projects_function_is_right_and_gives_the_worked_example(name, with_body, capsys):
    path = with_body(name, SOLUTIONS[name])
    assert exit_code(path) == 0 and capsys.readouterr().out == "right\n"
    here = runpy.run_path(str(path))
    example = doctest.DocTestParser().get_doctest(here["__doc__"], here, name, str(path), 0)
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0
    assert f"\n    python -m exercises.{name}\n" in here["__doc__"]


@pytest.mark.parametrize("mistake", NEAR_MISSES)
def test_a_near_miss_is_wrong(mistake, with_body, capsys):
    assert exit_code(with_body(*NEAR_MISSES[mistake])) == 1
    assert re.fullmatch(r"wrong: for .+ yours gives .+, wanted .+\n", capsys.readouterr().out)


def test_the_first_input_that_differs_is_shown(with_body, capsys):
    exit_code(with_body(*NEAR_MISSES["std over G"]))
    assert capsys.readouterr().out == (
        "wrong: for rewards [[2, 1, 1, 0]] yours gives [[1.41401, 0, 0, -1.41401]], "
        "wanted [[1.22459, 0, 0, -1.22459]]\n"
    )


def test_what_a_function_raises_is_shown(with_body, capsys):
    assert exit_code(with_body("ex3_difficulty_reward", "1 / p")) == 1
    assert "for p 0, k 8 yours raises ZeroDivisionError(" in capsys.readouterr().out


def test_the_command_works_without_a_traceback():
    command = [sys.executable, "-m", "exercises.ex3_difficulty_reward"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "r_diff: write its body first\n"
