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

import curate
import selfplay
import solver
from ast_match import exact_match
from eval import load_tasks
from experiments import ablations
from generator import Task
from plumbing import cli, distributed, report
from plumbing.player import Player
from plumbing.runfolder import read_jsonl
from scripts import walkthrough


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
            code = cli.main()
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    monkeypatch.setattr(report, "picture", lambda folder: "")  # the whole smoke run draws one
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
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, do_sample=False, max_new_tokens=200)[0, ids["input_ids"].shape[1] :]
    assert out.tolist() == player.sample([chat], 1, 200, 0)[0].completion  # it stops by itself, too
    assert model.generation_config.eos_token_id == player.eos_ids


def test_each_checkpoint_has_a_model_card_with_its_numbers(smoke):
    for role in ("generator", "solver"):
        card = (smoke[0] / f"runs/smoke/iter1/{role}/README.md").read_text()
        for what in (
            "base_model: tiny",
            f"# {role.title()} after iteration 1 of 1",
            "of 16 =",
            "commit",
            '"lr"',
        ):
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


def test_the_pictures_show_what_the_run_folder_says(smoke):
    pytest.importorskip("matplotlib")
    from scripts import draw

    folder = smoke[0] / "runs/smoke"
    told = ablations.iteration(folder, 1)
    assert sum(told["funnel"].values()) == told["curate"]["candidates"] == 48
    assert told["tasks"]["questions"] == told["funnel"]["selected"]  # none is there twice
    run = {"accuracy": [0.2, 0.4], "iterations": [told]}
    accuracy, _, rates, left, tasks, _ = draw.dynamics([run, run | {"accuracy": [0.2, 0.5]}]).axes
    assert [*accuracy.lines[-1].get_ydata()] == pytest.approx([20, 45])
    assert sum(bar.get_height() for bar in rates.patches) == pytest.approx(1)
    assert [line.get_ydata()[0] * 48 for line in left.lines] == pytest.approx(
        [*draw.left(told["funnel"]).values()][1:]
    )
    assert tasks.lines[0].get_ydata() == [told["tasks"]["arguments"]]
    assert [bar.get_width() for bar in draw.funnel(folder).axes[0].patches] == [
        *draw.left(told["funnel"]).values()
    ]


def test_a_copy_of_an_iteration_in_the_run_folder_is_left_alone(tmp_path):
    for name in ("iter1", "iter1-backup"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "heldout.json").write_text('[["a", true]]')
    assert report.heldout(tmp_path) == {1: {"a": True}}


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


def test_the_docs_explain_every_logged_number(smoke):
    lines = (smoke[0] / "runs/smoke/log.jsonl").read_text().splitlines()
    logged = {key for line in lines for key in json.loads(line)} - {"iteration", "phase", "step"}
    table = (ROOT / "docs/logs.md").read_text().split("| logged |")[1].split("\n\n")[0]
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


def test_a_run_that_lost_its_last_phase_goes_on_and_ends_in_the_same_weights(
    smoke, tmp_path, run_here
):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    wanted = load_file(tmp_path / "runs/smoke/iter1/solver/model.safetensors")
    shutil.rmtree(tmp_path / "runs/smoke/iter1/solver")
    (tmp_path / "runs/smoke/iter1/solver.part").mkdir()  # as a kill while writing leaves it
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 0, err
    again = load_file(tmp_path / "runs/smoke/iter1/solver/model.safetensors")
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)
    assert len((tmp_path / "runs/smoke/log.jsonl").read_text().splitlines()) == 6  # no line twice


def test_a_changed_option_is_refused_until_told_and_then_named(smoke, tmp_path, run_here):
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    code, out, _ = run_here(tmp_path, "--smoke", "--eval-tasks", "8", "--set-changed")
    assert code == 0 and "--eval-tasks was 16, is 8" in out
    config = json.loads((tmp_path / "runs/smoke/config.json").read_text())
    assert config["eval_tasks"] == 8 and config["versions"]["torch"] == torch.__version__
    config["versions"]["code"] = "of an earlier reward"
    (tmp_path / "runs/smoke/config.json").write_text(json.dumps(config))
    code, out, _ = run_here(tmp_path, "--smoke", "--eval-tasks", "8")
    assert code == 0 and "other versions or code" in out and "earlier reward" in out


