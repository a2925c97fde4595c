"""Which checkpoints are looked at: those that are named, all below a folder, and what is passed over.

A folder is searched to any depth, and every file in it is accounted for: it is a checkpoint to be read, one that cannot
be read, a part of another one, or no checkpoint, which is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from inspectcli.errors import LimitError, NoCheckpointError, PinspectError, UnsupportedFormatError
from inspectcli.formats.base import HEAD
from inspectcli.formats.finding import find_folder, find_format, formats
from inspectcli.formats.folder import INDEX_SUFFIX, KERAS_INDEX, is_in_keras_index, models_by_suffix, no_model
from inspectcli.formats.foreign import foreign_file, foreign_folder
from inspectcli.formats.sharded import shards_of
from inspectcli.storage.location import Entry, EntryKind, Location
from inspectcli.storage.names import file_name

#: Files and folders that are looked at below a folder.
MAX_ENTRIES = 1_000_000

_LFS_POINTER = b"version https://git-lfs"
#: Names of files that are one of several of a model: a shard, one process's part.
_PART = re.compile(r"-\d+-of-\d+\.|(^|_)(mp|pp|tp)_rank_\d+")
#: Suffixes that files of another kind have too: firmware, archives, TypeScript.
_SHARED_SUFFIXES = (".bin", ".mat", ".pkl", ".tar", ".ts")
#: Of them those that say little: a file in a folder that has one, and is of no known format, is no checkpoint.
_WEAK_SUFFIXES = (".mat", ".pkl", ".tar", ".ts")
#: Suffixes of files that no loader takes weights from, whatever they hold: not opened in a folder.
_NEVER = tuple(
    ".bmp .c .cc .cfg .cpp .css .csv .cu .gif .gitattributes .gitignore .go .h .hpp .html .ico .ini .ipynb .java .jpeg "
    ".jpg .js .json .jsonl .jsx .lock .log .md .mp3 .mp4 .pdf .png .proto .py .pyc .pyi .rs .rst .sh .so .svg .toml "
    ".tsv .tsx .ttf .txt .typed .wav .webp .woff .woff2 .xml .yaml .yml".split()
)


class Found(NamedTuple):
    """A checkpoint that was named, or lies below a folder.

    Attributes:
        place: where.
        error: why it cannot be read, if that is known before it is opened.
        beside: whether it lies in a model folder, and is not what a loader takes from it.
        listed: whether it was found in a folder, so that what turns out to be no checkpoint is passed over.
    """

    place: Location
    error: PinspectError | None = None
    beside: bool = False
    listed: bool = True


@dataclass(slots=True)
class Search:
    """What a search came to.

    Attributes:
        found: the checkpoints, each file of a folder before those of its sub-folders.
        passed_over: files that are no checkpoints.
        closed: hidden folders, and links to folders, that were not looked into.
    """

    found: list[Found]
    passed_over: int = 0
    closed: int = 0


def search(location: Location) -> Search:
    """A file is itself; a folder is every checkpoint in it and below it.

    Links to files are followed, links to folders are not: one that leads back would never end, one that leads out would
    search what nobody named.

    Raises:
        NotReadableError: a folder without a checkpoint, or one that cannot be listed.
        LimitError: more than MAX_ENTRIES files and folders.
    """
    if not location.is_folder():
        return Search([Found(location, listed=False)])
    made = Search([])
    waiting, seen = [location], 0
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(folder.list())
            seen += len(entries)
            if seen > MAX_ENTRIES:
                raise LimitError(
                    f"more than {MAX_ENTRIES:,} files and folders", "name the folders of the models", str(location)
                )
            waiting += reversed(_look_into(folder, entries, made))
        except LimitError:
            raise
        except PinspectError as error:
            if folder is location:
                raise
            made.found.append(Found(folder, error))
    if not made.found:
        raise no_model(location)
    return made


def models_in(folder: Location) -> Sequence[Location]:
    """The model in a folder, or all that could be it, shards once; not in its sub-folders. It may be the folder."""
    known = find_folder(folder)
    return models_by_suffix(folder) if known is None or known.folder is None else known.folder(folder)


def is_part_of_a_model(path: str) -> bool:
    """Whether the name says that other files hold the rest: its blocks do not begin at 0, and may end anywhere."""
    return bool(_PART.search(file_name(path)))


def _look_into(folder: Location, entries: Sequence[Entry], made: Search) -> list[Location]:
    """Add what lies in a folder to what was found; returns the folders below it that are to be searched."""
    known = find_folder(folder)
    models = () if known is None or known.folder is None else known.folder(folder)
    if folder in models:  # what lies in it and below it belongs to that one checkpoint
        made.found.append(Found(folder))
        return []
    foreign = foreign_folder([entry.name for entry in entries])
    if foreign is not None:
        made.found.append(Found(folder, foreign.error))
    entries = [entry for entry in entries if foreign is None or not foreign.parts.fullmatch(entry.name)]
    files = [entry for entry in entries if entry.kind is not EntryKind.FOLDER and not _is_linked_folder(folder, entry)]
    _take_files(folder, [entry.name for entry in files], models, made)
    inner = [entry for entry in entries if entry.kind is EntryKind.FOLDER]
    shown = [entry.name for entry in inner if not entry.name.startswith(".")]
    made.closed += len(entries) - len(files) - len(shown)
    return [folder.join(name) for name in shown]


def _is_linked_folder(folder: Location, entry: Entry) -> bool:
    return entry.kind is EntryKind.LINK and folder.join(entry.name).is_folder()


def _take_files(folder: Location, names: Sequence[str], models: Sequence[Location], made: Search) -> None:
    """The model first, then every other checkpoint; the shards that an index names belong to it."""
    first = [model.name for model in models]
    indexed = {name.removesuffix(KERAS_INDEX) for name in names if name.endswith(KERAS_INDEX)}
    shards = {name for name in names if is_in_keras_index(indexed, name)}
    there = set(names)
    for name in names:
        if name.endswith(INDEX_SUFFIX):
            named = shards_of(folder.join(name))
            shards |= named
            if named and not named & there and first and name not in first:
                there.discard(name)  # of another format's weights, which were left where they came from
    for name in [*first, *(name for name in names if name not in first)]:
        if name in shards:
            continue
        found = _as_checkpoint(folder.join(name), bool(first) and name not in first) if name in there else None
        if found is None:
            made.passed_over += 1
        else:
            made.found.append(found)


def _as_checkpoint(place: Location, beside: bool) -> Found | None:
    """A file of a folder as a checkpoint, by its suffix or by its first bytes; None if it is none."""
    name = place.name.lower()
    if name.startswith("."):
        return None
    if name.endswith(_suffixes()):
        return Found(place, beside=beside)
    if name.endswith(_NEVER) or not place.is_file():
        return None
    try:
        source = place.open()
    except PinspectError:
        return None
    try:
        head = source.read_at(0, min(HEAD, source.size))
        if find_format(source, head) is not None:
            return Found(place, beside=beside)
        error = foreign_file(source, head, name)
        return None if error is None else Found(place, error, beside)
    except PinspectError:  # a damaged archive of any kind
        return None
    finally:
        source.close()


@lru_cache(maxsize=1)
def _suffixes() -> tuple[str, ...]:
    return tuple({suffix for known in formats() for suffix in known.suffixes})


def is_no_checkpoint(found: Found, code: str) -> bool:
    """Whether a file that lies in a folder, and could not be opened, is none of ours.

    Args:
        found: the file.
        code: of the error.
    """
    if not found.listed or code not in (UnsupportedFormatError.code, NoCheckpointError.code):
        return False
    return code == NoCheckpointError.code or found.place.name.lower().endswith(_WEAK_SUFFIXES)


def may_hold_anything(found: Found) -> bool:
    """Whether a file in a folder was chosen by bytes that plain data has too: a pickle without a checkpoint's name."""
    return found.listed and not found.place.name.lower().endswith(tuple(s for s in _suffixes() if s != ".pkl"))


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
