"""What each module of the package imports, and when: read from its source, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from support.places import ROOT

PACKAGE = ROOT / "inspectcli"


class Imports(NamedTuple):
    """Full names of modules, by when they are imported.

    Attributes:
        at_start: with the module.
        for_types: by type checkers only.
        late: when a function is called.
    """

    at_start: frozenset[str]
    for_types: frozenset[str]
    late: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.at_start | self.for_types | self.late


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


#: `inspectcli.formats` -> its source, parsed. A package is its `__init__`.
TREES = {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, "imports are absolute"
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        yield inner if inner in TREES else str(node.module)


def _walk(node: ast.AST, when: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        then = when
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            then = "late"
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            then = "for_types"
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((then, target) for target in _targets(child))
        yield from _walk(child, then)


def _imports(tree: ast.Module) -> Imports:
    found = list(_walk(tree, "at_start"))
    return Imports(*(frozenset(target for when, target in found if when == field) for field in Imports._fields))


IMPORTS = {name: _imports(tree) for name, tree in TREES.items()}


@cache
def loaded_with(module: str) -> frozenset[str]:
    """All modules that importing one imports, as far as the package says: its parents, and theirs."""
    loaded: set[str] = set()
    wanted = [module]
    while wanted:
        name = wanted.pop()
        while name and name not in loaded:
            loaded.add(name)
            wanted += IMPORTS[name].at_start if name in IMPORTS else ()
            name = name.rpartition(".")[0]
    return frozenset(loaded)
