"""Hyperparameters, wherever they are stored; what is stored where is known by `sources`, one file a tool."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from inspectcli.hparams.base import HEAD, HParamSource
from inspectcli.storage.location import Location

__all__ = ["all_sources", "find_source", "head_of"]

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


def head_of(location: Location) -> bytes:
    """The first bytes of a regular file, which sources are found by; none of a folder.

    Raises:
        PinspectError: it cannot be read, or is no regular file.
    """
    return b"" if location.is_folder() else location.head(HEAD)


def find_source(location: Location, head: bytes) -> HParamSource | None:
    """The one source whose `sniff` knows this file, or whose folder this is."""
    if location.is_folder():
        return next((s for s in all_sources() if s.folder is not None and s.folder(location)), None)
    if head.startswith(_ARCHIVES) or head[7:9] == b"\0{":
        return _in_archive(location, head)
    return _likely(location, head) or next((s for s in all_sources() if s.sniff(location, head)), None)


def _likely(location: Location, head: bytes) -> HParamSource | None:
    name = _LIKELY.get(location.name)
    if name is None:
        return None
    source: HParamSource = importlib.import_module(f"{__name__}.sources.{name}").SOURCE
    return source if source.sniff(location, head) else None


def _in_archive(location: Location, head: bytes) -> HParamSource:
    """A checkpoint, unless it is one of the few tools' archives: the other sources need not be imported."""
    from inspectcli.hparams.sources import checkpoint, clearml, comet, stable_baselines

    return next(
        (s for s in (comet.SOURCE, clearml.SOURCE, stable_baselines.SOURCE) if s.sniff(location, head)),
        checkpoint.SOURCE,
    )
