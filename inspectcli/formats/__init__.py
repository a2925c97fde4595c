"""Find the reader for a file by its content, and open checkpoints: files, indexes, folders."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from functools import lru_cache

from inspectcli.errors import PinspectError, TruncatedFileError
from inspectcli.formats.base import HEAD, Format
from inspectcli.storage.local import LocalFile
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint

__all__ = ["find_format", "formats", "open_checkpoint", "open_source"]


#: First bytes, from which offset -> modules to import before all others, since importing takes longer than reading.
#: A format that is not here is found all the same, after these.
_LIKELY = (
    (0, b"PK\x03\x04", ("torch.zip", "torch.script", "hdf5.keras", "numpy")),
    (8, b"{", ("safetensors",)),
    (0, b"\x89HDF", ("hdf5.file",)),
    (0, b"\x93NUMPY", ("numpy",)),
    (0, b"\x80", ("torch.legacy",)),
)


@lru_cache(maxsize=1)
def formats() -> tuple[Format, ...]:
    """Every format: those of the modules of this folder that have a FORMAT, and those of other packages."""
    found: list[Format] = []
    for name in _modules():
        found.extend(_of_module(name))
    from importlib.metadata import entry_points

    for point in entry_points(group="inspectcli.formats"):
        found.extend(_declared(point.load()))
    return tuple(found)


def _modules() -> Iterator[str]:
    """Names below this package: a file that is a reader, or of a folder those that it names as READERS."""
    for module in pkgutil.iter_modules(__path__):
        readers = getattr(importlib.import_module(f"{__name__}.{module.name}"), "READERS", ())
        yield from (f"{module.name}.{reader}" for reader in readers) if readers else (module.name,)


def _of_module(name: str) -> tuple[Format, ...]:
    return _declared(importlib.import_module(f"{__name__}.{name}"))


def _declared(module: object) -> tuple[Format, ...]:
    declared = getattr(module, "FORMAT", module)
    if isinstance(declared, Format):
        return (declared,)
    return declared if isinstance(declared, tuple) else ()


def _candidates(head: bytes) -> Iterator[Format]:
    """The likely formats for these first bytes, then all."""
    for offset, magic, names in _LIKELY:
        if head.startswith(magic, offset):
            for name in names:
                yield from _of_module(name)
    yield from formats()


def find_format(source: Source) -> Format | None:
    """The one format whose `sniff` knows these bytes.

    Raises:
        PinspectError: a zip archive that is damaged or plays tricks, whatever it holds.
    """
    from inspectcli.encodings.zip import LOCAL_MAGIC, read_directory

    head = source.read_at(0, min(HEAD, source.size))
    if head.startswith(LOCAL_MAGIC):
        try:
            read_directory(source)
        except TruncatedFileError:
            from inspectcli.formats.torch.truncated import explain

            raise explain(source) from None
    return next((f for f in _candidates(head) if f.sniff(source, head)), None)


def open_source(path: str, source: Source) -> Checkpoint:
    """Open what the bytes of `source` are.

    Raises:
        PinspectError: with `path`, what was found and what to do.
    """
    from inspectcli.formats.unknown import unknown_file

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
    from inspectcli.formats.sharded import KERAS_INDEX, UNZIPPED, is_index, open_directory, open_index

    name = os.fspath(path)
    if os.path.isdir(name):
        return open_directory(name)
    source = LocalFile(name)
    if is_index(name, source):
        return open_index(name, source)
    if name.endswith((KERAS_INDEX, UNZIPPED)):
        from inspectcli.formats.hdf5 import keras, shards

        if shards.is_index(name, source):
            return shards.open_index(name, source)
        if keras.is_unzipped(name):
            return keras.open_unzipped(name, source)
    return open_source(name, source)
