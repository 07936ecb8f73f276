"""The README says what is there: every function it names exists, every file is in its list."""

import importlib
import re

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_every_function_that_the_readme_names_exists():
    named = re.findall(r"`(\w+)\.py:([\w.]+)`", README)
    assert len(named) > 20
    for module, path in named:
        thing = importlib.import_module(module)
        for name in path.split("."):
            thing = getattr(thing, name)


def test_every_file_of_the_core_is_in_the_list_and_imports_only_from_above():
    order = re.findall(r"^\| `(\w+)\.py` \|", README, re.MULTILINE)
    assert sorted(order) == sorted(path.stem for path in ROOT.glob("*.py"))
    for i, module in enumerate(order):
        source = (ROOT / f"{module}.py").read_text()
        imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
        assert set(imported) & set(order) <= set(order[:i]), module


def test_the_core_has_no_line_over_100_columns():
    for path in ROOT.glob("*.py"):
        assert all(len(line) <= 100 for line in path.read_text().splitlines()), path.name
