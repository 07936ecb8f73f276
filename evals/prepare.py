"""Six public tool-calling benchmarks: from their official files to one JSONL form.

A case that cannot be used is left out for a named reason; the reasons are counted and printed.
Standard library only, so it runs before anything is installed.

    python evals/prepare.py                      download (40 MB), write evals/data/
    python evals/prepare.py --only snips bfcl    some of the benchmarks
    python evals/prepare.py --source DIR         the same from copies on this machine

For each GitHub repository, DIR has one of: OWNER+NAME.zip, GitHub's archive of the pinned commit;
OWNER+NAME/ or OWNER/NAME/, a clone that has that commit (bare or not, whatever is checked out) or
just the files at their paths.  For BFCL, DIR has bfcl_eval-2026.3.23-py3-none-any.whl, which
`python -m pip download --no-deps bfcl-eval==2026.3.23` downloads.

One line of data/NAME.jsonl, shortened; `accept`, all accepted values, is in BFCL only:
    {"id": "bfcl-multiple_7", "benchmark": "bfcl", "question": "How much is 5 euros in dollars?",
     "tools": [{"name": "convert", "description": "Convert money.", "parameters": {"type": "object",
                "properties": {"amount": {"type": "integer"}, ...}, "required": ["amount"]}}],
     "calls": [{"name": "convert", "arguments": {"amount": 5, "to": "USD"}}], "accept": [...]}
"""

import ast
import json
import random
import re
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sources import Unavailable, official_files  # a sibling, since this file runs as a script

Files = dict[str, str]  # path -> text of the official files of a benchmark
Cases = Iterator[dict | str]  # a case, or the reason why it is left out

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


# ------------------------------------------------------------ what all benchmarks share


def json_type(name: str) -> str:
    """Return the JSON-schema type for a type name of any source.

    >>> json_type("int32"), json_type("date")
    ('integer', 'string')
    """
    word = re.match("[a-z]*", name.lower()).group()
    for kind, (_, names) in TYPES.items():
        if word in names.split():
            return kind
    return "string"


def one_line(text: str | None) -> str:
    """Return text with every run of whitespace as one space."""
    return " ".join((text or "").split())


def unquote(text: str) -> str:
    """Return text without quotation marks around the whole of it."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def make_tool(name: str, description: str | None, schemas: dict, required: list[str]) -> dict:
    """Return a tool in the output's form; of a schema only type, description and enum are kept."""
    properties = {}
    for key, schema in schemas.items():
        kind = json_type(schema.get("type", "string"))
        properties[key] = {"type": kind, "description": one_line(schema.get("description"))}
        if "enum" in schema:
            properties[key]["enum"] = schema["enum"]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": one_line(description), "parameters": parameters}


def make_case(id: str, question: str, tools: list[dict], calls: list[tuple[str, dict]]) -> dict:
    """Return a case in the output's form; `calls` are pairs (name, arguments)."""
    return {
        "id": id,
        "benchmark": id.partition("-")[0],
        "question": question,
        "tools": tools,
        "calls": [{"name": name, "arguments": dict(arguments)} for name, arguments in calls],
    }


def typed(value: Any, kind: str) -> Any:
    """Return a gold value in its declared type, or None if neither it nor its text has that type.

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
    is_bool = isinstance(value, bool)  # which Python counts as an int
    fits = isinstance(value, TYPES[kind][0]) and is_bool == (kind == "boolean")
    return value if fits else None


def problem(case: dict) -> str | None:
    """Return why a case is unusable, or None.  Outside BFCL, cast gold values to their types."""
    tools = {tool["name"]: tool["parameters"] for tool in case["tools"]}
    for call in case["calls"]:
        if call["name"] not in tools:
            return "gold tool not among the tools"
        schema = tools[call["name"]]
        properties = schema["properties"]
        arguments = call["arguments"]
        if not arguments.keys() <= properties.keys():
            return "gold argument not in the schema"
        if not arguments.keys() >= set(schema["required"]):
            return "required argument missing in gold"
        if "accept" in case:
            continue
        for name, value in arguments.items():
            arguments[name] = typed(value, properties[name]["type"])
        if None in arguments.values():
            return "gold value not of the declared type"
    return None


# ------------------------------ one function per benchmark: its cases in the official order


def toolalpaca(files: Files) -> Cases:
    """Convert ToolAlpaca: real and simulated APIs; tools from their OpenAPI documents."""
    for part in ("real", "simulated"):
        number = 0
        for api in json.loads(files[f"data/eval_{part}.json"]):
            tools = openapi_tools(api)
            for question, gold in zip(api["Instructions"], api["Golden_Answers"]):
                number += 1
                texts = [step["Action_Input"] for step in gold]
                if any("${" in text or '"{' in text for text in texts):
                    yield PLACEHOLDER
                    continue
                calls = [toolalpaca_call(step, api) for step in gold]
                yield make_case(f"toolalpaca-{part}-{number:03d}", unquote(question), tools, calls)


def toolalpaca_call(step: dict, api: dict) -> tuple[str, dict]:
    """Return a gold call without empty arguments ("": not given) and without the service's key."""
    text = step["Action_Input"].replace('"symbols": "symbols":', '"symbols":')  # in 4 answers
    secret = api.get("Authentication") or {}
    given = {}
    for name, value in json.loads(text or "{}").items():
        if value != "" and name not in secret:
            given[name] = value
    return step["Action"], given


