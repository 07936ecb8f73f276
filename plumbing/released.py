"""`--prompt paper`: the two prompts as the released code lays them out, for comparison.

Reasoning is asked for in the system message, in the manner of R1; the request comes before the
menu; nothing shows the form and no last line says how to begin.  The words are ours, since the
sentences of the release are its authors'.  A small model seldom keeps the form with them
(experiments/prompts.py counts), so part of a gain over the base model may be learning it.

    >>> print(solver_prompt(Task("", "Is it warm?", [], []))[1]["content"])
    Is it warm?
    <BLANKLINE>
    Available tools:
    []
"""

import generator
import solver
from generator import Spec, Task

SOLVER = """The following is a conversation between a user and an assistant that can call tools. \
Before it acts the assistant reasons about the request, enclosed in <think> </think> tags; then it \
gives its tool calls, enclosed in <tool_call_answer> </tool_call_answer> tags, as a JSON list of \
objects with "name" and "arguments"."""

GENERATOR = """You are an expert at designing tasks for assistants that call tools. You reason \
about the design first, enclosed in <think> </think> tags; then you give the user's request in \
<question> </question> tags, the tools as a JSON list of objects with "name", "description", \
"parameters" and "required" in <available_tools> </available_tools> tags, and the right calls as a \
JSON list of objects with "name" and "arguments" in <tool_call_answer> </tool_call_answer> tags."""


def solver_prompt(task: Task) -> list[dict[str, str]]:
    """As `solver.prompt`."""
    user = f"{task.question}\n\nAvailable tools:\n{solver.as_json(task.tools)}"
    return [{"role": "system", "content": SOLVER}, {"role": "user", "content": user}]


def generator_prompt(spec: Spec) -> list[dict[str, str]]:
    """As `generator.prompt`."""
    user = (
        f"Design one {spec.context} task for the domain {spec.domain}.\n"
        f"- There are exactly {spec.menu_size} tools, each fit for the domain.\n"
        f"- The answer has exactly {spec.calls} calls, each of a tool in that list.\n"
        "- All required arguments are given; values are flat: text, numbers or booleans.\n"
        "- Each value can be read in the request, word for word.\n"
        "- The request is natural and complete, and does not name the tools."
    )
    return [{"role": "system", "content": GENERATOR}, {"role": "user", "content": user}]


WORDINGS = {"short": (generator.prompt, solver.prompt), "paper": (generator_prompt, solver_prompt)}


def use(wording: str) -> None:
    """Let generator.prompt and solver.prompt write this wording from now on."""
    generator.prompt, solver.prompt = WORDINGS[wording]
