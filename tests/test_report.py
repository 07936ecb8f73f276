"""The report and the alarms: what a run folder says in words."""

import json
import math
import shutil

import pytest

from config import Config
from plumbing import report
from plumbing.alarms import PATIENCE, alarms
from plumbing.run import Run

HEALTHY = {
    "usable": 0.5,
    "copies": 0.0,
    "zero_advantage_groups": 0.5,
    "truncated": 0.0,
    "skipped": 0.0,
    "kl": 0.01,
    "entropy": 0.6,
}


def lines_of(count=PATIENCE, **changed):
    return [HEALTHY | changed for _ in range(count)]


def test_healthy_numbers_raise_no_alarm():
    assert alarms(lines_of()) == {}
    assert alarms(lines_of(usable=0.02, copies=0.2, zero_advantage_groups=0.75)) == {}


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("usable", 0.019, "usable 0.019 is below 0.02: hardly any task is usable: name a larger"),
        ("copies", 0.21, "copies 0.21 is above 0.2: the Generator copies its example"),
        ("zero_advantage_groups", 0.76, "0.76 is above 0.75: most groups teach nothing: raise"),
        ("top_task", 0.06, "one task fills more than 5 % of the phase: raise --candidates"),
        ("truncated", 0.21, "completions hit the limit: raise --max-new-tokens"),
        ("skipped", 0.2, "a step had no finite gradient and was left out: lower --lr"),
        ("kl", 1.1, "the policy is far from the phase's start"),
    ],
)
def test_a_number_over_its_bound_is_an_alarm_in_words_after_ten_steps(name, value, words):
    found = alarms(lines_of(**{name: value}))
    assert found.keys() == {name} and words in found[name]
    assert alarms(lines_of(PATIENCE - 1, **{name: value})) == {}


def test_entropy_that_fell_to_less_than_a_third_is_an_alarm():
    lines = lines_of()
    for line in lines[-5:]:
        line["entropy"] = 0.19
    found = alarms(lines)
    assert found.keys() == {"entropy"}
    assert "entropy fell from 0.6 to 0.19: completions are becoming alike" in found["entropy"]
    for line in lines[-5:]:
        line["entropy"] = 0.21
    assert alarms(lines) == {}


def test_steps_without_entropy_neither_raise_nor_hide_its_alarm():
    lines = lines_of()
    for line in (lines[0], *lines[-3:]):
        line["entropy"] = math.nan  # every group was skipped
    assert alarms(lines) == {}
    for line in lines[-5:-3]:
        line["entropy"] = 0.19
    assert alarms(lines).keys() == {"entropy"}


def test_the_mean_of_the_last_five_steps_counts():
    lines = lines_of(20)
    lines[3]["copies"] = 1.0
    assert alarms(lines) == {}
    lines[-1]["copies"] = 1.0
    assert alarms(lines) == {}  # 0.2 on average
    lines[-2]["copies"] = 0.1
    assert alarms(lines).keys() == {"copies"}


def test_a_curation_with_many_duplicates_is_an_alarm_at_once():
    line = {"duplicates": 0.31, "usable": 0.5, "copies": 0.0}
    assert "the Generator repeats itself" in alarms([line])["duplicates"]
    assert alarms([line | {"duplicates": 0.3}]) == {}


def test_a_run_raises_each_alarm_once_per_phase(tmp_path, capsys):
    run = Run(Config(), tmp_path)
    for phase in ("generator", "solver"):
        run.begin(1, phase)
        for step in range(PATIENCE + 4):
            run.step = step
            run.record(HEALTHY | {"copies": 0.5})
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("! ")]
    assert len(said) == 2
    assert said[0].startswith(f"! iteration 1 generator, step {PATIENCE - 1}: copies 0.5 is above")


def test_the_report_has_the_funnel_the_difficulty_and_a_sample_of_the_tasks(smoke):
    text = (smoke[0] / "runs/smoke/report.txt").read_text()
    for what in ("selected; a task has", "funnel:", "usable, by pass rate:", "entropy", "menu_met"):
        assert what in text
    tasks = (smoke[0] / "runs/smoke/iter1/tasks.jsonl").read_text().splitlines()
    first = json.loads(tasks[0])
    assert f"iteration 1, {first['id']}, pass rate" in text
    assert json.dumps(first["question"]) in text and "gold" in text


def test_the_report_repeats_the_alarms(smoke, tmp_path):
    folder = shutil.copytree(smoke[0] / "runs/smoke", tmp_path / "smoke")
    assert "no alarm" in report.training(folder) or "! " in report.training(folder)
    path = folder / "log.jsonl"
    (first, *_) = [json.loads(line) for line in path.read_text().splitlines()]
    first["copies"] = 0.9
    path.write_text("".join(json.dumps(first | {"step": i}) + "\n" for i in range(PATIENCE)))
    assert "! iteration 1 generator: copies 0.9 is above 0.2" in report.training(folder)


