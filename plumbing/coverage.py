"""Coverage of the user's tools (--tools): how many tasks call each, for the report."""

import json
from collections import Counter
from pathlib import Path

from plumbing.intervals import aligned
from plumbing.runfolder import TOOLS, read_jsonl


def coverage(folder: Path, curations: list[dict]) -> str:
    """Return the coverage of each iteration as text; `curations` are the log lines of curation."""
    if not (folder / TOOLS).exists():
        return ""
    tools = json.loads((folder / TOOLS).read_text(encoding="utf-8"))
    text = ""
    for line in curations:
        k = line["iteration"]
        tasks = read_jsonl(folder / f"iter{k}" / "tasks.jsonl", torn=True)
        text += f"{table(tools, tasks, f'coverage, iteration {k}')}\n"
    return text


def table(tools: list[dict], tasks: list[dict], title: str) -> str:
    """Return tasks per tool and per argument, pairs of tools, and tools that no task calls."""
    per_tool = Counter()
    per_argument = Counter()
    for task in tasks:
        per_tool.update({call["name"] for call in task["calls"]})
        used = set()
        for call in task["calls"]:
            used |= {(call["name"], argument) for argument in call["arguments"]}
        per_argument.update(used)
    rows = [[title, "tasks", "tasks with each argument"]]
    for tool in tools:
        name = tool["name"]
        shown = [f"{a} {per_argument[name, a]}" for a in tool["parameters"]]
        rows.append([name, str(per_tool[name]), ", ".join(shown)])
    pairs = Counter()
    for task in tasks:
        names = sorted(call["name"] for call in task["calls"])
        if len(names) == 2:
            pairs[" + ".join(names)] += 1
    shown = ", ".join(f"{pair} {count}" for pair, count in pairs.most_common())
    never = ", ".join(tool["name"] for tool in tools if tool["name"] not in per_tool)
    return f"{aligned(rows)}two calls: {shown or 'none'}\nnever called: {never or 'none'}\n"
