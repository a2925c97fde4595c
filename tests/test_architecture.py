"""The picture in CONTRIBUTING.md, enforced: imports go down the levels only, and there is no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rooms import LEVELS

PACKAGE = Path(__file__).parent.parent / "inspectcli"

#: `render` shows reports and knows nothing else of the program, but for what paths are called in them.
RENDER_KNOWS = {"render", "display.blocks", "errors", "contract", "storage"}


def level_of(part: str) -> int:
    return next(i for i, level in enumerate(LEVELS) if part in {room.name for room in level})


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(_parsed())


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the package's modules that are imported: at the top, in functions, and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "inspectcli":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES or f"{inner}.__init__" in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "inspectcli")


def part(module: str) -> str:
    """`inspectcli.formats.numpy` -> `formats`; the package itself has no level."""
    name = module.removeprefix("inspectcli").removeprefix(".")
    return max((r for r in ROOMS if f"{name}.".startswith(f"{r}.")), key=len, default="")


ROOMS = [room.name for level in LEVELS for room in level]
EDGES = sorted(
    {
        (part(name), part(target))
        for name, tree in MODULES.items()
        for target in imported(tree)
        if part(name) and part(target)
    }
)


@pytest.mark.parametrize(("importer", "target"), EDGES)
def test_imports_go_down_the_levels(importer: str, target: str) -> None:
    assert level_of(importer) >= level_of(target), f"{importer} must not import {target}"


def test_every_module_has_a_level() -> None:
    folders = ("commands", "display")
    faces = {"inspectcli.__init__", *(f"inspectcli.{folder}.__init__" for folder in folders)}
    assert {name for name in MODULES if not part(name)} == faces


def test_renderers_know_only_reports() -> None:
    assert {target for importer, target in EDGES if importer == "render"} <= RENDER_KNOWS


def test_there_is_no_circle() -> None:
    # Modules of one level may import each other, but in one direction only. An import for a type checker counts: a
    # circle of concepts is one too.
    graph = {
        name.removesuffix(".__init__"): {target.removesuffix(".__init__") for target in imported(tree)}
        for name, tree in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done or module not in graph:
            return
        for target in sorted(graph[module] - {module}):
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("name", list(MODULES))
def test_every_module_says_what_lives_in_it(name: str) -> None:
    tree = MODULES[name]
    assert ast.get_docstring(tree), f"{name} has no docstring"


# -- only storage asks the system what lies where -------------------------------------------------------

#: What looks at files, or opens them. `locate` is how all others come to theirs.
FILES = re.compile(
    r"(os\.path|os\.(open|stat|lstat|listdir|scandir|walk|access|readlink)|io\.open|open|pathlib(\..*)?|glob(\..*)?|shutil\.\w+"
    r"|(.*\.)?(LocalFile|LocalPath))"
)
#: Module -> what it may use all the same, and why.
MAY_USE = {
    "inspectcli.formats.hdf5.child": {"open", "os.path"},  # a program of its own, which is given a path
    "inspectcli.formats.hdf5.process": {"pathlib"},  # where that program lies
    "inspectcli.cli.output": {"open", "os.path", "shutil.get_terminal_size"},  # -o FILE
    "inspectcli.cli": {"os.open"},  # the null device, when nobody reads stdout any more
}


def uses_of_files(tree: ast.Module) -> set[str]:
    """`os.path`, `open`, `LocalFile` where it is called, ...: as the source spells them."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {name for name in (*map(ast.unparse, (*called, *attributes)), *imported) if FILES.fullmatch(name)}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("inspectcli.storage")])
def test_only_storage_looks_at_files(name: str) -> None:
    short = name.removesuffix(".__init__")
    assert uses_of_files(MODULES[name]) <= MAY_USE.get(short, set())


def test_what_a_module_may_use_it_does_use() -> None:
    modules = {name.removesuffix(".__init__"): tree for name, tree in MODULES.items()}
    assert {name: uses_of_files(modules[name]) for name in MAY_USE} == MAY_USE


def test_a_use_of_files_is_seen() -> None:
    text = """
import os, glob
from pathlib import Path
os.path.join("a", "b"), os.listdir("."), open("x"), os.stat("x")
storage.LocalFile("x"), isinstance(x, LocalFile), location.open(), self.open
"""
    assert uses_of_files(ast.parse(text)) == {
        "glob", "pathlib", "os.path", "os.listdir", "open", "os.stat", "storage.LocalFile",
    }  # fmt: skip


def test_one_function_makes_a_place_of_a_text() -> None:
    makers = {
        f"{name}.{function.name}"
        for name, tree in MODULES.items()
        if name != "inspectcli.storage.local"  # a path gives others
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(n, ast.Call) and ast.unparse(n.func).endswith("LocalPath") for n in ast.walk(function))
    }
    assert makers == {"inspectcli.storage.__init__.locate"}