@pytest.mark.parametrize(
    "options",
    [
        ["--weights", "shared", "--candidates", "16"],
        ["--generator-steps", "0", "--order", "shuffled", "--difficulty", "cliff"],
        ["--judge", "off", "--difficulty", "none", "--tau", "0", "--candidates", "16"],
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


@pytest.fixture
def on_a_file(tmp_path):
    """The options of a run without a Generator, on the tasks of a file."""
    lines = (ROOT / "tiny/heldout.jsonl").read_text().splitlines()[:6]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return ["--smoke", "--eval-tasks", "4", "--tasks", str(tmp_path / "mine.jsonl")]


def test_a_solver_can_be_trained_on_the_tasks_of_a_file(tmp_path, run_here, on_a_file):
    code, _, err = run_here(tmp_path, *on_a_file)
    left = sorted(p.name for p in (tmp_path / "runs/smoke/iter1").iterdir())
    assert code == 0 and left == ["heldout.json", "solver"], err


@pytest.mark.parametrize(
    "count, asked", [(3, [[0, 1], [2, 0]]), (4, [[0, 1], [2, 3]]), (10, [[0, 2], [5, 7]])]
)
def test_the_order_is_kept_and_all_of_a_large_curriculum_is_sampled(
    monkeypatch, tmp_path, count, asked
):
    run = selfplay.Run(selfplay.Config(solver_steps=2, solver_prompts=2, group=1), tmp_path)
    monkeypatch.setattr(run, "train", lambda k, role, at, steps, turn, shown: turn)
    monkeypatch.setattr(selfplay.solver, "prompt", lambda task: seen.append(int(task.id)))
    monkeypatch.setattr(run, "ask", lambda player, chats, group, seed: [] if list(chats) else [])
    turn, batches = run.train_solver(1, "", [Task(str(i), "", [], []) for i in range(count)]), []
    for step in range(2):
        seen = []
        turn(None, step, 0)
        batches.append(seen)
    assert batches == asked


def test_a_task_without_a_gold_call_is_not_trained_on(tmp_path, run_here):
    task = json.loads((ROOT / "tiny/dev.jsonl").read_text().splitlines()[0])
    (tmp_path / "mine.jsonl").write_text(json.dumps(task | {"id": "silent", "calls": []}) + "\n")
    code, _, err = run_here(tmp_path, "--tasks", str(tmp_path / "mine.jsonl"), "--iterations", "1")
    assert code == 2 and "task silent has no gold call" in err


def test_too_few_tasks_for_the_iterations_are_refused(tmp_path, run_here):
    shutil.copy(ROOT / "tiny/heldout.jsonl", tmp_path / "mine.jsonl")
    lines = (tmp_path / "mine.jsonl").read_text().splitlines(keepends=True)[:2]
    (tmp_path / "mine.jsonl").write_text("".join(lines))
    code, _, err = run_here(tmp_path, "--tasks", str(tmp_path / "mine.jsonl"))
    assert code == 2 and "mine.jsonl has fewer tasks than there are --iterations" in err


def test_a_report_of_a_run_without_a_finished_iteration_says_so(tmp_path):
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(SystemExit, match="no iteration is finished yet"):
        report.main([str(tmp_path)])


def test_the_report_has_the_funnel_the_difficulty_and_answers_of_both_solvers(smoke):
    text = (smoke[0] / "runs/smoke/report.txt").read_text()
    for what in ("two calls", "menu over 4", "funnel:", "distinct questions", "entropy"):
        assert what in text
    assert text.count("  trained ") == text.count("  base ") >= 1


def test_a_task_is_followed_from_its_spec_to_the_answers_before_and_after(smoke):
    text = walkthrough.walk(smoke[0] / "runs/smoke")
    for what in (
        "`Spec(domain=",
        "<tool_call_answer>",
        "| r_valid, Eq. (2) |",
        "| selected |",
        "greedy",
    ):
        assert what in text, what
    rows = re.findall(r"^\| `.*` \| [\d.]+ \| [\d.]+ \| [+-][\d.]+ \|", text, re.MULTILINE)
    assert len(rows) == selfplay.TINY["group"]


def test_the_picture_of_the_funnel_counts_who_is_left_after_each_stage(smoke, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "assets")
    import draw

    funnel = report.log(smoke[0] / "runs/smoke", "curate")[0]["funnel"]
    stages = list(draw.left(funnel).values())
    assert stages[0] == selfplay.SMOKE["candidates"] and stages[-1] == funnel["selected"]
    assert stages == sorted(stages, reverse=True) and stages[1] > stages[2]
    assert draw.funnel(smoke[0] / "runs/smoke").axes


def test_a_number_that_is_not_healthy_is_an_alarm_with_its_meaning(tmp_path):
    line = {"iteration": 1, "phase": "solver", "truncated": 0.5, "entropy": 0.3, "skipped": 0.0}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    assert report.alarms(tmp_path, 1, "solver") == (
        "! iteration 1 solver: truncated 0.5, above 0.2: "
        "completions hit the limit; raise --max-new-tokens\n"
    )


def test_trackers_are_told_the_numbers_of_each_line(tmp_path, run_here, monkeypatch, on_a_file):
    told, board = [], SimpleNamespace(flush=lambda: None)
    board.add_scalar = lambda name, value, step: told.append((name, value, step))
    log = lambda numbers, step: told.extend(("w " + name, x, step) for name, x in numbers.items())
    init = lambda **options: SimpleNamespace(log=log)
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda _: board)
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    options = ["--iterations", "2", "--solver-steps", "2", "--tensorboard", "--wandb"]
    code, _, err = run_here(tmp_path, *on_a_file, *options)
    lines = read_jsonl(tmp_path / "runs/smoke/log.jsonl")
    numbers = [("solver/reward", line["reward"], n) for n, line in enumerate(lines, 1)]
    assert (
        code == 0 and len(lines) == 4 and [x for x in told if x[0] == "solver/reward"] == numbers
    ), err
    assert [x for x in told if x[0] == "w solver/reward"] == [
        ("w solver/reward", *x[1:]) for x in numbers
    ]


@pytest.mark.parametrize(
    "name, module", [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_missing_tracker_is_one_line_with_the_command_that_installs_it(
    tmp_path, run_here, monkeypatch, name, module
):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run_here(tmp_path, "--smoke", f"--{name}")
    assert code == 2 and f"pip install {name}" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "error, why",
    [
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), "tried to allocate 9 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate memory"),
        (MemoryError(), "no more to be had"),
    ],
)
def test_out_of_memory_names_the_phase_and_what_takes_less(
    tmp_path, run_here, monkeypatch, error, why
):
    def short(*_):
        raise error

    monkeypatch.setattr(selfplay.Player, "ask", short)
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 2 and "base Solver: out of memory" in err and why in err
    assert "--max-new-tokens" in err and "Traceback" not in err


