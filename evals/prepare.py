"""Six public tool-calling benchmarks: from their official files to one JSONL form.

Every file is taken at a pinned commit (BFCL: from a pinned version of the package bfcl-eval) and
checked against its SHA-256 in the table below.  A case that cannot be used is left out for a named
reason; the reasons are counted and printed.  Standard library only.

    python evals/prepare.py                      download (40 MB), write evals/data/
    python evals/prepare.py --only snips bfcl    some of the benchmarks
    python evals/prepare.py --source DIR         the same from copies on this machine

For each GitHub repository, DIR has one of: OWNER+NAME.zip, GitHub's archive of the pinned commit;
OWNER+NAME/ or OWNER/NAME/, a clone that has that commit (bare or not, whatever is checked out) or
just the files at their paths.  For BFCL, DIR has bfcl_eval-2026.3.23-py3-none-any.whl, which
`python -m pip download --no-deps bfcl-eval==2026.3.23` fetches.

One line of data/NAME.jsonl, shortened; `accept`, all accepted values, is in BFCL only:
    {"id": "bfcl-multiple_7", "benchmark": "bfcl", "question": "How much is 5 euros in dollars?",
     "tools": [{"name": "convert", "description": "Convert money.", "parameters": {"type": "object",
                "properties": {"amount": {"type": "integer"}, ...}, "required": ["amount"]}}],
     "calls": [{"name": "convert", "arguments": {"amount": 5, "to": "USD"}}], "accept": [...]}
"""

import ast
import io
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter, namedtuple
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zipfile import Path as ZipPath

# Three kinds of lines: benchmark, origin and its commit or version; a path; SHA-256 and what the *
# in that path stands for.  If that has a * too, it means all such files of the folder, and the hash
# is that of what `sha256sum` prints for them, in the order of their bytes.
TABLE = """
toolalpaca tangqiaoyu/ToolAlpaca 189069998d64a7baf1b4a1c3c4b2e75eb9d05532
data/eval_*.json
86d1392c786060e00dd6feaa963d8a87660e3042380b0abbd8ccad2b931e2778 real
17085ffefae0a0e15c1d2d564263063932d692011edf27ce8ae3d3803432ba08 simulated
sealtools fairyshine/Seal-Tools ce753ecd60ed08dd376984035de531ab8421f1c6
Seal-Tools_Dataset/dataset_for_finetune/test_*.json
75d51adc3521c6dce1b0f19628446a5e49d30e7a36425fada7809b0f5a4e4d7a in_domain
adcdde6eac7cdeb5fe10ea3c77a89fbc55a8dca7fc8c2a23dc17222cb4f4f2f4 out_domain
nexusraven nexusflowai/NexusRaven f32882763bb3e220722883821919c14abdd3d156
raven/data/*
e8ce06d7450757087f5e757f1314236141b95ac3e6ec6ed73844c69ead3ad02d upload_standardized_api_list.py
8b1c35e1f5ab821dec61f7c78ce193e1b8a036341190b139d4cb08efaec6ed9a resources/*_queries.json
cb3ec777a074e7dc189a93a5adc627a83cd0760cb7e33cab4c7db801b135109e resources/*_definitions.py
apibank AlibabaResearch/DAMO-ConvAI 483554eae102996f5ec1f4feab4e78ef29c2a394
api-bank/*
468049baecb82eb25c28933f69491cec3264ff286ad031b1e38286da3b3ac1c8 apis/*.py
api-bank/lv1-lv2-samples/*
f3c4b4a0bdd3a0a46234817115e04a3b36bf5b505922f22e215cf60871c606e4 level-1-given-desc/*.jsonl
95144f9f91a2d29f36eef0ea61b99fed6e4e6607b1d7e93c70fade7306c4ef9d level-2-toolsearcher/*.jsonl
apibank qiancheng0/ToolRL 8cee13ec0ca72f0461da372a93a6fd8140dbb840
benchmarks/API-Bank/*.json
57228427976f05725d9cf2f0ab03ac16487efaed67d5a929b28e974b9b27ef05 level-3-api_processed
snips sonos/nlu-benchmark b86ac7f1577868c42158d0dec77db50956046696
2017-06-custom-intent-engines/*/validate_*.json
14cc9ee49ae477b1452632a6e835498cf4c32da397b16967c82abb3e50403e83 AddToPlaylist
4f7258ccc768b777b2eb8916532db9aa50dbd058ddf1ffb0dc59218963e7442a BookRestaurant
60c095e193655d6ca92be220fed3926ca25e18cd70c85664145efe25d80993af GetWeather
922212775e26259d5bffeaf79b6048d070ca017d229df00b2cc9800f71c75d20 PlayMusic
c1f8b4114da0bb5e8afd78a8062766e18b2eabb0e717539598db01b09d04619b RateBook
8a5e830eddb185d3e4a9d27ded140a145d04766bdce0e58834676ede32d13e77 SearchCreativeWork
81e1445713e03c7c3e615353c5f3fee05f369fe9834100b9b9735900a96b9498 SearchScreeningEvent
bfcl bfcl-eval 2026.3.23
bfcl_eval/data/*
377886abf380fc60565ec88a01beb83c6ec72994b49f71fd1ba4325a5215646b BFCL_v4_*.json
d6307784eb8528f2c3517c9f5e395cf0d643a88e84f3eb3016db210baf23fcc5 possible_answer/BFCL_v4_*.json
"""
BFCL_CATEGORIES = {
    "bfcl": ("simple_python", "multiple", "parallel", "parallel_multiple"),
    "bfcl_live": ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"),
    "bfcl_irrelevance": ("irrelevance",),
}
BFCL_SAMPLE = 500  # of a category; only live_multiple has more
TYPES = {  # JSON schema -> Python, and the names in the sources
    "integer": (int, "int integer long"),
    "number": ((int, float), "float number double"),
    "boolean": (bool, "bool boolean"),
    "array": (list, "list array tuple"),
    "object": (dict, "dict object json hashmap"),
    "string": (str, ""),
}
PLACEHOLDER = "gold has a placeholder for an unknown or an earlier result"
Official = namedtuple("Official", "benchmark origin version path digest")  # a line with a hash


