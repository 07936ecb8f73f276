"""The structure of the code: sparse lines, short functions, imports in one direction, no cycle.

Print the nodes per code line of each core file, and the lines of each folder:

    python tests/test_structure.py
"""

import ast
import statistics
from functools import lru_cache
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("plumbing", "scripts", "experiments", "evals", "perf", "exercises", "tiny", "tests")
CORE = sorted(ROOT.glob("*.py"))
PLUMBING = sorted(ROOT.glob("plumbing/*.py"))
FILES = {  # module -> its file
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in [*CORE, *(path for name in FOLDERS for path in sorted(ROOT.glob(f"{name}/*.py")))]
}

LEAVES = {"errors", "config"}  # import nothing of ours
PURE = {"ast_match", "text_match", "template"}  # what plumbing may import besides the leaves
ENGINE = {"rollout"}  # the Rollout type and the two samplers, which the player dispatches to
DENSITY = 6.5  # syntax nodes per code line; nanoGPT has 5.5 to 6.9
LONGEST = 50  # lines of a function
MEDIAN = 15
COLUMNS = 100
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@lru_cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


core = pytest.mark.parametrize("path", CORE, ids=name_of)
core_and_plumbing = pytest.mark.parametrize("path", CORE + PLUMBING, ids=name_of)
all_files = pytest.mark.parametrize("path", FILES.values(), ids=name_of)


# -- lines -------------------------------------------------------------------------------------


def code_lines(tree: ast.Module, source: str) -> tuple[set[int], int]:
    """Return the lines of docstrings, and how many others are neither blank nor a comment."""
    documented = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(
            node
        ):
            text = node.body[0]
            documented |= set(range(text.lineno, text.end_lineno + 1))
    lines = 0
    for number, line in enumerate(source.splitlines(), 1):
        code = line.strip() and not line.strip().startswith("#")
        lines += bool(code and number not in documented)
    return documented, lines


def density(source: str) -> float:
    """Return syntax nodes per line that is neither blank, nor comment, nor docstring."""
    tree = ast.parse(source)
    documented, lines = code_lines(tree, source)
    nodes = [node for node in ast.walk(tree) if getattr(node, "lineno", 0)]
    return sum(node.lineno not in documented for node in nodes) / max(1, lines)


def print_figures() -> None:
    """Print the density of each core file, and the lines of each folder with and without text."""
    for path in CORE:
        print(f"{density(path.read_text(encoding='utf-8')):5.2f}  {name_of(path)}")
    sizes = {}
    for module, path in FILES.items():
        source = path.read_text(encoding="utf-8")
        all_lines, code = sizes.get(folder_of(module), (0, 0))
        _, lines = code_lines(ast.parse(source), source)
        sizes[folder_of(module)] = (all_lines + len(source.splitlines()), code + lines)
    for folder, (all_lines, code) in sizes.items():
        print(f"{all_lines:6,} lines, {code:6,} of code  {folder or 'core'}")


def test_density_counts_nodes_per_code_line():
    assert density('"""A text."""\n\n# a comment\nx = 1\n') == 3  # Assign, Name, Constant
    assert density("x = 1\n\n\ny = 2\n") == 3


@core
def test_lines_are_sparse(path):
    assert density(path.read_text(encoding="utf-8")) <= DENSITY


def stored_lambda(node: ast.AST) -> bool:
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return isinstance(node.value, ast.Lambda)
    return False


def nested(node: ast.AST) -> bool:
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = [other for other in ast.walk(node) if isinstance(other, COMPREHENSIONS)]
    return len(inner) > 1


@core_and_plumbing
def test_no_clever_line(path):
    """No walrus, no lambda with a name, no comprehension within one, one statement per line."""
    nodes = list(ast.walk(tree_of(path)))
    assert not [n.lineno for n in nodes if isinstance(n, ast.NamedExpr)], "walrus"
    assert not [n.lineno for n in nodes if stored_lambda(n)], "lambda with a name"
    assert not [n.lineno for n in nodes if nested(n)], "comprehension within a comprehension"
    starts = [n.lineno for n in nodes if isinstance(n, ast.stmt)]
    assert not {n for n in starts if starts.count(n) > 1}, "two statements on a line"


@all_files
def test_no_long_line(path):
    if path.parent.name == "tests":
        return  # tables of cases are easier to read unbroken
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS]


def function_lengths(paths) -> dict[str, int]:
    found = {}
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                where = f"{name_of(path)}:{node.name}:{node.lineno}"
                found[where] = node.end_lineno - node.lineno + 1
    return found


def test_functions_are_short():
    paths = [path for path in FILES.values() if path.parent.name != "tests"]
    lengths = function_lengths(paths)
    assert not {where: n for where, n in lengths.items() if n > LONGEST}
    assert statistics.median(lengths.values()) <= MEDIAN


# -- imports -----------------------------------------------------------------------------------


def resolve(name: str, importer: str) -> str | None:
    """Return our module of this name, seen from `importer`; None if it is not ours."""
    sibling = f"{importer.rpartition('.')[0]}.{name}"  # of a file that is run as a script
    return next((found for found in (name, sibling) if found in FILES), None)


def bindings(module: str) -> list[tuple[str, str]]:
    """Return (name, our module) of every import in a module, inner ones included."""
    found = []
    for node in ast.walk(tree_of(FILES[module])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                found.append((bound, resolve(alias.name, module)))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                inner = resolve(f"{node.module}.{alias.name}", module)
                found.append((alias.asname or alias.name, inner or resolve(node.module, module)))
    return [(name, target) for name, target in found if target]


def imported(module: str) -> set[str]:
    return {target for _, target in bindings(module)}


def folder_of(module: str) -> str:
    return module.partition(".")[0] if "." in module else ""


def rank(module: str) -> int:
    """Return how high a module is: leaves 0, core and plumbing 1, selfplay 2, the others 3."""
    if module in LEAVES:
        return 0
    if module == "selfplay":
        return 2
    return 1 if folder_of(module) in ("", "plumbing") else 3


modules = pytest.mark.parametrize("module", FILES)


@modules
def test_imports_go_down(module):
    """scripts, experiments, evals, perf, exercises, tests -> selfplay -> core -> leaves."""
    higher = {name for name in imported(module) if rank(name) > rank(module)}
    assert not higher
    if module in LEAVES:
        assert not imported(module)
    if folder_of(module) == "plumbing":
        others = {name for name in imported(module) if folder_of(name) != "plumbing"}
        assert others <= LEAVES | PURE | ENGINE
    if folder_of(module) != "tests":
        assert not {name for name in imported(module) if folder_of(name) == "tests"}


def test_imports_have_no_cycle():
    finished = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in finished:
            for name in sorted(imported(module)):
                visit(name, (*way, module))
            finished.add(module)

    for module in FILES:
        visit(module, ())


def root_of(node: ast.expr) -> str | None:
    """Return the name that a chain of attributes and items begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def changed(tree: ast.Module) -> set[str]:
    """Return the names whose attributes or items a module sets or deletes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            if isinstance(node.ctx, (ast.Store, ast.Del)):
                found.add(root_of(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in ("setattr", "delattr"):
                found.add(root_of(node.args[0]))
    return found


@modules
def test_no_module_assigns_into_another(module):
    if folder_of(module) == "tests":
        return  # monkeypatch undoes what it does
    ours = {name for name, _ in bindings(module)}
    assert not changed(tree_of(FILES[module])) & ours


if __name__ == "__main__":
    print_figures()
