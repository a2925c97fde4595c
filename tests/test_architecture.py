"""The picture in CONTRIBUTING.md, enforced for each file: imports go down the levels, and there is no circle.

Imports for type checkers and imports inside functions count: a circle of concepts is one too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from support.imports import IMPORTS, TREES, loaded_with
from support.rooms import LEVELS

#: Imports that are still to be mended. An entry that breaks no rule any more has to go.
OWED = {
    ("inspectcli.formats.sharded", "inspectcli.formats"),
    ("inspectcli.formats.discovery", "inspectcli.formats"),
    ("inspectcli.formats.discovery", "inspectcli.storage.local"),
    ("inspectcli.commands.diff.compare", "inspectcli.tensors.values"),
    ("inspectcli.hparams.collect", "inspectcli.formats"),
    ("inspectcli.hparams.sources.checkpoint", "inspectcli.formats"),
}

#: Folders of rooms, and the package itself: their `__init__` is a docstring, or the public names.
FACES = {"inspectcli", "inspectcli.commands", "inspectcli.display"}
#: `render` shows reports and knows nothing else of the program.
RENDER_KNOWS = (
    "inspectcli.render",
    "inspectcli.display.blocks",
    "inspectcli.display.text",
    "inspectcli.errors",
    "inspectcli.contract",
)

LEVEL = {f"inspectcli.{room.name}": number for number, level in enumerate(LEVELS) for room in level}
GRAPH = {name: {target for target in each.all if target in IMPORTS} - {name} for name, each in IMPORTS.items()}


def room(module: str) -> str:
    """The room with the longest name that the module's own begins with; empty if there is none."""
    return max((name for name in LEVEL if f"{module}.".startswith(f"{name}.")), key=len, default="")


def is_upward(importer: str, target: str) -> bool:
    return bool(room(importer) and room(target)) and LEVEL[room(importer)] < LEVEL[room(target)]


def is_at_hand(importer: str, target: str) -> bool:
    """Imported in a function, though it was loaded with the module: it costs nothing at the top."""
    return target in IMPORTS[importer].late and target in loaded_with(importer)


def reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    """All modules that one leads to, itself only if there is a circle."""
    seen: set[str] = set()
    wanted = list(graph[start])
    while wanted:
        module = wanted.pop()
        if module not in seen:
            seen.add(module)
            wanted += graph[module]
    return seen


def without_owed(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: {target for target in targets if (name, target) not in OWED} for name, targets in graph.items()}


def test_every_file_has_a_room() -> None:
    assert {name for name in IMPORTS if not room(name)} == FACES


def test_every_room_has_a_file() -> None:
    assert {room(name) for name in IMPORTS} == {*LEVEL, ""}


@pytest.mark.parametrize("name", list(IMPORTS))
def test_imports_go_down_the_levels(name: str) -> None:
    upward = {target for target in GRAPH[name] if is_upward(name, target) and (name, target) not in OWED}
    assert upward == set(), f"{room(name)} must not import these"


@pytest.mark.parametrize("name", list(IMPORTS))
def test_there_is_no_circle(name: str) -> None:
    graph = without_owed(GRAPH)
    around = sorted(other for other in reachable(name, graph) if name in reachable(other, graph))
    assert around == []


@pytest.mark.parametrize("name", list(IMPORTS))
def test_what_is_imported_in_a_function_was_not_loaded_yet(name: str) -> None:
    """To start quickly is the one reason to import in a function, and not at the top."""
    at_hand = {target for target in IMPORTS[name].late if is_at_hand(name, target) and (name, target) not in OWED}
    assert at_hand == set(), "import these at the top"


@pytest.mark.parametrize(("importer", "target"), sorted(OWED))
def test_what_is_owed_is_still_there(importer: str, target: str) -> None:
    assert target in GRAPH.get(importer, ()), "mended: remove it from OWED"
    circle = importer in reachable(target, GRAPH)
    assert is_upward(importer, target) or is_at_hand(importer, target) or circle, "it breaks no rule: remove it"


def test_renderers_know_only_reports() -> None:
    known = {target for name in IMPORTS if room(name) == "inspectcli.render" for target in GRAPH[name]}
    assert {target for target in known if not target.startswith(RENDER_KNOWS)} == {"inspectcli"}  # its version


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
    reading = {name.removeprefix("inspectcli."): set(read_by(tree)) for name, tree in TREES.items()}
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


@pytest.mark.parametrize("name", list(TREES))
def test_every_module_says_what_lives_in_it(name: str) -> None:
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"
