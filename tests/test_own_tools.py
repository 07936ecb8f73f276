"""Self-play on one's own tools (--tools) and domains (--domains)."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
import generator
import guards
import phases
import rewards
from ast_match import Call, Tool
from config import TINY_TOOLS, Config
from curate import Candidate
from errors import UsageError
from generator import Spec, Task
from plumbing import coverage
from plumbing.alarms import alarms
from plumbing.player import Player
from plumbing.run import Run
from plumbing.toolset import call_misfit, leaves, misfit, read_domains, read_tools
from scripts import ask

OWN = [
    {
        "name": "set_heating",
        "description": "Heat a room.",
        "parameters": {
            "room": {"type": "string", "enum": ["kitchen", "bath"]},
            "degrees": {"type": "integer", "minimum": 5, "maximum": 30},
            "eco": {"type": "boolean"},
        },
        "required": ["room", "degrees"],
    },
    {
        "type": "function",
        "function": {
            "name": "send_note",
            "parameters": {
                "type": "object",
                "properties": {
                    "to": {"type": "array", "items": {"type": "string"}},
                    "when": {
                        "type": "object",
                        "properties": {"hour": {"type": "number"}, "day": {"type": "string"}},
                        "required": ["hour"],
                        "additionalProperties": False,
                    },
                },
                "required": ["to"],
            },
        },
    },
    {"name": "stop_all", "inputSchema": {"type": "object", "properties": {}}},
]
HEAT = {"room": "bath", "degrees": 21}
CFG = Config(guards="off")


@pytest.fixture
def tools_file(tmp_path):
    path = tmp_path / "home.json"
    path.write_text(json.dumps(OWN))
    return str(path)


@pytest.fixture
def tools(tools_file):
    return read_tools(tools_file)


# -- the file -------------------------------------------------------------------------------------


def test_all_three_forms_are_read(tools):
    assert [tool.name for tool in tools] == ["set_heating", "send_note", "stop_all"]
    assert tools[1].required == ("to",) and list(tools[1].parameters) == ["to", "when"]
    assert tools[2].parameters == {}


def one(**schema):
    return [{"name": "f", "parameters": {"x": schema}}, {"name": "g"}]


@pytest.mark.parametrize(
    "content, what",
    [
        ("{", "not JSON"),
        ("[]", "it needs a list of tools, at least 2"),
        ('{"name": "f"}', "it needs a list of tools, at least 2"),
        ([{"name": "f"}, {"description": "g"}], "tool 2: a tool has no name"),
        ([{"name": "f"}, {"name": "f"}], "two tools are named f"),
        (
            [{"name": "f", "required": ["x"]}] * 2,
            "tool f requires x, which is not in its parameters",
        ),
        (
            [{"name": "f", "inputSchema": {"type": "object", "$ref": "#"}}] * 2,
            "tool f: $ref is not",
        ),
        (
            [{"name": "f", "required": "x"}] * 2,
            "tool f: required is not supported, or has the wrong",
        ),
        ([{"name": "f\ng"}] * 2, "the name 'f\\ng' has a control character"),
        (one(enum=[]), "tool f, argument x: enum is empty"),
        (
            [{"name": "f", "function": "x", "required": 1}, {"name": "g"}],
            "tool f: required is not supported, or has the wrong type",
        ),
        (
            [{"name": "f", "inputSchema": {"type": "object", "properties": {"x": {"not": {}}}}}]
            * 2,
            "tool f, argument x: not is not supported",
        ),
        (one(oneOf=[]), "tool f, argument x: oneOf is not supported"),
        (one(type="tuple"), "tool f, argument x: the type 'tuple' is not supported"),
        (one(type=["string", {}]), "tool f, argument x: the type {} is not supported"),
        (one(enum="a"), "tool f, argument x: enum is not supported, or has the wrong type"),
        (one(type="object", required=[1]), "tool f, argument x: required is not a list of names"),
        (one(properties={"y": {"$ref": "z"}}), "tool f, argument x.y: $ref is not supported"),
        (one(items={"pattern": "z"}), "tool f, argument x[]: pattern is not supported"),
        (one(anyOf=[{"type": "date"}]), "tool f, argument x: the type 'date' is not supported"),
        (
            [{"name": "f", "parameters": {"x": "text"}}] * 2,
            "tool f, argument x: its schema is not an object",
        ),
    ],
)
def test_each_fault_of_the_file_is_one_line_and_exit_code_2(tmp_path, run_here, content, what):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "own.json").write_text(text)
    code, _, err = run_here(tmp_path, "--smoke", "--tools", "own.json")
    lines = err.strip().splitlines()
    assert code == 2 and lines[-1].startswith(f"selfplay.py: error: --tools own.json: {what}")
    assert not (tmp_path / "runs").exists()


def test_what_an_mcp_server_answers_is_read(tmp_path):
    path = tmp_path / "own.json"
    path.write_text("\ufeff" + json.dumps({"tools": OWN}), encoding="utf-8")
    assert [tool.name for tool in read_tools(str(path))] == ["set_heating", "send_note", "stop_all"]


def test_a_missing_file_is_named(tmp_path, run_here):
    code, _, err = run_here(tmp_path, "--smoke", "--tools", "none.json")
    assert code == 2 and "--tools none.json: there is no such file" in err


# -- the schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, why",
    [
        (Call("set_heating", HEAT), None),
        (Call("set_heating", HEAT | {"eco": True}), None),
        (Call("set_heating", {"room": "bath"}), "required argument missing"),
        (Call("set_heating", HEAT | {"color": "red"}), "argument not in the schema"),
        (Call("set_heating", HEAT | {"room": "attic"}), "value not in the enum"),
        (Call("set_heating", HEAT | {"degrees": "21"}), "value of the wrong type"),
        (Call("set_heating", HEAT | {"degrees": True}), "value of the wrong type"),
        (Call("set_heating", HEAT | {"degrees": 21.5}), "value of the wrong type"),
        (Call("set_heating", HEAT | {"degrees": 31}), "value out of bounds"),
        (Call("set_heating", HEAT | {"eco": "yes"}), "value of the wrong type"),
        (Call("send_note", {"to": ["Ann"], "when": {"hour": 9.5}}), None),
        (Call("send_note", {"to": "Ann"}), "value of the wrong type"),
        (Call("send_note", {"to": ["Ann", 3]}), "value of the wrong type"),
        (
            Call("send_note", {"to": ["Ann"], "when": {"day": "Monday"}}),
            "required argument missing",
        ),
        (
            Call("send_note", {"to": ["Ann"], "when": {"hour": 1, "x": 2}}),
            "argument not in the schema",
        ),
        (Call("stop_all", {}), None),
        (Call("stop_all", {"x": 1}), "argument not in the schema"),
    ],
)
def test_what_does_not_fit_is_named_and_costs_a_part_of_r_valid(tools, call, why):
    menu = {tool.name: tool for tool in tools}
    assert call_misfit(call, menu[call.name]) == why
    said = " ".join(str(value) for value in leaves(call.arguments))
    text = f"""<think>x</think><question>A long question with {said}</question>
    <tool_call_answer>{json.dumps([call.to_json()])}</tool_call_answer>"""
    draft = generator.parse(text, menu=tools)
    assert rewards.r_fmt(draft) == 1
    assert rewards.r_valid(draft) == pytest.approx(1 if why is None else 0.6)
    spec = Spec("home", "single_turn", 3, 1, menu=tools)
    assert curate.structural_reason(draft.task("", "home"), spec, CFG) == why


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", 1.0, 1.5]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2)
    ),
    max_leaves=4,
)
TYPES = st.sampled_from("string integer number boolean null array object".split())


def schemas(inner):
    optional = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=2),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "minimum": st.integers(-2, 2),
        "maximum": st.integers(-2, 2),
        "items": inner,
        "properties": st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
        "required": st.lists(st.sampled_from("xy"), max_size=1),
        "additionalProperties": st.booleans(),
        "anyOf": st.lists(inner, min_size=1, max_size=2),
    }
    return st.fixed_dictionaries({}, optional=optional)


@settings(max_examples=400, deadline=None)
@given(st.recursive(st.just({}), schemas, max_leaves=4), VALUES)
def test_the_schema_check_agrees_with_the_jsonschema_library(schema, value):
    library = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    valid = library.Draft202012Validator(schema).is_valid(value)
    assert (misfit(value, schema) is None) == valid


# -- specs, prompts and completions ---------------------------------------------------------------


def test_menus_are_drawn_from_the_tools_and_capped_by_what_there_is(tools):
    specs = generator.sample_specs(0, 300, domains=["home"], tools=tools)
    assert specs == generator.sample_specs(0, 300, domains=["home"], tools=tools)
    assert {spec.domain for spec in specs} == {"home"}
    assert {spec.menu_size for spec in specs} == {2, 3}
    assert all(len(spec.menu) == spec.menu_size for spec in specs)
    orders = {tuple(tool.name for tool in spec.menu) for spec in specs if spec.menu_size == 3}
    assert len(orders) == 6
    for spec in specs:
        assert len({tool.name for tool in spec.asked}) == spec.calls
        assert all(tool in spec.menu for tool in spec.asked)
    asked = [tool.name for spec in specs for tool in spec.asked]
    assert all(80 < asked.count(tool.name) < 160 for tool in tools)


def test_without_tools_the_specs_are_those_of_before():
    plain = generator.sample_specs(5, 50)
    assert all(spec.menu == () for spec in plain)
    assert {spec.domain for spec in plain} <= set(generator.DOMAINS)
    few = generator.sample_specs(5, 50, domains=["bakery"])
    assert {spec.domain for spec in few} == {"bakery"}


def test_the_prompt_shows_the_menu_and_examples_without_a_menu_block(tools):
    spec = Spec("home", "single_turn", 3, 1, 7, tools, (tools[2],))
    chat = generator.prompt(spec, generator.template_of("bank", given=True))
    assert [message["role"] for message in chat] == ["system", *["user", "assistant"] * 5]
    assert chat[-2]["content"].startswith(f"Tools:\n{generator.as_json(tools)}\n")
    assert chat[-1]["content"] == "<think>\nTool 1: stop_all()\nRequest:"
    for asked, reply in zip(chat[1:-2:2], chat[2:-2:2]):
        assert "<available_tools>" not in reply["content"] and "Tool 2" not in reply["content"]
        menu = read_menu(asked["content"])
        task = generator.parse(reply["content"], menu=menu).task("", "")
        assert curate.structural_reason(task, replace(spec, menu=tuple(menu)), CFG) is None


def read_menu(message):
    return [Tool.from_json(item) for item in json.loads(message.splitlines()[1])]


def test_no_example_has_a_tool_of_the_menu(tools):
    first = generator.examples_of(Spec("home", "single_turn", 2, 1, 3))[0].tools[0]
    mine = (replace(tools[0], name=first.name.upper()),)
    for seed in range(40):
        for example in generator.examples_of(Spec("home", "single_turn", 1, 1, seed, mine)):
            assert first.name not in {tool.name for tool in example.tools}


def test_a_menu_is_filled_in_whatever_the_completion_says(tools):
    text = """<think>x</think><question>Stop everything at once.</question>
    <available_tools>[{"name": "other"}]</available_tools>
    <tool_call_answer>[{"name": "stop_all"}]</tool_call_answer>"""
    draft = generator.parse(text, menu=tools)
    assert draft.tools == list(tools) and draft.reasons == []
    assert generator.parse("<think>x</think>", menu=tools).reasons == [
        "no question",
        "no tool_call_answer",
    ]


def test_a_prompt_file_may_begin_the_answer(tmp_path, tools):
    path = tmp_path / "mine.txt"
    path.write_text("Rules.\n---\n{context} {calls} {outline}\n---\n<think>\nI need ")
    template = generator.template_of(str(path), given=True)
    chat = generator.prompt(Spec("home", "single_turn", 1, 1, 0, tools[:1]), template)
    assert chat[-2]["content"] == "single_turn 1 set_heating(room, degrees, eco?)"
    assert chat[-1] == {"role": "assistant", "content": "<think>\nI need "}
    player = Player("tiny")
    assert player.chat.prompt(chat).endswith("<|im_start|>assistant\n<think>\nI need ")
    (rollout,) = player.sample([chat], 1, 3, 0.0)
    assert player.text(rollout, chat).startswith("<think>\nI need ")
    assert not player.text(rollout).startswith("<think>\nI need ")


def test_what_a_prompt_file_needs_with_tools(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("{context} {calls}")
    with pytest.raises(UsageError, match="shows no menu"):
        generator.template_of(str(path), given=True)
    path.write_text("{tools} {calls}")
    with pytest.raises(UsageError, match="lacks the field {context}"):
        generator.template_of(str(path), given=True)
    with pytest.raises(UsageError, match="prompt file placeholders cannot be read"):
        generator.template_of("placeholders", given=True)


# -- curation, held-out tasks and coverage --------------------------------------------------------


def candidates(tools, names):
    spec = Spec("home", "single_turn", 3, 1, menu=tools)
    made = []
    for n, name in enumerate(names):
        task = Task(f"1-{n:02d}", f"Question {'x' * n}", list(tools), [Call(name, {})], "home")
        made.append(Candidate(task.id, spec, task, p=0.5))
    return made


def test_quotas_are_shared_among_the_tools(tools):
    many = candidates(tools, ["set_heating"] * 20 + ["send_note"] * 3 + ["stop_all"] * 20)
    chosen = curate.select(many, 24)  # 12 of them medium
    called = [c.task.calls[0].name for c in chosen]
    assert {name: called.count(name) for name in called} == {
        "set_heating": 5,
        "send_note": 3,
        "stop_all": 4,
    }


def test_duplicates_do_not_depend_on_the_menu(tools):
    spec = Spec("home", "single_turn", 3, 1, menu=tools)
    task = Task("a", "Stop everything now.", list(tools), [Call("stop_all", {})], "home")
    other = replace(task, id="b", tools=list(tools[1:]))
    short = replace(spec, menu_size=2, menu=tools[1:])
    pair = [Candidate("a", spec, task), Candidate("b", short, other)]
    own = curate.check(pair, replace(CFG, tools="home.json"))
    assert [c.id for c in own] == ["a"] and pair[1].reason == "duplicate"


def test_another_tool_than_asked_for_is_dropped_or_costs_its_share(tools):
    spec = Spec("home", "single_turn", 3, 2, menu=tools, asked=(tools[2], tools[1]))
    calls = [Call("stop_all", {}), Call("stop_all", {})]
    task = Task("a", "Stop everything now and again.", list(tools), calls)
    assert curate.obedience(task, spec, CFG) == 0.5
    assert curate.structural_reason(task, spec, CFG) is None
    gate = replace(CFG, spec="gate")
    assert curate.structural_reason(task, spec, gate) == "not the tool that was asked for"
    assert curate.obedience(task, replace(spec, asked=()), CFG) == 1


def test_a_given_menu_may_have_twins_but_a_written_one_may_not(tools):
    twins = (Tool("f", "Same.", {}, ()), Tool("g", "Same.", {}, ()))
    task = Task("a", "Do the first thing now.", list(twins), [Call("f", {})])
    spec = Spec("home", "single_turn", 2, 1, menu=twins)
    assert curate.structural_reason(task, spec, CFG) is None
    assert curate.structural_reason(task, replace(spec, menu=()), CFG) is not None


def test_guards_still_refuse_what_nobody_would_ask(tools):
    spec = Spec("home", "single_turn", 3, 1, menu=tools)
    task = Task("a", "Call stop_all, please.", list(tools), [Call("stop_all", {})])
    assert curate.structural_reason(task, spec, Config()) == "question names a tool or argument"
    assert guards.valid_factor(task) == 0


def test_every_fifth_task_of_the_first_selection_is_held_out(tmp_path, tools, tools_file):
    cfg = replace(CFG, tools=tools_file)
    run = Run(cfg, tmp_path)
    assert phases.awaits_heldout(cfg, run) and not phases.awaits_heldout(CFG, run)
    first = candidates(tools, ["stop_all"] * 11)
    kept = phases.set_aside(cfg, run, 1, first)
    assert [c.id for c in first if c.reason == "held out"] == ["1-00", "1-05", "1-10"]
    assert len(kept) == 8
    (made,) = phases.heldout(cfg, run).values()
    assert sorted(task.id for task in made) == ["1-00", "1-05", "1-10"]
    again = candidates(tools, ["stop_all"] * 11)  # in a later iteration they are left out
    kept = phases.set_aside(cfg, run, 2, again)
    assert [c.id for c in again if c.reason == "held out"] == ["1-00", "1-05", "1-10"]
    assert len(kept) == 8 and len(phases.heldout(cfg, run)["self-made"]) == 3
    assert phases.awaits_heldout(cfg, run)  # until the curation is finished
    (tmp_path / "iter1/tasks.jsonl").write_text("{}")
    others = replace(cfg, heldout="tiny")
    assert not phases.awaits_heldout(cfg, run) and not phases.awaits_heldout(others, run)
    assert phases.set_aside(others, run, 1, kept) == kept
    assert list(phases.heldout(others, run)) == ["heldout"]


def test_the_table_counts_calls_arguments_and_pairs(tools):
    calls = [
        [Call("set_heating", HEAT), Call("stop_all", {})],
        [Call("stop_all", {}), Call("set_heating", HEAT | {"eco": True})],
        [Call("stop_all", {}), Call("stop_all", {})],
    ]
    tasks = [{"calls": [call.to_json() for call in own]} for own in calls]
    text = coverage.table([tool.to_json() for tool in tools], tasks, "title")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "title tasks tasks with each argument",
        "set_heating 2 room 2, degrees 2, eco 1",
        "send_note 0 to 0, when 0",
        "stop_all 3",
        "two calls: set_heating + stop_all 2, stop_all + stop_all 1",
        "never called: send_note",
    ]


def test_an_alarm_names_the_tools_without_a_task(tools, tools_file):
    cfg = replace(CFG, tools=tools_file)
    left = phases.uncalled(cfg, candidates(tools, ["stop_all"]))
    assert left == ["set_heating", "send_note"]
    assert "set_heating, send_note" in alarms([{"uncalled": left}])["uncalled"]
    assert alarms([{"uncalled": []}]) == {} == alarms([{}])
    assert phases.uncalled(CFG, []) == []


# -- domains --------------------------------------------------------------------------------------


def test_domains_come_from_the_option_or_from_a_file(tmp_path):
    assert phases.world(Config()) == (generator.DOMAINS, ())
    assert read_domains("bakery, night school,bakery") == ["bakery", "night school"]
    path = tmp_path / "domains.txt"
    path.write_text("bakery\nnight school\n\n")
    assert read_domains(str(path)) == ["bakery", "night school"]
    long = ", ".join(generator.DOMAINS)
    assert read_domains(long) == generator.DOMAINS
    with pytest.raises(UsageError, match="--domains names no domain"):
        read_domains(" , ")
    assert phases.world(Config(domains="bakery")) == (["bakery"], ())


# -- the whole ------------------------------------------------------------------------------------


def test_a_run_on_ones_own_tools_ends_in_a_solver_that_knows_them(
    tmp_path, run_here, capsys, monkeypatch
):
    from experiments import own_tools

    own_tools.write_files(tmp_path)
    options = ["--smoke", "--tools", "travel.json", "--candidates", "160"]
    code, out, err = run_here(tmp_path, *options)
    assert code == 0, err
    assert "self-made tasks come from the Generator: they are not a benchmark" in out
    folder = tmp_path / "runs/smoke-travel"
    text = (folder / "report.txt").read_text()
    assert "coverage, iteration 1" in text and "never called:" in text
    solver = folder / "iter1/solver"
    assert read_tools(str(solver / "tools.json")) == tuple(own_tools.own_tools())
    for line in (folder / "iter1/tasks.jsonl").read_text().splitlines():
        task = Task.from_json(json.loads(line))
        menu = {tool.name: tool for tool in own_tools.own_tools()}
        assert all(call_misfit(call, menu[call.name]) is None for call in task.calls)
    assert (folder / "iter0/heldout.json").exists()
    monkeypatch.chdir(tmp_path)
    question = "Please book a visa with reference M-23."
    assert ask.main([question]) in (0, 1)
    assert "runs/smoke-travel/iter1/solver answers" in capsys.readouterr().err
    assert ask.main(["--model", "tiny", question]) == 2
    assert "tiny has no tools.json beside it" in capsys.readouterr().err


def test_tiny_begins_its_answers_as_it_has_learned():
    template = generator.template_of(TINY_TOOLS["generator_prompt"], given=True)
    tool = Tool("book_visa", "", {"code": {}}, ("code",))
    spec = Spec("travel", "single_turn", 1, 1, 0, (tool,), (tool,))
    chat = generator.prompt(spec, template)
    own = generator.prompt(Spec("travel", "single_turn", 1, 1, 0))
    assert chat[-2] == own[-1]
    assert (
        chat[-1]["content"] == "<think>\nThe menu is book_visa(code). The request needs book_visa("
    )


def test_the_held_out_tasks_of_the_experiment_use_its_tools_alone():
    from experiments import own_tools
    from tiny.make import held

    tools = own_tools.own_tools()
    assert len(tools) == 8 and all(held(tool.name) for tool in tools)
    menu = {tool.name: tool for tool in tools}
    for task in own_tools.own_tasks(tools, 60):
        spec = Spec("travel", "", len(task.tools), len(task.calls), menu=tuple(task.tools))
        assert all(menu[tool.name] == tool for tool in task.tools)
        assert curate.structural_reason(task, spec, CFG) is None
    names = [task.tools[0].name for task in own_tools.own_tasks(tools, 60)]
    assert len(set(names)) == 8


def test_the_experiment_compares_the_arms_by_seed(tmp_path, capsys):
    from experiments import own_tools

    for seed, (own, domains) in enumerate([(0.5, 0.4), (0.7, 0.5)]):
        for arm, last in (("own", own), ("own_domains", domains)):
            run = {"variant": arm, "seed": seed, "accuracy": [0.2, 0.3, 0.3, last]}
            (tmp_path / f"{arm}-{seed}.json").write_text(json.dumps(run))
    own_tools.print_table(tmp_path)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "own 2 20.0 ± 0.0 30.0 ± 0.0 30.0 ± 0.0 60.0 ± 14.1" in lines
    assert lines[-1].startswith("own tools minus all domains: +15.0 points [")
