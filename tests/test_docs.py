"""README and docs say what is there: functions, constants, options, commands, files and links."""

import ast
import importlib
import json
import re
import tokenize
from functools import lru_cache
from io import StringIO
from pathlib import Path

import pytest
from conftest import ROOT

README = ROOT / "README.md"
DOCS = sorted(ROOT.glob("docs/*.md"))
PAGES = [README, *DOCS]
# experiments/real has commands of earlier commits.
READMES = [ROOT / name / "README.md" for name in ("evals", "exercises", "tiny")]
CODE = [
    path
    for name in (".", "plumbing", "scripts", "experiments", "evals", "perf", "exercises", "tiny")
    for path in sorted((ROOT / name).glob("*.py"))
]
TAGGED = [path for path in CODE if path.parent.name not in ("perf", "exercises", "tiny", "scripts")]
MOST_LINES = 180  # of the README

PART = r"(GRPO|not given|Algorithm 1|(?:Sec\.|Table|Fig\.) [\d.]*\d|Eq\. \(\d\))"
TAG = re.compile(rf"# (?:Phase \d \({PART}\):|{PART}(?:[:,]|$))")
FOREIGN_OPTIONS = {"--nproc_per_node", "--help"}  # torchrun's, argparse's

pages = pytest.mark.parametrize(
    "page", PAGES + READMES, ids=lambda path: str(path.relative_to(ROOT))
)


@lru_cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# -- pages and links ---------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(text_of(README).splitlines()) <= MOST_LINES


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures, without code blocks."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pages
def test_every_relative_link_resolves(page):
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_links_every_page_once():
    targets = [link.partition("#")[0] for link in links(README)]
    for page in DOCS:
        assert targets.count(f"docs/{page.name}") == 1, page.name


# -- options, commands, files ------------------------------------------------------------------


def options() -> set[str]:
    """Return every option of every command."""
    found = set(FOREIGN_OPTIONS)
    for path in [*CODE, *ROOT.glob("tests/*.py")]:
        found |= set(re.findall(r"[\"'](--[a-z][\w-]*)[\"']", text_of(path)))
    fields = importlib.import_module("config").Config.__dataclass_fields__
    settable = [name for name, field in fields.items() if field.metadata["group"]]
    return found | {"--" + name.replace("_", "-") for name in settable}


@pages
def test_every_option_exists(page):
    named = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", text_of(page)))
    assert not named - options()


@pages
def test_every_command_names_a_file(page):
    for module in re.findall(r"python -m ([\w.]+)", text_of(page)):
        path = ROOT / module.replace(".", "/")
        known = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert known or module in ("pytest", "venv", "pip"), module
    for script in re.findall(r"(?:python3?|selfplay) ((?:\w+/)*\w+\.py)", text_of(page)):
        here = page.parent if page.parent.name != "docs" else ROOT
        assert (ROOT / script).exists() or (here / script).exists(), script


MADE = {  # by a run or a reader; of an earlier commit
    "mine.txt",
    "mine.jsonl",
    "report.txt",
    "candidates.jsonl",
    "tasks.jsonl",
    "log.jsonl",
    "experiments/other_make.py",
}


@pages
def test_every_file_named_in_backticks_exists(page):
    for name in re.findall(r"`((?:[\w.]+/)*[a-z_\d]+\.(?:py|md|txt|jsonl))`", text_of(page)):
        made = name in MADE or name.startswith(("iter", "runs/", "evals/data/"))
        assert made or (ROOT / name).exists() or (page.parent / name).exists(), name


# -- the tables of docs/paper_to_code.md -------------------------------------------------------


@pages
def test_every_function_that_is_named_exists(page):
    for module, path in re.findall(r"`((?:\w+/)*\w+)\.py:([\w.]+)`", text_of(page)):
        lookup(module, path)


def lookup(module: str, path: str) -> object:
    """Return what a dotted name in a file means."""
    found = importlib.import_module(module.replace("/", "."))
    for name in path.split("."):
        found = getattr(found, name)
    return found