class Unavailable(Exception):
    """An official file cannot be had or is not the expected one; the message is for the user."""


def table() -> Iterator[Official]:
    """The table, line by line."""
    for line in TABLE.strip().splitlines():
        match line.split():
            case [benchmark, origin, version]:
                head = benchmark, origin, version
            case [path]:
                pattern = path
            case [digest, name]:
                yield Official(*head, pattern.replace("*", name), digest)


def download(file: Official, archive: Path) -> None:
    """Fetch the archive of a repository in one request (GitHub limits their number), or a wheel."""
    url = f"https://codeload.github.com/{file.origin}/zip/{file.version}"
    print("downloading", url if archive.suffix == ".zip" else archive.name, flush=True)
    if archive.suffix == ".zip":
        socket.setdefaulttimeout(60)  # seconds without a byte
        urllib.request.urlretrieve(url, archive)
    else:  # by pip, which knows the index and the proxy of the user
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                archive.parent,
                "--only-binary=:all:",
                f"{file.origin}=={file.version}",
            ],
            check=True,
            capture_output=True,
        )


def open_copy(file: Official, folder: Path, network: bool) -> Path | ZipPath:
    """The root of what a file is part of; the head of this module lists the forms of copies."""
    joined = file.origin.replace("/", "+")
    wheel = f"{joined.replace('-', '_')}-{file.version}-py3-none-any.whl"
    archive = folder / (f"{joined}.zip" if "/" in file.origin else wheel)
    if network and not archive.exists():
        download(file, archive)
    if archive.exists():
        root = ZipPath(archive)
        return next(root.iterdir()) if archive.suffix == ".zip" else root  # one folder at its top
    for place in (folder / joined, folder / file.origin):
        for head in (*place.glob("HEAD"), *place.glob("*/HEAD")):  # of a bare clone, or in .git
            git = subprocess.run(
                [
                    "git",
                    "-c",
                    "core.autocrlf=false",
                    f"--git-dir={head.parent}",
                    "archive",
                    "--format=zip",
                    file.version,
                    file.path,
                ],
                check=True,
                capture_output=True,
            )
            return ZipPath(io.BytesIO(git.stdout))
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no {archive.name} and no folder {joined} in {folder}")