def test_ctrl_c_in_an_evaluation_leaves_and_the_same_command_goes_on(
    tmp_path, run_here, monkeypatch
):
    ask = selfplay.Player.sample

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return ask(*arguments)

    monkeypatch.setattr(selfplay.Player, "ask", interrupted)
    code, _, err = run_here(tmp_path, "--smoke", "--eval-tasks", "4")
    assert code == 130 and "the same command goes on" in err
    assert not (tmp_path / "runs/smoke/iter0").exists()


def test_one_step_without_a_finite_gradient_is_left_out_and_the_log_can_be_read_again(
    tmp_path, run_here, monkeypatch, on_a_file
):
    clip, steps = distributed.clip_grad_norm, iter(range(99))
    once = lambda *given: torch.tensor(torch.nan) if next(steps) == 1 else clip(*given)
    monkeypatch.setattr(distributed, "clip_grad_norm", once)
    code, out, err = run_here(tmp_path, *on_a_file)
    assert code == 0 and out.count("step 1 has no finite gradient, left out") == 1, err
    (tmp_path / "runs/smoke/report.txt").unlink()
    code, out, err = run_here(tmp_path, *on_a_file)
    alarm = "! iteration 1 solver: skipped 0.33, above 0"
    assert code == 0 and alarm in (tmp_path / "runs/smoke/report.txt").read_text()


