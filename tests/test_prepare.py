"""The benchmarks: small made-up files in each official form, and the real ones where they are."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, SHARED

sys.path.insert(0, str(ROOT / "evals"))
import prepare
import sources

SOURCES = Path(os.environ.get("TOOLR0_SOURCES", "not-set"))
SLOTS = json.loads((ROOT / "evals" / "snips_words.json").read_text("utf-8"))
README = (ROOT / "evals" / "README.md").read_text("utf-8")


def check_case(case, question, tools, calls):
    """Compare names and types of the tools, and the calls; ignore the descriptions."""
    kinds = [
        (t["name"], {k: v["type"] for k, v in t["parameters"]["properties"].items()},
         t["parameters"]["required"])
        for t in case["tools"]
    ]  # fmt: skip
    assert (case["question"], kinds) == (question, tools)
    assert [(call["name"], call["arguments"]) for call in case["calls"]] == calls


def toolalpaca_files():
    pet = {"name": "pet", "in": "path", "required": True, "schema": {"type": "integer"}}
    key = {"name": "key", "in": "query", "required": True, "schema": {"type": "string"}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Toy"}}}}
    toy = {"properties": {"toy": {"type": "string", "enum": ["ball"]}}, "required": ["toy"]}
    document = {
        "paths": {
            "/pets/{pet}": {"get": {"summary": "Find  a pet.", "parameters": [pet, key]}},
            "/toys": {"post": {"requestBody": body}},
        },
        "components": {"schemas": {"Toy": toy}},
    }
    api = {
        "Authentication": {"key": "***"},
        "Documentation": json.dumps(document),
        "Function_Projection": {"findPet": ["/pets/{pet}", "get"]},
        "Instructions": ['"Find pet 3."', "Give that pet a ball."],
        "Golden_Answers": [
            [{"Action": "findPet", "Action_Input": '{"pet": "3", "key": "***", "age": ""}'}],
            [{"Action": "toys_post", "Action_Input": '{"toy": "${toy from findPet}"}'}],
        ],
    }
    return {"data/eval_real.json": json.dumps([api]), "data/eval_simulated.json": "[]"}


def test_toolalpaca_gets_tools_from_openapi_without_the_key_of_the_service():
    cases, dropped = prepare.keep(prepare.toolalpaca(toolalpaca_files()))
    assert dropped == {prepare.PLACEHOLDER: 1}
    assert cases[0]["id"] == "toolalpaca-real-001"
    tools = [("findPet", {"pet": "integer"}, ["pet"]), ("toys_post", {"toy": "string"}, ["toy"])]
    check_case(cases[0], "Find pet 3.", tools, [("findPet", {"pet": 3})])
    assert cases[0]["tools"][0]["description"] == "Find a pet."
    assert cases[0]["tools"][1]["parameters"]["properties"]["toy"]["enum"] == ["ball"]


def sealtools_row(id, calls):
    entry = {
        "api_name": "sum", "api_description": "Add.", "required": ["a"],
        "parameters": {"a": {"type": "float", "description": "first"}, "b": {"type": "str"}},
    }  # fmt: skip
    prompt = f'Choose.\nInput:\napi_list = {[entry]}\ntask_instruction = "Add 1.5."\nOutput:\n'
    return {"id": id, "conversations": [{"value": prompt}, {"value": repr(calls)}]}


def test_sealtools_drops_nested_calls_and_values_of_another_type():
    rows = [
        sealtools_row("test_in_domain-easy-0", [{"api": "sum", "parameters": {"a": "1.5"}}]),
        sealtools_row("test_in_domain-easy-1", [{"api": "sum", "parameters": {"a": "API_call_0"}}]),
        sealtools_row("test_in_domain-easy-2", [{"api": "sum", "parameters": {"a": "one"}}]),
        sealtools_row("test_in_domain-easy-3", [{"api": "sum", "parameters": {"b": "x"}}]),
        sealtools_row("test_in_domain-easy-4", [{"api": "sun", "parameters": {}}]),
        sealtools_row("test_in_domain-easy-5", [{"api": "sum", "parameters": {"a": 1, "c": 1}}]),
    ]
    folder = "Seal-Tools_Dataset/dataset_for_finetune/"
    files = {f"{folder}test_{part}.json": "[]" for part in ("in_domain", "out_domain")}
    files[folder + "test_in_domain.json"] = json.dumps(rows)
    cases, dropped = prepare.keep(prepare.sealtools(files))
    assert [case["id"] for case in cases] == ["sealtools-in-domain-easy-0"]
    tools = [("sum", {"a": "number", "b": "string"}, ["a"])]
    check_case(cases[0], "Add 1.5.", tools, [("sum", {"a": 1.5})])
    assert dropped == {
        "nested call (an argument is another call's result)": 1,
        "gold value not of the declared type": 1,
        "required argument missing in gold": 1,
        "gold tool not among the tools": 1,
        "gold argument not in the schema": 1,
    }


STUBS = '''
def search(text, limit=None):
    """
    Search.

    Args:
    text (str): what to search for

    - limit: int32, optional, how many
    """
'''
EMAILREP = """
class Helper:
    def emailrep(self):
        post = {"name": "report", "description": "Report.\\n\\n  Parameters: x", "args_dicts": [
            {"name": "email", "type": "str", "description": "", "required": True}]}
        return [post]
