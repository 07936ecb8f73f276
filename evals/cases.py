"""Cases of the benchmarks, and answers to them, from JSONL files.

A case is a task of a benchmark; the head of eval.py shows a task.  For BFCL's rule it also has the
accepted values of each argument, with "" among them if the argument may be left out:
    {..., "benchmark": "bfcl", "accept": [{"guests": [3, ""]}]}

An answer; its calls are null if the model's text was unreadable:
    {"id": "heldout-0", "calls": [{"name": "book_table", "arguments": {"guests": 2}}]}
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ast_match import Call, Tool, exact_match, to_calls
from errors import Malformed, UsageError
from eval import PAPER_IDS, TaskReader, draw, has_own_rule, read_id, task_files
from evals.bfcl import Accepted, argument_fits, bfcl_match, check_accept
from generator import Task
from plumbing.runfolder import read_jsonl

Calls = list[Call] | None  # of one answer; None: unreadable


@dataclass(frozen=True)
class Case(Task):
    """A task of a benchmark, with the rule that judges its answers."""

    benchmark: str = ""
    rule: str = "exact"  # or "bfcl"
    accept: tuple[Accepted, ...] = ()  # BFCL's rule: one for each gold call

    def is_right(self, calls: Calls) -> bool:
        """Return whether an answer is right."""
        if self.rule == "bfcl":
            return bfcl_match(calls or [], self.calls, self.accept, self.tools)
        return exact_match(calls or [], self.calls)  # Sec. 4

    def tool(self, i: int) -> Tool:
        """Return the tool of gold call i."""
        return next(tool for tool in self.tools if tool.name == self.calls[i].name)

    def known(self, i: int) -> set[str]:
        """Return the arguments that gold call i may have."""
        return set(self.accept[i] if self.rule == "bfcl" else self.calls[i].arguments)

    def demanded(self, i: int) -> set[str]:
        """Return the arguments that gold call i cannot do without."""
        if self.rule == "exact":
            return self.known(i)
        required = self.tool(i).required
        accept = self.accept[i]
        return {name for name, values in accept.items() if "" not in values or name in required}

    def right_values(self, i: int, call: Call) -> set[str]:
        """Return the arguments of a call whose values are right for gold call i."""
        right = set()
        for name in self.known(i) & call.arguments.keys():
            if self.rule == "bfcl":
                fits = argument_fits(name, call, self.tool(i), self.accept[i])
            else:
                value = Call("", {name: call.arguments[name]})
                gold = Call("", {name: self.calls[i].arguments[name]})
                fits = exact_match([value], [gold])
            if fits:
                right.add(name)
        return right


def load_cases(path: Path, rule: str | None) -> list[Case]:
    """Return the cases of a JSONL file, or of all in a folder.

    `rule` replaces the benchmark's own.  Raises UsageError naming file and line.
    """
    reader = TaskReader()
    cases = []
    for file in task_files(path):
        cases += read_jsonl(file, partial(read_case, reader, rule, file))
    if not cases:
        raise UsageError(f"{path}: no case in it. Name another file or folder.")
    return cases


def read_case(reader: TaskReader, rule: str | None, file: Path, item: Any) -> Case:
    """Return one line as a case; raise `Malformed` with what is wrong."""
    benchmark, item, task = reader.read(file, item)
    if rule is None:
        rule = "bfcl" if has_own_rule(benchmark, item) else "exact"
    menu = {tool.name for tool in task.tools}
    for call in task.calls:
        if call.name not in menu:
            raise Malformed(f"a gold call names {call.name}, which is not in the menu")
    accept = []
    if rule == "bfcl":
        accept = item.get("accept", [])
        check_accept(accept, task.calls, task.tools)
    return Case(**vars(task), benchmark=benchmark, rule=rule, accept=tuple(accept))


def choose(cases: list[Case], subset: str | None, limit: int | None, seed: int) -> list[Case]:
    """Return at most `limit` cases of each benchmark; raise UsageError if none is left."""
    if subset == "paper":
        cases = [case for case in cases if PAPER_IDS.match(case.id)]
    chosen = []
    for name, group in by_benchmark(cases).items():
        chosen += draw(group, name, limit, seed)
    if not chosen:
        raise UsageError("no case is left: change --subset or --data")
    return chosen


def by_benchmark(cases: list[Case]) -> dict[str, list[Case]]:
    """Return the cases of each benchmark."""
    groups = {}
    for case in cases:
        groups.setdefault(case.benchmark, []).append(case)
    return groups


def load_answers(path: Path, cases: list[Case], run: str | None = None) -> dict[str, Calls]:
    """Return the answers in a JSONL file, by id; with `run`, what that run has saved so far.

    Raises UsageError naming file and line.
    """
    known = {case.id for case in cases}
    answers = {}

    def read(item: Any) -> None:
        id = read_id(item)
        if id not in known:
            raise Malformed(f"no case has the id {id}: pass the --data that was answered")
        if id in answers:
            raise Malformed(f"a second line with the id {id}")
        if run is not None and item.get("run") != run:
            raise UsageError(
                f"{path} has answers of another run ({item.get('run')}): name another file for "
                "--save."
            )
        calls = item.get("calls", "")
        answers[id] = calls if calls in (None, []) else to_calls(calls, strict=True)

    read_jsonl(path, read, torn=run is not None)
    return answers
