"""Readers of small files beside a model, bounded in size: bytes, JSON in the forms that tools write, zip members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from inspectcli.encodings.json import parse
from inspectcli.encodings.zip import LOCAL_MAGIC, read_directory, read_member
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.storage.location import Entry, EntryKind, Location

#: Largest file that is read whole, in bytes.
MAX_FILE = 64 << 20
#: The same of a configuration that is looked at for a few settings.
MAX_CONFIG = 1 << 20
#: Most names of a folder that are looked at.
MAX_NAMES = 100_000
#: Last bytes of an archive in which the directory of a small one lies.
_ZIP_TAIL = 8 << 10


def read_file(location: Location, limit: int = MAX_FILE) -> bytes:
    """Return all bytes of a regular file.

    Raises:
        ChangedFileError: it was written to meanwhile.
        LimitError: it is larger than `limit` bytes.
        NotReadableError: it cannot be opened, or is not a regular file.
    """
    with location.reading() as source:
        if source.size > limit:
            raise LimitError(f"{source.size:,} bytes: at most {limit:,} are read of such a file")
        return source.read_at(0, source.size)


def read_tail(location: Location, n: int) -> bytes:
    """Return the last `n` bytes of a file, or all of a shorter one."""
    with location.reading() as source:
        n = min(n, source.size)
        return source.read_at(source.size - n, n)


def read_json(location: Location, limit: int = MAX_FILE) -> Any:
    """Return the value of a JSON file, as lenient as Python: NaN is accepted, and the last of two equal names wins."""
    return parse_json(read_file(location, limit), location.name)


def object_beside(location: Location | None, name: str, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """Return the JSON object in a file beside another one, or in a folder; empty if there is none, or it is damaged."""
    if location is None:
        return {}
    try:
        found = read_json((location if location.is_folder() else location.parent).join(name), limit)
    except PinspectError:
        return {}
    return found if isinstance(found, dict) else {}


def parse_json(data: bytes, what: str) -> Any:
    return parse(data, what, numbers=True, duplicates=True)


def json_object(data: object) -> dict[str, Any]:
    """Return the JSON object in a string or bytes; an empty dict if there is none or it is damaged."""
    if not isinstance(data, str | bytes):
        return {}
    try:
        value = parse_json(data.encode("utf-8", "replace") if isinstance(data, str) else data, "a value")
    except PinspectError:
        return {}
    return value if isinstance(value, dict) else {}


def json_lines(data: bytes, what: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines text. The error of a damaged line is raised when that line is reached."""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            value = parse_json(line, f"line {number:,} of {what}")
            if isinstance(value, dict):
                yield value


def first_object(head: bytes) -> dict[str, Any]:
    """Return the object on the first line of a JSON Lines file; an empty dict if there is none."""
    return json_object(head.split(b"\n", 1)[0]) if head.startswith(b"{") else {}


def zip_holds(location: Location, head: bytes, *names: str) -> bool:
    """Return whether a zip archive has all these members. It is parsed only if the end of the file names them."""
    if not head.startswith(LOCAL_MAGIC):
        return False
    with location.reading() as source:
        n = min(_ZIP_TAIL, source.size)
        tail = source.read_at(source.size - n, n)
        if not all(name.encode() in tail for name in names):
            return False
        try:
            return set(names) <= read_directory(source).members.keys()
        except PinspectError:
            return False


def zip_member(location: Location, name: str, limit: int = MAX_FILE) -> bytes:
    """Return a member of a zip archive, inflated, with its CRC-32 checked.

    Raises:
        PinspectError: the archive is damaged or ambiguous, or lacks the member.
        LimitError: the member is larger than `limit` bytes.
    """
    with location.reading() as source:
        member = read_directory(source).members.get(name)
        if member is None:
            raise DamagedFileError(f"the archive has no {name}")
        return read_member(source, member, limit)


def names_in(folder: Location) -> frozenset[str]:
    """Return the names in a folder; an empty set if it cannot be listed."""
    return frozenset(entry.name for entry in _entries(folder))


def siblings(location: Location) -> frozenset[str]:
    """Return the names in the folder of a file, its own included."""
    return names_in(location.parent)


def subfolders(folder: Location) -> list[Location]:
    """Return the subfolders, sorted by name. Symbolic links are left out: they may lead anywhere."""
    return [folder.join(e.name) for e in sorted(_entries(folder), key=lambda e: e.name) if e.kind is EntryKind.FOLDER]


def _entries(folder: Location) -> list[Entry]:
    with suppress(PinspectError):
        return list(islice(folder.list(), MAX_NAMES))
    return []