def openapi_tools(api: dict) -> list[dict]:
    """Return one tool per operation of an API's OpenAPI document."""
    document = json.loads(api["Documentation"])
    paths = document["paths"]
    shared = paths.pop("components", None) or document.get("components", {})  # misplaced in one
    for methods in list(paths.values()):  # in one document, paths are inside a path
        for nested in [key for key in methods if key.startswith("/")]:
            paths[nested] = methods.pop(nested)
    names = {tuple(place): name for name, place in api["Function_Projection"].items()}
    secret = api.get("Authentication") or {}
    tools = []
    for path, methods in paths.items():
        for method, operation in methods.items():
            default = path.strip("/").replace("/", "_") + "_" + method
            name = names.get((path, method), default)
            tools.append(operation_tool(name, operation, shared, secret))
    return tools


def operation_tool(name: str, operation: dict, shared: dict, secret: dict) -> dict:
    """Return the tool of one operation, without the key of the service."""
    schemas = {}
    needed = set()
    for item in operation.get("parameters", []):
        if item["name"] not in secret:
            schemas[item["name"]] = {**item["schema"], "description": item.get("description")}
        if item.get("required"):
            needed.add(item["name"])
    bodies = operation.get("requestBody", {}).get("content", {}).values()
    for media in list(bodies)[:1]:
        body = media["schema"]
        if "$ref" in body:
            body = shared["schemas"][body["$ref"].split("/")[-1]]
        schemas |= body.get("properties", {})
        needed |= set(body.get("required", []))
    summary = operation.get("summary") or operation.get("description")
    return make_tool(name, summary, schemas, [key for key in schemas if key in needed])


def sealtools(files: Files) -> Cases:
    """Convert Seal-Tools: prompts with five candidate tools each, as Python literals."""
    form = re.compile(r"api_list = (.*)\ntask_instruction = (.*)\nOutput:", re.S)
    for part in ("in_domain", "out_domain"):
        for row in json.loads(files[f"Seal-Tools_Dataset/dataset_for_finetune/test_{part}.json"]):
            prompt, answer = [turn["value"] for turn in row["conversations"]]
            listed, question = form.search(prompt).groups()
            calls = [(gold["api"], gold["parameters"]) for gold in ast.literal_eval(answer)]
            if "API_call_" in json.dumps(calls):
                yield "nested call (an argument is another call's result)"
                continue
            tools = []
            for api in ast.literal_eval(listed):
                about = api["api_description"]
                tools.append(make_tool(api["api_name"], about, api["parameters"], api["required"]))
            short = row["id"].removeprefix("test_").replace("_", "-")
            yield make_case(f"sealtools-{short}", unquote(question), tools, calls)


def nexusraven(files: Files) -> Cases:
    """Convert NexusRaven: questions for three APIs and for ToolAlpaca's; gold is a Python call."""
    folder = "raven/data/resources/"
    menus = {"emailrep": emailrep_tools(files["raven/data/upload_standardized_api_list.py"])}
    for part in ("cve_cpe", "virustotal"):
        menus[part] = stub_tools(files[f"{folder}{part}_function_definitions.py"])
    for part in ("cve_cpe", "emailrep", "virustotal", "toolalpaca"):
        for number, row in enumerate(json.loads(files[f"{folder}{part}_queries.json"]), 1):
            id = f"nexusraven-{part.replace('_', '-')}-{number:03d}"
            if part == "toolalpaca":
                turn = row["turns_1"]  # the question that one call answers
                gold = json.loads(turn["golden_answer"])[0]
                yield nexusraven_case(
                    id, turn["instruction"], gold, prompt_tools(turn["docstring"])
                )
            else:
                yield nexusraven_case(id, row["query"], row["reference"], menus[part])


