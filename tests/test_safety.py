"""What the project promises not to do: looked for in its sources, and in what it prints."""

import json
import re
import sys

import pytest
from conftest import ROOT

from scripts import ask

SOURCES = [p for p in ROOT.rglob("*.py") if p.name != "test_safety.py" and "runs" not in p.parts]
FORBIDDEN = {
    "text is evaluated": r"(?<![\w.])(?:eval|exec|compile|__import__)\(",
    "a pickle is read or written": r"\bpickle\b|\bjoblib\b|\bmarshal\b|torch\.save\(",
    "a pickle may be read": r"torch\.load\((?![^)]*weights_only=True)",
    "code from the hub is run": r"trust_remote_code\s*=\s*(?!False)",
    "a shell is started": r"os\.system\(|shell\s*=\s*True|\bpopen\(",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nowhere_in_the_sources(what):
    assert len(SOURCES) > 20
    for path in SOURCES:
        for n, line in enumerate(path.read_text().splitlines(), 1):
            assert not re.search(FORBIDDEN[what], line), f"{what}: {path.name}, line {n}: {line}"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_and_the_search_would_find_it(what):
    bad = {
        "text is evaluated": "x = eval(text)",
        "a pickle is read or written": "import pickle",
        "a pickle may be read": "torch.load(path)",
        "code from the hub is run": "load(name, trust_remote_code=True)",
        "a shell is started": "run(line, shell=True)",
    }
    assert re.search(FORBIDDEN[what], bad[what])


def test_control_sequences_of_a_model_do_not_reach_the_terminal(tmp_path, monkeypatch, capsys):
    menu = tmp_path / "tools.json"
    menu.write_text(json.dumps([{"name": "f", "parameters": {"x": {"type": "string"}}}]))
    answer = (
        '<tool_call_answer>[{"name": "f", "arguments": {"x": "\\u001b[2J"}}]</tool_call_answer>'
    )
    monkeypatch.setattr(ask.Player, "text", lambda *_: answer)
    options = ["--model", "tiny", "--tools", str(menu), "--max-new-tokens", "1", "Do it"]
    monkeypatch.setattr(sys, "argv", ["solver.py", *options])
    ask.main()
    printed = capsys.readouterr().out
    assert "\\u001b[2J" in printed and "\x1b" not in printed