"""
PROMPT = '''
OPTION:
<func_start>def list-cats(colour: str, count: int = 1)<func_end>
<docstring_start>
"""
List cats.

Parameters:
    colour (str) required: string. Its colour.
    count (int) optional: integer. How many.
"""
<docstring_end>
'''


def test_nexusraven_reads_stubs_objects_and_prompts_and_python_calls():
    folder = "raven/data/resources/"
    turn = {"docstring": PROMPT, "instruction": "Two black cats.",
            "golden_answer": json.dumps(["list_cats('black', count=2)"])}  # fmt: skip
    queries = {
        "cve_cpe": [{"query": "Search.", "reference": "r = lib.search(text='a b', limit=None)"}],
        "virustotal": [{"query": "Search.", "reference": "search(text=None)"}],
        "emailrep": [{"query": "Report it. ", "reference": 'report(email="a@b.org")'}],
        "toolalpaca": [{"turns_1": turn}],
    }
    files = {f"{folder}{part}_queries.json": json.dumps(rows) for part, rows in queries.items()}
    for part in ("cve_cpe", "virustotal"):
        files[f"{folder}{part}_function_definitions.py"] = STUBS
    files["raven/data/upload_standardized_api_list.py"] = EMAILREP
    cases, dropped = prepare.keep(prepare.nexusraven(files))
    assert dropped == {"gold gives None for every argument": 1}
    ids = ["cve-cpe-001", "emailrep-001", "toolalpaca-001"]
    assert [case["id"] for case in cases] == [f"nexusraven-{id}" for id in ids]
    search = [("search", {"text": "string", "limit": "string"}, ["text"])]
    check_case(cases[0], "Search.", search, [("search", {"text": "a b"})])
    report = [("report", {"email": "string"}, ["email"])]
    check_case(cases[1], "Report it.", report, [("report", {"email": "a@b.org"})])
    cats = [("list_cats", {"colour": "string", "count": "integer"}, ["colour"])]
    check_case(cases[2], "Two black cats.", cats, [("list_cats", {"colour": "black", "count": 2})])
    about = cases[0]["tools"][0]["parameters"]["properties"]
    assert [about[key]["description"] for key in about] == ["what to search for", "how many"]


CLASS = """
from apis.api import API
class Wake(API):
    description = "Wake somebody."
    input_parameters = {'time': {'type': 'str', 'description': 'When.'}, 'loud': {'type': 'bool'}}
    def call(self, time: str, loud=False) -> dict:
        return {}
