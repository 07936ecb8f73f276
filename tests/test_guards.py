"""The guards: each refuses its hack, and lets the honest neighbour of that hack pass."""

from dataclasses import replace

import pytest
import torch

import curate
import generator
import guards
import phases
import rewards
import solver
from ast_match import Call, Tool
from config import Config
from examples import Example
from generator import Spec, Task

CITY = {"city": {"type": "string"}, "max_days": {"type": "integer"}}
WEATHER = Tool("get_weather", "Forecast.", CITY, ("city",))
CLOCK = Tool("getTime", "Time.", {"city": {"type": "string"}}, ("city",))
QUESTION = "Will it rain in Paris in the next 3 days?"
TASK = Task("", QUESTION, [WEATHER, CLOCK], [Call("get_weather", {"city": "Paris", "max_days": 3})])
FIND = Tool("find_book", "Look.", {"title": {"type": "string"}, "branch": {"type": "string"}}, ())
SHOWN = Example(
    "library",
    "single_turn",
    "Does the Harbour branch have The Little Prince on its shelves?",
    [FIND],
    [Call("find_book", {"title": "The Little Prince", "branch": "Harbour"})],
)


def asked(question):
    return guards.no_question(question, TASK.tools)


# -- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, what",
    [
        ({"tools": [WEATHER, replace(FIND, name="Find_Book")]}, "copies the example's tools"),
        ({"calls": [Call("get_weather", {"city": "harbour"})]}, "copies the example's values"),
        (
            {"question": "Does the Harbour branch have Emma on its shelves?"},
            "copies the example's question",
        ),
        (
            {
                "question": "Does the Old Town branch have War and Peace on its shelves?",
                "calls": [Call("get_weather", {"city": "Old Town", "book": "War and Peace"})],
            },
            "copies the example's question",
        ),
    ],
)
def test_a_copy_of_the_example_is_named(change, what):
    assert guards.copied(replace(TASK, **change), SHOWN) == what
    assert guards.flaw(replace(TASK, **change), SHOWN) == what
    assert what in guards.COPIES


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"question": "Does the Harbour café have a free table on Sunday?"},  # a few common words
        {"calls": [Call("get_weather", {"city": "yes", "max_days": 3})]},
    ],
)
def test_what_is_like_the_example_by_chance_is_not_a_copy(change):
    shown = replace(SHOWN, calls=[Call("f", {"a": "yes", "b": 3})])  # short values and numbers
    assert guards.copied(replace(TASK, **change), shown) is None


def test_a_fifth_of_the_word_4_grams_may_be_shared():
    shown = replace(SHOWN, question="a b c d e f g h")  # five 4-grams
    one = replace(TASK, question="a b c d x y z w")
    two = replace(TASK, question="a b c d e x y z")
    assert guards.copied(one, shown) is None
    assert guards.copied(two, shown) == "copies the example's question"


def test_the_speakers_of_a_dialogue_do_not_count_as_copied_words():
    shown = replace(SHOWN, question="User: Book it.\nAssistant: When?\nUser: Monday.")
    own = replace(TASK, question="User: Send it.\nAssistant: When?\nUser: Tuesday.")
    assert guards.copied(own, shown) is None


# -- questions that nobody asks -------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, what",
    [
        (f"{QUESTION} </think>", "question holds a tag"),
        (f"{QUESTION} <TOOL_CALL_ANSWER>", "question holds a tag"),
        ("Use get_weather for Paris.", "question names a tool or argument"),
        ("Rain in Paris, max_days 3?", "question names a tool or argument"),
        ("Call getTime for Paris.", "question names a tool or argument"),
        ('search_term = "Navy"', "question is code"),
        ("operand=[1, 2] please", "question is code"),
        ('Do it with {"city": "Paris"}.', "question is code"),
        ("Do it with ['Paris', 'Rome'].", "question is code"),
        ("Weather please.\ncity: Paris", "question is code"),
        ("Give me this.\nname: Navy\nyear: 1990", "question is code"),
        ("Rain?\n- city: Paris", "question is code"),
    ],
)
def test_what_no_person_would_ask_is_named(question, what):
    assert asked(question) == what
    assert guards.flaw(replace(TASK, question=question), SHOWN) == what


