"""Is the gold answer of a task right?  For tasks of tiny's world, a program can decide.

The rules are those by which tiny/make.py writes questions: a verb has several wordings, an argument
several forms.  A gold answer is right if each call is asked for, each value appears in a form of
its argument, and no value of the question is left over.

    "Please cancel the order for Tora."  cancel_order(person="Tora")      right
                                         cancel_order(company="Tora")     wrong: no "at" or "from"
                                         cancel_order()                   wrong: Tora is left over
"""

import re

from ast_match import Call
from generator import Task
from tiny.make import ARGUMENTS, VERBS

# A digit, a capital within a sentence, or one that begins the answer to "Which region?".
VALUE = re.compile(r"[0-9]|(?:[a-z,] |\?\nUser: )[A-Z]")


def is_right(task: Task) -> bool:
    """Return whether the gold answer follows from the question."""
    left = task.question
    for call in task.calls:
        if not is_asked_for(call, task.question):
            return False
        for argument, value in call.arguments.items():
            forms = [*ARGUMENTS.get(argument, ()), f"with {argument} {{}}"]
            texts = [form.format(value) for form in forms]
            texts.append(f"Assistant: Which {argument}?\nUser: {value}.")
            said = [text for text in texts if text in left]
            if not said:
                return False
            left = left.replace(max(said, key=len), "", 1)
    return not VALUE.search(left)


def is_asked_for(call: Call, question: str) -> bool:
    """Return whether the question has one of the wordings of a tool's verb and noun."""
    verb, _, noun = call.name.partition("_")
    return any(f"{way} {noun}" in question.lower() for way in VERBS.get(verb, ()))


def share_right(tasks: list[Task]) -> float:
    """Return the share of tasks whose gold answer is right."""
    return sum(map(is_right, tasks)) / len(tasks)