def rows(head: str) -> list[list]:
    """Return the rows of the table with this head; the third cell as (file, name) pairs."""
    page = text_of(ROOT / "docs" / "paper_to_code.md")
    table = page.split(f"| {head} |\n")[1].split("\n\n")[0]
    found = []
    for line in table.splitlines()[1:]:
        cells = line.strip("| ").split(" | ")
        cells[2] = re.findall(r"`(.+?\.py):([\w.]+)`", cells[2])
        found.append(cells)
    return found


PARTS = rows("paper | what | where")
CONSTANTS = rows("constant | paper | where | value")


def definitions(tree: ast.AST, prefix: str = ""):
    """Yield name and node of each function, class and constant, the innermost ones last."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and not isinstance(tree, ast.FunctionDef):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                yield prefix + name.id, node


def tags(path: Path) -> set[tuple[str, str, str]]:
    """Return every comment that begins with a part of the paper: (part, file, definition)."""
    source = text_of(path)
    known = list(definitions(ast.parse(source)))
    found = set()
    for token in tokenize.generate_tokens(StringIO(source).readline):
        tag = TAG.match(token.string) if token.type == tokenize.COMMENT else None
        if tag:
            line = token.start[0]
            around = [(name, n) for name, n in known if n.lineno <= line <= n.end_lineno]
            innermost = around[-1][1]
            names = [name for name, node in around if node is innermost]
            file = str(path.relative_to(ROOT))
            found |= {(tag[1] or tag[2], file, name) for name in names}
    return found


def test_tags_and_tables_agree():
    in_code = set()
    for path in TAGGED:
        in_code |= tags(path)
    parts = {(part, *where) for part, _, places in PARTS for where in places}
    constants = {(part, *where) for _, part, places, _ in CONSTANTS for where in places}
    settings = {constant for constant in constants if constant[2].startswith("Config.")}
    assert len(parts) > 20
    assert in_code == parts | constants - settings


def test_every_setting_names_its_part_of_the_paper():
    known = dict(definitions(ast.parse(text_of(ROOT / "config.py"))))
    for _, part, places, _ in CONSTANTS:
        for file, name in places:
            if file == "config.py":
                assert part in ast.unparse(known[name]), name


@pytest.mark.parametrize("row", CONSTANTS, ids=lambda row: row[0])
def test_every_constant_has_its_value(row):
    name, _, places, value = row
    here = [lookup(file.removesuffix(".py").replace("/", "."), path) for file, path in places]
    if name == "domains":
        assert value.split(", ") == here[0]
        assert len(here[0]) == 32
    else:
        assert ast.literal_eval(f"[{value}]") == here


# -- numbers -----------------------------------------------------------------------------------


def test_the_table_of_seeds_is_that_of_the_result_files():
    page = text_of(ROOT / "docs" / "results.md")
    share = r" ([\d.]+) % \|"
    found = re.findall(rf"^\| (\d+) \| (\d) \|{share * 4}", page, re.M)
    files = list((ROOT / "experiments" / "results" / "61249c4").glob("full-*.json"))
    files.sort(key=lambda path: int(path.stem.partition("-")[2]))
    assert len(found) == len(files) > 0
    for (seed, threads, *shown), path in zip(found, files):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert (str(result["seed"]), result["machine"]["threads"]) == (seed, threads)
        assert [f"{100 * share:.1f}" for share in result["accuracy"]] == shown


def test_the_paper_table_of_the_readme_is_that_of_the_code():
    tables = importlib.import_module("evals.tables")
    for name, title in (
        ("Qwen2.5-0.5B-Instruct", "paper, Qwen2.5-0.5B-Instruct"),
        ("0.5B after Tool-R0", "paper, the same after Tool-R0"),
    ):
        *each, _ = tables.TABLE_1[name]
        cells = [f"{value:.2f}" for value in [*each, sum(each) / len(each)]]
        assert f"| {title} | {' | '.join(cells)} |" in text_of(README)
