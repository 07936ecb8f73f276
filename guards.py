"""Guards against reward hacks: ways to earn reward without doing the task.

Not in the paper; `--guards off` switches all of them off.  Most counter a hack that a 0.5B model
found within ten GRPO steps (docs/rewards.md has the scores with and without them):

  flaw             a copy of an example in the prompt, or a question that no person would ask: the
                   task earns r_fmt only, and the Solver never sees it
  near_duplicates  tasks of a batch that differ in little but their values: the reward of each,
                   except r_fmt, is divided by their number; with --tools many questions are
                   necessarily similar, so only questions with the same words and values count
  leaks            a value that is in the prompt's example but not in the question: its call
                   earns no r_acc
  BARE             a task none of whose calls passes an argument: half of r_valid

One raw example, a question that names an argument as code does:

    >>> search = Tool("search", "", {"search_term": {"type": "string"}}, ())
    >>> no_question("Search for search_term Navy.", [search])
    'question names a tool or argument'
"""

import re

from ast_match import Call, Tool
from examples import Example
from generator import BLOCKS, Task
from plumbing.toolset import leaves
from text_match import grounded, same_value

COPIES = (
    "copies the example's tools",
    "copies the example's values",
    "copies the example's question",
)
COPIED = 0.2  # a copy shares more than this part of the shorter question's word 4-grams
ALIKE = 0.5  # Jaccard similarity of word bigrams at which two questions become near-duplicates
BARE = 0.5  # factor of r_valid if no call has an argument
MIN_LETTERS = 4  # shorter texts may be in an example by chance

TAG = re.compile(rf"</?(?:{'|'.join(BLOCKS)})>", re.IGNORECASE)
JSON = re.compile(r"[{\[]\s*[\"'{]|[\"']\w+[\"']\s*:")
ASSIGNMENT = re.compile(r"\b[A-Za-z_]\w+\s*=\s*[\"'\w\[{-]|\w\s*=\s*[\"']")  # not: x = 3
FIELD_LINE = re.compile(r"^\W*(\w+)[\"']?\s*:\s*\S", re.MULTILINE)
SPEAKERS = {"user", "assistant"}


def flaw(task: Task, *shown: Example) -> str | None:
    """Return why a guard refuses a task, or None; `shown` are the examples of its prompt."""
    return copied(task, *shown) or no_question(task.question, task.tools)


def copied(task: Task, *shown: Example) -> str | None:
    """Return what a task copies from the examples of its prompt, or None."""
    names = {tool.name.lower() for tool in task.tools}
    texts = _texts(task.calls)
    own = _ngrams(task.question, 4)
    masked = _ngrams(_mask(task), 4)
    for example in shown:
        if any(tool.name.lower() in names for tool in example.tools):
            return COPIES[0]
        if texts & _texts(example.calls):
            return COPIES[1]
        if _alike(own, _ngrams(example.question, 4)):
            return COPIES[2]
        if _alike(masked, _ngrams(_mask(example), 4)):  # copied with other nouns
            return COPIES[2]
    return None


def _alike(own: set[tuple[str, ...]], shown: set[tuple[str, ...]]) -> bool:
    """Return whether two questions share more than COPIED of the shorter one's word 4-grams."""
    return len(own & shown) > COPIED * min(len(own), len(shown))


def no_question(question: str, menu: list[Tool]) -> str | None:
    """Return why a text is not what a person would ask, or None."""
    names = set()
    for tool in menu:
        names |= {tool.name, *tool.parameters}
    if TAG.search(question):
        return "question holds a tag"
    if any(_names_identifier(question, name) for name in names):
        return "question names a tool or argument"
    if JSON.search(question) or ASSIGNMENT.search(question):
        return "question is code"
    if _has_fields(question, names):
        return "question is code"
    return None


def _names_identifier(question: str, name: str) -> bool:
    """Return whether the name has an underscore, digit or inner capital and is in the question."""
    if name not in question or not re.search(r"_|\d|[a-z][A-Z]", name):
        return False
    whole_word = rf"(?<!\w){re.escape(name)}(?!\w)"
    return bool(re.search(whole_word, question))


def _has_fields(question: str, names: set[str]) -> bool:
    """Return whether lines are `name: value`: one with a name of the menu, or two with any name."""
    fields = {field.lower() for field in FIELD_LINE.findall(question)} - SPEAKERS
    known = {name.lower() for name in names}
    return len(fields) > 1 or bool(fields & known)


def near_duplicates(tasks: list[Task | None], given: bool = False) -> list[int]:
    """Count, for each task of a batch, those with nearly the same question, itself included.

    Two questions are near-duplicates if their word bigrams, with all values masked, have a Jaccard
    similarity of ALIKE or more.  With `given` tools (--tools) many questions are necessarily
    similar, so only those with the same words and values count.
    """
    texts = [task.question if given and task else _mask(task) for task in tasks]
    bigrams = [_ngrams(text, 2) for text in texts]
    alike = 1.0 if given else ALIKE
    counts = []
    for own in bigrams:
        count = 0
        for other in bigrams:
            common = len(own & other)
            count += common > 0 and common >= alike * len(own | other)
        counts.append(max(1, count))
    return counts


def leaks(calls: list[Call], example: Example, question: str) -> list[bool]:
    """Return for each call whether a value comes from the prompt's example, not the question."""
    shown = [value for call in example.calls for value in call.arguments.values()]
    found = []
    for call in calls:
        leak = False
        for value in call.arguments.values():
            if not grounded(value, question):
                leak = leak or _is_shown(value, shown, example.question)
        found.append(leak)
    return found


def valid_factor(task: Task | None, *shown: Example) -> float:
    """Return the factor of r_valid: 0 for a task with a flaw, BARE if no call has an argument."""
    if task is None:
        return 1.0
    if flaw(task, *shown):
        return 0.0
    return 1.0 if any(call.arguments for call in task.calls) else BARE


def _is_shown(value: object, shown: list, question: str) -> bool:
    if isinstance(value, (list, dict)):
        return False
    if any(same_value(value, other) for other in shown):
        return True
    long = isinstance(value, str) and len(value) >= MIN_LETTERS
    return long and grounded(value, question)


def _texts(calls: list[Call]) -> set[str]:
    """Return the text values of at least MIN_LETTERS characters in these calls, in lower case."""
    texts = set()
    for call in calls:
        for value in leaves(call.arguments):
            if isinstance(value, str) and len(value) >= MIN_LETTERS:
                texts.add(value.lower())
    return texts


def _ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    words = [word for word in words if word not in SPEAKERS]
    shifted = [words[i:] for i in range(n)]
    return set(zip(*shifted))


def _mask(task: Task | Example | None) -> str:
    """Return the question with every value of the calls, and every number, masked."""
    if task is None:
        return ""
    values = []
    for call in task.calls:
        values += [str(value) for value in leaves(call.arguments)]
    text = task.question
    for value in sorted(values, key=len, reverse=True):
        if value:
            text = text.replace(value, "0")
    return re.sub(r"\d+", "0", text)
