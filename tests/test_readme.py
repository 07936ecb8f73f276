"""The README says what is there: every function it names exists, every file is in its list."""

import ast
import importlib
import re
import statistics
import tokenize
from io import StringIO

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_every_function_that_the_readme_names_exists():
    named = re.findall(r"`((?:\w+/)?\w+)\.py:([\w.]+)`", README)
    assert len(named) > 20
    for module, path in named:
        thing = importlib.import_module(module.replace("/", "."))
        for name in path.split("."):
            thing = getattr(thing, name)


def rows(head):
    """The rows of the README's table with this head: their cells, the third as (file, name) pairs."""
    table = README.split(f"| {head} |\n")[1].split("\n\n")[0]
    cells = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    for cell in cells:
        cell[2] = re.findall(r"`(.+?\.py):([\w.]+)`", cell[2])
    return cells


def nodes(tree, prefix=""):
    """Name and node of each function, class and constant of a file, the innermost ones last."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name, node
            yield from nodes(node, f"{prefix}{node.name}.")
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and not isinstance(tree, ast.FunctionDef):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from ((prefix + name.id, node) for name in names)


PART = re.compile(
    r"# (GRPO|not given|Algorithm 1|(?:Sec\.|Table|Fig\.) [\d.]*\d|Eq\. \(\d\))(?:[:,]|$)"
)
FILES = [
    *ROOT.glob("*.py"),
    *ROOT.glob("evals/*.py"),
    *ROOT.glob("experiments/*.py"),
    *ROOT.glob("plumbing/*.py"),
]


def tags():
    """Every comment that begins with a part of the paper: (part, file, what it stands in)."""
    found = set()
    for path in FILES:
        source = path.read_text()
        inside = list(nodes(ast.parse(source)))
        for token in tokenize.generate_tokens(StringIO(source).readline):
            if token.type == tokenize.COMMENT and (tag := PART.match(token.string)):
                around = [
                    (name, n) for name, n in inside if n.lineno <= token.start[0] <= n.end_lineno
                ]
                last = around[-1][1]
                found |= {
                    (tag[1], str(path.relative_to(ROOT)), name) for name, n in around if n is last
                }
    return found


def test_the_tags_in_the_code_and_the_tables_of_the_readme_are_the_same():
    parts = {(row[0], *where) for row in rows("paper | what | where") for where in row[2]}
    constants = {
        (row[1], *where) for row in rows("constant | paper | where | value") for where in row[2]
    }
    options = {c for c in constants if "Config." in c[2]}  # their text for --help has the part
    assert len(parts) > 20 and tags() == parts | constants - options
    for part, file, name in options:
        node = dict(nodes(ast.parse((ROOT / file).read_text())))[name]
        assert part in ast.unparse(node), (part, name)


def test_every_constant_has_the_value_that_the_readme_gives():
    for constant, _, places, value in rows("constant | paper | where | value"):
        here = []
        for file, name in places:
            thing = importlib.import_module(file.removesuffix(".py"))
            for step in name.split("."):
                thing = getattr(thing, step)
            here.append(thing)
        said = value.split(", ") if constant == "domains" else ast.literal_eval(f"[{value}]")
        assert said == (here[0] if constant == "domains" else here), constant
        assert constant != "domains" or len(said) == 32


def test_every_file_of_the_core_is_in_the_list_and_imports_only_from_above():
    order = re.findall(r"^\| `(\w+)\.py` \|", README, re.MULTILINE)
    assert sorted(order) == sorted(path.stem for path in ROOT.glob("*.py"))
    for i, module in enumerate(order):
        source = (ROOT / f"{module}.py").read_text()
        imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
        assert set(imported) & set(order) <= set(order[:i]), module


def test_the_readme_counts_the_lines_of_the_core():
    said = {
        f"{name}.py": int(n) for name, n in re.findall(r"^\| `(\w+)\.py` \| (\d+) \|", README, re.M)
    }
    lines = {path.name: path.read_text().count("\n") for path in ROOT.glob("*.py")}
    assert said == lines and sum(lines.values()) < 1660
    assert f"Together they have {sum(lines.values()):,} lines" in README


def test_functions_are_short():
    lengths = []
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("evals/*.py"),
        *ROOT.glob("experiments/*.py"),
        *ROOT.glob("plumbing/*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lengths.append((node.end_lineno - node.lineno + 1, f"{path.name}:{node.name}"))
    assert max(lengths)[0] <= 50, max(lengths)
    assert statistics.median(length for length, _ in lengths) <= 15


def test_the_core_has_no_line_over_100_columns():
    for path in ROOT.glob("*.py"):
        assert all(len(line) <= 100 for line in path.read_text().splitlines()), path.name