def test_each_checkpoint_has_a_model_card_with_its_numbers(smoke):
    for role in ("generator", "solver"):
        card = (smoke[0] / f"runs/smoke/iter1/{role}/README.md").read_text()
        for what in ("base_model: tiny", f"# {role.title()} after iteration 1 of 1", "of 16 ="):
            assert what in card
        for what in ("commit", '"lr"', "torch"):
            assert what in card


def test_a_model_card_stays_as_it_was_written_and_a_copied_checkpoint_gets_none(smoke, tmp_path):
    folder = shutil.copytree(smoke[0] / "runs/smoke", tmp_path / "smoke")
    copy = shutil.copytree(folder / "iter1/solver", folder / "iter1/solver-old")
    (folder / "iter1/solver/README.md").write_text("mine")
    (folder / "iter1/generator/README.md").unlink()
    (copy / "README.md").unlink()
    report.write_cards(folder)
    assert (folder / "iter1/solver/README.md").read_text() == "mine"
    assert "# Generator after" in (folder / "iter1/generator/README.md").read_text()
    assert not (copy / "README.md").exists()


def test_a_copy_of_an_iteration_in_the_run_folder_is_left_alone(tmp_path):
    for name in ("iter1", "iter1-backup"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "heldout.json").write_text('{"tiny": [["a", true]]}')
    assert report.heldout(tmp_path) == {1: {"tiny": {"a": True}}}


def verdicts(folder, k, found):
    (folder / f"iter{k}").mkdir(exist_ok=True)
    (folder / f"iter{k}" / "heldout.json").write_text(json.dumps(found))


def test_each_benchmark_the_mean_of_all_and_the_gain_are_reported(tmp_path):
    before = {"one": [["a", False], ["b", False]], "two": [["c", True], ["d", False]]}
    after = {"one": [["a", True], ["b", False]], "two": [["c", True], ["d", True]]}
    verdicts(tmp_path, 0, before)
    verdicts(tmp_path, 1, after)
    rows = [" ".join(line.split()) for line in report.table(tmp_path).splitlines()]
    assert any(row.startswith("base one 0 of 2 = 0.0 %") for row in rows)
    assert any(row.startswith("base mean of 2 25.0 %") for row in rows)
    assert any(row.startswith("iteration 1 two 2 of 2 = 100.0 %") for row in rows)
    assert any(row.startswith("iteration 1 mean of 2 75.0 %") for row in rows)
    assert any(row.startswith("gain: +50.0 points") and "3.00 times" in row for row in rows)


def test_the_gain_is_over_the_tasks_that_both_have(tmp_path):
    verdicts(tmp_path, 0, {"one": [["a", False], ["b", True]]})
    verdicts(tmp_path, 1, {"one": [["b", True], ["c", True]]})
    assert "gain: +0.0 points" in report.table(tmp_path)
    verdicts(tmp_path, 1, {"one": [["x", True]]})
    assert "no task in common" in report.table(tmp_path)


def test_a_gain_of_nothing_has_no_minus(tmp_path):
    for k, counts in enumerate(([0, 1, 2], [3, 0, 0])):  # of 10; the sum of the gains is -3e-17
        found = {}
        for name, count in zip(("one", "two", "three"), counts):
            found[name] = [[str(id), id < count] for id in range(10)]
        verdicts(tmp_path, k, found)
    assert "gain: +0.0 points" in report.table(tmp_path)


@pytest.mark.parametrize(
    "files, what",
    [
        ({}, "is not a run folder: it has no log.jsonl"),
        ({"log.jsonl": ""}, "no iteration is finished yet"),
    ],
)
def test_a_folder_without_a_result_is_one_line_and_exit_code_2(tmp_path, capsys, files, what):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert report.main([str(tmp_path)]) == 2
    assert what in capsys.readouterr().err
    assert report.main([]) == 2
    assert "usage: python -m plumbing.report RUN_FOLDER" in capsys.readouterr().err


def test_a_report_can_be_made_again_from_the_folder(smoke, tmp_path, capsys):
    folder = shutil.copytree(smoke[0] / "runs/smoke", tmp_path / "smoke")
    text = (folder / "report.txt").read_text()
    (folder / "report.txt").unlink()
    assert report.main([str(folder)]) == 0
    assert (folder / "report.txt").read_text() == text
    assert "gain:" in capsys.readouterr().out


def test_the_picture_draws_every_benchmark_and_a_frozen_generator(smoke, tmp_path):
    pytest.importorskip("matplotlib")
    folder = shutil.copytree(smoke[0] / "runs/smoke", tmp_path / "smoke")
    for k in (0, 1):
        verdicts(folder, k, {"one": [["a", True]], "two": [["b", False]]})
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(line for line in lines if "solver" in line))
    (folder / "report.png").unlink(missing_ok=True)
    assert report.picture(folder) == f"picture: {folder / 'report.png'}"
    assert (folder / "report.png").stat().st_size > 10_000
