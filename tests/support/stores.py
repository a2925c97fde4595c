"""What the tests of the stores share: reading as the command does, and damaging files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from inspectcli.hparams.base import HEAD, HParamSource, Selection, Store

NO_CHOICE = Selection()


def claimed(module: ModuleType, path: str | Path) -> list[HParamSource]:
    """The sources of a module that call a file or folder theirs."""
    path = os.fspath(path)
    declared = module.SOURCE if isinstance(module.SOURCE, tuple) else (module.SOURCE,)
    if os.path.isdir(path):
        return [source for source in declared if source.folder and source.folder(path)]
    head = Path(path).read_bytes()[:HEAD]
    return [source for source in declared if source.sniff(path, head)]


def read(module: ModuleType, path: str | Path, choice: Selection = NO_CHOICE) -> Store:
    """What the one source of a module that knows the path says."""
    (source,) = claimed(module, path)
    head = b"" if os.path.isdir(path) else Path(path).read_bytes()[:HEAD]
    return source.read(os.fspath(path), head, choice)


def by_key(store: Store) -> dict[str, object]:
    return {row.raw_key: row.value for row in store.rows}


def by_name(store: Store) -> dict[str, object]:
    return {row.name: row.value for row in store.rows if row.name}


def places(store: Store) -> set[tuple[str | None, str, str]]:
    """(canonical name, place, file)."""
    return {(row.name, row.source.locator, os.path.basename(row.source.file)) for row in store.rows}


def truncations(data: bytes, steps: int = 60) -> Iterator[bytes]:
    """Beginnings of a file: every length of a short one, `steps` of a long one."""
    for n in sorted({*range(0, len(data), max(1, len(data) // steps)), len(data) - 1}):
        yield data[:n]