"""


def test_apibank_makes_a_case_of_each_call_with_the_dialogue_before_it():
    call = {"role": "API", "api_name": "Wake", "param_dict": {"time": "07:00", "loud": "True"},
            "result": {"output": "done"}}  # fmt: skip
    searcher = {**call, "api_name": "ToolSearcher", "param_dict": {"keywords": "wake"}}
    turns = [{"role": "User", "text": " Wake me. "}, searcher, call, {**call, "param_dict": {}}]
    level3 = {
        "system": "use the following tools:\n1. Nap: Sleep.\n"
        "Parameters: {'minutes': {'type': 'int'}}\n\n**Steps**",
        "user": "**Dialogue Records History**\n<user>A nap.</user>\n"
        "<user> Based on our conversation above, make one call.</user>",
        "answer": [{"name": "Nap", "parameters": {"minutes": "20"}}],
        "other": {"sample_id": 4, "api_id": 0},
    }
    folder = "api-bank/lv1-lv2-samples/level-2-toolsearcher"
    files = {
        "api-bank/apis/wake.py": CLASS,
        "api-bank/apis/tool_search.py": CLASS.replace("Wake(", "ToolSearcher("),
        f"{folder}/A-1.jsonl": "\n".join(map(json.dumps, turns)),
        "benchmarks/API-Bank/level-3-api_processed.json": json.dumps([level3]),
    }
    cases, dropped = prepare.keep(prepare.apibank(files))
    assert [case["id"] for case in cases] == ["apibank-l2-A-1-2", "apibank-l3-04-0"]
    assert dropped == {"gold call is a free-text ToolSearcher query": 1,
                       "required argument missing in gold": 1}  # fmt: skip
    question = (
        "This year is 2023. Make only the next single API call of this dialogue.\n"
        'User: Wake me.\nAPI: ToolSearcher({"keywords": "wake"}) returned "done"'
    )
    schema = {"time": "string", "loud": "boolean"}
    tools = [("ToolSearcher", schema, ["time"]), ("Wake", schema, ["time"])]
    check_case(cases[0], question, tools, [("Wake", {"time": "07:00", "loud": True})])
    question = "Make only the next single API call of this dialogue.\nUser: A nap."
    tools = [("Nap", {"minutes": "integer"}, [])]
    check_case(cases[1], question, tools, [("Nap", {"minutes": 20})])


def test_snips_has_every_intent_as_a_tool_and_the_spans_as_values():
    files = {}
    for intent in SLOTS:
        data = [{"text": "rate "}, {"text": "this \n", "entity": "object_select"}, {"text": " 5"}]
        rows = {intent: [{"data": data}] if intent == "RateBook" else []}
        files[f"2017-06-custom-intent-engines/{intent}/validate_{intent}.json"] = json.dumps(rows)
    (case,), dropped = prepare.keep(prepare.snips(files))
    assert not dropped and case["id"] == "snips-RateBook-001"
    assert [t["name"] for t in case["tools"]] == list(SLOTS) and len(SLOTS) == 7
    assert case["question"] == "rate this 5"
    assert case["calls"] == [{"name": "RateBook", "arguments": {"object_select": "this"}}]


def bfcl_files(category, answers, count=1):
    schema = {
        "type": "dict",
        "properties": {
            "who": {"type": "string"},
            "at": {"type": "tuple", "items": {"type": "float"}},
            "how": {"type": "dict", "properties": {"type": {"type": "any"}}},
        },
        "required": ["who"],
    }
    function = {"name": "go.to", "description": "Go.", "parameters": schema}
    rows = [
        {"id": f"{category}_{n}", "question": [[{"role": "user", "content": "Go."}]],
         "function": [function]}
        for n in range(count)
    ]  # fmt: skip
    gold = [{"id": row["id"], "ground_truth": answers} for row in rows]
    folder, name = "bfcl_eval/data/", f"BFCL_v4_{category}.json"
    categories = sum(prepare.BFCL_CATEGORIES.values(), ())
    files = {f"{folder}BFCL_v4_{each}.json": "" for each in categories}
    files[folder + name] = "\n".join(map(json.dumps, rows))
    return files | {f"{folder}possible_answer/{name}": "\n".join(map(json.dumps, gold))}


def test_bfcl_keeps_all_accepted_values_and_calls_with_the_first():
    how = {"type": ["fast"], "x": [""]}
    accepted = {"who": ["", "Ann", "Anna"], "at": [[1.5, 2.5]], "how": [how]}
    answers = [{"go.to": accepted}, {"go.to": {"who": ["Bo"], "at": ["", [0.0]]}}]
    (case,), dropped = prepare.keep(prepare.bfcl(bfcl_files("parallel", answers), "bfcl"))
    assert case["id"] == "bfcl-parallel_0" and case["benchmark"] == "bfcl" and not dropped
    schema = case["tools"][0]["parameters"]
    assert schema["type"] == "object" and schema["required"] == ["who"]
    assert schema["properties"]["at"] == {"type": "array", "items": {"type": "number"}}
    assert schema["properties"]["how"]["properties"] == {"type": {}}
    first = {"who": "Ann", "at": [1.5, 2.5], "how": {"type": "fast"}}
    assert [call["arguments"] for call in case["calls"]] == [first, {"who": "Bo"}]
    assert case["accept"] == [accepted, {"who": ["Bo"], "at": ["", [0.0]]}]


def test_bfcl_irrelevance_has_no_calls():
    files = bfcl_files("irrelevance", [])
    (case,), _ = prepare.keep(prepare.bfcl(files, "bfcl_irrelevance"))
    assert case["benchmark"] == "bfcl_irrelevance" and case["calls"] == [] and "accept" not in case


def test_bfcl_live_takes_the_same_500_of_a_large_category_each_time():
    files = bfcl_files("live_multiple", [{"go.to": {"who": ["Bo"]}}], count=510)
    cases, dropped = prepare.keep(prepare.bfcl(files, "bfcl_live"))
    assert len(cases) == 500 and dropped == {"outside the random 500 of live_multiple": 10}
    assert cases == prepare.keep(prepare.bfcl(files, "bfcl_live"))[0]


@pytest.mark.parametrize(
    "value, kind, result",
    [
        ("true", "boolean", True),
        ("yes", "boolean", None),
        (True, "integer", None),
        (1, "number", 1),
        (1.5, "integer", None),
        ("[1, 'a']", "array", [1, "a"]),
        ("{'a': 1}", "array", None),
        ("1", "string", "1"),
        (True, "string", None),
    ],
)
def test_a_gold_value_gets_its_declared_type_or_none(value, kind, result):
    assert prepare.typed(value, kind) == result
    assert type(prepare.typed(value, kind)) is type(result)


# Getting the files: a made-up table in place of the real one.


@pytest.fixture
def origin(monkeypatch):
    """Use a table of one repository with one file and one group of files; return their contents."""
    monkeypatch.setattr(sys, "argv", ["prepare.py"])
    contents = {"data/a.json": b"one", "data/x/1.txt": b"1", "data/x/2.txt": b"2"}
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    listing = "".join(f"{digests[f'data/x/{n}.txt']}  {n}.txt\n" for n in (1, 2))
    group = hashlib.sha256(listing.encode()).hexdigest()
    table = f"fake some/repo 1234\ndata/*\n{digests['data/a.json']} a.json\n{group} x/*.txt\n"
    monkeypatch.setattr(sources, "TABLE", table)
    monkeypatch.setattr(prepare, "BENCHMARKS", {"fake": lambda files: iter(files.values())})
    return contents


def as_zip(contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in contents.items():
            archive.writestr(f"repo-1234/{path}", content)
    return buffer.getvalue()


def write_tree(folder, contents):
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
    prepare.main()


@pytest.mark.parametrize("name", ["some+repo", "some/repo"])
def test_a_folder_is_read_as_a_copy(origin, tmp_path, name):
    write_tree(tmp_path / name, {**origin, "data/x/other.md": b"not in the table"})
    files = sources.official_files("fake", tmp_path, network=False)
    assert files == {path: content.decode() for path, content in origin.items()}


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.parametrize("bare", [False, True])
def test_a_clone_is_read_at_the_pinned_commit(origin, tmp_path, monkeypatch, bare):
    def git(*arguments):
        me = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "core.autocrlf=false"]
        done = subprocess.run(["git", *me, *arguments], cwd=work, check=True, capture_output=True)
        return done.stdout.decode().strip()

    work = tmp_path / ("work" if bare else "some+repo")
    write_tree(work, origin)
    git("init", "-q"), git("add", "."), git("commit", "-qm", "one")
    monkeypatch.setattr(sources, "TABLE", sources.TABLE.replace("1234", git("rev-parse", "HEAD")))
    (work / "data/a.json").write_bytes(b"later")
    git("commit", "-qam", "two")
    if bare:
        git("clone", "-q", "--bare", ".", str(tmp_path / "some+repo"))
    files = sources.official_files("fake", tmp_path, network=False)
    assert files == {path: content.decode() for path, content in origin.items()}


def test_the_archive_is_downloaded_converted_and_counted(origin, tmp_path, monkeypatch, capsys):
    def retrieve(url, target):
        assert url == "https://codeload.github.com/some/repo/zip/1234"
        Path(target).write_bytes(as_zip(origin))

    monkeypatch.setattr(sources.urllib.request, "urlretrieve", retrieve)
    run(monkeypatch, "--out", tmp_path / "new" / "data", "--only", "fake")
    out = capsys.readouterr().out
    assert out.count("downloading") == 1
    assert "fake: 0 cases kept, 3 dropped\n     1  one\n" in out
    assert [path.name for path in (tmp_path / "new" / "data").iterdir()] == ["fake.jsonl"]


def fails(capsys, monkeypatch, *arguments):
    """Return the one line that a failed run writes."""
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1 and error.startswith("prepare.py: ")
    return error


def test_without_a_network_one_line_names_the_file_and_the_other_way(
    origin, tmp_path, monkeypatch, capsys
):
    def retrieve(url, target):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(sources.urllib.request, "urlretrieve", retrieve)
    line = fails(capsys, monkeypatch, "--out", tmp_path / "data")
    assert all(word in line for word in ("data/a.json", "some/repo", "no route", "--source DIR"))
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("path, named", [("data/a.json",) * 2, ("data/x/2.txt", "data/x/*.txt")])
def test_a_wrong_hash_is_named_with_both_hashes(origin, tmp_path, monkeypatch, capsys, path, named):
    write_tree(tmp_path / "some+repo", {**origin, path: b"changed"})
    line = fails(capsys, monkeypatch, "--source", tmp_path, "--out", tmp_path / "data")
    assert f"{named} of some/repo is not the file" in line
    assert len(re.findall(r"\b[0-9a-f]{64}\b", line)) == 2


@pytest.mark.parametrize("there", ["nothing", "a part", "a broken archive"])
def test_an_incomplete_copy_is_named(origin, tmp_path, monkeypatch, capsys, there):
    if there == "a part":
        write_tree(tmp_path / "some+repo", {"data/x/1.txt": b"1"})
    if there == "a broken archive":
        (tmp_path / "some+repo.zip").write_bytes(as_zip(origin)[:100])
    line = fails(capsys, monkeypatch, "--source", tmp_path, "--out", tmp_path / "data")
    assert "data/a.json of some/repo 1234 is unavailable" in line


def test_a_failing_pip_is_one_line_too(tmp_path, monkeypatch, capsys):
    def failing(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr=b"retry\nERROR: no such package\n")

    monkeypatch.setattr(sources.subprocess, "run", failing)
    line = fails(capsys, monkeypatch, "--only", "bfcl_live", "--out", tmp_path)
    assert "BFCL_v4_*.json" in line and "ERROR: no such package" in line


# The real files.


def readme_counts():
    """Return benchmark -> number of cases kept and dropped, from the table in evals/README.md."""
    rows = re.findall(r"^\| `(\w+)` \|.*?\| ([\d,]+) \| ([\d,]+) \|", README, re.M)
    return {name: tuple(int(n.replace(",", "")) for n in counts) for name, *counts in rows}


def test_the_readme_names_every_benchmark_origin_and_version():
    assert list(readme_counts()) == list(prepare.BENCHMARKS)
    for file in sources.table():
        assert file.origin in README and file.version[:7] in README


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    if not SOURCES.is_dir():
        pytest.skip("TOOLR0_SOURCES names no folder with copies of the official files")
    out = tmp_path_factory.mktemp("prepared")
    done = subprocess.run(
        [sys.executable, ROOT / "evals" / "prepare.py", "--source", SOURCES, "--out", out],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return out, done.stdout


def test_the_counts_are_those_of_the_readme(prepared):
    out, printed = prepared
    for name, (kept, dropped) in readme_counts().items():
        assert f"{name}: {kept} cases kept, {dropped} dropped\n" in printed
        ids = [json.loads(line)["id"] for line in (out / f"{name}.jsonl").open(encoding="utf-8")]
        assert len(ids) == len(set(ids)) == kept
    assert "CC BY-NC 4.0" in printed.split("nexusraven:")[1].split("apibank:")[0]


def test_the_cases_are_those_of_the_shared_part(prepared):
    if not (SHARED / "benchmarks").is_dir():
        pytest.skip("TOOLR0_SHARED names no folder with a part of the converted benchmarks")
    for name in prepare.BENCHMARKS:
        path = SHARED / "benchmarks" / f"{name}.jsonl"
        lines = set((prepared[0] / path.name).read_text("utf-8").splitlines())
        missing = [line for line in path.read_text("utf-8").splitlines() if line not in lines]
        assert not missing, missing[0][:200]