def test_five_steps_without_a_finite_gradient_end_the_run_and_the_last_state_is_kept(
    tmp_path, run_here, monkeypatch
):
    bad = lambda *_: torch.tensor(torch.nan)
    monkeypatch.setattr(distributed, "clip_grad_norm", bad)
    options = ["--eval-tasks", "4", "--generator-steps", "9", "--save-every", "100"]
    options += ["--max-new-tokens", "8"]
    code, out, err = run_here(tmp_path, "--smoke", *options)
    kept = "runs/smoke/iter1/generator.steps"
    assert (
        code == 3
        and f"5 steps in a row had no finite gradient; the last good state is in {kept}" in err
    )
    assert out.count("has no finite gradient, left out") == 5
    assert [p.name[:6] for p in (tmp_path / kept).iterdir()] == ["000005"]


def test_a_curation_that_leaves_nothing_says_what_emptied_it_and_goes_on_with_other_options(
    tmp_path, run_here
):
    options = ["--smoke", "--eval-tasks", "4", "--generator-steps", "0", "--seed", "1"]
    code, _, err = run_here(tmp_path, *options, "--candidates", "1")
    assert code == 3 and re.search(
        r"of 1 candidates none is left: 1 [^.]+\. Raise --candidates", err
    )
    code, out, _ = run_here(tmp_path, *options, "--candidates", "24", "--set-changed")
    assert code == 0 and "--candidates was 1, is 24" in out


def test_what_the_solver_answered_is_kept_where_only_tau_was_too_high(
    tmp_path, run_here, monkeypatch
):
    options = ["--smoke", "--eval-tasks", "4", "--generator-steps", "0", "--candidates", "24"]
    monkeypatch.setattr(curate, "pass_rate", lambda answers, gold: 0.875)
    code, _, err = run_here(tmp_path, *options, "--tau", "1")
    assert code == 3 and "Lower --tau" in err
    monkeypatch.setattr(curate, "pass_rate", lambda answers, gold: 0.0)  # not asked again
    code, _, err = run_here(tmp_path, *options, "--set-changed")
    assert code == 0, err


def test_the_folder_of_the_model_that_ships_is_that_model():
    by_path, by_name = (
        cli.parse_arguments(["--model", m])[0] for m in (str(ROOT / "tiny"), "tiny")
    )
    assert by_path == by_name and by_name.group == 8


def test_nothing_is_written_but_below_the_run_folder(smoke):
    assert [p.name for p in smoke[0].iterdir()] == ["runs"]
    assert [p.name for p in (smoke[0] / "runs").iterdir()] == ["smoke"]


@pytest.mark.parametrize("beta", ["0", "0.01"])
def test_where_no_reward_ever_differs_nothing_is_trained_and_the_exit_code_is_3(
    tmp_path, run_here, beta
):
    code, _, err = run_here(tmp_path, "--smoke", "--max-new-tokens", "1", "--beta", beta)
    assert code == 3 and "all rewards of a group were equal" in err


@pytest.mark.parametrize(
    "options, what",
    [
        (["--smoke", "--seed", "5"], "--seed was 0, is 5"),
        (["--group", "1"], "--group 1 is not in [2,"),
        (["--grop", "8"], "unrecognized arguments: --grop"),
        (["--run", ".."], "--run .. is not the name of a folder"),
        (["--lr", "inf"], "--lr inf is not in [0,"),
        (["--run", "z", "--tasks", "gone.jsonl"], "gone.jsonl: cannot be read"),
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


def test_a_damaged_configuration_is_named(tmp_path, run_here):
    (tmp_path / "runs/smoke/iter0").mkdir(parents=True)
    (tmp_path / "runs/smoke/config.json").write_text("{")
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 2 and "config.json is damaged" in err and "--run NAME" in err


def test_help_shows_each_option_with_the_papers_value(tmp_path, run_here):
    text = " ".join(run_here(tmp_path, "--help")[1].split())
    assert "learning rate of AdamW (default 1e-06; paper 1e-6, Table 4; tiny" in text


def test_micro_batch_auto_is_the_whole_batch():
    cfg, *_ = cli.parse_arguments(["--micro-batch", "auto"])
    assert cfg.micro_batch >= cfg.group * cfg.solver_prompts


def test_the_papers_numbers_are_the_defaults_of_any_other_model():
    cfg, *_ = cli.parse_arguments(["--model", "Qwen/Qwen2.5-0.5B"])
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
