"""The command line: its options, its messages, its exit codes and the run folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from conftest import ROOT

import selfplay
from config import GROUPS, SMOKE, TINY, Config
from errors import NothingToLearn
from plumbing import cli
from plumbing.player import Player

MOST_OPTIONS = 36


def parsed(*options):
    return cli.parse_arguments("doc", list(options))


def refused(capsys, *options):
    """Return the message with which the options are refused."""
    with pytest.raises(SystemExit) as left:
        parsed(*options)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# -- options --------------------------------------------------------------------------------------


def test_there_are_at_most_36_options_under_their_headings(tmp_path, run_here):
    parser = cli.make_parser("doc")
    options = [a for a in parser._actions if a.dest != "help"]
    assert len(options) <= MOST_OPTIONS
    headings = {g.title: g._group_actions for g in parser._action_groups}
    assert sum(len(headings[name]) for name in GROUPS) == len(options)
    assert min(len(headings[name]) for name in GROUPS) >= 1
    code, text, _ = run_here(tmp_path, "--help")
    places = [text.index(f"\n{name}:\n") for name in GROUPS]
    assert code == 0 and places == sorted(places)
    for action in options:
        assert action.option_strings[0] in text


def test_help_begins_with_what_to_run_and_shows_the_papers_value(tmp_path, run_here):
    text = run_here(tmp_path, "--help")[1]
    first = re.search(r"^  (--\w[\w-]*)", text[text.index(GROUPS[0]) :], re.MULTILINE)
    assert first[1] == "--model"
    flat = " ".join(text.split())
    assert "learning rate of AdamW (default 5e-06; paper 1e-6, Table 4; tiny 0.0002)" in flat
    assert "{graded,gate,free}" in flat


def test_any_other_model_has_the_defaults_and_tiny_has_its_own():
    cfg, _ = parsed("--model", "Qwen/Qwen2.5-0.5B")
    assert asdict(cfg) == asdict(Config(model="Qwen/Qwen2.5-0.5B", run="Qwen2.5-0.5B"))
    tiny, _ = parsed()
    assert asdict(tiny) == asdict(Config(**TINY, model="tiny", run="tiny"))


def test_the_folder_of_the_model_that_ships_is_that_model():
    by_path, _ = parsed("--model", str(ROOT / "tiny"))
    assert by_path == parsed("--model", "tiny")[0] and by_path.group == 8


def test_a_model_that_was_trained_from_tiny_keeps_its_settings(tmp_path):
    (tmp_path / "solver").mkdir()
    path = tmp_path / "solver" / "config.json"
    for text in (None, "{", "[]", "{}", '{"selfplay_defaults": "another"}'):
        if text is not None:
            path.write_text(text)
        assert parsed("--model", str(path.parent))[0].lr == Config.lr
    Player("tiny").save(tmp_path / "trained")
    assert parsed("--model", str(tmp_path / "trained"))[0].lr == TINY["lr"]


def test_the_smoke_run_has_a_folder_of_its_own_for_each_model(tmp_path):
    assert parsed("--smoke")[0].run == "smoke"
    cfg, _ = parsed("--smoke", "--model", str(tmp_path / "base"))
    assert cfg.run == "smoke-base"
    assert {name: getattr(cfg, name) for name in SMOKE} == SMOKE
    assert (cfg.group, cfg.lr) == (8, 5e-6)  # of a real model
    assert parsed("--smoke", "--run", "mine")[0].run == "mine"


def test_an_option_wins_over_a_preset():
    cfg, _ = parsed("--smoke", "--candidates", "7", "--lr", "0.5")
    assert (cfg.candidates, cfg.lr) == (7, 0.5)


@pytest.mark.parametrize(
    "options, what",
    [
        (["--modle", "tiny"], "unrecognized arguments: --modle tiny; did you mean --model?"),
        (["--grop=8"], "did you mean --group?"),
        (["--xyzzy"], "unrecognized arguments: --xyzzy"),
        (["--cand", "8"], "did you mean --candidates?"),  # no abbreviation
        (["--group", "1"], "--group 1 is too small: it must be at least 2"),
        (["--lr", "inf"], "--lr inf is too large: it must be at most"),
        (["--lr", "nan"], "--lr nan is too"),
        (["--lr", "-1"], "--lr -1.0 is too small: it must be at least 0"),
        (["--iterations", "0"], "--iterations 0 is too small: it must be at least 1"),
        (["--p-max", "1.5"], "--p-max 1.5 is too large: it must be at most 1"),
        (["--p-min", "0.8", "--p-max", "0.3"], "--p-min 0.8 is above --p-max 0.3"),
        (["--rows", "many"], "--rows many is neither auto nor a number"),
        (["--rows", "0"], "--rows 0 is neither auto nor a number"),
        (["--run", ".."], "--run .. is not the name of a folder"),
        (["--run", "a/b"], "--run a/b is not the name of a folder"),
        (["--model", "runs/mine"], "runs/mine is the folder of --model: name another one"),
        (["--spec", "strict"], "invalid choice: 'strict' (choose from"),
        (["--group", "four"], "argument --group: invalid int value: 'four'"),
        (["--seed", "-1"], "--seed -1 is too small"),
        (["--candidate-temperature", "0"], "--candidate-temperature 0.0 is too small"),
        (["--tools", "a.json", "--domains", "b"], "--domains has no effect with --tools"),
    ],
)
def test_a_bad_option_is_one_line_that_says_what_is_right(capsys, options, what):
    line = refused(capsys, *options)
    assert line.startswith("selfplay.py: error: ") and what in line


@pytest.mark.parametrize(
    "gone",
    [
        "--tau",
        "--kl",
        "--truncated",
        "--tensorboard",
        "--updates",
        "--clip-low",
        "--guard",
        "--select",
    ],
)
def test_an_option_that_was_removed_is_refused(capsys, gone):
    assert "unrecognized arguments" in refused(capsys, gone, "1")


# -- how a run ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, what",
    [
        (["--model", "nobody/none"], "nobody/none is neither a folder nor in the cache"),
        (["--heldout", "gone.jsonl"], "gone.jsonl"),
        (["--model", "gone"], "gone"),
        (["--generator-prompt", "gone.txt"], "prompt file gone.txt cannot be read"),
        (["--solver-prompt", "gone.txt"], "prompt file gone.txt cannot be read"),
        (["--device", "tpu"], "--device tpu: use cpu, cuda"),
    ],
)
def test_a_failed_start_is_one_line_with_exit_code_2_and_leaves_no_folder(
    tmp_path, run_here, options, what
):
    code, _, err = run_here(tmp_path, *options, "--run", "x")
    assert code == 2 and what in err and "Traceback" not in err
    assert err.startswith("selfplay.py: error: ")
    assert not list(tmp_path.glob("runs/x"))


def stub(monkeypatch, tmp_path, loop, *options):
    """Run the command with another loop, which needs no model."""
    monkeypatch.chdir(tmp_path)
    return cli.main(selfplay.__doc__, loop, list(options))


def ends(error):
    def loop(cfg, run):
        run.path(0, "heldout.json").parent.mkdir(parents=True, exist_ok=True)
        raise error

    return loop


@pytest.mark.parametrize(
    "error, code, what",
    [
        (NothingToLearn("nothing to learn"), 3, "selfplay.py: error: nothing to learn"),
        (
            KeyboardInterrupt(),
            130,
            "stopped. All files on disk are intact; the same command continues",
        ),
        (OSError("No space left on device"), 2, "No space left on device. All files on disk are"),
        (MemoryError(), 2, "out of memory"),
    ],
)
def test_each_end_has_its_exit_code_and_keeps_what_was_done(
    monkeypatch, tmp_path, capsys, error, code, what
):
    assert stub(monkeypatch, tmp_path, ends(error), "--smoke") == code
    err = capsys.readouterr().err
    assert what in err and "Traceback" not in err
    assert (tmp_path / "runs/smoke/config.json").exists()


def test_a_bug_is_not_a_clean_end(monkeypatch, tmp_path):
    with pytest.raises(ZeroDivisionError):
        stub(monkeypatch, tmp_path, ends(ZeroDivisionError()), "--smoke")


def test_a_closed_pipe_gives_no_traceback(smoke, tmp_path):
    """The run is finished, so the command prints its table alone, into a pipe that nobody reads."""
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(ROOT / "selfplay.py"), "--smoke"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_with_a_real_model_the_run_says_first_what_it_will_do(monkeypatch, tmp_path, capsys):
    def loop(cfg, run):
        assert "2. curation: 48 candidates" in capsys.readouterr().out
        raise NothingToLearn("enough")

    model = shutil.copytree(ROOT / "tiny", tmp_path / "base")
    assert stub(monkeypatch, tmp_path, loop, "--smoke", "--model", str(model)) == 3

    def quiet(cfg, run):
        assert capsys.readouterr().out == ""
        raise NothingToLearn("enough")

    assert stub(monkeypatch, tmp_path, quiet, "--smoke") == 3


def test_a_smoke_run_of_a_model_in_a_folder_ends_in_its_own_run_folder(
    tmp_path, run_here, four_tasks
):
    model = shutil.copytree(ROOT / "tiny", tmp_path / "base")
    options = ["--model", str(model), "--generator-steps", "0", "--max-new-tokens", "320"]
    options += ["--candidates", "24", "--p-min", "0", "--group", "8"]
    code, out, err = run_here(tmp_path, *four_tasks, *options)
    assert code == 0, err
    assert "trained Solver: runs/smoke-base/iter1/solver" in out
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["smoke-base"]


# -- the run folder -------------------------------------------------------------------------------


def test_a_changed_option_is_refused_unless_set_changed_is_given(smoke, tmp_path, run_here):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    code, _, err = run_here(tmp_path, "--smoke", "--seed", "5", "--p-max", "0.9")
    assert code == 2
    assert "--p-max was 1.0, is 0.9; --seed was 0, is 5" in err
    assert "--set-changed" in err and "--run NAME" in err
    path = tmp_path / "runs/smoke/config.json"
    assert json.loads(path.read_text())["seed"] == 0
    code, out, _ = run_here(tmp_path, "--smoke", "--p-max", "0.9", "--set-changed")
    assert code == 0 and "--p-max was 1.0, is 0.9" in out
    found = json.loads(path.read_text())
    assert found["p_max"] == 0.9 and found["machine"]["torch"] == torch.__version__


def test_other_code_or_versions_are_named_and_not_refused(smoke, tmp_path, run_here):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    path = tmp_path / "runs/smoke/config.json"
    found = json.loads(path.read_text())
    found["machine"]["code"] = "of an earlier reward"
    path.write_text(json.dumps(found))
    code, out, _ = run_here(tmp_path, "--smoke")
    assert code == 0 and "other versions, code or threads" in out and "earlier reward" in out


def test_a_prompt_of_ones_own_is_part_of_the_code(tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("one")
    cfg = Config(solver_prompt=str(own))
    before = cli.machine(cfg)
    assert before != cli.machine(Config()) and before == cli.machine(cfg)
    own.write_text("two")
    after = cli.machine(cfg)
    assert {key for key in before if before[key] != after[key]} == {"code"}


def test_a_run_of_another_day_keeps_its_date(smoke, tmp_path, run_here):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    path = tmp_path / "runs/smoke/config.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"date": "1 January 2001"}))
    code, out, _ = run_here(tmp_path, "--smoke")
    assert code == 0 and "was" not in out.split("Solver, held-out")[0]
    assert json.loads(path.read_text())["date"] == "1 January 2001"


@pytest.mark.parametrize("option, kept", [("p_min", True), ("p_max", True), ("seed", False)])
def test_set_changed_forgets_what_the_old_settings_have_made(monkeypatch, tmp_path, option, kept):
    folder = tmp_path / "runs/smoke/iter1"
    config = parsed("--smoke")[0]
    assert stub(monkeypatch, tmp_path, ends(NothingToLearn("enough")), "--smoke") == 3
    (folder / "solver.steps").mkdir(parents=True)
    (folder / "texts.part.jsonl").write_text("[]\n")
    value = {"p_min": "0.75", "p_max": "0.9", "seed": "7"}[option]
    assert str(getattr(config, option)) != value
    options = ["--smoke", cli.flag(option), value, "--set-changed"]
    assert stub(monkeypatch, tmp_path, ends(NothingToLearn("enough")), *options) == 3
    assert not (folder / "solver.steps").exists()
    assert (folder / "texts.part.jsonl").exists() == kept


def test_more_iterations_continue_a_run(monkeypatch, tmp_path):
    assert stub(monkeypatch, tmp_path, ends(NothingToLearn("enough")), "--smoke") == 3
    (tmp_path / "runs/smoke/iter1/solver.steps").mkdir(parents=True)
    more = ("--smoke", "--iterations", "2")
    assert stub(monkeypatch, tmp_path, ends(NothingToLearn("enough")), *more) == 3
    assert (tmp_path / "runs/smoke/iter1/solver.steps").exists()


def test_a_damaged_configuration_is_named(tmp_path, run_here):
    (tmp_path / "runs/smoke/iter0").mkdir(parents=True)
    for text in ("{", "3"):
        (tmp_path / "runs/smoke/config.json").write_text(text)
        code, _, err = run_here(tmp_path, "--smoke")
        assert code == 2 and "config.json is damaged" in err and "--run NAME" in err
    assert (tmp_path / "runs/smoke/config.json").read_text() == "3"


def test_a_run_in_use_is_refused(monkeypatch, tmp_path, capsys):
    def loop(cfg, run):
        assert cli.main(selfplay.__doc__, loop, ["--smoke"]) == 2
        assert "runs/smoke is in use by process" in capsys.readouterr().err
        raise NothingToLearn("enough")

    assert stub(monkeypatch, tmp_path, loop, "--smoke") == 3
