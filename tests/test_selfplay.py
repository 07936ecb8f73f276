"""The loop: the smoke run leaves the files of a run, goes on where it stopped, and explains bad input."""

import json
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import selfplay
import solver
from ast_match import exact_match
from eval import load_tasks
from experiments import report
from player import Player
from runfolder import read_jsonl


def run(folder, *options):
    return subprocess.run(
        [sys.executable, str(ROOT / "selfplay.py"), *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def run_here(monkeypatch, capsys):
    """The same in this process, which spares the start: exit code, what was printed."""

    def run(folder, *options):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["selfplay.py", *options])
        try:
            code = selfplay.main()
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    before = signal.getsignal(signal.SIGINT)
    yield run
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    done = run(folder, "--smoke")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_smoke_run_leaves_every_file_that_a_run_has(smoke):
    run_folder = smoke[0] / "runs" / "smoke"
    names = {str(p.relative_to(run_folder)) for p in run_folder.rglob("*") if p.is_file()}
    assert {
        "config.json",
        "log.jsonl",
        "iter0/heldout.json",
        "iter1/heldout.json",
        "iter1/candidates.jsonl",
        "iter1/tasks.jsonl",
        "iter1/generator/model.safetensors",
        "iter1/solver/model.safetensors",
        "iter1/solver/tokenizer.json",
        "iter1/solver/README.md",
        "iter1/generator/README.md",
        "iter1/generator/chat_template.jinja",
        "iter1/generator/generation_config.json",
        "report.txt",
    } <= names
    assert not [name for name in names if ".part" in name]


def test_the_end_of_a_run_names_the_gain_and_the_checkpoint(smoke):
    assert "base" in smoke[1] and "iteration 1" in smoke[1] and "gain:" in smoke[1]
    assert "trained Solver: runs/smoke/iter1/solver" in smoke[1]


def test_the_trained_solver_answers_in_plain_transformers_as_it_does_here(smoke):
    folder = smoke[0] / "runs/smoke/iter1/solver"
    model, player = AutoModelForCausalLM.from_pretrained(folder), Player(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = solver.prompt(load_tasks(ROOT / "tiny/heldout.jsonl")[0])
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, do_sample=False, max_new_tokens=200)[0, ids["input_ids"].shape[1]:]
    assert out.tolist() == player.ask([chat], 1, 200, 0)[0].completion  # it stops by itself, too
    assert model.generation_config.eos_token_id == player.end


def test_each_checkpoint_has_a_model_card_with_its_numbers(smoke):
    for role in ("generator", "solver"):
        card = (smoke[0] / f"runs/smoke/iter1/{role}/README.md").read_text()
        for what in ("base_model: tiny", f"# {role.title()} after iteration 1 of 1", "of 16 =", "commit", '"lr"'):
            assert what in card


def test_both_players_have_moved_and_apart(smoke):
    base = load_file(ROOT / "tiny/model.safetensors")
    weights = [
        load_file(smoke[0] / f"runs/smoke/iter1/{role}/model.safetensors")
        for role in ("generator", "solver")
    ]
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights[0][name], base[name]) and not torch.equal(
        weights[0][name], weights[1][name]
    )


def test_every_step_is_logged_with_the_parts_of_its_reward(smoke):
    lines = [
        json.loads(line) for line in (smoke[0] / "runs/smoke/log.jsonl").read_text().splitlines()
    ]
    phases = [(line["phase"], line["step"]) for line in lines]
    assert phases == [("generator", 0), ("generator", 1), ("curate", 0)] + [
        ("solver", step) for step in range(3)
    ]
    assert {
        "fmt",
        "valid",
        "diff",
        "sem",
        "entropy",
        "kl",
        "grad_norm",
        "zero_advantage_groups",
        "truncated",
    } <= lines[0].keys()
    assert {"fmt", "acc", "entropy", "clip_share", "length"} <= lines[-1].keys()