def nexusraven_case(id: str, question: str, gold: str, menu: list[dict]) -> dict | str:
    """Return a case, or why it is left out.  An argument that gold gives as None is optional."""
    name, arguments = python_call(gold, menu)
    given = {key: value for key, value in arguments.items() if value is not None}
    if "${" in gold:
        return PLACEHOLDER
    if arguments and not given:
        return "gold gives None for every argument"
    tools = json.loads(json.dumps(menu))  # a copy
    for tool in tools:
        schema = tool["parameters"]
        if tool["name"] == name:
            open_keys = arguments.keys() - given.keys()
            schema["required"] = [key for key in schema["required"] if key not in open_keys]
    return make_case(id, question.strip(), tools, [(name, given)])


def python_call(text: str, tools: list[dict]) -> tuple[str, dict]:
    """Return name and arguments of a call `f(1, b=2)` or `r = module.f(1, b=2)`."""
    call = ast.parse(text.strip()).body[0].value
    name = ast.unparse(call.func).split(".")[-1]
    tool = next(tool for tool in tools if tool["name"] == name)
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    for key, value in zip(tool["parameters"]["properties"], call.args):
        arguments[key] = ast.literal_eval(value)
    return name, arguments


# "- name: text", "- name, text" or "name (type) required: text", where some of the texts begin
# with the type again, and some of these go on with "required" or "optional".
ARGUMENT = re.compile(
    r"^ *(?:- *)?([\w-]+) *(?:\(([^)]*)\)(?: required| optional)? *:|[:,]) *"
    r"(?:(?:string|int32|integer|json|dict|bool\w*) *, *"
    r"(?:(?:required|optional) *, *)?)?(.*)$",
    re.M,
)


def stub_tools(source: str) -> list[dict]:
    """Return tools from empty Python functions whose docstrings list their arguments."""
    tools = []
    for function in ast.parse(source).body:
        summary, *rest = re.split("Args:|Parameters:", ast.get_docstring(function), maxsplit=1)
        about = {}
        for name, kind, text in ARGUMENT.findall("".join(rest)):
            about[name.replace("-", "_")] = (kind, text)
        schemas = {}
        for argument in function.args.args:
            kind, text = about.get(argument.arg, ("", ""))
            if argument.annotation:
                kind = ast.unparse(argument.annotation)
            schemas[argument.arg] = {"type": kind, "description": text}
        required = list(schemas)[: len(schemas) - len(function.args.defaults)]
        tools.append(make_tool(function.name, summary, schemas, required))
    return tools


def prompt_tools(prompt: str) -> list[dict]:
    """Return tools from a prompt with marked signatures and docstrings."""
    form = r"<func_start>(.*?)<func_end>\s*<docstring_start>(.*?)<docstring_end>"
    stubs = []
    for head, text in re.findall(form, prompt, re.S):
        stubs.append(f"{head.replace('-', '_')}:\n {text.strip()}")
    return stub_tools("\n".join(stubs))


def emailrep_tools(source: str) -> list[dict]:
    """Return tools from the objects that are assigned in the method `emailrep`."""
    tools = []
    for method in ast.walk(ast.parse(source)):
        if not isinstance(method, ast.FunctionDef) or method.name != "emailrep":
            continue
        for node in method.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                entry = ast.literal_eval(node.value)
                summary = re.split(r"\n\s*Parameters", entry["description"])[0]
                schemas = {item["name"]: item for item in entry["args_dicts"]}
                required = [item["name"] for item in entry["args_dicts"] if item["required"]]
                tools.append(make_tool(entry["name"], summary, schemas, required))
    return tools


HINT = "Make only the next single API call of this dialogue.\n"


def apibank(files: Files) -> Cases:
    """Convert API-Bank: each API call is a case, the dialogue before it the question."""
    known = {}
    for text in files.values():
        if "input_parameters = {" in text:
            tool = class_tool(text)
            known[tool["name"]] = tool
    for path, text in files.items():
        if path.startswith("api-bank/lv1-lv2-samples/"):
            level = path.split("/level-")[1][0]
            turns = [json.loads(line) for line in text.splitlines()]
            yield from apibank_dialogue(f"apibank-l{level}-{Path(path).stem}", turns, known)
    # The official repository has no dialogues for level 3; the copy in ToolRL has them.
    for row in json.loads(files["benchmarks/API-Bank/level-3-api_processed.json"]):
        yield apibank_level_3(row)


