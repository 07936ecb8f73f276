"""Evaluation: held-out benchmarks, cases and answers from files, both commands, bad input."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, SHARED

import eval
import solver
from errors import UsageError
from evals import __main__ as command
from evals.cases import choose, load_cases
from plumbing.player import Player

GOOD = {
    "id": "a",
    "question": "q",
    "tools": [{"name": "f", "parameters": {"x": {"type": "integer"}}}],
    "calls": [{"name": "f", "arguments": {"x": 1}}],
}
RIGHT, WRONG = GOOD["calls"], [{"name": "f", "arguments": {"x": 2}}]


def write(path, *items):
    """Write a JSONL file, text as it is; return its path."""
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in items))
    return str(path)


def answers(path, **calls):
    return write(path, *({"id": id, "calls": x} for id, x in calls.items()))


@pytest.fixture
def run(capsys):
    """Return a function that runs the command in this process: exit code, output, errors."""

    def call(*arguments):
        code = command.main([*map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def few(tmp_path):
    """Write a file of 24 tasks that tiny can read; return its path."""
    lines = (ROOT / "tiny" / "heldout.jsonl").read_text().split("\n")
    return write(tmp_path / "few.jsonl", *lines[:24])


def prompt_widths(data):
    """Return how many tokens the prompt of each case has."""
    player = Player(str(ROOT / "tiny"))
    return [len(player.ids(solver.prompt(case))) for case in load_cases(Path(data), None)]


@pytest.mark.parametrize(
    "line, what",
    [
        ("{", "Expecting"),
        ("[]", "not a task"),
        ({**GOOD, "id": ""}, "it has no 'id'"),
        ({"id": "b", "question": "q"}, "'tools'"),
        ({**GOOD, "id": "b", "calls": [42]}, "'calls'"),
        (
            {**GOOD, "id": "b", "calls": [{"name": "g", "arguments": {}}]},
            "a gold call names g, which is not in the menu",
        ),
        (GOOD, "a second line with the id a"),
        ({**GOOD, "id": "b", "benchmark": "bfcl_x"}, "'accept'"),
        ({**GOOD, "id": "b", "benchmark": "bfcl_x", "accept": 3}, "'accept'"),
        ({**GOOD, "id": "b", "benchmark": "bfcl_x", "accept": [{"x": 1}]}, "'accept'"),
        (
            {
                **GOOD,
                "id": "b",
                "benchmark": "bfcl_x",
                "accept": [{"x": [1]}],
                "tools": [{"name": "f", "parameters": {"x": {"type": ["integer", "null"]}}}],
            },
            "one type per schema",
        ),
        ("[" * 5000, ""),
    ],
)
def test_a_bad_case_is_one_line_with_file_and_number_and_exit_code_2(tmp_path, run, line, what):
    data = write(tmp_path / "tasks.jsonl", GOOD, line)
    code, _, errors = run("--predictions", answers(tmp_path / "p", a=RIGHT), "--data", data)
    assert code == 2 and errors.count("\n") == 1
    with pytest.raises(UsageError, match=f"tasks.jsonl, line 2: .*{what}"):
        load_cases(Path(data), None)


def bfcl_case(schema, accepted, **more):
    tools = [{"name": "f", "parameters": {"x": schema}}]
    return {**GOOD, "benchmark": "bfcl_x", "tools": tools, "accept": [{"x": accepted}], **more}


@pytest.mark.parametrize(
    "schema, accepted",
    [
        ({"type": "array", "items": {"type": ["integer", "null"]}}, [[1]]),
        ({"type": "array", "items": [{"type": "integer"}]}, [[1]]),
        ({"type": "array", "items": True}, [[1]]),
        ({"type": "array", "items": "integer"}, [[1]]),
        ({"type": "array", "items": {"type": {}}}, [[1]]),
        ({"type": {"anyOf": []}}, [1]),
        (["integer"], [1]),
        (None, [1]),
        ({"type": "array", "items": {"type": "integer"}}, [[1], None]),
        ({"type": "array", "items": {"type": "integer"}}, [None, [1]]),
        ({"type": "array", "items": {"type": "integer"}}, [[1], 2]),
        ({"type": "integer"}, None),
        ({"type": "integer"}, 1),
        ({"type": "object"}, [{"a": 1}]),
        ({"type": "array", "items": {"type": "object"}}, [[{"a": None}]]),
    ],
)
def test_what_bfcls_rule_cannot_judge_is_one_line_and_exit_code_2(tmp_path, run, schema, accepted):
    data = write(tmp_path / "tasks.jsonl", GOOD, bfcl_case(schema, accepted, id="b"))
    saved = answers(tmp_path / "p", a=RIGHT, b=[{"name": "f", "arguments": {"x": [1]}}])
    code, out, errors = run("--predictions", saved, "--data", data)
    assert code == 2 and "tasks.jsonl, line 2: " in errors and errors.count("\n") == 1
    code, out, _ = run("--predictions", saved, "--data", data, "--rule", "exact")
    assert code == 0 or schema is None or isinstance(schema, list)


@pytest.mark.parametrize(
    "schema, accepted, value",
    [
        ({"type": "array", "items": None}, [["a"]], ["a"]),
        ({"type": "array", "items": {"type": "integer"}}, [[1], ""], [1]),
        ({"type": "integer"}, ["", None], None),
        ({"type": "object"}, [{"a": [1, ""]}], {}),
    ],
)
def test_what_bfcls_rule_can_judge_is_judged(tmp_path, run, schema, accepted, value):
    data = write(tmp_path / "tasks.jsonl", bfcl_case(schema, accepted))
    saved = answers(tmp_path / "p", a=[{"name": "f", "arguments": {"x": value}}])
    code, out, _ = run("--predictions", saved, "--data", data)
    assert code == 0 and out.splitlines()[2].split()[2] == "100.0"


@pytest.mark.parametrize(
    "line, what",
    [
        ({"id": "z", "calls": []}, "no case has the id z"),
        ({"id": "a", "calls": []}, "a second line with the id a"),
        ({"id": "b"}, "no call"),
        ({"id": "b", "calls": [{"arguments": {}}]}, "no call"),
        ("nonsense", "Expecting"),
    ],
)
def test_a_bad_answer_is_one_line_with_file_and_number_and_exit_code_2(tmp_path, run, line, what):
    data = write(tmp_path / "data.jsonl", GOOD, {**GOOD, "id": "b"})
    saved = write(tmp_path / "answers.jsonl", {"id": "a", "calls": RIGHT}, line)
    code, _, errors = run("--predictions", saved, "--data", data)
    assert code == 2 and f"answers.jsonl, line 2: {what}" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, what",
    [
        (["--subset", "paper"], "no case is left"),
        (["--data", "gone.jsonl"], "gone.jsonl: no JSONL file"),
        (["--data", str(ROOT / "assets")], "no JSONL file"),
        (["--rule", "bfcl"], "'accept' needs"),
    ],
)
def test_a_choice_that_leaves_nothing_is_one_line_and_exit_code_2(tmp_path, run, arguments, what):
    data, saved = write(tmp_path / "d.jsonl", GOOD), answers(tmp_path / "p", a=RIGHT)
    code, _, errors = run("--predictions", saved, "--data", data, *arguments)
    assert code == 2 and what in errors and errors.count("\n") == 1


def test_bad_options_exit_with_2_and_are_named(run, capsys):
    with pytest.raises(SystemExit) as left:
        run("--model", "tiny", "--data", "gone", "--limit", "0")
    assert left.value.code == 2 and "--limit" in capsys.readouterr().err


def test_saved_answers_are_scored_by_the_rule_of_their_benchmark(tmp_path, run):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "plain.jsonl", *({**GOOD, "id": f"p{i}"} for i in range(4)))
    loose = {**GOOD, "benchmark": "bfcl_x", "accept": [{"x": [1, 2]}]}
    write(folder / "other.jsonl", *({**loose, "id": f"b{i}"} for i in range(4)))
    saved = answers(tmp_path / "p", **{f"{x}{i}": WRONG for x in "pb" for i in range(4)})
    code, text, _ = run("--predictions", saved, "--data", folder)
    assert code == 0
    accuracy = {row.split()[0]: row.split()[2] for row in text.splitlines()[2:4]}
    assert accuracy == {"bfcl_x": "100.0", "plain": "0.0"}
    text = run("--predictions", saved, "--data", folder, "--rule", "exact")[1]
    assert [row.split()[2] for row in text.splitlines()[2:4]] == ["0.0", "0.0"]


def test_cases_without_an_answer_are_left_out_and_counted(tmp_path, run):
    data = write(tmp_path / "d.jsonl", GOOD, {**GOOD, "id": "b"})
    _, text, _ = run("--predictions", answers(tmp_path / "p", a=RIGHT), "--data", data)
    assert "1 cases without an answer are left out" in text
    assert text.splitlines()[2].split()[:3] == ["d", "1", "100.0"]


def test_two_files_of_answers_are_compared(tmp_path, run):
    data = write(tmp_path / "d.jsonl", *({**GOOD, "id": f"c{i}"} for i in range(10)))
    first = answers(tmp_path / "1", **{f"c{i}": RIGHT for i in range(10)})
    second = answers(tmp_path / "2", **{f"c{i}": WRONG for i in range(10)})
    _, text, _ = run("--predictions", first, "--compare", second, "--data", data)
    assert "+100.0  [+100.0, +100.0]" in text and "0.00195" in text


def test_a_sample_is_the_same_for_a_seed_and_part_of_a_larger_one():
    cases = load_cases(ROOT / "tiny" / "heldout.jsonl", None)
    ids = lambda limit, seed: [case.id for case in choose(cases, None, limit, seed)]
    assert ids(5, 0) == ids(9, 0)[:5] != ids(5, 1) and len(ids(None, 0)) == len(cases)


def test_the_subset_of_the_paper_goes_by_id(tmp_path):
    kept = ["toolalpaca-real-1", "sealtools-out-domain-easy-1", "snips-x", "apibank-l3-1"]
    left = ["toolalpaca-simulated-1", "sealtools-in-domain-difficult-1", "bfcl-simple_python_1"]
    data = write(tmp_path / "d.jsonl", *({**GOOD, "id": id} for id in kept + left))
    chosen = choose(load_cases(Path(data), None), "paper", None, 0)
    assert {case.id for case in chosen} == set(kept)


def test_a_stopped_run_goes_on_and_ends_in_the_same_answers(tmp_path, run, few, monkeypatch):
    monkeypatch.setitem(eval.BATCH_TOKENS, "cpu", 2400)  # a few cases a batch
    monkeypatch.chdir(ROOT)
    model = ["--model", "tiny", "--data", few, "--max-new-tokens", 150, "--temperature", 1]
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    expected = run(*model, "--save", whole)
    lines = whole.read_text().splitlines(keepends=True)
    assert len(lines) == 24 and {"id", "calls", "text"} <= json.loads(lines[0]).keys()
    batch = 2400 // (
        150 + max(prompt_widths(few))
    )  # after the first batch, in the second, a half line
    for saved in batch, batch + 1:
        stopped.write_text("".join(lines[:saved]) + lines[saved][:40])
        assert run(*model, "--save", stopped)[:2] == expected[:2]
        assert stopped.read_text() == whole.read_text()
    assert (
        run("--predictions", stopped, "--data", few)[1].splitlines()[1:]
        == (expected[1].splitlines()[1:])
    )
    code, _, errors = run(*model, "--save", stopped, "--seed", 1)
    assert code == 2 and "has answers of another run" in errors
    assert "name another file for --save" in errors and "Fix or delete" not in errors


def test_answers_of_other_weights_under_the_same_name_are_not_taken_for_these(
    tmp_path, run, few, monkeypatch
):
    monkeypatch.chdir(ROOT)
    options = ["--data", few, "--limit", 1, "--max-new-tokens", 8, "--save", tmp_path / "a.jsonl"]
    shutil.copytree(ROOT / "tiny", tmp_path / "model")
    assert run("--model", tmp_path / "model", *options)[0] == 0
    player = Player(str(tmp_path / "model"))
    player.model.get_input_embeddings().weight.data[0] += 1
    player.model.save_pretrained(tmp_path / "model")
    code, _, errors = run("--model", tmp_path / "model", *options)
    assert code == 2 and "of another run" in errors


def test_a_file_to_save_to_that_holds_something_else_is_left_alone(tmp_path, run, few, monkeypatch):
    monkeypatch.chdir(ROOT)
    for text in ("no newline", "two\nlines\n", json.dumps(GOOD) + "\n"):
        other = tmp_path / "other.jsonl"
        other.write_text(text)
        code, _, errors = run("--model", "tiny", "--data", few, "--save", other)
        assert code == 2 and "other.jsonl" in errors and other.read_text() == text


def test_ctrl_c_ends_with_130_and_says_how_to_continue(run, few, monkeypatch):
    monkeypatch.setattr(command, "evaluate", lambda a: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, errors = run("--model", "tiny", "--data", few, "--save", "a.jsonl")
    assert code == 130 and "the same command continues from a.jsonl" in errors


def test_the_command_compares_two_models_and_saves_both(tmp_path, run, few, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["--data", few, "--limit", 8, "--max-new-tokens", 64]
    saved = tmp_path / "a.jsonl"
    code, text, _ = run("--model", "tiny", "--compare", "tiny", *arguments, "--save", saved)
    last = text.splitlines()[-2].split()
    assert code == 0 and last == "all cases 8 +0.0 [+0.0, +0.0] 0 0 1".split()
    assert saved.read_text() == (tmp_path / "a.compare.jsonl").read_text()


BANK = solver.TEMPLATES["bank"]


def test_batches_keep_to_the_budget_and_start_with_the_longest(few, monkeypatch):
    player, batches = Player("tiny"), []
    monkeypatch.setitem(eval.BATCH_TOKENS, "cpu", 2000)
    monkeypatch.setattr(player, "sample", lambda chats, *_: batches.append(chats) or [])
    list(eval.complete(player, load_cases(Path(few), None), BANK, 100))
    widths = [[len(player.ids(chat)) + 100 for chat in batch] for batch in batches]
    length = [len(chat[-1]["content"]) for batch in batches for chat in batch]
    assert length == sorted(length, reverse=True) and len(length) == 24
    assert all(len(batch) == 2000 // batch[0] for batch in widths[:-1])


def test_the_base_model_that_ships_is_weak_but_alive():
    tasks = eval.load_heldout("tiny", 160)["heldout"]
    right = eval.grade(Player("tiny"), tasks, BANK, 320)
    assert len(tasks) == 160 and 0.15 <= sum(right) / len(right) <= 0.45


def test_grade_runs_between_answers_and_names_what_it_evaluates(few, capsys):
    tasks = eval.load_tasks(Path(few))[:3]
    calls = []
    eval.grade(Player("tiny"), tasks, BANK, 4, "the title", lambda: calls.append(1))
    assert len(calls) == 3 and "the title:" in capsys.readouterr().err


# Held-out benchmarks.


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Put an empty folder in place of evals/data; return it."""
    eval.note.cache_clear()
    monkeypatch.setattr(eval, "PREPARED", tmp_path / "prepared")
    (tmp_path / "prepared").mkdir()
    return tmp_path / "prepared"


