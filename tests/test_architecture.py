"""Imports go one way, and notebooks hold what is theirs alone."""

import ast
import functools
import statistics
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import nbformat
import pytest

from lib import paths

PACKAGES = ("lib", "mini", "workflow", "docs")
# Small modules that every room of lib may use; they use one another alone.
FOOT = {"paths", "files", "profiles", "plotting", "progress", "validation", "suggestions"}
ROOMS = ("measures", "encoders", "methods", "data", "claims")  # each may use those before it
MAY_IMPORT = {
    "lib": {"lib"},
    "mini": {"lib", "mini"},
    "workflow": {"lib", "mini", "workflow"},
    "docs": {"lib", "mini", "workflow", "docs"},
}
WORLD = ("lib.data.sources", "mini")  # the one lazy way from lib to the embedded world


def modules() -> dict[str, Path]:
    """Every module of our packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for file in sorted((paths.ROOT / package).rglob("*.py")):
            if "templates" in file.parts:  # Sphinx's own configuration, imported by nobody
                continue
            parts = file.relative_to(paths.ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@functools.cache
def imports(name: str, everywhere: bool = True) -> set[str]:
    """Our modules that a module imports; `everywhere` also inside functions."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import hides where it leads."
            each = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else node.module for one in each}
    ours = {one for one in found if one.split(".")[0] in PACKAGES}
    assert ours <= MODULES.keys(), f"{name} imports what is not there: {ours - MODULES.keys()}"
    return ours - {name}


def at_import(tree: ast.AST):
    """The nodes that are run when a module is imported: none inside a function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import(node)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_lib_consists_of_its_foot_and_its_rooms():
    found = {room(name) for name in MODULES if name.startswith("lib.")}
    assert found == FOOT | set(ROOMS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_packages_import_one_way(module):
    package = module.split(".")[0]
    for other in imports(module):
        if (module, other.split(".")[0]) == WORLD:
            assert other not in imports(module, everywhere=False), "only when it is asked for"
            continue
        assert other.split(".")[0] in MAY_IMPORT[package], f"{module} imports {other}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("lib.")))
def test_rooms_import_one_way(module):
    own = room(module)
    allowed = FOOT if own in FOOT else FOOT | set(ROOMS[: ROOMS.index(own) + 1])
    for other in imports(module):
        if other.startswith("lib."):
            assert room(other) in allowed, f"{module} imports {other}"


def test_no_module_imports_itself_over_others():
    try:
        TopologicalSorter({name: imports(name) for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_check_sees_imports_inside_functions():
    assert "mini.world" in imports("lib.data.sources")
    assert "mini.world" not in imports("lib.data.sources", everywhere=False)
    assert "lib.measures.bootstrap" in imports("lib.measures.gap", everywhere=False)


# Notebooks ----------------------------------------------------------------------------------------

NOTEBOOKS = sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
NAMES = [file.relative_to(paths.NOTEBOOKS).with_suffix("").as_posix() for file in NOTEBOOKS]
LONGEST_CELL, MIDDLE_NOTEBOOK = 40, 150  # lines of code


@functools.cache
def cells(name: str) -> list[str]:
    notebook = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def lines(source: str) -> int:
    return len(source.strip("\n").splitlines())


def code(name: str) -> ast.Module:
    return ast.parse("\n".join(cells(name)))


def anonymous(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A definition's syntax tree without its own name and docstring."""
    body = node.body
    if ast.get_docstring(node, clean=False) is not None:
        body = body[1:]
    fields = {
        field: value for field, value in ast.iter_fields(node) if field not in ("name", "body")
    }
    return ast.dump(type(node)(name="", body=body, **fields))


def test_a_definition_is_known_by_what_it_does():
    def dumped(source):
        return anonymous(ast.parse(source).body[0])

    plain = dumped("def f(x):\n    return x + 1")
    assert dumped('def g(x):\n    "Add."\n    return x + 1  # so') == plain
    assert dumped("def f(x):\n    return x + 2") != plain
    assert dumped("def f(x, y):\n    return x + 1") != plain


def test_no_helper_is_in_two_notebooks():
    """What two of them need is a function of lib."""
    where = defaultdict(set)
    for name in NAMES:
        for node in ast.walk(code(name)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                where[anonymous(node)].add(f"{name}: {node.name}")
    twice = [sorted(each) for each in where.values() if len({s.split(":")[0] for s in each}) > 1]
    assert not twice, "\n".join(" = ".join(each) for each in sorted(twice))


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    long = [(lines(c), c.strip().split("\n")[0]) for c in cells(name) if lines(c) > LONGEST_CELL]
    assert not long, f"more than {LONGEST_CELL} lines: {long}"


def test_notebooks_are_short():
    lengths = {name: sum(map(lines, cells(name))) for name in NAMES}
    longest = sorted(lengths.items(), key=lambda entry: -entry[1])[:5]
    assert statistics.median(lengths.values()) <= MIDDLE_NOTEBOOK, longest


@pytest.mark.parametrize("name", NAMES)
def test_colours_have_names(name):
    """The main model's grey is `plotting.MAIN`."""
    assert "#444444" not in "\n".join(cells(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_lib_keeps_its_name(name):
    """No alias, and no variable that takes a module's name from it, such as a parameter `profile`.

    The notebooks' parameter is called profile, so the module of profiles may not be.
    """
    tree, ours, stored = code(name), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            package = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if package.split(".")[0] in PACKAGES:
                assert all(alias.asname is None for alias in node.names), ast.unparse(node)
                ours |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored.add(node.id)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
    assert not ours & stored