def apibank_dialogue(id: str, turns: list[dict], known: dict[str, dict]) -> Cases:
    """Convert a dialogue of level 1 or 2; its tools are the APIs that it calls."""
    tools = [known[name] for name in sorted({t["api_name"] for t in turns if "api_name" in t})]
    before = []
    for index, turn in enumerate(turns):
        if turn.get("api_name") == "ToolSearcher":
            yield "gold call is a free-text ToolSearcher query"
        elif turn["role"] == "API":
            question = f"This year is 2023. {HINT}" + "\n".join(before)
            calls = [(turn["api_name"], turn["param_dict"])]
            yield make_case(f"{id}-{index}", question, tools, calls)
        before.append(dialogue_line(turn))


def dialogue_line(turn: dict) -> str:
    """Return one turn of a level 1 or 2 dialogue as a line of the question."""
    if turn["role"] != "API":
        return f"{turn['role']}: {turn['text'].strip()}"
    call = json.dumps(turn["param_dict"], ensure_ascii=False)
    output = json.dumps(turn["result"].get("output"), ensure_ascii=False)
    return f"API: {turn['api_name']}({call}) returned {output}"


def class_tool(source: str) -> dict:
    """Return the tool of the API class in a file: its texts and the signature of its `call`."""
    api = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    texts = {}
    for node in api.body:
        if isinstance(node, ast.Assign):
            texts[node.targets[0].id] = node.value
        if isinstance(node, ast.FunctionDef) and node.name == "call":
            signature = node.args
    schemas = ast.literal_eval(texts["input_parameters"])
    without_default = signature.args[: len(signature.args) - len(signature.defaults)]
    required = [argument.arg for argument in without_default if argument.arg in schemas]
    return make_tool(api.name, ast.literal_eval(texts["description"]), schemas, required)


def apibank_level_3(row: dict) -> dict:
    """Convert one call of level 3."""
    form = re.compile(r"^\d+\. (\w+): (.*?)\nParameters: (\{.*?\})$", re.M | re.S)
    tools = []
    for name, about, schemas in form.findall(row["system"]):
        tools.append(make_tool(name, about, ast.literal_eval(schemas), []))
    labels = {"user": "User", "response": "AI", "tool_call": "API call", "obs": "API result"}
    lines = []
    for kind, text in re.findall(rf"<({'|'.join(labels)})>\s*(.*?)\s*</\1>", row["user"], re.S):
        if not text.startswith("Based on our conversation above"):
            lines.append(f"{labels[kind]}: {text}")
    gold = row["answer"][0]
    step = row["other"]
    id = f"apibank-l3-{step['sample_id']:02d}-{step['api_id']}"
    return make_case(id, HINT + "\n".join(lines), tools, [(gold["name"], gold["parameters"])])


def snips(files: Files) -> Cases:
    """Convert SNIPS: intents are tools, slots optional parameters; the descriptions are our own."""
    words = json.loads(Path(__file__).with_name("snips_words.json").read_text("utf-8"))
    copied = " Argument values are copied word for word from the request."
    tools = []
    for intent, (meaning, slots) in words.items():
        schemas = {slot: {"description": text} for slot, text in slots.items()}
        tools.append(make_tool(intent, meaning + copied, schemas, []))
    for intent in words:
        path = f"2017-06-custom-intent-engines/{intent}/validate_{intent}.json"
        for number, row in enumerate(json.loads(files[path])[intent], 1):
            question = one_line("".join(piece["text"] for piece in row["data"]))
            slots = {p["entity"]: one_line(p["text"]) for p in row["data"] if "entity" in p}
            yield make_case(f"snips-{intent}-{number:03d}", question, tools, [(intent, slots)])


def bfcl(files: Files, benchmark: str) -> Cases:
    """Convert categories of BFCL; each argument has a list of accepted values."""
    folder = "bfcl_eval/data/"
    for category in BFCL_CATEGORIES[benchmark]:
        name = f"BFCL_v4_{category}.json"
        rows = [json.loads(line) for line in files[folder + name].splitlines()]
        answers = files.get(f"{folder}possible_answer/{name}", "")  # irrelevance has none
        gold = {}
        for line in answers.splitlines():
            row = json.loads(line)
            gold[row["id"]] = row["ground_truth"]
        size = min(BFCL_SAMPLE, len(rows))
        for _ in range(len(rows) - size):
            yield f"outside the random {BFCL_SAMPLE} of {category}"
        for index in sorted(random.Random(0).sample(range(len(rows)), size)):
            yield bfcl_case(benchmark, rows[index], gold.get(rows[index]["id"], []))