def test_heldout_tasks_come_by_benchmark_from_a_file_or_all_files_of_a_folder(prepared):
    named = {**GOOD, "benchmark": "named"}
    write(
        prepared / "one.jsonl", *({**GOOD, "id": f"o{i}"} for i in range(5)), {**named, "id": "x"}
    )
    (prepared / "sub").mkdir()
    write(prepared / "sub" / "two.jsonl", {**GOOD, "id": "t"}, {**named, "id": 3})
    found = eval.load_heldout(str(prepared), 4)
    assert {name: len(tasks) for name, tasks in found.items()} == {"one": 4, "named": 2, "two": 1}
    assert {task.id for task in found["named"]} == {"x", "3"}
    assert list(eval.load_heldout(str(prepared / "one.jsonl"), None)) == ["one", "named"]


def test_a_heldout_sample_is_fixed_and_part_of_a_larger_one():
    ids = lambda limit: [task.id for task in eval.load_heldout("tiny", limit)["heldout"]]
    assert ids(10) == ids(10) == ids(40)[:10] and len(set(ids(None))) == 480
    assert ids(480) != [task.id for task in eval.load_tasks(eval.heldout_file("tiny"))]


def test_without_a_path_the_prepared_benchmarks_of_the_paper_are_held_out(prepared, capsys):
    for name, ids in {
        "sealtools": ["sealtools-in-domain-easy-1", "sealtools-in-domain-difficult-1"],
        "toolalpaca": ["toolalpaca-real-1", "toolalpaca-simulated-1"],
        "other": ["other-1"],
    }.items():
        lines = [{**GOOD, "id": id, "benchmark": name} for id in ids]
        write(prepared / f"{name}.jsonl", *lines)
    write(prepared / "bfcl.jsonl", {**GOOD, "id": "bfcl-1", "accept": [{"x": [1]}]})
    found = eval.load_heldout("", 100)
    assert [(name, tasks[0].id, len(tasks)) for name, tasks in found.items()] == [
        ("sealtools", "sealtools-in-domain-easy-1", 1),
        ("toolalpaca", "toolalpaca-real-1", 1),
    ]
    assert capsys.readouterr().err == ""