def test_the_readme_explains_every_logged_number(smoke):
    lines = (smoke[0] / "runs/smoke/log.jsonl").read_text().splitlines()
    logged = {key for line in lines for key in json.loads(line)} - {"iteration", "phase", "step"}
    table = (ROOT / "README.md").read_text().split("| logged |")[1].split("\n\n")[0]
    explained = {n for row in table.splitlines() for n in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert logged == explained


def test_every_candidate_is_kept_with_its_reason_and_the_tasks_are_the_selected_ones(smoke):
    folder = smoke[0] / "runs/smoke/iter1"
    candidates = [
        json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()
    ]
    tasks = load_tasks(folder / "tasks.jsonl")
    p = {c["id"]: c["p"] for c in candidates if c["reason"] is None}
    assert len(candidates) == selfplay.SMOKE["candidates"] and {t.id for t in tasks} == p.keys()
    assert [p[t.id] for t in tasks] == sorted(p.values(), reverse=True)  # easy to hard
    assert all(exact_match(t.calls, t.calls) for t in tasks)


def test_a_run_that_lost_its_last_phase_goes_on_and_ends_in_the_same_weights(smoke, tmp_path):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    wanted = load_file(tmp_path / "runs/smoke/iter1/solver/model.safetensors")
    shutil.rmtree(tmp_path / "runs/smoke/iter1/solver")
    (tmp_path / "runs/smoke/iter1/solver.part").mkdir()  # as a kill while writing leaves it
    done = run(tmp_path, "--smoke")
    assert done.returncode == 0, done.stderr
    again = load_file(tmp_path / "runs/smoke/iter1/solver/model.safetensors")
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)
    assert len((tmp_path / "runs/smoke/log.jsonl").read_text().splitlines()) == 6  # no line twice


def test_a_changed_option_is_refused_until_told_and_then_named(smoke, tmp_path, run_here):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    code, out, _ = run_here(tmp_path, "--smoke", "--eval-tasks", "8", "--set-changed")
    assert code == 0 and "--eval-tasks was 16, is 8" in out
    config = json.loads((tmp_path / "runs/smoke/config.json").read_text())
    assert config["eval_tasks"] == 8 and config["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "options",
    [
        ["--weights", "shared"],
        ["--generator-steps", "0", "--order", "shuffled", "--difficulty", "cliff"],
        ["--judge", "off", "--difficulty", "none", "--tau", "0"],
    ],
)
def test_the_variants_of_the_method_run(tmp_path, run_here, options):
    code, out, err = run_here(tmp_path, "--smoke", "--eval-tasks", "4", *options)
    assert code == 0, err
    folder = tmp_path / "runs/smoke"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    generator = [line for line in lines if line["phase"] == "generator"]
    assert len(generator) == (0 if "--generator-steps" in options else 2)
    if "--judge" in options:
        assert all(line["sem"] == line["diff"] == 0 for line in generator)
    if "--order" in options:
        p = {c["id"]: c["p"] for c in read_jsonl(folder / "iter1/candidates.jsonl")}
        rates = [p[task.id] for task in load_tasks(folder / "iter1/tasks.jsonl")]
        assert rates != sorted(rates, reverse=True)


def test_a_solver_can_be_trained_on_the_tasks_of_a_file(tmp_path, run_here):
    lines = (ROOT / "tiny/heldout.jsonl").read_text().splitlines()[:6]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    options = ["--smoke", "--eval-tasks", "4", "--tasks", str(tmp_path / "mine.jsonl")]
    code, _, err = run_here(tmp_path, *options)
    left = sorted(p.name for p in (tmp_path / "runs/smoke/iter1").iterdir())
    assert code == 0 and left == ["heldout.json", "solver"], err


def test_the_report_has_the_funnel_the_difficulty_and_answers_of_both_solvers(smoke):
    text = (smoke[0] / "runs/smoke/report.txt").read_text()
    for what in ("two calls", "menu over 4", "funnel:", "distinct questions", "entropy"):
        assert what in text
    assert text.count("  trained ") == text.count("  base ") >= 1


def test_a_number_that_is_not_healthy_is_an_alarm_with_its_meaning(tmp_path):
    line = {"iteration": 1, "phase": "solver", "truncated": 0.5, "entropy": 0.3, "skipped": 0.0}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    assert report.alarms(tmp_path, 1, "solver") == (
        "! iteration 1 solver: truncated 0.5, above 0.2: "
        "completions hit the limit; raise --max-new-tokens\n"
    )