def read(root: Path | ZipPath, file: Official) -> dict[str, str]:
    """Path -> text of what a line of the table stands for, if the hash is the expected one."""
    folder, _, name = file.path.rpartition("/")
    names = sorted(p.name for p in (root / folder).iterdir() if fnmatchcase(p.name, name))
    found = {name: (root / folder / name).read_bytes() for name in names or [name]}
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in found.items()]
    digest = sha256("".join(lines).encode()).hexdigest() if "*" in name else lines[0].split()[0]
    if digest != file.digest:
        raise Unavailable(
            f"{file.path} of {file.origin} is not the file of {file.version}: "
            f"expected SHA-256 {file.digest}, found {digest}."
        )
    return {f"{folder}/{name}": content.decode() for name, content in found.items()}


def official_files(benchmark: str, folder: Path, network: bool) -> dict[str, str]:
    """Path -> text of every file that a benchmark is made from."""
    files = {}
    for file in table():
        try:
            if file.benchmark == benchmark.split("_")[0]:  # the three of BFCL share their files
                files |= read(open_copy(file, folder, network), file)
        except (OSError, HTTPException, BadZipFile, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or (str(error) or repr(error)).encode()
            why = why.decode(errors="replace").strip().splitlines()[-1]
            raise Unavailable(
                f"{file.path} of {file.origin} {file.version} cannot be had: {why}. "
                "With copies: --source DIR, see --help."
            ) from None
    return files


def json_type(name: str) -> str:
    """The JSON-schema type for a type name of any source: int32 is an integer, date a string."""
    word = re.match("[a-z]*", name.lower()).group()
    return next((kind for kind, (_, names) in TYPES.items() if word in names.split()), "string")


def one_line(text: str | None) -> str:
    """Text with every run of white space as one space."""
    return " ".join((text or "").split())


def make_tool(name: str, description: str | None, schemas: dict, required: list[str]) -> dict:
    """A tool of the output; of the source's schemas only type, description and enum stay."""
    properties = {}
    for key, schema in schemas.items():
        properties[key] = {
            "type": json_type(schema.get("type", "string")),
            "description": one_line(schema.get("description")),
        }
        properties[key] |= {"enum": schema["enum"]} if "enum" in schema else {}
    return {
        "name": name,
        "description": one_line(description),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def make_case(id: str, question: str, tools: list[dict], calls: list[tuple[str, dict]]) -> dict:
    """A case of the output; `calls` are pairs (name, arguments)."""
    return {
        "id": id,
        "benchmark": id.partition("-")[0],
        "question": question,
        "tools": tools,
        "calls": [{"name": n, "arguments": dict(a)} for n, a in calls],
    }


def unquote(text: str) -> str:
    """Text without the quotation marks that may stand around the whole of it."""
    return re.fullmatch(r'("?)(.*)\1', text.strip(), re.S)[2]


def typed(value: Any, kind: str) -> Any:
    """A gold value in its declared type, if it has it or its text is a literal of it; else None.

    >>> typed("40.7", "number"), typed(2020, "string"), typed("40 or so", "number")
    (40.7, '2020', None)
    """
    if isinstance(value, str) and kind != "string":
        try:
            value = ast.literal_eval(value.capitalize() if kind == "boolean" else value)
        except (ValueError, SyntaxError):
            return None
    if kind == "string" and type(value) in (int, float):
        value = str(value)
    fits = isinstance(value, TYPES[kind][0]) and isinstance(value, bool) == (kind == "boolean")
    return value if fits else None


def problem(case: dict) -> str | None:
    """Why a case is unusable, or None.  Outside BFCL, brings gold values to their types."""
    tools = {tool["name"]: tool["parameters"] for tool in case["tools"]}
    for call in case["calls"]:
        if call["name"] not in tools:
            return "gold tool not among the tools"
        schema, arguments = tools[call["name"]], call["arguments"]
        if not arguments.keys() <= schema["properties"].keys():
            return "gold argument not in the schema"
        if not arguments.keys() >= set(schema["required"]):
            return "required argument missing in gold"
        if "accept" not in case:
            for name, value in arguments.items():
                arguments[name] = typed(value, schema["properties"][name]["type"])
            if None in arguments.values():
                return "gold value not of the declared type"
    return None


# One function a benchmark.  Each maps the official files (path -> text) to cases in their official
# order; in place of a case that it leaves out stands the reason, a string.


def toolalpaca(files: dict[str, str]) -> Iterator[dict | str]:
    """ToolAlpaca: real and simulated APIs; tools from their OpenAPI documents."""
    for part in ("real", "simulated"):
        asked = [
            (api, *pair)
            for api in json.loads(files[f"data/eval_{part}.json"])
            for pair in zip(api["Instructions"], api["Golden_Answers"])
        ]
        for number, (api, question, gold) in enumerate(asked, 1):
            texts = [
                step["Action_Input"].replace('"symbols": "symbols":', '"symbols":') or "{}"
                for step in gold
            ]  # four have this slip
            if any("${" in text or '"{' in text for text in texts):
                yield PLACEHOLDER
                continue
            # "" means: not given.  The key of the service is filled in by the official agent.
            secret = api.get("Authentication") or {}
            calls = [
                (
                    step["Action"],
                    {
                        name: value
                        for name, value in json.loads(text).items()
                        if value != "" and name not in secret
                    },
                )
                for step, text in zip(gold, texts)
            ]
            yield make_case(
                f"toolalpaca-{part}-{number:03d}", unquote(question), openapi_tools(api), calls
            )


def openapi_tools(api: dict) -> list[dict]:
    """One tool for each operation of an API's OpenAPI document, without the key of the service."""
    document, tools = json.loads(api["Documentation"]), []
    paths, secret = document["paths"], api.get("Authentication") or {}
    shared = paths.pop("components", None) or document.get("components", {})  # misplaced in one
    names = {tuple(place): name for name, place in api["Function_Projection"].items()}
    for methods in list(paths.values()):  # in one document, paths stand inside a path
        paths |= {nested: methods.pop(nested) for nested in list(methods) if nested[0] == "/"}
    for path, method in ((path, method) for path, methods in paths.items() for method in methods):
        operation = paths[path][method]
        bodies = operation.get("requestBody", {}).get("content", {}).values()
        body = next((media["schema"] for media in bodies), {})
        body = shared["schemas"][body["$ref"].split("/")[-1]] if "$ref" in body else body
        found = {
            item["name"]: {**item["schema"], "description": item.get("description")}
            for item in operation.get("parameters", [])
            if item["name"] not in secret
        }
        needed = {item["name"] for item in operation.get("parameters", []) if item.get("required")}
        found, needed = found | body.get("properties", {}), needed | set(body.get("required", []))
        name = names.get((path, method), path.strip("/").replace("/", "_") + "_" + method)
        tools.append(
            make_tool(
                name,
                operation.get("summary") or operation.get("description"),
                found,
                [key for key in found if key in needed],
            )
        )
    return tools


def sealtools(files: dict[str, str]) -> Iterator[dict | str]:
    """Seal-Tools: prompts with five candidate tools each, as Python literals."""
    for part in ("in_domain", "out_domain"):
        for row in json.loads(files[f"Seal-Tools_Dataset/dataset_for_finetune/test_{part}.json"]):
            prompt, answer = (turn["value"] for turn in row["conversations"])
            listed, question = re.search(
                r"api_list = (.*)\ntask_instruction = (.*)\nOutput:", prompt, re.S
            ).groups()
            tools = [
                make_tool(
                    entry["api_name"],
                    entry["api_description"],
                    entry["parameters"],
                    entry["required"],
                )
                for entry in ast.literal_eval(listed)
            ]
            calls = [(gold["api"], gold["parameters"]) for gold in ast.literal_eval(answer)]
            if "API_call_" in json.dumps(calls):
                yield "nested call (an argument is another call's result)"
                continue
            short = row["id"].removeprefix("test_").replace("_", "-")
            yield make_case(f"sealtools-{short}", unquote(question), tools, calls)


def nexusraven(files: dict[str, str]) -> Iterator[dict | str]:
    """NexusRaven: questions for four APIs; gold is a Python call."""
    folder = "raven/data/resources/"
    menus = {
        part: stub_tools(files[f"{folder}{part}_function_definitions.py"])
        for part in ("cve_cpe", "virustotal")
    }
    menus["emailrep"] = emailrep_tools(files["raven/data/upload_standardized_api_list.py"])
    for part in ("cve_cpe", "emailrep", "virustotal", "toolalpaca"):
        for number, row in enumerate(json.loads(files[f"{folder}{part}_queries.json"]), 1):
            if part == "toolalpaca":
                row = row["turns_1"]  # the question that one call answers
                row |= dict(query=row["instruction"], reference=json.loads(row["golden_answer"])[0])
                menus[part] = stub_tools(prompt_stubs(row["docstring"]))
            name, arguments = python_call(row["reference"], menus[part])
            # Gold passes None for what the request leaves open: optional here, and not in the call.
            given = {key: value for key, value in arguments.items() if value is not None}
            tools = json.loads(json.dumps(menus[part]))  # a copy
            for schema in (tool["parameters"] for tool in tools if tool["name"] == name):
                schema["required"] = [
                    key for key in schema["required"] if key in given or key not in arguments
                ]
            if "${" in row["reference"]:
                yield PLACEHOLDER
            elif arguments and not given:
                yield "gold gives None for every argument"
            else:
                yield make_case(
                    f"nexusraven-{part.replace('_', '-')}-{number:03d}",
                    row["query"].strip(),
                    tools,
                    [(name, given)],
                )


def python_call(text: str, tools: list[dict]) -> tuple[str, dict]:
    """Name and arguments of a call `f(1, b=2)` or `r = module.f(1, b=2)`."""
    call = ast.parse(text.strip()).body[0].value
    name = ast.unparse(call.func).split(".")[-1]
    arguments = {item.arg: ast.literal_eval(item.value) for item in call.keywords}
    order = next(list(t["parameters"]["properties"]) for t in tools if t["name"] == name)
    return name, arguments | {order[i]: ast.literal_eval(item) for i, item in enumerate(call.args)}


def stub_tools(source: str) -> list[dict]:
    """Tools from Python functions without content whose docstrings describe their arguments."""
    tools = []
    for function in ast.parse(source).body:
        summary, *rest = re.split("Args:|Parameters:", ast.get_docstring(function), maxsplit=1)
        # "- name: text", "- name, text" or "name (type) required: text", where some of the texts
        # repeat the type, and whether the argument is required
        about = {
            name.replace("-", "_"): (kind, text)
            for name, kind, text in re.findall(
                r"^ *(?:- *)?([\w-]+) *(?:\(([^)]*)\)(?: required| optional)? *:|[:,]) *"
                r"(?:(?:string|int32|integer|json|dict|bool\w*) *, *(?:(?:required|optional) *, *)?)?"
                r"(.*)$",
                "".join(rest),
                re.M,
            )
        }
        schemas = {}
        for argument in function.args.args:
            kind, text = about.get(argument.arg, ("", ""))
            kind = ast.unparse(argument.annotation) if argument.annotation else kind
            schemas[argument.arg] = {"type": kind, "description": text}
        required = list(schemas)[: len(schemas) - len(function.args.defaults)]
        tools.append(make_tool(function.name, summary, schemas, required))
    return tools


def prompt_stubs(prompt: str) -> str:
    """Python functions from a prompt with marked signatures and docstrings."""
    return "\n".join(
        f"{head.replace('-', '_')}:\n {text.strip()}"
        for head, text in re.findall(
            r"<func_start>(.*?)<func_end>\s*<docstring_start>(.*?)<docstring_end>", prompt, re.S
        )
    )


def emailrep_tools(source: str) -> list[dict]:
    """Tools from the objects assigned in the method `emailrep`."""
    method = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "emailrep"
    )
    entries = [
        ast.literal_eval(node.value)
        for node in method.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    ]
    return [
        make_tool(
            entry["name"],
            re.split(r"\n\s*Parameters", entry["description"])[0],
            {item["name"]: item for item in entry["args_dicts"]},
            [item["name"] for item in entry["args_dicts"] if item["required"]],
        )
        for entry in entries
    ]


def apibank(files: dict[str, str]) -> Iterator[dict | str]:
    """API-Bank: each API call of a dialogue is one case, the dialogue before it the question."""
    hint = "Make only the next single API call of this dialogue.\n"
    known = {
        tool["name"]: tool
        for text in files.values()
        if "input_parameters = {" in text
        for tool in [class_tool(text)]
    }
    for path in (path for path in files if path.startswith("api-bank/lv1-lv2-samples/")):
        turns = [json.loads(line) for line in files[path].splitlines()]
        tools = [known[name] for name in sorted({t["api_name"] for t in turns if "api_name" in t})]
        for index, turn in enumerate(turns):
            if turn.get("api_name") == "ToolSearcher":
                yield "gold call is a free-text ToolSearcher query"
            elif turn["role"] == "API":
                id = f"apibank-l{path.split('/level-')[1][0]}-{Path(path).stem}-{index}"
                before = "\n".join(map(dialogue_line, turns[:index]))
                yield make_case(
                    id,
                    f"This year is 2023. {hint}{before}",
                    tools,
                    [(turn["api_name"], turn["param_dict"])],
                )
    # The official repository has no dialogues for level 3; the copy in ToolRL has.
    labels = {"user": "User", "response": "AI", "tool_call": "API call", "obs": "API result"}
    for row in json.loads(files["benchmarks/API-Bank/level-3-api_processed.json"]):
        tools = [
            make_tool(name, about, ast.literal_eval(schemas), [])
            for name, about, schemas in re.findall(
                r"^\d+\. (\w+): (.*?)\nParameters: (\{.*?\})$", row["system"], re.M | re.S
            )
        ]
        turns = re.findall(r"<(user|response|tool_call|obs)>\s*(.*?)\s*</\1>", row["user"], re.S)
        lines = [
            f"{labels[kind]}: {text}"
            for kind, text in turns
            if not text.startswith("Based on our conversation above")
        ]
        gold, step = row["answer"][0], row["other"]
        yield make_case(
            f"apibank-l3-{step['sample_id']:02d}-{step['api_id']}",
            hint + "\n".join(lines),
            tools,
            [(gold["name"], gold["parameters"])],
        )


def class_tool(source: str) -> dict:
    """The tool of the API class in a file: its texts and the signature of its method `call`."""
    api = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    texts = {node.targets[0].id: node.value for node in api.body if isinstance(node, ast.Assign)}
    call = next(
        node.args for node in api.body if isinstance(node, ast.FunctionDef) and node.name == "call"
    )
    needed = call.args[1 : len(call.args) - len(call.defaults)]  # without self
    schemas = ast.literal_eval(texts["input_parameters"])
    return make_tool(
        api.name,
        ast.literal_eval(texts["description"]),
        schemas,
        [argument.arg for argument in needed if argument.arg in schemas],
    )


def dialogue_line(turn: dict) -> str:
    """One turn of a level 1 or 2 dialogue as a line of the question."""
    if turn["role"] != "API":
        return f"{turn['role']}: {turn['text'].strip()}"
    call, output = (
        json.dumps(item, ensure_ascii=False)
        for item in (turn["param_dict"], turn["result"].get("output"))
    )
    return f"API: {turn['api_name']}({call}) returned {output}"


def snips(files: dict[str, str]) -> Iterator[dict | str]:
    """SNIPS: intents are tools, slots their optional parameters; the descriptions are our own."""
    words = json.loads(Path(__file__).with_name("snips_words.json").read_text("utf-8"))
    copied = " Argument values are copied word for word from the request."
    tools = [
        make_tool(
            intent,
            meaning + copied,
            {slot: {"description": text} for slot, text in slots.items()},
            [],
        )
        for intent, (meaning, slots) in words.items()
    ]
    for intent in words:
        path = f"2017-06-custom-intent-engines/{intent}/validate_{intent}.json"
        for number, row in enumerate(json.loads(files[path])[intent], 1):
            question = one_line("".join(piece["text"] for piece in row["data"]))
            slots = {p["entity"]: one_line(p["text"]) for p in row["data"] if "entity" in p}
            yield make_case(f"snips-{intent}-{number:03d}", question, tools, [(intent, slots)])


def bfcl(files: dict[str, str], benchmark: str) -> Iterator[dict | str]:
    """BFCL: one category after the other; each argument has a list of accepted values."""
    for category in BFCL_CATEGORIES[benchmark]:
        folder, name = "bfcl_eval/data/", f"BFCL_v4_{category}.json"
        rows, answers = (
            list(map(json.loads, files.get(path, "").splitlines()))  # "": irrelevance
            for path in (folder + name, f"{folder}possible_answer/{name}")
        )
        gold = {row["id"]: row["ground_truth"] for row in answers}
        kept = sorted(random.Random(0).sample(range(len(rows)), min(BFCL_SAMPLE, len(rows))))
        yield from [f"outside the random {BFCL_SAMPLE} of {category}"] * (len(rows) - len(kept))
        for row in (rows[index] for index in kept):
            messages = row["question"][0]
            question = (
                messages[0]["content"]
                if len(messages) == 1
                else "\n".join(
                    f"{message['role'].capitalize()}: {message['content']}" for message in messages
                )
            )
            tools = [
                {
                    "name": tool["name"],
                    "description": tool["description"],
                    "parameters": json_schema(tool["parameters"]),
                }
                for tool in row["function"]
            ]
            schemas = {tool["name"]: tool["parameters"] for tool in tools}
            accept = [pair for entry in gold.get(row["id"], []) for pair in entry.items()]
            calls = [(name, first_accepted(values, schemas[name])) for name, values in accept]
            case = make_case(f"bfcl-{row['id']}", question.strip(), tools, calls)
            case["benchmark"] = benchmark
            yield case | ({"accept": [values for _, values in accept]} if accept else {})


def json_schema(schema: dict) -> dict:
    """A BFCL schema with JSON types for its Python types, at every depth; `any` is no type."""
    return {
        key: {name: json_schema(item) for name, item in value.items()}
        if key == "properties"
        else json_schema(value)
        if key == "items"
        else json_type(value)
        if key == "type"
        else value
        for key, value in schema.items()
        if (key, value) != ("type", "any")
    }


def first_accepted(accepted: dict[str, Any], schema: dict) -> dict:
    """Arguments that BFCL accepts: of each the first value; "" stands for: left out."""
    arguments = {}
    for name, values in accepted.items():
        values = values if isinstance(values, list) else [values]
        given = [value for value in values if value not in ("", None)]
        known = given and name in schema.get("properties", accepted)
        optional = "" in (values[:1] if known else values)
        if values and (name in schema.get("required", []) or not optional):
            value = (given or values)[0]
            items = [
                first_accepted(item, {}) if isinstance(item, dict) else item
                for item in (value if isinstance(value, list) else [value])
            ]
            arguments[name] = items if isinstance(value, list) else items[0]
    return arguments


BENCHMARKS = {f.__name__: f for f in (toolalpaca, sealtools, nexusraven, apibank, snips)}
BENCHMARKS |= {name: partial(bfcl, benchmark=name) for name in BFCL_CATEGORIES}


def keep(items: Iterator[dict | str]) -> tuple[list[dict], Counter]:
    """The usable cases, and how many others there are for each reason."""
    judged = [(item, item if isinstance(item, str) else problem(item)) for item in items]
    return [item for item, why in judged if not why], Counter(why for _, why in judged if why)


def main() -> None:
    """The command line; see the head of this file."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, metavar="DIR", help="copies; see above")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", metavar="DIR")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=BENCHMARKS,
        default=list(BENCHMARKS),
        metavar="NAME",
        help=", ".join(BENCHMARKS),
    )
    a = parser.parse_args()
    try:
        a.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            for name in a.only:
                files = official_files(name, a.source or Path(scratch), network=not a.source)
                cases, dropped = keep(BENCHMARKS[name](files))
                part = a.out / f"{name}.jsonl.part"  # renamed when it is whole
                part.write_text(
                    "".join(
                        json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n"
                        for case in cases
                    ),
                    "utf-8",
                    newline="\n",
                )
                part.replace(part.with_suffix(""))
                print(f"{name}: {len(cases)} cases kept, {dropped.total()} dropped")
                print(*(f"{n:6d}  {why}\n" for why, n in dropped.most_common()), sep="", end="")
                if name == "nexusraven":
                    print("        its data are licensed CC BY-NC 4.0: non-commercial use only")
    except (Unavailable, OSError) as error:
        parser.exit(2, f"prepare.py: {error}\n")


if __name__ == "__main__":
    main()