def bfcl_case(benchmark: str, row: dict, gold: list[dict]) -> dict:
    """Return one case; `gold` has for each call {name: {argument: accepted values}}."""
    messages = row["question"][0]
    lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    question = messages[0]["content"] if len(messages) == 1 else "\n".join(lines)
    tools = []
    schemas = {}
    for tool in row["function"]:
        name = tool["name"]
        schemas[name] = json_schema(tool["parameters"])
        about = tool["description"]
        tools.append({"name": name, "description": about, "parameters": schemas[name]})
    calls = []
    accept = []
    for entry in gold:
        for name, accepted in entry.items():
            calls.append((name, first_accepted(accepted, schemas[name])))
            accept.append(accepted)
    case = make_case(f"bfcl-{row['id']}", question.strip(), tools, calls)
    case["benchmark"] = benchmark
    return {**case, "accept": accept} if accept else case


def json_schema(schema: dict) -> dict:
    """Return a BFCL schema with JSON types in place of Python's, at every depth; drop `any`."""
    converted = {}
    for key, value in schema.items():
        if key == "properties":
            value = {name: json_schema(item) for name, item in value.items()}
        elif key == "items":
            value = json_schema(value)
        elif (key, value) == ("type", "any"):
            continue
        elif key == "type":
            value = json_type(value)
        converted[key] = value
    return converted


def first_accepted(accepted: dict[str, Any], schema: dict) -> dict:
    """Return one accepted choice of arguments: the first value of each; "" means left out."""
    arguments = {}
    for name, values in accepted.items():
        values = values if isinstance(values, list) else [values]
        given = [value for value in values if value not in ("", None)]
        known = given and name in schema.get("properties", accepted)
        optional = "" in (values[:1] if known else values)
        if values and (name in schema.get("required", []) or not optional):
            arguments[name] = plain_value((given or values)[0])
    return arguments


def plain_value(value: Any) -> Any:
    """Return an accepted value; each object in it becomes one accepted choice."""
    if isinstance(value, list):
        return [plain_value(item) if isinstance(item, dict) else item for item in value]
    return first_accepted(value, {}) if isinstance(value, dict) else value


BENCHMARKS = {f.__name__: f for f in (toolalpaca, sealtools, nexusraven, apibank, snips)}
BENCHMARKS |= {name: partial(bfcl, benchmark=name) for name in BFCL_CATEGORIES}


# ------------------------------------------------------------------------------------- the command


def keep(items: Iterable[dict | str]) -> tuple[list[dict], Counter]:
    """Return the usable cases, and how many others there are for each reason."""
    cases = []
    dropped = Counter()
    for item in items:
        reason = item if isinstance(item, str) else problem(item)
        if reason:
            dropped[reason] += 1
        else:
            cases.append(item)
    return cases, dropped


def write(path: Path, cases: list[dict]) -> None:
    """Write cases as JSONL, under another name until the file is whole."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        for case in cases:
            file.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
    part.replace(path)


def main() -> None:
    """Run the command; exit code 2: a file is unavailable."""
    data = Path(__file__).with_name("data")
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, metavar="DIR", help="folder of copies; see above")
    parser.add_argument("--out", type=Path, default=data, metavar="DIR", help="default: evals/data")
    names = ", ".join(BENCHMARKS)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=names)
    a = parser.parse_args()
    try:
        a.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            for name in a.only or BENCHMARKS:
                files = official_files(name, a.source or Path(scratch), network=not a.source)
                cases, dropped = keep(BENCHMARKS[name](files))
                write(a.out / f"{name}.jsonl", cases)
                print(f"{name}: {len(cases)} cases kept, {dropped.total()} dropped")
                for reason, count in dropped.most_common():
                    print(f"{count:6d}  {reason}")
                if name == "nexusraven":
                    print("        its data are under CC BY-NC 4.0: non-commercial use only")
    except (Unavailable, OSError) as error:
        parser.exit(2, f"prepare.py: error: {error}\n")


if __name__ == "__main__":
    main()