@pytest.mark.parametrize(
    "question",
    [
        QUESTION,
        "What is the city with the best weather?",  # an argument's name that is a word
        "Solve x = 3 * y for y = 6.",
        "Solve 2x + 5 = 11.",
        "User: Will it rain?\nAssistant: In which city?\nUser: Paris, for 3 days.",
        "user: Will it rain?\nassistant: Where?\nuser: Paris",
        "Remind me at 14:30: call Ana.",
        "My list: milk, bread and 3 eggs.",
        "Is 3 < 5 and 7 > 2?",
        "Find the song [live] by Ana.",
        "Translate “good morning” and 'good night' to French.",
        "Send “see you at 5” to Bob's number.",
        "Does <b> work in an e-mail to Ana?",
    ],
)
def test_what_a_person_would_ask_passes(question):
    assert asked(question) is None
    assert guards.flaw(replace(TASK, question=question), SHOWN) is None


def test_a_name_inside_a_longer_one_is_not_named():
    assert asked("Ask get_weather_report for Paris.") is None


# -- near-duplicates ------------------------------------------------------------------------------


def test_tasks_that_differ_in_their_values_alone_are_near_duplicates():
    rome = replace(
        TASK,
        question="Will it rain in Rome in the next 9 days?",
        calls=[Call("get_rain", {"city": "Rome", "max_days": 9, "note": ""})],
    )
    other = replace(TASK, question="Is Paris dry for 3 days?")
    brief = [
        replace(TASK, question=f"Rain in {city}?", calls=[Call("f", {"city": city})])
        for city in ("Paris", "Oslo")
    ]
    assert guards.near_duplicates(brief) == [2, 2]
    assert guards.near_duplicates([TASK, rome, other, None, None]) == [2, 2, 1, 1, 1]


@pytest.mark.parametrize("more, count", [("", 2), (" c", 2), (" c d", 2), (" c d e", 1)])
def test_half_of_the_word_bigrams_make_a_near_duplicate(more, count):
    first = replace(TASK, question="p q r", calls=[])  # two bigrams
    second = replace(first, question=f"p q r{more}")
    assert guards.near_duplicates([first, second]) == [count, count]


def test_near_duplicates_share_all_but_the_reward_for_the_form():
    alone = reward(near_duplicates=1)
    shared = reward(near_duplicates=4)
    assert alone.total == pytest.approx(1 + 1 + 1)
    assert shared.total == pytest.approx(1 + (1 + 1) / 4)


def reward(task=TASK, **known):
    blocks = {"think": "x", "question": task.question}
    blocks |= {"available_tools": "x", "tool_call_answer": "x"}
    draft = generator.Draft(blocks, task.tools, task.calls)
    return rewards.generator_reward(draft, diff=1.0, sem=1.0, **known)


# -- leaked values and bare calls -----------------------------------------------------------------

GOLD = [Call("f", {"city": "Rome", "days": 2})]
ASKED = "Rain in Rome for 2 days?"


@pytest.mark.parametrize(
    "value, leaked",
    [
        ("Harbour", True),
        ("the little prince", True),  # in the example's question, in any case
        ("shelves", True),
        ("Rome", False),  # what the question says is no leak
        ("Oslo", False),  # made up, but not from the example
        ("its", False),  # a short text is in the example by chance
        (["Harbour"], False),  # not flat: curation refuses it anyway
        (None, False),
    ],
)
def test_a_value_of_the_example_that_the_question_lacks_is_a_leak(value, leaked):
    assert guards.leaks([Call("f", {"city": value})], SHOWN, ASKED) == [leaked]


def test_a_value_that_example_and_question_share_is_no_leak():
    assert guards.leaks([Call("f", {"branch": "Harbour"})], SHOWN, "In Harbour?") == [False]


