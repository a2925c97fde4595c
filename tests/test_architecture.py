"""The picture in CONTRIBUTING.md, enforced for each file: imports go down the levels, and there is no circle.

Imports for type checkers and imports inside functions count: a circle of concepts is one too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from support.imports import IMPORTS, TREES, loaded_with
from support.rooms import LEVELS

#: Folders of rooms, and the package itself: their `__init__` is a docstring, or the public names.
FACES = {"inspectcli", "inspectcli.commands", "inspectcli.display"}
#: `render` shows reports and knows nothing else of the program, but for what paths are called in them.
RENDER_KNOWS = (
    "inspectcli.render", "inspectcli.display.blocks", "inspectcli.display.text", "inspectcli.errors",
    "inspectcli.contract", "inspectcli.storage", "inspectcli.plugins"
)  # fmt: skip

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


def test_every_file_has_a_room() -> None:
    assert {name for name in IMPORTS if not room(name)} == FACES


def test_every_room_has_a_file() -> None:
    assert {room(name) for name in IMPORTS} == {*LEVEL, ""}


@pytest.mark.parametrize("name", list(IMPORTS))
def test_imports_go_down_the_levels(name: str) -> None:
    upward = {target for target in GRAPH[name] if is_upward(name, target)}
    assert upward == set(), f"{room(name)} must not import these"


@pytest.mark.parametrize("name", list(IMPORTS))
def test_there_is_no_circle(name: str) -> None:
    around = sorted(other for other in reachable(name, GRAPH) if name in reachable(other, GRAPH))
    assert around == []


@pytest.mark.parametrize("name", list(IMPORTS))
def test_what_is_imported_in_a_function_was_not_loaded_yet(name: str) -> None:
    """To start quickly is the one reason to import in a function, and not at the top."""
    at_hand = {target for target in IMPORTS[name].late if is_at_hand(name, target)}
    assert at_hand == set(), "import these at the top"


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
        "measure.excerpt",  # a few values of each tensor, to find copies
        "measure.pairing",
    }


@pytest.mark.parametrize("name", list(TREES))
def test_every_module_says_what_lives_in_it(name: str) -> None:
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"


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
    "inspectcli.cli.output": {"os.path", "shutil.get_terminal_size"},  # -o FILE
    "inspectcli.cli": {"os.open"},  # the null device, when nobody reads stdout any more
}


def uses_of_files(tree: ast.Module) -> set[str]:
    """`os.path`, `open`, `LocalFile` where it is called, ...: as the source spells them."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {name for name in (*map(ast.unparse, (*called, *attributes)), *imported) if FILES.fullmatch(name)}


@pytest.mark.parametrize("name", [name for name in TREES if not name.startswith("inspectcli.storage")])
def test_only_storage_looks_at_files(name: str) -> None:
    assert uses_of_files(TREES[name]) <= MAY_USE.get(name, set())


def test_what_a_module_may_use_it_does_use() -> None:
    assert {name: uses_of_files(TREES[name]) for name in MAY_USE} == MAY_USE


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
        for name, tree in TREES.items()
        if name != "inspectcli.storage.local"  # a path gives others
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(n, ast.Call) and ast.unparse(n.func).endswith("LocalPath") for n in ast.walk(function))
    }
    assert makers == {"inspectcli.storage.locate"}
