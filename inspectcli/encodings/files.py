"""Readers of small files beside a model, bounded in size: bytes, JSON in the forms that tools write, zip members."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from inspectcli.encodings.json import parse
from inspectcli.encodings.zip import LOCAL_MAGIC, read_directory, read_member
from inspectcli.errors import DamagedFileError, LimitError, PinspectError
from inspectcli.storage.local import LocalFile

#: Largest file that is read whole, in bytes.
MAX_FILE = 64 << 20
#: Most names of a folder that are looked at.
MAX_NAMES = 100_000
#: Last bytes of an archive in which the directory of a small one lies.
_ZIP_TAIL = 8 << 10


def read_file(path: str, limit: int = MAX_FILE) -> bytes:
    """Return all bytes of a regular file.

    Raises:
        LimitError: it is larger than `limit` bytes.
        NotReadableError: it cannot be opened, or is not a regular file.
    """
    source = LocalFile(path)
    try:
        if source.size > limit:
            raise LimitError(f"{source.size:,} bytes: at most {limit:,} are read of such a file")
        return source.read_at(0, source.size)
    finally:
        source.close()


def read_tail(path: str, n: int) -> bytes:
    """Return the last `n` bytes of a file, or all of a shorter one."""
    source = LocalFile(path)
    try:
        n = min(n, source.size)
        return source.read_at(source.size - n, n)
    finally:
        source.close()


def read_json(path: str, limit: int = MAX_FILE) -> Any:
    """Return the value of a JSON file, as lenient as Python: NaN is accepted, and the last of two equal names wins."""
    return parse_json(read_file(path, limit), os.path.basename(path))


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


def zip_holds(path: str, head: bytes, *names: str) -> bool:
    """Return whether a zip archive has all these members. It is parsed only if the end of the file names them."""
    if not head.startswith(LOCAL_MAGIC):
        return False
    tail = read_tail(path, _ZIP_TAIL)
    if not all(name.encode() in tail for name in names):
        return False
    source = LocalFile(path)
    try:
        return set(names) <= read_directory(source).members.keys()
    except PinspectError:
        return False
    finally:
        source.close()


def zip_member(path: str, name: str, limit: int = MAX_FILE) -> bytes:
    """Return a member of a zip archive, inflated, with its CRC-32 checked.

    Raises:
        PinspectError: the archive is damaged or ambiguous, or lacks the member.
        LimitError: the member is larger than `limit` bytes.
    """
    source = LocalFile(path)
    try:
        member = read_directory(source).members.get(name)
        if member is None:
            raise DamagedFileError(f"the archive has no {name}")
        return read_member(source, member, limit)
    finally:
        source.close()


def names_in(folder: str) -> frozenset[str]:
    """Return the names in a folder; an empty set if it cannot be listed."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in islice(entries, MAX_NAMES))
    except OSError:
        return frozenset()


def siblings(path: str) -> frozenset[str]:
    """Return the names in the folder of a file, its own included."""
    return names_in(os.path.dirname(path))


def subfolders(folder: str) -> list[str]:
    """Return the paths of the subfolders, sorted by name. Symbolic links are left out: they may lead anywhere."""
    try:
        with os.scandir(folder or ".") as entries:
            found = (entry.name for entry in islice(entries, MAX_NAMES) if entry.is_dir(follow_symlinks=False))
            return [os.path.join(folder, name) for name in sorted(found)]
    except OSError:
        return []
