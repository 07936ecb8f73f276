"""The loop: what the smoke run leaves, what each setting changes, and how it continues after a kill."""

import json
import math
import re
import shutil
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from kill import content
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import curate
import generator
import grpo
import phases
import selfplay
import solver
from ast_match import exact_match
from config import SMOKE, Config
from errors import NothingToLearn
from eval import load_tasks
from generator import Task
from phases import GeneratorBatches, SolverBatches, schedule
from plumbing import distributed
from plumbing import run as run_module
from plumbing.player import Player
from plumbing.run import Run
from plumbing.runfolder import read_jsonl, write_jsonl


def log(folder, phase=None):
    lines = read_jsonl(folder / "log.jsonl")
    return [line for line in lines if phase in (None, line["phase"])]


# -- what a run leaves ----------------------------------------------------------------------------


def test_the_smoke_run_leaves_every_file_that_a_run_has_and_nothing_else(smoke):
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
    assert not [name for name in names if ".part" in name or ".steps" in name]
    assert [p.name for p in smoke[0].iterdir()] == ["runs"]
    assert [p.name for p in (smoke[0] / "runs").iterdir()] == ["smoke"]


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


def test_both_players_have_moved_and_apart(smoke):
    base = load_file(ROOT / "tiny/model.safetensors")
    trained = []
    for role in ("generator", "solver"):
        trained.append(load_file(smoke[0] / f"runs/smoke/iter1/{role}/model.safetensors"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(trained[0][name], base[name])
    assert not torch.equal(trained[0][name], trained[1][name])


def test_every_step_is_logged_with_the_parts_of_its_reward(smoke):
    lines = log(smoke[0] / "runs/smoke")
    phases_logged = [(line["phase"], line["step"]) for line in lines]
    assert phases_logged == [
        ("generator", 0),
        ("generator", 1),
        ("curate", 0),
        *(("solver", step) for step in range(3)),
    ]
    common = {"reward", "entropy", "kl", "grad_norm", "zero_advantage_groups", "truncated"}
    common |= {"length", "skipped", "seconds", "seconds_sample", "seconds_update"}
    assert lines[0].keys() >= common | {"fmt", "valid", "diff", "sem", "obedience"}
    assert lines[0].keys() >= {"usable", "p", "copies", "near_duplicates", "menu_met", "omits"}
    assert "seconds_probe" in lines[0]
    assert lines[-1].keys() >= common | {"fmt", "acc", "leaks"}


def test_the_docs_explain_every_logged_number(smoke):
    lines = log(smoke[0] / "runs/smoke")
    logged = {key for line in lines for key in line} - {"iteration", "phase", "step"}
    table = (ROOT / "docs/logs.md").read_text().split("| logged |")[1].split("\n\n")[0]
    explained = {n for row in table.splitlines() for n in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert logged == explained


def test_every_candidate_is_kept_with_its_reason_and_the_tasks_are_the_selected_ones(smoke):
    folder = smoke[0] / "runs/smoke/iter1"
    candidates = read_jsonl(folder / "candidates.jsonl")
    tasks = load_tasks(folder / "tasks.jsonl")
    p = {c["id"]: c["p"] for c in candidates if c["reason"] is None}
    assert len(candidates) == SMOKE["candidates"] and {t.id for t in tasks} == p.keys()
    assert [p[t.id] for t in tasks] == sorted(p.values(), reverse=True)  # easy to hard
    assert all(exact_match(t.calls, t.calls) for t in tasks)
    (line,) = log(smoke[0] / "runs/smoke", "curate")
    assert sum(line["funnel"].values()) == line["candidates"] == len(candidates)
    assert line["funnel"]["selected"] == line["selected"] == len(tasks)


# -- kill and resume ------------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a run here as SIGKILL would: nothing catches it."""


KILLS = [  # where a run ends, and at which call
    (grpo, "step", 2),
    (Player, "save", 1),
    (phases, "measure", 1),
    (run_module, "save_step", 2),
    (Run, "record_evaluation", 1),
]


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_files(
    smoke, tmp_path, run_here, monkeypatch
):
    """It is killed in the Generator's training, at its checkpoint, in curation, in the Solver's
    training, and in the last evaluation; each time the same command continues."""
    folder = tmp_path / "runs/smoke"
    shutil.copytree(smoke[0] / "runs/smoke/iter0", folder / "iter0")
    shutil.copy(smoke[0] / "runs/smoke/config.json", folder)
    for owner, name, call in KILLS:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killing(getattr(owner, name), call))
            with pytest.raises(Killed):
                run_here(tmp_path, "--smoke")
    code, out, err = run_here(tmp_path, "--smoke")
    assert code == 0, err
    assert "bit-identical" not in out
    wanted, found = content(smoke[0]), content(tmp_path)
    assert {n for n in wanted.keys() | found if wanted.get(n) != found.get(n)} == set()


def killing(function, call):
    """Return the same function, except that its call number `call` ends the run."""
    calls = []

    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return function(*arguments, **named)

    return killed


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
    assert len(log(tmp_path / "runs/smoke")) == 6  # no line twice


def test_ctrl_c_stops_at_the_next_safe_point(tmp_path, run_here, monkeypatch, four_tasks):
    sample = Player.sample

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return sample(*arguments)

    monkeypatch.setattr(Player, "sample", interrupted)
    code, _, err = run_here(tmp_path, *four_tasks)
    assert code == 130
    assert "stopping at the next safe point" in err
    assert "the same command continues" in err
    assert not (tmp_path / "runs/smoke/iter0").exists()


@pytest.mark.parametrize("seconds, wanted", [(0.5, [10, 20, 30, 40]), (4.0, [10, 30])])
def test_a_slow_checkpoint_is_put_off(monkeypatch, tmp_path, seconds, wanted):
    now, saved = [100.0], []

    def save(folder, steps, *_):
        now[0] += seconds
        saved.append(steps)

    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_module, "save_step", save)
    run = Run(Config(save_every=10), tmp_path)
    for step in range(40):
        now[0] += 4.0
        if run._save_is_due(step):
            run._save(tmp_path, step + 1, None, None)
    assert saved == wanted


def test_ctrl_c_in_a_training_saves_the_step(smoke, tmp_path, run_here, monkeypatch):
    folder = shutil.copytree(smoke[0] / "runs", tmp_path / "runs") / "smoke"
    shutil.rmtree(folder / "iter1/solver")
    step = grpo.step

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(grpo, "step", interrupted)
    assert run_here(tmp_path, "--smoke")[0] == 130
    assert [p.name[:6] for p in (folder / "iter1/solver.steps").iterdir()] == ["000001"]
    assert len(log(folder, "solver")) == 1


# -- settings -------------------------------------------------------------------------------------


def algorithm(monkeypatch, **settings):
    """Return the last Solver and, in order, what each phase is given; no model is loaded."""
    calls = []

    def train(cfg, run, k, batches, start):
        calls.append((k, batches.role, start))
        return start if batches.steps == 0 else f"{batches.role}{k}"

    def curriculum(cfg, run, k, generator_path, solver_path):
        calls.append((k, "curate", generator_path, solver_path))
        return [Task("a", "q", [], [])]

    monkeypatch.setattr(selfplay, "train", train)
    monkeypatch.setattr(selfplay, "curriculum", curriculum)
    monkeypatch.setattr(selfplay, "evaluate", lambda cfg, run, k, path: calls.append((k, path)))
    cfg = Config(model="base", iterations=2, **settings)
    return selfplay.selfplay(cfg, None), calls


def test_algorithm_1(monkeypatch):
    last, calls = algorithm(monkeypatch)
    assert last == "solver2"
    assert calls == [
        (0, "base"),
        (1, "generator", "base"),
        (1, "curate", "generator1", "base"),
        (1, "solver", "base"),
        (1, "solver1"),
        (2, "generator", "generator1"),
        (2, "curate", "generator2", "solver1"),
        (2, "solver", "solver1"),
        (2, "solver2"),
    ]


def test_shared_weights_are_one_player_in_turn(monkeypatch):
    last, calls = algorithm(monkeypatch, ablation="shared-weights")
    assert last == "solver2"
    assert calls[2:7] == [
        (1, "curate", "generator1", "generator1"),
        (1, "solver", "generator1"),
        (1, "solver1"),
        (2, "generator", "solver1"),
        (2, "curate", "generator2", "generator2"),
    ]


def test_a_frozen_generator_stays_the_base_model(monkeypatch):
    _, calls = algorithm(monkeypatch, generator_steps=0)
    assert [call for call in calls if "curate" in call] == [
        (1, "curate", "base", "base"),
        (2, "curate", "base", "solver1"),
    ]


@pytest.mark.parametrize("ablation", ["none", "shuffled"])
def test_the_curriculum_is_from_easy_to_hard_unless_it_is_shuffled(monkeypatch, tmp_path, ablation):
    cfg = Config(ablation=ablation, guards="off", select=40, p_min=0.25, p_max=0.9)
    run = Run(cfg, tmp_path)
    monkeypatch.setattr(run, "load", lambda name: name)
    monkeypatch.setattr(phases, "propose", lambda *_: [proposed(i) for i in range(24)])

    def measure(cfg, run, k, frozen, usable):
        assert frozen == "solver"
        for i, c in enumerate(usable):
            c.p = (i * 5 % 9) / 8

    monkeypatch.setattr(phases, "measure_in_pieces", measure)
    tasks = selfplay.curriculum(cfg, run, 1, "generator", "solver")
    p = {c["id"]: c["p"] for c in read_jsonl(tmp_path / "iter1/candidates.jsonl")}
    rates = [p[task.id] for task in tasks]
    assert len(rates) > 9 and min(rates) == 0.25 and max(rates) == 0.875
    assert (rates == sorted(rates, reverse=True)) == (ablation == "none")
    (line,) = log(tmp_path, "curate")
    assert line["selected"] == len(tasks) and line["candidates"] == 24


def proposed(i):
    """Return a sound candidate unlike the others."""
    word = "abcdefghijklmnopqrstuvwxyz"[i] * 4
    text = WRITTEN.replace("Paris", word)
    spec = generator.Spec("math", "single_turn", 2, 1)
    return curate.candidate(f"{i:02d}", spec, generator.parse(text))


GOOD = json.dumps([{"name": "get_weather", "arguments": {"city": "Paris"}}])
TOOLS = [
    {"name": "get_weather", "description": "F.", "parameters": {"city": {"type": "string"}}},
    {"name": "get_time", "description": "T.", "parameters": {"place": {"type": "string"}}},
]
WRITTEN = (
    "<think>x</think><question>Will it rain in Paris today?</question><available_tools>"
    f"{json.dumps(TOOLS)}</available_tools><tool_call_answer>{GOOD}</tool_call_answer>"
)
ANSWER = f"<think>x</think><tool_call_answer>{GOOD}</tool_call_answer>"


class Scripted:
    """A player that always says the same text, and remembers what it was asked."""

    def __init__(self, text):
        self.said = text
        self.asked = []

    def sample(self, chats, group, max_new_tokens, temperature, seed=0):
        chats = list(chats)
        self.asked.append((len(chats), group, max_new_tokens, temperature, seed))
        self.chats = chats
        return [None] * (group * len(chats))

    def text(self, *_):
        return self.said

    def digit_logits(self, chats):
        return torch.zeros(len(list(chats)), 5)


def played(tmp_path, **settings):
    """Play one step of a scripted Generator against a scripted Solver."""
    cfg = Config(**{"generator_batch": 2, "group": 2, "guards": "off", **settings})
    batches = GeneratorBatches(cfg, Run(cfg, tmp_path), 1, "")
    batches.frozen = Scripted(ANSWER)
    writer = Scripted(WRITTEN)
    return batches.play(writer, 0), writer, batches.frozen


def test_tasks_and_answers_have_limits_and_temperatures_of_their_own(tmp_path):
    settings = dict(max_new_tokens=77, answer_tokens=33, temperature=0.9, num_probes=3)
    _, writer, frozen = played(tmp_path, **settings)
    assert [call[:4] for call in writer.asked] == [(2, 2, 77, 0.9)]
    assert [call[:4] for call in frozen.asked] == [(4, 3, 33, 0.7)]
    cfg = Config(**settings, solver_batch=2, solver_steps=1, group=2)
    learner = Scripted(ANSWER)
    task = Task("a", "Will it rain in Paris today?", [], [])
    SolverBatches(cfg, Run(cfg, tmp_path), 1, [task]).play(learner, 0)
    assert [call[:4] for call in learner.asked] == [(2, 2, 33, 0.9)]


def test_candidates_have_a_temperature_of_their_own(tmp_path):
    cfg = Config(candidates=3, candidate_temperature=0.4, max_new_tokens=77, temperature=0.9)
    writer = Scripted(WRITTEN)
    candidates = phases.propose(cfg, Run(cfg, tmp_path), 1, writer)
    assert [call[:4] for call in writer.asked] == [(3, 1, 77, 0.4)]
    assert [c.id for c in candidates] == ["1-00000", "1-00001", "1-00002"]
    assert all(c.task.calls == candidates[0].task.calls for c in candidates)


@pytest.mark.parametrize("rule", ["graded", "gate", "free"])
def test_the_rule_for_specs_decides_the_reward_of_what_misses_its_spec(tmp_path, rule):
    cfg = Config(spec=rule, generator_batch=8, group=2)
    specs = generator.sample_specs(Run(cfg, tmp_path).seed(1, "generator/0"), 8, cfg.p_large_menu)
    batch, _, _ = played(tmp_path, spec=rule, generator_batch=8)
    assert {spec.menu_size for spec in specs} > {2}
    for i, reward in enumerate(batch.rewards):
        spec = specs[i // 2]
        met = (2 / spec.menu_size) / spec.calls  # of a menu of two tools and one call
        usable = rule != "gate" or met == 1
        assert reward.obedience == pytest.approx(met if rule == "graded" else 1.0)
        assert (reward.diff > 0) == usable
        curr = reward.obedience * (reward.diff + reward.sem) / 2
        assert reward.total == pytest.approx(2 + curr)


@pytest.mark.parametrize(
    "ablation, diff, sem",
    [
        ("none", 0.1142, 0.5),
        ("no-difficulty", 0.0, 0.5),
        ("hard-cliff", 0.0, 0.5),
        ("no-judge", 0.1142, 0.0),
    ],
)
def test_the_ablations_change_their_part_of_the_reward(tmp_path, ablation, diff, sem):
    batch, _, _ = played(tmp_path, ablation=ablation, spec="free")
    for reward in batch.rewards:
        assert (reward.diff, reward.sem) == pytest.approx((diff, sem), abs=1e-4)


def test_the_line_of_a_step_counts_usable_p_copies_menu_met_and_what_is_left_out(tmp_path):
    batch, _, _ = played(tmp_path, spec="free")
    found = batch.metrics
    assert found == found | {"usable": 1.0, "p": 1.0, "copies": 0.0, "omits": 0.0}
    specs = [generator.Spec("math", "single_turn", m, 1) for m in (2, 3, 2, 4)]
    drafts = [generator.parse(WRITTEN)] * 4
    candidates = [curate.candidate(str(i), s, d) for i, (s, d) in enumerate(zip(specs, drafts))]
    candidates[2].reason = "value not in the question"
    candidates[3].p = 0.25
    for i in (0, 1):
        tool = generator.examples_of(specs[i])[0].tools[0]
        task = candidates[i].task
        candidates[i].task = replace(task, tools=[task.tools[0], tool, *task.tools[2:]])
    wanted = {"usable": 0.25, "p": 0.25, "copies": 0.5, "menu_met": 0.5, "omits": 0.0}
    assert phases.describe(candidates, candidates[3:]) == wanted
    unreadable = curate.candidate("4", specs[0], generator.parse("hm"))
    wanted = {"usable": 0.0, "p": 0.0, "copies": 0.0, "menu_met": 0.0, "omits": 0.0}
    assert phases.describe([unreadable], []) == wanted


def test_prompts_of_ones_own_reach_every_place_where_a_player_is_asked(tmp_path):
    own = tmp_path / "g.txt"
    own.write_text("OWN {domain} {context} {menu_size} {calls}")
    other = tmp_path / "s.txt"
    other.write_text("OTHER {tools} {question}")
    settings = dict(generator_prompt=str(own), solver_prompt=str(other))
    _, writer, frozen = played(tmp_path, **settings)
    cfg = Config(**settings, candidates=2, solver_steps=1, solver_batch=1, group=2)
    proposer = Scripted(WRITTEN)
    phases.propose(cfg, Run(cfg, tmp_path), 1, proposer)
    learner = Scripted(ANSWER)
    SolverBatches(cfg, Run(cfg, tmp_path), 1, [Task("a", "q", [], [])]).play(learner, 0)
    for player, word in ((writer, "OWN"), (proposer, "OWN"), (frozen, "OTHER"), (learner, "OTHER")):
        assert all(chat[0]["content"].startswith(word) for chat in player.chats)


def test_the_schedule_sets_the_learning_rate_of_each_step(monkeypatch, tmp_path):
    for name, wanted in (("linear", [1.0, 0.75, 0.5, 0.25]), ("constant", [1.0] * 4)):
        assert rates_of_a_phase(monkeypatch, tmp_path, name) == wanted


def rates_of_a_phase(monkeypatch, tmp_path, name):
    """Return the learning rates with which a phase of four steps calls grpo.step."""
    cfg = Config(schedule=name, lr=1.0, group=2)
    seen = []
    weights = [torch.nn.Parameter(torch.zeros(1))]
    player = SimpleNamespace(
        model=None, prepare_training=lambda cfg: (weights, None), save=lambda out: None
    )
    run = SimpleNamespace(
        path=lambda k, role: tmp_path / "never",
        begin=lambda *_: None,
        load=lambda *_, **__: player,
        steps=lambda count, *_: range(count),
        clock=Run(cfg, tmp_path).clock,
        record=lambda line: None,
        finish=lambda *_: None,
    )
    reward = selfplay.rewards.SolverReward(1.0, 1.0)
    batch = phases.Batch([None] * 2, [reward] * 2)
    batches = SimpleNamespace(
        steps=4, role="solver", shown=(), open=lambda: None, play=lambda *_: batch
    )

    def step(model, optimizer, *_):
        seen.append(optimizer.param_groups[0]["lr"])
        return {}

    monkeypatch.setattr(grpo, "step", step)
    selfplay.train(cfg, run, 1, batches, "start")
    return seen


@pytest.mark.parametrize("count, asked", [(3, [0, 1, 2, 0]), (4, [0, 1, 2, 3]), (10, [0, 2, 5, 7])])
def test_the_order_is_kept_and_all_of_a_large_curriculum_is_sampled(count, asked):
    tasks = [Task(str(i), "", [], []) for i in range(count)]
    assert [int(task.id) for task in schedule(tasks, 4)] == asked


def test_each_step_of_the_solver_takes_its_own_slots(tmp_path):
    tasks = [Task(str(i), f"question {i}", [], []) for i in range(4)]
    cfg = Config(solver_steps=2, solver_batch=2, group=2)
    batches = SolverBatches(cfg, Run(cfg, tmp_path), 1, tasks)
    for step, first in enumerate((0, 2)):
        player = Scripted(ANSWER)
        batches.play(player, step)
        users = [chat[-1]["content"] for chat in player.chats]
        assert [f"question {first + i}" in user for i, user in enumerate(users)] == [True, True]


@pytest.mark.parametrize("passes, steps", [(1, 2), (1.5, 3), (9, 8)])
def test_a_solver_phase_ends_after_its_passes_over_the_tasks(tmp_path, passes, steps):
    tasks = [Task(str(i), "", [], []) for i in range(4)]
    cfg = Config(solver_steps=8, solver_batch=2, passes=passes)
    batches = SolverBatches(cfg, Run(cfg, tmp_path), 1, tasks)
    assert batches.steps == steps and len(batches.tasks) == 2 * steps
    assert batches.top_task == math.ceil(steps / 2) / (2 * steps)


def test_tasks_of_earlier_iterations_come_before_the_new_ones(tmp_path):
    for k in (1, 2):
        tasks = [Task(f"{k}-{i}", "question", [], []).to_json() for i in range(6)]
        write_jsonl(tmp_path / f"iter{k}" / "tasks.jsonl", tasks)
    new = [Task(f"3-{i}", "", [], []) for i in range(4)]
    cfg = Config(solver_steps=5, solver_batch=2, replay=1.5)
    ids = [task.id for task in SolverBatches(cfg, Run(cfg, tmp_path), 3, new).tasks]
    assert ids[6:] == ["3-0", "3-1", "3-2", "3-3"] and len(set(ids)) == 10
    assert {id[0] for id in ids[:6]} == {"1", "2"} and ids[:6] != sorted(ids[:6])
    again = SolverBatches(cfg, Run(cfg, tmp_path), 3, new)
    assert [task.id for task in again.tasks] == ids  # as after a restart
    first = SolverBatches(cfg, Run(cfg, tmp_path), 1, new)  # nothing is earlier
    assert [task.id for task in first.tasks[:4]] == ["3-0", "3-1", "3-2", "3-3"]


# -- what can go wrong ----------------------------------------------------------------------------


def test_nothing_left_after_curation_names_the_filter_and_goes_on_with_another_value(
    tmp_path, run_here, monkeypatch, four_tasks
):
    options = [*four_tasks, "--generator-steps", "0", "--candidates", "24"]
    monkeypatch.setattr(curate, "pass_rate", lambda answers, gold: 0.875)
    code, _, err = run_here(tmp_path, *options, "--p-min", "1")
    assert code == 3 and "none of 24 candidates is left. Lower --p-min" in err
    monkeypatch.setattr(curate, "pass_rate", lambda answers, gold: 0.0)  # not measured again
    code, out, err = run_here(
        tmp_path, *options, "--p-min", "0.5", "--p-max", "0.9", "--set-changed"
    )
    assert code == 0, err
    assert "--p-min was 1.0, is 0.5" in out and "--p-max was 1.0, is 0.9" in out
    rates = {c["p"] for c in read_jsonl(tmp_path / "runs/smoke/iter1/candidates.jsonl")}
    assert rates == {None, 0.875}


def test_no_usable_candidate_asks_for_more(tmp_path, run_here, four_tasks):
    options = [*four_tasks, "--generator-steps", "0", "--max-new-tokens", "4"]
    code, _, err = run_here(tmp_path, *options, "--candidates", "2")
    assert code == 3 and "none of 2 candidates is left. Raise --candidates" in err


@pytest.mark.parametrize("beta", ["0", "0.01"])
def test_where_no_reward_ever_differs_nothing_is_trained_and_the_exit_code_is_3(
    tmp_path, run_here, four_tasks, beta
):
    options = ["--max-new-tokens", "1", "--answer-tokens", "8", "--beta", beta]
    code, _, err = run_here(tmp_path, *four_tasks, *options)
    assert code == 3 and "all rewards within each group were equal" in err


def a_phase(tmp_path, gradients, steps):
    """Run a phase whose steps have these norms of the gradient, NaN for one that is not finite."""
    cfg = Config(save_every=100)
    run = Run(cfg, tmp_path)
    run.begin(1, "generator")
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    for step in run.steps(steps, model, optimizer, ()):
        bad = gradients[step] != gradients[step]
        run.record({"skipped": float(bad), "zero_advantage_groups": 0.0})
    return run


def test_five_steps_in_a_row_without_a_finite_gradient_end_the_run_and_the_state_is_kept(tmp_path):
    nan = float("nan")
    kept = tmp_path / "iter1/generator.steps"
    with pytest.raises(NothingToLearn, match="5 steps in a row had no finite gradient") as error:
        a_phase(tmp_path, [1.0, nan, nan, nan, nan, nan, 1.0], steps=7)
    assert str(kept) in str(error.value) and "Lower --lr" in str(error.value)
    assert [p.name[:6] for p in kept.iterdir()] == ["000006"]


def test_fewer_steps_without_a_finite_gradient_are_left_out(tmp_path):
    nan = float("nan")
    run = a_phase(tmp_path, [nan, nan, nan, nan, 1.0, nan, nan, nan, nan], steps=9)
    assert len(run.lines) == 9


def test_a_step_without_a_finite_gradient_leaves_the_weights_and_goes_on(
    smoke, tmp_path, run_here, monkeypatch
):
    folder = shutil.copytree(smoke[0] / "runs", tmp_path / "runs") / "smoke"
    shutil.rmtree(folder / "iter1/solver")
    (folder / "report.txt").unlink()
    clip = distributed.clip_grad_norm
    calls = []

    def once(*given):
        calls.append(1)
        norm = clip(*given)
        return torch.tensor(torch.nan) if len(calls) == 2 else norm

    monkeypatch.setattr(distributed, "clip_grad_norm", once)
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 0, err
    assert [line["skipped"] for line in log(folder, "solver")] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "error, why",
    [
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), "tried to allocate 9 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate memory"),
        (MemoryError(), "no memory is left"),
    ],
)
def test_out_of_memory_names_the_phase_and_what_takes_less(
    tmp_path, run_here, monkeypatch, error, why
):
    def short(*_):
        raise error

    monkeypatch.setattr(Player, "sample", short)
    code, _, err = run_here(tmp_path, "--smoke")
    assert code == 2 and "base model evaluation: out of memory" in err and why in err
    assert "--max-new-tokens" in err and "Traceback" not in err


def test_the_tracker_gets_the_numbers_of_each_line(smoke, tmp_path, run_here, monkeypatch):
    folder = shutil.copytree(smoke[0] / "runs", tmp_path / "runs") / "smoke"
    shutil.rmtree(folder / "iter1/solver")
    sent = []
    tracker = SimpleNamespace(log=sent.append)
    package = SimpleNamespace(init=lambda **options: tracker)
    monkeypatch.setitem(sys.modules, "wandb", package)
    code, _, err = run_here(tmp_path, "--smoke", "--wandb")
    assert code == 0, err
    lines = log(folder, "solver")
    assert len(sent) == len(lines) == 3
    for line, numbers in zip(lines, sent):
        wanted = {f"solver/{k}": v for k, v in line.items() if isinstance(v, int | float)}
        assert numbers == wanted


def test_a_missing_tracker_is_one_line_with_the_command_that_installs_it(
    tmp_path, run_here, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = run_here(tmp_path, "--smoke", "--wandb")
    assert code == 2 and "pip install wandb" in err and len(err.splitlines()) == 1
