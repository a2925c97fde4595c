"""The picture in CONTRIBUTING.md, enforced: imports go down the levels only, and there is no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rooms import LEVELS

PACKAGE = Path(__file__).parent.parent / "inspectcli"

#: A circle that is still to be cut: the opener of a set opens its parts.
OWED = {("inspectcli.formats.sharded", "inspectcli.formats")}

#: `render` shows reports and knows nothing else of the program.
RENDER_KNOWS = {"render", "display.blocks", "errors", "contract"}


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


#: What turns bytes into values, in `tensors.values`.
READERS = {"read_array", "blocks", "in_order", "values"}


def read_by(tree: ast.AST) -> Iterator[str]:
    """The ways in which a module reads values: a reader imported, or the method for users called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("inspectcli.tensors", "inspectcli.tensors.values"):
            yield from READERS & {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name == "inspectcli.tensors.values")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "numpy":
            yield "numpy()"


def test_nothing_but_measure_reads_values() -> None:
    reading = {name.removeprefix("inspectcli."): set(read_by(tree)) for name, tree in MODULES.items()}
    outside = {name: ways for name, ways in reading.items() if ways and not name.startswith("measure.")}
    assert outside == {
        "tensors.model": {"read_array"},  # TensorRef.numpy, for users
        "formats.live": {"numpy()"},  # a tensor of torch gives its memory
    }
    assert {name for name, ways in reading.items() if ways} - set(outside) == {
        "measure.task",
        "measure.again",
        "measure.pairing",
    }


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
            if (module, target) in OWED:
                continue
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("name", list(MODULES))
def test_every_module_says_what_lives_in_it(name: str) -> None:
    tree = MODULES[name]
    assert ast.get_docstring(tree), f"{name} has no docstring"
