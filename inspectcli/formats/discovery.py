"""Which checkpoints are looked at: those that are named, those in folders, and what a hook passes over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from inspectcli.errors import PinspectError
from inspectcli.formats.finding import find_folder, formats
from inspectcli.formats.folder import INDEX_SUFFIX, KERAS_INDEX, models_by_suffix, no_model
from inspectcli.storage.location import EntryKind, Location
from inspectcli.storage.names import file_name

#: Sub-folders are looked through this deep.
MAX_FOLDER_DEPTH = 3

_LFS_POINTER = b"version https://git-lfs"
#: Names of files that are one of several of a model: a shard, one process's part.
_PART = re.compile(r"-\d+-of-\d+\.|(^|_)(mp|pp|tp)_rank_\d+")
#: Suffixes that files of another kind have too: firmware, archives, TypeScript.
_SHARED_SUFFIXES = (".bin", ".mat", ".pkl", ".tar", ".ts")


def expand(location: Location) -> Iterator[Location]:
    """A file is itself; a folder is the checkpoints in it, or below it.

    Raises:
        NotReadableError: a folder without a model, or one that cannot be listed.
    """
    if not location.is_folder():
        yield location
        return
    found = list(_models_below(location, MAX_FOLDER_DEPTH))
    if not found:
        raise no_model(location)
    yield from found


def models_in(folder: Location) -> Sequence[Location]:
    """The checkpoints in a folder, shards of one model once; not in its sub-folders. The folder itself may be one."""
    known = find_folder(folder)
    return models_by_suffix(folder) if known is None or known.folder is None else known.folder(folder)


def is_part_of_a_model(path: str) -> bool:
    """Whether the name says that other files hold the rest: its blocks do not begin at 0, and may end anywhere."""
    return bool(_PART.search(file_name(path)))


def _models_below(folder: Location, depth: int) -> Iterator[Location]:
    yield from models_in(folder)
    if not depth or find_folder(folder) is not None:  # what lies below it belongs to that one checkpoint
        return
    inner = (e.name for e in folder.list() if e.kind is EntryKind.FOLDER and not e.name.startswith("."))
    for name in sorted(inner):
        yield from _models_below(folder.join(name), depth - 1)


# -- hooks ----------------------------------------------------------------------------------------------


def is_named_like_a_checkpoint(location: Location) -> bool:
    """Whether the suffix is one that a format uses. An index is none: its shards are files of their own."""
    suffixes = (suffix for known in formats() for suffix in known.suffixes if suffix not in (INDEX_SUFFIX, KERAS_INDEX))
    return location.name.lower().endswith(tuple(suffixes))


def may_be_something_else(location: Location) -> bool:
    """Whether files that are no checkpoints have this suffix too, so that an unknown content is no fault."""
    return location.name.lower().endswith(_SHARED_SUFFIXES)


def is_lfs_pointer(location: Location) -> bool:
    """Whether Git LFS left its small text file in the place of the real one."""
    try:
        return location.head(len(_LFS_POINTER)) == _LFS_POINTER
    except PinspectError:
        return False
