"""Find the reader for a file by its content, and open checkpoints: files, indexes, folders."""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import lru_cache
from importlib.metadata import entry_points

from inspectcli.errors import PinspectError
from inspectcli.formats.base import HEAD, Format
from inspectcli.model import Checkpoint
from inspectcli.source import LocalFile, Source

__all__ = ["find_format", "formats", "open_checkpoint", "open_source"]


@lru_cache(maxsize=1)
def formats() -> tuple[Format, ...]:
    """Every format: the modules of this folder that have a FORMAT, and those of other packages."""
    found: list[Format] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and module.name != "base":
            found.extend(_declared(importlib.import_module(f"{__name__}.{module.name}")))
    for point in entry_points(group="inspectcli.formats"):
        found.extend(_declared(point.load()))
    return tuple(found)


def _declared(module: object) -> tuple[Format, ...]:
    declared = getattr(module, "FORMAT", module)
    if isinstance(declared, Format):
        return (declared,)
    return declared if isinstance(declared, tuple) else ()


def find_format(source: Source) -> Format | None:
    """The one format whose `sniff` knows these bytes.

    Raises:
        PinspectError: a zip archive that is damaged or plays tricks, whatever it holds.
    """
    from inspectcli.formats._zip import LOCAL_MAGIC, read_directory

    head = source.read_at(0, min(HEAD, source.size))
    if head.startswith(LOCAL_MAGIC):
        read_directory(source)
    return next((f for f in formats() if f.sniff(source, head)), None)


def open_source(path: str, source: Source) -> Checkpoint:
    """Open what the bytes of `source` are.

    Raises:
        PinspectError: with `path`, what was found and what to do.
    """
    from inspectcli.formats._unknown import unknown_file

    try:
        known = find_format(source)
        if known is None:
            raise unknown_file(source, source.read_at(0, min(HEAD, source.size)))
        checkpoint = known.open(path, source)
    except PinspectError as error:
        raise error.at(path) from None
    return checkpoint


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint: a file, a `*.index.json`, or a folder that holds one model. Reads headers only.

    >>> checkpoint = open_checkpoint("fixtures/mlp.safetensors")
    >>> [tensor.name for tensor in checkpoint]
    ['fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight']

    Raises:
        PinspectError: `path: what is wrong: found, expected`; see `inspectcli.errors`.
    """
    from inspectcli.formats._sharded import is_index, open_directory, open_index

    name = os.fspath(path)
    if os.path.isdir(name):
        return open_directory(name)
    source = LocalFile(name)
    if is_index(name, source):
        return open_index(name, source)
    return open_source(name, source)
