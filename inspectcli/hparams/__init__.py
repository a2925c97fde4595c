"""Hyperparameters, wherever they are stored; what is stored where is known by `sources`, one file a tool."""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import lru_cache

from inspectcli.errors import NotReadableError, PinspectError, UnsupportedFormatError
from inspectcli.hparams.base import HEAD, HParamSource, Selection, Store
from inspectcli.storage.local import LocalFile

__all__ = ["all_sources", "find_source", "read"]

#: First bytes that only checkpoints have: for them no other source is imported.
_ARCHIVES = (b"PK\x03\x04", b"\x89HDF")


#: Names that say whose file it mostly is: that source is asked first, and the others need not be imported.
_LIKELY = {
    "config.json": "transformers",
    "generation_config.json": "transformers",
    "trainer_state.json": "transformers",
    "adapter_config.json": "peft",
    "ds_config.json": "deepspeed",
}


@lru_cache(maxsize=1)
def all_sources() -> tuple[HParamSource, ...]:
    """Every source: the SOURCE of each module in the folder `sources`; the generic ones last."""
    folder = importlib.import_module(f"{__name__}.sources")
    found: list[HParamSource] = []
    for module in pkgutil.iter_modules(folder.__path__):
        declared = importlib.import_module(f"{folder.__name__}.{module.name}").SOURCE
        found += declared if isinstance(declared, tuple) else [declared]
    return tuple(sorted(found, key=lambda source: source.generic))


def head_of(path: str) -> bytes:
    """The first bytes of a regular file.

    Raises:
        PinspectError: it cannot be read, or is no regular file.
    """
    source = LocalFile(path)
    try:
        return source.read_at(0, min(HEAD, source.size))
    finally:
        source.close()


def find_source(path: str, head: bytes) -> HParamSource | None:
    """The one source whose `sniff` knows this file, or whose folder this is."""
    if os.path.isdir(path):
        return next((s for s in all_sources() if s.folder is not None and s.folder(path)), None)
    if head.startswith(_ARCHIVES) or head[7:9] == b"\0{":
        return _in_archive(path, head)
    return _likely(path, head) or next((s for s in all_sources() if s.sniff(path, head)), None)


def _likely(path: str, head: bytes) -> HParamSource | None:
    name = _LIKELY.get(os.path.basename(path))
    if name is None:
        return None
    source: HParamSource = importlib.import_module(f"{__name__}.sources.{name}").SOURCE
    return source if source.sniff(path, head) else None


def _in_archive(path: str, head: bytes) -> HParamSource:
    """A checkpoint, unless it is one of the few tools' archives: the other sources need not be imported."""
    from inspectcli.hparams.sources import checkpoint, clearml, comet

    return next((s for s in (comet.SOURCE, clearml.SOURCE) if s.sniff(path, head)), checkpoint.SOURCE)


def read(path: str, choice: Selection | None = None) -> Store:
    """What one file, or one folder that is a tool's as a whole, says.

    Raises:
        PinspectError: it cannot be read, is no store that is known, or the choice is not in it.
    """
    choice = choice or Selection()
    folder = os.path.isdir(path)
    if not os.path.exists(path):
        raise NotReadableError("no such file or directory", "check the spelling, or list the folder", path)
    try:
        head = b"" if folder else head_of(path)
        source = find_source(path, head)
        if source is None:
            raise UnsupportedFormatError("no store of hyperparameters that pinspect knows")
        return source.read(path, head, choice)
    except PinspectError as error:
        raise error.at(path) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=path) from None