def test_a_leak_takes_the_reward_of_its_own_pair_only():
    right = Call("g", {"x": "Rome"})
    leak = Call("f", {"city": "Harbour", "days": 2})
    answer = solver.Answer(True, True, True, [leak, right], None)
    gold = [*GOLD, right]
    leaks = guards.leaks(answer.calls, SHOWN, ASKED)
    assert leaks == [True, False]
    off = rewards.solver_reward(answer, gold)
    on = rewards.solver_reward(answer, gold, leaks)
    assert (off.fmt, on.fmt) == (1.0, 1.0)
    assert off.acc == pytest.approx((1 + 0.2 + 0.3 + 0.5 / 2) / 2)
    assert on.acc == pytest.approx(1 / 2)


def test_a_task_without_any_argument_gets_half_of_r_valid():
    bare = replace(TASK, calls=[Call("get_weather", {}), Call("getTime", {})])
    some = replace(TASK, calls=[Call("get_weather", {}), Call("getTime", {"city": "Paris"})])
    assert guards.valid_factor(bare, SHOWN) == guards.BARE == 0.5
    assert guards.valid_factor(some, SHOWN) == guards.valid_factor(TASK, SHOWN) == 1.0
    none = replace(bare, tools=[Tool("get_weather", "", {}, ()), Tool("getTime", "", {}, ())])
    assert reward(none, valid_factor=1.0).valid == 1.0
    assert reward(none, valid_factor=guards.valid_factor(none, SHOWN)).valid == 0.5


def test_a_task_with_a_flaw_gets_nothing_of_r_valid():
    named = replace(TASK, question="Use get_weather for Paris and 3.")
    assert guards.valid_factor(named, SHOWN) == 0.0
    assert guards.valid_factor(None, SHOWN) == 1.0


# -- on and off, in the loop ----------------------------------------------------------------------

SPEC = Spec("weather", "single_turn", 2, 1)
EXAMPLE = generator.examples_of(SPEC)[0]
COPY = generator.show(EXAMPLE)


def form(question, call="", tools=""):
    """Return a completion; `call` and `tools` are JSON."""
    tools = tools or (
        '[{"name": "get_weather", "description": "F.", "parameters": {"city": {"type": "string"}}, '
        '"required": []}, {"name": "get_time", "description": "T.", "parameters": {}}]'
    )
    call = call or '[{"name": "get_weather", "arguments": {"city": "Paris"}}]'
    return (
        f"<think>x</think><question>{question}</question><available_tools>{tools}"
        f"</available_tools><tool_call_answer>{call}</tool_call_answer>"
    )


HACKS = {  # completion -> r_valid, and whether it is usable, with the guards on
    COPY: (0.0, False),
    form("Please do get_weather in Paris."): (0.0, False),
    form('city = "Paris" please'): (0.0, False),
    form("Will it rain in Paris? <think>"): (0.0, False),
    form("Will it rain today?", '[{"name": "get_weather", "arguments": {}}]'): (0.5, True),
    form("Will it rain in Paris?"): (1.0, True),
}


@pytest.mark.parametrize("text", HACKS)
def test_the_guards_decide_what_is_usable_and_what_r_valid_is(text):
    valid, usable = HACKS[text]
    draft = generator.parse(text)
    for setting, wanted in (("on", (valid, usable)), ("off", (1.0, True))):
        cfg = Config(guards=setting, spec="free")
        c = curate.candidate("0", SPEC, draft)
        left = curate.refuse_flawed([c], cfg)
        c.p = 0.5
        c.sem = 1.0
        (part,) = phases.reward_drafts(cfg, [draft], [c], [1])
        assert (part.valid, bool(left)) == wanted, c.reason
        assert part.diff == float(bool(left))


