"""Small text files beside a model, read whole and bounded; JSON in all the shapes that tools write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from inspectcli.encodings.json import parse
from inspectcli.encodings.zip import LOCAL_MAGIC, read_directory, read_member
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.storage.location import Entry, EntryKind, Location

#: Bytes of a file that is read whole.
MAX_FILE = 64 << 20
#: Names of a folder that are looked at.
MAX_NAMES = 100_000
#: Where the directory of a small zip archive lies.
_ZIP_TAIL = 8 << 10


def read_file(location: Location, limit: int = MAX_FILE) -> bytes:
    """All bytes of a regular file.

    Raises:
        NotReadableError: it is not there, or is something else.
        ChangedFileError: it was written to meanwhile.
        LimitError: it is larger than `limit`.
    """
    with location.reading() as source:
        if source.size > limit:
            raise LimitError(f"{source.size:,} bytes: at most {limit:,} are read of such a file")
        return source.read_at(0, source.size)


def read_tail(location: Location, n: int) -> bytes:
    """The last `n` bytes, or all."""
    with location.reading() as source:
        n = min(n, source.size)
        return source.read_at(source.size - n, n)


def read_json(location: Location, limit: int = MAX_FILE) -> Any:
    """The value of a JSON file as Python writers make them: NaN allowed, the last of two equal names wins."""
    return parse_json(read_file(location, limit), location.name)


def parse_json(data: bytes, what: str) -> Any:
    return parse(data, what, numbers=True, duplicates=True)


def json_object(data: object) -> dict[str, Any]:
    """The JSON object in a text, or an empty one where there is none or it is broken."""
    if not isinstance(data, str | bytes):
        return {}
    try:
        value = parse_json(data.encode("utf-8", "replace") if isinstance(data, str) else data, "a value")
    except PinspectError:
        return {}
    return value if isinstance(value, dict) else {}


def json_lines(data: bytes, what: str) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines text, one a line; the error of a broken line comes out when it is reached."""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            value = parse_json(line, f"line {number:,} of {what}")
            if isinstance(value, dict):
                yield value


def first_object(head: bytes) -> dict[str, Any]:
    """The object on the first line of a JSON-lines file; empty if there is none."""
    return json_object(head.split(b"\n", 1)[0]) if head.startswith(b"{") else {}


def zip_holds(location: Location, head: bytes, *names: str) -> bool:
    """Whether a zip archive has these members. Its end alone is read, unless they are named there."""
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
    """A member of a zip archive, inflated and checked.

    Raises:
        PinspectError: the archive is damaged, plays tricks, or lacks it.
    """
    with location.reading() as source:
        member = read_directory(source).members.get(name)
        if member is None:
            raise DamagedFileError(f"the archive has no {name}")
        return read_member(source, member, limit)


def names_in(folder: Location) -> frozenset[str]:
    """The names in a folder; none if it cannot be listed."""
    return frozenset(entry.name for entry in _entries(folder))


def siblings(location: Location) -> frozenset[str]:
    """The names beside a file, itself included."""
    return names_in(location.parent)


def subfolders(folder: Location) -> list[Location]:
    """The folders in a folder, by name; links are left out, as they may lead anywhere."""
    return [folder.join(e.name) for e in sorted(_entries(folder), key=lambda e: e.name) if e.kind is EntryKind.FOLDER]


def _entries(folder: Location) -> list[Entry]:
    with suppress(PinspectError):
        return list(islice(folder.list(), MAX_NAMES))
    return []