def test_unprepared_benchmarks_leave_tinys_tasks_and_one_line_that_says_so(prepared, capsys):
    found = eval.load_heldout("", 7)
    assert list(found) == ["heldout"] and len(found["heldout"]) == 7
    eval.load_heldout("", 7)
    (line,) = capsys.readouterr().err.splitlines()
    assert "python evals/prepare.py" in line and "not a benchmark" in line


def test_bfcls_files_are_left_out_with_one_line_each(prepared, capsys):
    write(prepared / "mine.jsonl", GOOD)
    accept = {**GOOD, "accept": [{"x": [1]}]}
    write(prepared / "other.jsonl", {**accept, "id": "b"}, {**accept, "id": "c"})
    write(prepared / "bfcl_irrelevance.jsonl", {**GOOD, "id": "d", "calls": []})
    assert list(eval.load_heldout(str(prepared), 9)) == ["mine"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["bfcl_irrelevance", "other"]
    assert all("python -m evals" in line for line in lines)
    with pytest.raises(UsageError, match="no task for exact match"):
        eval.load_heldout(str(prepared / "other.jsonl"), 9)


def test_the_shared_benchmarks_are_held_out_by_name():
    folder = SHARED / "benchmarks"
    if not folder.is_dir():
        pytest.skip(f"no benchmarks in {SHARED}")
    found = eval.load_heldout(str(folder), 20)
    assert {name: len(tasks) for name, tasks in found.items()} == dict.fromkeys(
        ["apibank", "nexusraven", "sealtools", "snips", "toolalpaca"], 20
    )


@pytest.mark.parametrize(
    "path, what",
    [
        ("gone", "gone: no JSONL file of tasks"),
        ("evals/data", "python evals/prepare.py"),
        (str(ROOT / "assets"), "no JSONL file of tasks"),
    ],
)
def test_a_heldout_path_without_tasks_is_one_line_that_says_how_to_get_them(
    prepared, monkeypatch, path, what
):
    monkeypatch.chdir(prepared)
    with pytest.raises(UsageError, match=what) as error:
        eval.load_heldout(path, 5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "id, what",
    [
        (None, "it has no 'id'"),
        ("", "it has no 'id'"),
        ([1], "its 'id' is neither text nor an integer"),
        ({}, "its 'id' is neither text nor an integer"),
        (True, "its 'id' is neither text nor an integer"),
        (1.5, "its 'id' is neither text nor an integer"),
    ],
)
def test_an_id_is_text_or_an_integer_in_tasks_and_in_answers(tmp_path, run, id, what):
    data = write(tmp_path / "tasks.jsonl", GOOD, {**GOOD, "id": id})
    good = answers(tmp_path / "good", a=RIGHT)
    code, _, errors = run("--predictions", good, "--data", data)
    assert code == 2 and f"tasks.jsonl, line 2: {what}" in errors and errors.count("\n") == 1
    with pytest.raises(UsageError, match=f"line 2: {what}"):
        eval.load_tasks(Path(data))
    saved = write(tmp_path / "saved", {"id": id, "calls": RIGHT}, {"calls": RIGHT})
    code, _, errors = run("--predictions", saved, "--data", write(tmp_path / "one.jsonl", GOOD))
    assert code == 2 and f"saved, line 1: {what}" in errors and errors.count("\n") == 1


# The command `python eval.py`.


def test_the_plain_command_prints_each_benchmark_their_mean_and_the_difference(
    tmp_path, few, capsys
):
    lines = (ROOT / "tiny" / "heldout.jsonl").read_text().split("\n")
    write(tmp_path / "other.jsonl", *lines[24:32])
    options = ["--model", "tiny", "--compare", "tiny", "--data", str(tmp_path), "--limit", "8"]
    assert eval.main([*options, "--max-new-tokens", "32", "--device", "cpu"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "tiny, greedy, at most 32 new tokens" == out[4]
    assert out[1].startswith("  few: ") and "of 8 =" in out[1]
    assert out[2].startswith("  other: ") and out[3].startswith("  mean of 2: ")
    assert out[-1] == "first minus second: +0.0 points  [+0.0, +0.0]"


@pytest.mark.parametrize(
    "options, what",
    [
        (["--data", "gone"], "gone: no JSONL file of tasks"),
        (["--data", "tiny", "--prompt", "gone.txt"], "prompt file gone.txt cannot be read"),
    ],
)
def test_bad_input_to_the_plain_command_is_one_line_and_exit_code_2(options, what, capsys):
    assert eval.main(["--model", "tiny", *options]) == 2
    errors = capsys.readouterr().err
    assert what in errors and errors.count("\n") == 1


def test_an_option_of_the_other_command_is_sent_there(capsys):
    with pytest.raises(SystemExit) as left:
        eval.main(["--model", "tiny", "--save", "a.jsonl"])
    assert left.value.code == 2 and "python -m evals --help" in capsys.readouterr().err


# BFCL's rule.


def test_the_command_agrees_with_every_verdict_of_bfcls_own_checker(tmp_path, run):
    oracle = SHARED / "oracle" / "bfcl_verdicts.jsonl"
    if not oracle.exists():
        pytest.skip(f"the verdicts of BFCL's checker are not in {SHARED}")
    files = [SHARED / "benchmarks" / name for name in ("bfcl.jsonl", "bfcl_live.jsonl")]
    cases = {c["id"]: c for file in files for c in map(json.loads, file.open())}
    verdicts = [json.loads(line) for line in oracle.open()]
    # Several predictions a case: each is a case of its own here, in a benchmark of its verdict.
    data, saved = tmp_path / "data.jsonl", tmp_path / "saved.jsonl"
    write(
        data,
        *(
            {**cases[v["id"]], "id": n, "benchmark": f"bfcl_{v['valid']}"}
            for n, v in enumerate(verdicts)
        ),
    )
    write(saved, *({"id": n, "calls": v["calls"]} for n, v in enumerate(verdicts)))
    code, text, _ = run("--predictions", saved, "--data", data)
    rows = {row.split()[0]: row.split()[1:3] for row in text.splitlines()[2:4]}
    valid = sum(v["valid"] for v in verdicts)
    assert code == 0 and rows == {
        "bfcl_True": [str(valid), "100.0"],
        "bfcl_False": [str(len(verdicts) - valid), "0.0"],
    }


def test_every_gold_answer_of_the_benchmarks_is_right(tmp_path, run):
    files = sorted((SHARED / "benchmarks").glob("*.jsonl"))
    if not files:
        pytest.skip(f"no benchmarks in {SHARED}")
    saved = tmp_path / "gold.jsonl"
    saved.write_text("".join(file.read_text() for file in files))
    code, text, _ = run("--predictions", saved, "--data", SHARED / "benchmarks")
    rows = text.splitlines()[2 : 2 + len(files)]
    assert code == 0 and [row.split()[2] for row in rows] == ["100.0"] * len(files)