@pytest.mark.parametrize("setting", ["on", "off"])
def test_copies_and_near_duplicates_are_counted_with_either_setting(setting, tmp_path):
    cfg = Config(guards=setting, generator_batch=1, group=2, spec="free")
    batches = phases.GeneratorBatches(cfg, phases.Run(cfg, tmp_path), 1, "")
    batches.frozen = Scripted("hm")
    seed = batches.run.seed(1, "generator/0")
    (spec,) = generator.sample_specs(seed, 1, cfg.p_large_menu)
    tool = generator.examples_of(spec)[0].tools[0].name
    copy = form("Will it rain in Paris?").replace("get_time", tool)
    metrics = batches.play(Scripted(copy), 0).metrics
    assert (metrics["copies"], metrics["near_duplicates"]) == (1.0, 2.0)
    metrics = batches.play(Scripted(form("Will it rain in Paris?")), 0).metrics
    assert metrics["copies"] == 0.0


@pytest.mark.parametrize("setting, total", [("off", 2.75), ("on", 1 + 1.75 / 8)])
def test_near_duplicates_of_a_batch_share_unless_the_guards_are_off(setting, total):
    cfg = Config(guards=setting)
    drafts = [generator.parse(form(f"Will it rain in {c}?")) for c in ["Paris"] * 8]
    candidates = [curate.candidate(str(i), SPEC, draft) for i, draft in enumerate(drafts)]
    for c in curate.refuse_flawed(candidates, cfg):
        c.p, c.sem = 0.5, 0.5
    near = guards.near_duplicates([c.task for c in candidates])
    parts = phases.reward_drafts(cfg, drafts, candidates, near)
    assert [part.total for part in parts] == pytest.approx([total] * 8)


@pytest.mark.parametrize(
    "question", [QUESTION, "Use get_weather for Paris.", "x = 'Paris'", "Paris? <think>"]
)
def test_off_is_the_papers_reward_to_the_letter(question):
    """R_G = r_fmt + r_valid + (r_diff + r_sem) / 2, whatever the guards think of the task."""
    cfg = Config(guards="off", spec="free")
    drafts = [generator.parse(form(question))] * 3 + [generator.parse(COPY)]
    candidates = [curate.candidate(str(i), SPEC, draft) for i, draft in enumerate(drafts)]
    for c in curate.refuse_flawed(candidates, cfg):
        c.p, c.sem = 0.125, 0.25
    near = guards.near_duplicates([c.task for c in candidates])
    for draft, part in zip(drafts, phases.reward_drafts(cfg, drafts, candidates, near)):
        parts = rewards.r_fmt(draft) + rewards.r_valid(draft)
        assert part.total == pytest.approx(parts + (0.5813 + 0.25) / 2, abs=1e-4)


class Scripted:
    """A player that says one text, whatever it is asked."""

    def __init__(self, text):
        self.said = text

    def sample(self, chats, group, *_):
        return [None] * (group * len(chats))

    def text(self, *_):
        return self.said

    def digit_logits(self, chats):
        return torch.zeros(len(chats), 5)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_leaks_are_counted_with_either_setting_and_cost_their_pair_with_one(setting, tmp_path):
    cfg = Config(guards=setting, solver_steps=1, solver_batch=1, group=2)
    run = phases.Run(cfg, tmp_path)
    batches = phases.SolverBatches(cfg, run, 1, [TASK])
    text = '<think>x</think><tool_call_answer>[{"name": "get_weather", "arguments": '
    leaking = text + f'{{"city": "{leaked_text()}"}}}}]</tool_call_answer>'
    batch = batches.play(Scripted(leaking), 0)
    assert batch.metrics == {"leaks": 1.0, "top_task": 1.0}
    paid = 0.0 if setting == "on" else pytest.approx(0.2 + 0.3 * 2 / 3)
    assert batch.rewards[0].acc == paid
    honest = batches.play(Scripted(text + '{"city": "Oslo"}}]</tool_call_answer>'), 0)
    assert honest.metrics == {"leaks": 0.0, "top_task": 1.0}


def leaked_text():
    """Return a longer text from the question of the example that the Solver is shown."""
    return max(solver.example_of(TASK).question.split(), key=len).strip("?.,")
