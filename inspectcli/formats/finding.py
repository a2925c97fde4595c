"""Every format, and the one that a file or a folder has: by its first bytes, by what lies in it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import lru_cache

from inspectcli.errors import TruncatedFileError
from inspectcli.formats.base import Format
from inspectcli.plugins import are_asked_for, plugins
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source

_PACKAGE = __name__.rpartition(".")[0]

#: First bytes, from which offset -> modules to import before all others, since importing takes longer than reading.
#: A format that is not here is found all the same, after these.
_LIKELY = (
    (0, b"PK\x03\x04", ("torch.zip", "torch.script", "hdf5.keras", "numpy")),
    (8, b"{", ("safetensors",)),
    (0, b"\x89HDF", ("hdf5.keras", "hdf5.file")),
    (0, b"\x93NUMPY", ("numpy",)),
    (0, b"\x80", ("torch.legacy",)),
    (0, b"{", ("sharded", "hdf5.shards")),
)
#: The same for folders.
_LIKELY_FOLDERS = ("huggingface",)


def formats() -> tuple[Format, ...]:
    """Every format: those of the modules of this folder that have a FORMAT; and plug-ins, if they were asked for."""
    return _formats(are_asked_for())


@lru_cache(maxsize=2)
def _formats(plugged: bool) -> tuple[Format, ...]:
    found: list[Format] = []
    for name in _modules():
        found.extend(_of_module(name))
    for plugin in plugins("inspectcli.formats"):
        found.extend(_declared(plugin))
    return tuple(found)


def _modules() -> Iterator[str]:
    """Names below this package: a file that is a reader, or of a folder those that it names as READERS."""
    for module in pkgutil.iter_modules(importlib.import_module(_PACKAGE).__path__):
        readers = getattr(importlib.import_module(f"{_PACKAGE}.{module.name}"), "READERS", ())
        yield from (f"{module.name}.{reader}" for reader in readers) if readers else (module.name,)


def _of_module(name: str) -> tuple[Format, ...]:
    return _declared(importlib.import_module(f"{_PACKAGE}.{name}"))


def _declared(module: object) -> tuple[Format, ...]:
    declared = getattr(module, "FORMAT", module)
    found = (declared,) if isinstance(declared, Format) else declared if isinstance(declared, tuple) else ()
    for known in found:
        _titles.update(known.titles)
    return found


# -- names ----------------------------------------------------------------------------------------------

#: Of the formats that were imported so far, and of what has no file.
_titles: dict[str, str] = {"memory": "model in memory"}


class _FormatNames(Mapping[str, str]):
    """`Checkpoint.format` -> the title of that format. A reader that is not imported yet is, when it is asked for."""

    def __getitem__(self, name: str) -> str:
        if name and name not in _titles:
            formats()
        return _titles[name]

    def __iter__(self) -> Iterator[str]:
        formats()
        return iter(_titles)

    def __len__(self) -> int:
        formats()
        return len(_titles)


FORMAT_NAMES: Mapping[str, str] = _FormatNames()


# -- finding --------------------------------------------------------------------------------------------


def _candidates(head: bytes) -> Iterator[Format]:
    """The likely formats for these first bytes, then all."""
    for offset, magic, names in _LIKELY:
        if head.startswith(magic, offset):
            for name in names:
                yield from _of_module(name)
    yield from formats()


def find_format(source: Source, head: bytes, without: tuple[Format, ...] = ()) -> Format | None:
    """The one format whose `sniff` knows these bytes.

    Args:
        source: the file.
        head: its first HEAD bytes.
        without: formats that it cannot have where it lies.

    Raises:
        PinspectError: a zip archive that is damaged or plays tricks, whatever it holds.
    """
    from inspectcli.encodings.zip import LOCAL_MAGIC, read_directory

    if head.startswith(LOCAL_MAGIC):
        try:
            read_directory(source)
        except TruncatedFileError:
            from inspectcli.formats.torch.truncated import explain

            raise explain(source) from None
    return next((f for f in _candidates(head) if f.sniff and f not in without and f.sniff(source, head)), None)


def find_folder(folder: Location) -> Format | None:
    """The format in whose way a folder is laid out; None if it holds files of any kind.

    Raises:
        NotReadableError: it cannot be listed.
    """
    for name in _LIKELY_FOLDERS:
        for known in _of_module(name):
            if known.folder is not None and known.folder(folder):
                return known
    return next((f for f in formats() if f.folder is not None and f.folder(folder)), None)
