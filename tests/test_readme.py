"""The README says what is there: every function it names exists, every file is in its list."""

import ast
import importlib
import re
import statistics

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_every_function_that_the_readme_names_exists():
    named = re.findall(r"`((?:\w+/)?\w+)\.py:([\w.]+)`", README)
    assert len(named) > 20
    for module, path in named:
        thing = importlib.import_module(module.replace("/", "."))
        for name in path.split("."):
            thing = getattr(thing, name)


def test_every_part_of_the_paper_in_the_table_is_named_in_the_file_that_the_row_points_to():
    rows = re.findall(r"^\| ([A-Z][^|]*?) \| [^|]* \| `((?:\w+/)?\w+)\.py:", README, re.MULTILINE)
    assert len(rows) > 14
    for part, module in rows:
        assert part in (ROOT / f"{module}.py").read_text(), (part, module)


def test_equation_2_stands_on_the_line_that_computes_it():
    lines = (ROOT / "rewards.py").read_text().splitlines()
    tagged = [line for line in lines if "# Eq. (2)" in line]
    assert len(tagged) == 1 and all(w in tagged[0] for w in ("W_TOOL", "W_ARGUMENTS", "W_VALUES"))


def test_every_file_of_the_core_is_in_the_list_and_imports_only_from_above():
    order = re.findall(r"^\| `(\w+)\.py` \|", README, re.MULTILINE)
    assert sorted(order) == sorted(path.stem for path in ROOT.glob("*.py"))
    for i, module in enumerate(order):
        source = (ROOT / f"{module}.py").read_text()
        imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
        assert set(imported) & set(order) <= set(order[:i]), module


def test_functions_are_short():
    lengths = []
    for path in [*ROOT.glob("*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("experiments/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lengths.append((node.end_lineno - node.lineno + 1, f"{path.name}:{node.name}"))
    assert max(lengths)[0] <= 50, max(lengths)
    assert statistics.median(length for length, _ in lengths) <= 15


def test_the_core_has_no_line_over_100_columns():
    for path in ROOT.glob("*.py"):
        assert all(len(line) <= 100 for line in path.read_text().splitlines()), path.name
