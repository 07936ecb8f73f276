"""The commands in scripts/: ask, demos, dry_run, walkthrough; and how a command ends."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from transformers import AutoTokenizer

import solver
from ast_match import Call, Tool
from errors import NothingToLearn, UsageError
from generator import Task
from plumbing import toolset
from plumbing.command import run_command
from plumbing.player import Player
from scripts import ask, demos, dry_run, serve

MENU = [
    {
        "name": "cancel_order",
        "description": "Cancel the order.",
        "parameters": {"person": {"type": "string"}},
        "required": ["person"],
    },
    {
        "name": "find_coupon",
        "description": "Find the coupon.",
        "parameters": {"city": {"type": "string"}},
        "required": ["city"],
    },
]
QUESTION = "Please cancel the order for Tora."


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Work in a folder that has a menu but no runs; return the path of the menu."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(MENU))
    return str(path)


def command(*arguments, **more):
    whole = [sys.executable, "-m", *arguments]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, **more)


# ------------------------------------------------------------------------------ ask
def test_ask_prints_the_calls_as_json_and_nothing_else(tools, capsys):
    assert ask.main(["--tools", tools, "--device", "cpu", QUESTION]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["arguments"] == {"person": "Tora"}
    assert "no trained Solver under runs/: tiny" in err


def test_ask_warns_of_calls_that_the_menu_does_not_allow():
    menu = [Tool("f", "", {"x": {}, "y": {}}, ("x",))]
    assert ask.doubts([Call("f", {"x": 1, "y": 2})], menu) == []
    assert ask.doubts([Call("g", {}), Call("f", {"z": 1})], menu) == [
        "g is not in the menu",
        "f has no argument z",
        "f lacks the required argument x",
    ]


def test_without_a_call_the_reason_and_the_raw_answer_are_shown(tools, capsys):
    options = ["--tools", tools, "--model", "tiny", "--max-new-tokens", "12"]
    assert ask.main([*options, QUESTION]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "<think>" in err and "no call: no tool_call_answer" in err
    assert "cut off at 12 tokens" in err


def test_ask_answers_one_question_per_line_until_the_end(tools, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n\nFind a coupon in Lima.\n"))
    assert ask.main(["--tools", tools, "--model", "tiny", "--raw"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and err.count("<think>") == 2


def test_the_solver_trained_last_answers_with_its_own_prompt(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for age, name in ((5, "runs/new/iter1"), (9, "runs/old/iter2"), (7, "runs/old/iter1")):
        solver = tmp_path / name / "solver"
        solver.mkdir(parents=True)
        (solver / "config.json").write_text("{}")
        os.utime(solver / "config.json", (1000 - age, 1000 - age))
    (tmp_path / "runs/new/config.json").write_text('{"solver_prompt": "placeholders"}')
    assert ask.newest_solver() == "runs/new/iter1/solver"
    assert ask.prompt_of("runs/new/iter1/solver") == "placeholders"
    assert ask.prompt_of("tiny") == ask.prompt_of("runs/old/iter2/solver") == "bank"


def test_a_menu_may_be_long_in_openais_form_and_begin_with_a_byte_order_mark(tmp_path):
    function = {"description": "x" * 300, "parameters": {"type": "object", "properties": {}}}
    wrapped = [{"type": "function", "function": {"name": f"f{i}", **function}} for i in range(40)]
    (tmp_path / "tools.json").write_text("\ufeff" + json.dumps(wrapped), encoding="utf-8")
    assert [tool.name for tool in toolset.read_tools(str(tmp_path / "tools.json"), check=False)][
        :2
    ] == ["f0", "f1"]


@pytest.mark.parametrize(
    "menu, more, what",
    [
        ('{"name": "f"}', [], "tools.json: it needs a list of tools, at least 1"),
        ("[]", [], "tools.json: it needs a list of tools, at least 1"),
        ("{", [], "tools.json: not JSON"),
        (None, [], "tools.json: there is no such file"),
        ('[{"name": "f"}]', ["--device", "tpu"], "--device tpu"),
        ('[{"name": "f"}]', ["--model", "nosuchfolder"], "--model nosuchfolder"),
        ('[{"name": "f"}]', ["--prompt", "nosuchprompt"], "nosuchprompt"),
        ('[{"name": "f"}]', ["\udcff"], "not valid Unicode"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(tmp_path, capsys, menu, more, what):
    tools = tmp_path / "tools.json"
    if menu:
        tools.write_text(menu)
    question = [] if more == ["\udcff"] else ["hello"]
    assert ask.main(["--tools", str(tools), "--model", "tiny", *more, *question]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert what in line and ("Errno" not in line or "--prompt" in more)


# ------------------------------------------------------------------------------ serve
TWO = {
    "think": "The request needs both.",
    "calls": [
        {"name": "cancel_order", "arguments": {"person": "Tora", "with": [{"x": 1}, {"y": 2.5}]}},
        {"name": "find_coupon", "arguments": {}},
    ],
}


@pytest.fixture
def served(tmp_path, tools, capsys):
    """Return a trained Solver with tools beside it, and the copy for a server."""
    folder = shutil.copytree(ROOT / "tiny", tmp_path / "solver")
    shutil.copy(tools, folder / "tools.json")
    assert serve.main([str(folder), "served"]) == 0
    assert "transformers serve served" in capsys.readouterr().out
    return folder, tmp_path / "served"


def test_the_served_template_writes_the_solvers_prompt(served, tmp_path):
    folder, copy = served
    player = Player(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(copy)
    menu = list(toolset.read_tools(str(folder / "tools.json"), check=False))

    def written(messages, **more):
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **more
        )
        return text.split("Tools:")[1]

    def prompt(question, tools):
        return player.chat.prompt(solver.prompt(Task("", question, tools, []))).split("Tools:")[1]

    ask = {"role": "user", "content": QUESTION}
    assert written([ask]) == prompt(QUESTION, menu)
    own = [serve.openai_form(menu[1].to_json())]
    assert written([ask], tools=own) == prompt(QUESTION, menu[1:])
    dialogue = [ask, {"role": "assistant", "content": "Whose?"}, {"role": "user", "content": "Bo"}]
    question = f"User: {QUESTION}\nAssistant: Whose?\nUser: Bo"
    assert written(dialogue) == prompt(question, menu)
    parts = [{"type": "text", "text": QUESTION}]
    called = {"role": "assistant", "content": None, "tool_calls": []}
    after = [{"role": "user", "content": parts}, called, {"role": "tool", "content": "Done."}]
    assert written(after) == prompt(QUESTION, menu)
    odd = {"type": ["string", "null"], "default": None, "description": "a \U0001f600 {%- if -%}"}
    tool = Tool("f", "it's", {"x": odd}, ())
    assert written([ask], tools=[serve.openai_form(tool.to_json())]) == prompt(QUESTION, [tool])
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tools.json").write_text(json.dumps([tool.to_json()]))
    assert serve.main([str(other), str(tmp_path / "odd")]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "odd")
    assert written([ask]) == prompt(QUESTION, [tool])


def test_the_served_template_keeps_rules_and_example_for_other_models():
    text = serve.prelude(solver.TEMPLATES["bank"], [])
    example = solver.show(solver.example_of(Task("", "", [], [])))
    assert repr(example) in text and "You call tools." in text
    assert "{example}" not in text and "{tools}" not in text


def test_the_served_copy_tells_a_server_what_is_a_call(served):
    tokenizer = AutoTokenizer.from_pretrained(served[1])
    if not hasattr(tokenizer, "response_template"):
        pytest.skip("this version of transformers has no response templates")
    text = (
        f"<think>\n{TWO['think']}\n</think>\n<tool_call_answer>\n{json.dumps(TWO['calls'])}\n"
        "</tool_call_answer><|im_end|>"
    )
    prefix = tokenizer.response_template["start_anchor"]
    said = tokenizer.parse_response(text, prefix=prefix)
    assert said["reasoning_content"] == TWO["think"]
    assert [call["function"] for call in said["tool_calls"]] == TWO["calls"]


def test_an_ordinary_client_gets_tool_calls_from_a_server(served):
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    pytest.importorskip("uvicorn", reason="transformers[serving] is not installed")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = Path(sys.executable).with_name("transformers")
    program = [str(command), "serve", str(served[1]), "--port", port]
    server = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = openai.OpenAI(base_url=f"http://localhost:{port}/v1", api_key="none")
        asked = dict(model=str(served[1]), messages=[{"role": "user", "content": QUESTION}])
        answer = None
        for _ in range(120):
            try:
                answer = client.chat.completions.create(**asked, temperature=0)
                break
            except openai.APIConnectionError:
                time.sleep(0.5)
        assert answer, "the server has not started"
        (choice,) = answer.choices
        assert choice.finish_reason == "tool_calls"
        call = choice.message.tool_calls[0].function
        assert (call.name, json.loads(call.arguments)) == ("cancel_order", {"person": "Tora"})
        streamed = []
        for chunk in client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                streamed += choice.delta.tool_calls or []
        assert [call.function.name for call in streamed] == ["cancel_order"]
    finally:
        server.terminate()
        server.wait()


def test_an_existing_folder_is_not_overwritten(served, capsys):
    assert serve.main([str(served[0]), str(served[1])]) == 2
    assert "exists: name a new folder" in capsys.readouterr().err


# ------------------------------------------------------------------------------ the end of a command
@pytest.mark.parametrize(
    "error, code",
    [
        (UsageError("x"), 2),
        (OSError("x"), 2),
        (NothingToLearn("x"), 3),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 2),
        (torch.OutOfMemoryError("tried to allocate 9 GiB\nadvice"), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2),
    ],
)
def test_a_command_ends_in_one_line_and_a_code(error, code, capsys):
    def work():
        raise error

    assert run_command("name", work) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert run_command("name", lambda: None) == 0 and run_command("name", lambda: 1) == 1


def test_a_bug_ends_a_command_with_its_traceback():
    def work():
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_command("name", work)


def test_a_command_piped_into_head_ends_without_a_traceback():
    command = [sys.executable, "-m", "scripts.demos", "ast_match", "rewards", "generator", "solver"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as demos:
        assert demos.stdout.readline()
        demos.stdout.close()
        assert demos.stderr.read() == ""


# ------------------------------------------------------------------------------ demos, dry run
SHOWN = {  # demo -> what its output contains
    "ast_match": ["malformed: not JSON", "equal to the first", "another answer"],
    "text_match": ["1000     found", "'ad'     not found"],
    "generator": ["Tools in the menu: 8", '"city": "Oslo"', "['answer: not JSON']"],
    "solver": ["Begin with <think> and write both blocks.", "reason='no tool_call_answer'"],
    "rewards": ["R_G = 2.54", "valid 0.80", "7/8 0.5813 #", "R_S = 1.75"],
    "guards": ["copies the example's tools", "question names a tool", "[3, 3, 3]"],
    "curate": ["d duplicate", "training order: e a"],
    "rollout": ["ended: ", "hand, hf"],
    "grpo": ["2.00     +1.225           -1.225        -1.470"],
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_demo_shows_its_concept(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demos", name])
    demos.main()
    out = capsys.readouterr().out
    for text in SHOWN[name]:
        assert text in out, (text, out)


def test_the_names_of_the_demos_are_listed_and_others_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demos"])
    demos.main()
    listed = re.findall(r"scripts\.demos (\w+)", capsys.readouterr().out)
    assert listed == list(SHOWN)
    monkeypatch.setattr(sys, "argv", ["demos", "nothing"])
    assert run_command("demos", demos.main) == 2


def test_the_dry_run_plays_every_phase_and_says_that_it_is_scripted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dry_run.play()
    out = capsys.readouterr().out
    for k in (1, 2):
        for phase in ("generator: ", "curate: ", "solver: ", "evaluation: heldout"):
            assert f"iteration {k} {phase}" in out
    right = [int(n) for n in re.findall(r"heldout, exact match (\d+) of", out)]
    assert len(right) == 3 and right == sorted(right) and right[2] > right[0]
    assert "R 2.75  A +1.14  fmt 1.00 valid 1.00 diff 1.00 sem 0.50" in out
    assert "scripted" in out.splitlines()[0] and "scripted" in out.splitlines()[-1]
    left = {path.name for path in (tmp_path / "runs/dry-run/iter2").iterdir()}
    assert left >= {"candidates.jsonl", "tasks.jsonl", "heldout.json"}
    assert not any(
        (tmp_path / "runs/dry-run/iter2/solver").iterdir()
    )  # nothing to be taken for one


# ------------------------------------------------------------------------------ walkthrough
def test_the_walkthrough_names_a_run_that_it_cannot_read(tmp_path):
    done = command("scripts.walkthrough", str(tmp_path))
    assert done.returncode == 2 and "name a run folder" in done.stderr


def test_the_committed_walkthrough_has_no_minus_zero_and_no_equal_rows():
    text = (ROOT / "WALKTHROUGH.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == len(set(rows))
    assert not re.search(r"-0\.0+\b(?!\d)", text)
