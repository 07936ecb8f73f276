"""The tables of the ablations, and what is kept of a run."""

import json
import time

import pytest
from conftest import ROOT

import eval
import grpo
from experiments import ablations, sft, survey
from plumbing import cli
from plumbing.player import Player
from plumbing.runfolder import read_jsonl, write_jsonl, write_whole

EARLIER = ROOT / "experiments" / "results" / "7b98e1b"


def result(variant, seed, accuracy):
    phases = {"generator": {"usable": 0.5}, "curate": {"selected": 10 * seed, "right": 1.0}}
    iterations = [phases] * (len(accuracy) - 1)
    known = dict(variant=variant, seed=seed, accuracy=accuracy, iterations=iterations)
    return known | {"flags": ablations.VARIANTS[variant].split()}


def test_the_table_of_any_number_of_seeds(tmp_path):
    for seed in range(13):
        for variant, final in ("frozen", 0.3 + 0.001 * seed), ("full", 0.4):
            text = json.dumps(result(variant, seed, [0.2, final]))
            (tmp_path / f"{variant}-{seed}.json").write_text(text)
    runs = ablations.played(tmp_path)
    rows = ablations.table(runs).splitlines()
    assert rows[1].split() == "full 13 40.0 ± 0.0".split()
    assert rows[2].split()[:6] == "frozen 13 30.6 ± 0.4 -9.4".split()
    assert "[-9." in rows[2] and rows[2].endswith("--generator-steps 0")
    by_iteration = ablations.by_iteration("frozen", runs["frozen"]).splitlines()
    assert by_iteration[0].split()[-3:] == ["base", "iteration", "1"]
    assert by_iteration[1].split()[:3] == ["held-out,", "%", "20.0"]
    assert any(line.split() == ["curated", "tasks", "60"] for line in by_iteration)


def test_the_results_of_an_earlier_version_are_still_a_table(capsys):
    assert ablations.main(["--table", "--results", str(EARLIER)]) == 0
    out = capsys.readouterr().out
    assert "nodiff" in out and "--difficulty none" in out and "five, 3 seeds" in out


def test_each_variant_has_options_that_selfplay_takes():
    for flags in ablations.VARIANTS.values():
        cli.parse_arguments("", flags.split())


def test_a_run_in_numbers(tmp_path):
    tasks = eval.load_tasks(ROOT / "tiny" / "dev.jsonl")[:4]
    for k, right in ((0, False), (1, True)):
        verdicts = json.dumps({"tiny": [["a", right], ["b", False]]})
        write_whole(tmp_path / f"iter{k}" / "heldout.json", verdicts)
    write_jsonl(tmp_path / "iter1" / "tasks.jsonl", [task.to_json() for task in tasks])
    lines = [("generator", {"usable": 0.2}), ("curate", {"selected": 4}), ("solver", {"acc": 1.0})]
    log = [{"iteration": 1, "phase": phase, "step": 0, "seconds": 2.0, **x} for phase, x in lines]
    write_jsonl(tmp_path / "log.jsonl", log)
    write_whole(tmp_path / "config.json", json.dumps({"machine": {"threads": "1"}}))
    kept = ablations.summary(tmp_path)
    assert kept["accuracy"] == [0.0, 0.5] and kept["seconds"] == 6.0
    assert kept["machine"] == {"threads": "1"}
    assert kept["verdicts"] == {"tiny": {"a": True, "b": False}}
    assert kept["iterations"][0]["curate"]["right"] == 1.0
    assert kept["iterations"][0]["generator"]["usable"] == 0.2


def test_clean_tasks_are_where_a_run_looks_for_its_curated_ones(tmp_path):
    ablations.clean_tasks(tmp_path, 720, seed=5)
    tasks = eval.load_tasks(tmp_path / "iter1" / "tasks.jsonl")
    sizes = [sum(1 + len(call.arguments) for call in task.calls) for task in tasks]
    assert len(tasks) == 720 and sizes == sorted(sizes)


def test_a_stopped_command_begins_no_further_run(tmp_path, monkeypatch):
    begun = []

    def stopped(variant, *_):
        begun.append(variant)
        if len(begun) == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)

    monkeypatch.setattr(ablations, "play", stopped)
    assert ablations.main(["--jobs", "1", "--results", str(tmp_path)]) == 130
    assert len(begun) < len(ablations.VARIANTS)


def test_an_unknown_variant_and_an_empty_folder_are_named(tmp_path, capsys):
    assert ablations.main(["--table", "--results", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ablations.main(["fulll"])
    assert "no variant is called fulll" in capsys.readouterr().err


def test_a_survey_refuses_the_answers_of_other_options(tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    write_jsonl(few, read_jsonl(ROOT / "tiny" / "dev.jsonl")[:2])
    out = tmp_path / "answers.jsonl"
    options = ["solver", "--model", "tiny", "--heldout", str(few), "--out", str(out)]
    assert survey.main([*options, "--model", "./nosuchfolder"]) == 2  # a slip leaves no trace
    assert survey.main(options) == 0
    before = out.read_text()
    assert survey.main(options) == 0  # as after a stop
    assert survey.main([*options, "--prompt", "placeholders"]) == 2
    assert "name another --out" in capsys.readouterr().err and out.read_text() == before


def test_fine_tuning_makes_the_gold_completions_more_probable():
    player = Player("tiny")
    tasks = sft.training_tasks(8, seed=1)
    rollouts = sft.gold_rollouts(player, tasks)
    for rollout, task in zip(rollouts, tasks):
        assert sft.solver.parse(player.text(rollout)).calls == task.calls

    def logp():
        logps, _, mask = grpo.token_logprobs(player.model, rollouts, 1.0)
        return (logps.sum() / mask.sum()).item()

    before = logp()
    sft.fine_tune(player, tasks, epochs=2, seed=0)
    assert logp() > before + 0.01


def test_a_stopped_fine_tuning_continues(tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    write_jsonl(few, read_jsonl(ROOT / "tiny" / "dev.jsonl")[:4])
    out = tmp_path / "out.jsonl"
    options = ["--tasks", "4", "8", "--epochs", "1", "--seeds", "1", "--heldout", str(few)]
    assert sft.main([*options, "--out", str(out)]) == 0
    lines = out.read_text().splitlines(keepends=True)
    assert [json.loads(line)["tasks"] for line in lines] == [4, 8]
    out.write_text(lines[0] + lines[1][:20])  # killed while it wrote
    assert sft.main([*options, "--out", str(out)]) == 0
    assert out.read_text() == "".join(lines)
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].split()[:3] == ["model", "tasks", "epochs"] and len(table) == 3