def test_trackers_are_told_the_numbers_of_each_line(tmp_path, run_here, monkeypatch):
    told, board = [], SimpleNamespace(flush=lambda: None)
    board.add_scalar = lambda name, value, step: told.append((name, value, step))
    log = lambda numbers, step: told.extend(("w " + name, x, step) for name, x in numbers.items())
    init = lambda **options: SimpleNamespace(log=log)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda _: board))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    options = ["--eval-tasks", "4", "--iterations", "2", "--solver-steps", "1", "--generator-steps", "0"]
    code, _, err = run_here(tmp_path, "--smoke", "--tensorboard", "--wandb", *options)
    lines = read_jsonl(tmp_path / "runs/smoke/log.jsonl")
    numbers = [("solver/reward", line["reward"], n) for n, line in enumerate(lines, 1) if line["phase"] == "solver"]
    assert code == 0 and len(lines) == 4 and [x for x in told if x[0] == "solver/reward"] == numbers, err
    assert [x for x in told if x[0] == "w solver/reward"] == [("w solver/reward", *x[1:]) for x in numbers]


@pytest.mark.parametrize("name, module", [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_tracker_is_one_line_with_the_command_that_installs_it(tmp_path, run_here, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run_here(tmp_path, "--smoke", f"--{name}")
    assert code == 2 and f"pip install {name}" in err and len(err.splitlines()) == 1


def test_micro_batch_auto_begins_with_the_whole_batch():
    assert selfplay.parse_arguments(["--micro-batch", "auto"])[0].micro_batch > 10**5


def test_out_of_memory_names_the_phase_and_what_takes_less(tmp_path, run_here, monkeypatch):
    def short(*_):
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    monkeypatch.setattr(selfplay.Player, "ask", short)
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 2 and "base Solver: out of memory (tried to allocate 9 GiB)" in err
    assert "--max-new-tokens" in err and "Traceback" not in err


def test_ctrl_c_in_an_evaluation_leaves_and_the_same_command_goes_on(tmp_path, run_here, monkeypatch):
    ask = selfplay.Player.ask

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return ask(*arguments)

    monkeypatch.setattr(selfplay.Player, "ask", interrupted)
    code, _, err = run_here(tmp_path, "--smoke", "--eval-tasks", "4")
    assert code == 130 and "the same command goes on" in err
    assert not (tmp_path / "runs/smoke/iter0").exists()


def test_where_no_reward_ever_differs_nothing_is_trained_and_the_exit_code_is_3(tmp_path, run_here):
    code, _, err = run_here(tmp_path, "--smoke", "--max-new-tokens", "1")
    assert code == 3 and "all rewards of a group were equal" in err


@pytest.mark.parametrize(
    "options, what",
    [
        (["--smoke", "--seed", "5"], "--seed was 0, is 5"),
        (["--group", "1"], "--group 1 is not in [2,"),
        (["--grop", "8"], "unrecognized arguments: --grop"),
        (["--loss", "ppo"], "invalid choice: 'ppo'"),
        (
            ["--run", "x", "--model", "nobody/none"],
            "nobody/none is neither a folder nor in the cache",
        ),
        (["--run", "y", "--heldout", "gone.jsonl"], "gone.jsonl: cannot be read"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(smoke, run_here, options, what):
    code, _, err = run_here(smoke[0], *options)
    assert code == 2 and what in err and "Traceback" not in err


def test_help_shows_each_option_with_the_papers_value(tmp_path, run_here):
    text = " ".join(run_here(tmp_path, "--help")[1].split())
    assert "learning rate of AdamW (default 1e-06; paper 1e-6, Table 4; tiny" in text


def test_the_papers_numbers_are_the_defaults_of_any_other_model():
    cfg, _ = selfplay.parse_arguments(["--model", "Qwen/Qwen2.5-0.5B"])
    assert (cfg.group, cfg.lr, cfg.beta, cfg.weight_decay, cfg.temperature) == (
        4,
        1e-6,
        1e-2,
        1e-2,
        1.0,
    )
    assert (cfg.group * cfg.generator_prompts, cfg.group * cfg.solver_prompts) == (24, 32)
    assert (
        cfg.iterations,
        cfg.generator_steps,
        cfg.solver_steps,
        cfg.probe,
        cfg.probe_temperature,
    ) == (3, 50, 50, 8, 0.7)
    assert cfg.run == "Qwen2.5-0.5B"
