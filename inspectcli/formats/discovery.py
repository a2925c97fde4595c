"""Which files are looked at: those that are named, the models in folders, and what a hook passes over."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from inspectcli.errors import NotReadableError, PinspectError

#: Sub-folders are looked through this deep.
MAX_FOLDER_DEPTH = 3

_LFS_POINTER = b"version https://git-lfs"
#: Names of files that are one of several of a model: a shard, one process's part.
_PART = re.compile(r"-\d+-of-\d+\.|(^|_)(mp|pp|tp)_rank_\d+")
#: Suffixes that files of another kind have too: firmware, archives, TypeScript.
_SHARED_SUFFIXES = (".bin", ".mat", ".pkl", ".tar", ".ts")


def expand(path: str) -> Iterator[str]:
    """A file is itself; a folder is the models in it, or below it.

    Raises:
        NotReadableError: a folder without a model.
    """
    if not os.path.isdir(path):
        yield path
        return
    found = list(_models_below(path, MAX_FOLDER_DEPTH))
    if not found:
        raise NotReadableError(
            "a directory without a model file", "name a checkpoint, or a folder that holds one", path
        )
    yield from found


def is_part_of_a_model(path: str) -> bool:
    """Whether the name says that other files hold the rest: its blocks do not begin at 0, and may end anywhere."""
    return bool(_PART.search(os.path.basename(path)))


def _models_below(folder: str, depth: int) -> Iterator[str]:
    from inspectcli.formats.sharded import is_model_folder, models_in

    yield from models_in(folder)
    if is_model_folder(folder) or not depth:
        return
    for name in sorted(os.listdir(folder)):
        inner = os.path.join(folder, name)
        if not name.startswith(".") and os.path.isdir(inner) and not os.path.islink(inner):
            yield from _models_below(inner, depth - 1)


# -- hooks ----------------------------------------------------------------------------------------------


def is_named_like_a_checkpoint(path: str) -> bool:
    """Whether the suffix is one that a format uses."""
    from inspectcli.formats import formats

    return path.lower().endswith(tuple(suffix for known in formats() for suffix in known.suffixes))


def may_be_something_else(path: str) -> bool:
    """Whether files that are no checkpoints have this suffix too, so that an unknown content is no fault."""
    return path.lower().endswith(_SHARED_SUFFIXES)


def is_lfs_pointer(path: str) -> bool:
    """Whether Git LFS left its small text file in the place of the real one."""
    from inspectcli.storage.local import LocalFile

    try:
        source = LocalFile(path)
        return source.read_at(0, min(len(_LFS_POINTER), source.size)) == _LFS_POINTER
    except PinspectError:
        return False
