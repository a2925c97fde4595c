"""End record of a zip archive: where its directory lies. Whatever two readers would find in two places is refused.

[members]  [directory]  (zip64 end record, its locator)  end record, comment
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (6.3.10), 4.3.14 to 4.3.16

Python's zipfile and miniz, which torch reads with, both search backwards for the last `PK\\5\\6`. Those four bytes also
occur in tensors, and in archives that are stored as members. So an earlier one counts only if it fits: its comment
reaches the end of the file, and its directory ends where it stands.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from inspectcli.errors import DamagedFileError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.storage.source import Source

LOCAL_MAGIC = b"PK\x03\x04"

_MAGIC = b"PK\x05\x06"
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_MAX_COMMENT = 0xFFFF
_OVERFLOW = 0xFFFFFFFF

_REWRITE = "write it again with the tool that made it, and load neither of the two until then"


class Place(NamedTuple):
    """Where the directory of an archive lies.

    Attributes:
        start, size: position in the file, and bytes.
        entries: number of members that it lists.
        end: where it must end, since the next record begins there.
    """

    start: int
    size: int
    entries: int
    end: int

    @property
    def shift(self) -> int:
        """Bytes by which the directory lies behind the place that its record names; 0 in a sound archive."""
        return self.end - self.start - self.size


class _End(NamedTuple):
    """An end record: its position, and how many bytes follow its comment (negative if the comment is cut)."""

    at: int
    rest: int


def find_directory(source: Source) -> Place:
    """Return where the directory lies, and check that it ends where its end record begins.

    Raises:
        TruncatedFileError: there is no end record: the end of the file is missing.
        DamagedFileError: the record contradicts itself, or names a place outside of the file.
        UnsafeFileError: there are two end records that fit, or bytes before, inside or behind the archive.
    """
    file = _Tail.of(source)
    ends = _ends(file)
    fitting = [end for end in ends if not end.rest]
    if not fitting:
        raise _without_end(file, ends)
    last = ends[-1]
    rivals = [end for end in fitting if end is not last and _is_sound(file, end)]
    if rivals or last.rest:
        raise _two_ends(file, (rivals or fitting)[0], last)
    place = _place(file, last)
    if place.shift:
        earlier = [end for end in ends[:-1] if _is_sound(file, end)]
        if earlier and not _is_behind_another(source, place):
            raise _two_ends(file, earlier[-1], last)
        raise _shifted(source, place)
    return place


def ends_like_zip(source: Source) -> bool:
    """Return whether a file ends with the end record of a zip archive, whatever it begins with."""
    file = _Tail.of(source)
    return any(not end.rest and _shift(file, end) >= 0 for end in _ends(file)[-1:])


class _Tail(NamedTuple):
    """A file of which the last bytes, where end records are, were read in one go."""

    source: Source
    start: int
    data: bytes

    @staticmethod
    def of(source: Source) -> _Tail:
        size = min(source.size, _END.size + _MAX_COMMENT)
        return _Tail(source, source.size - size, source.read_at(source.size - size, size))

    def read_at(self, offset: int, n: int) -> bytes:
        if offset < self.start:
            return self.source.read_at(offset, n)
        return self.data[offset - self.start : offset - self.start + n]


def _ends(file: _Tail) -> list[_End]:
    """Return whatever looks like an end record, in file order."""
    found = (match.start() for match in re.finditer(re.escape(_MAGIC), file.data))
    return [
        _End(file.start + at, len(file.data) - at - _END.size - _END.unpack_from(file.data, at)[-1])
        for at in found
        if at + _END.size <= len(file.data)
    ]


def _place(file: _Tail, end: _End) -> Place:
    """Read an end record, and the zip64 record before it, which torch always writes.

    Raises:
        DamagedFileError: there are several volumes, or a record or the directory lies outside the file.
        UnsafeFileError: the two records contradict each other.
    """
    _, disk, first_disk, here, count, size, start, _ = _END.unpack(file.read_at(end.at, _END.size))
    stop = end.at
    at = end.at - _LOCATOR.size
    locator = file.read_at(at, _LOCATOR.size) if at >= 0 else b""
    if locator.startswith(_LOCATOR_MAGIC):
        _, _, named, _ = _LOCATOR.unpack(locator)
        stop = at - _END64.size
        _, _, _, _, disk, first_disk, here, total, wide_size, wide_start = _end64(file, stop)
        # Python's zipfile reads the record before the locator, torch the one that the locator names.
        if named not in (stop, wide_start + wide_size):
            raise UnsafeFileError(
                f"two zip64 end records: torch would read one at byte {named:,}, Python's zipfile one at {stop:,}",
                _REWRITE,
            )
        narrow = ((count, total, 0xFFFF), (size, wide_size, _OVERFLOW), (start, wide_start, _OVERFLOW))
        if any(short not in (wide, overflow) for short, wide, overflow in narrow):
            raise UnsafeFileError(
                "the two end records of the archive contradict each other: readers that know zip64 see "
                f"{total:,} members, others {count:,}",
                _REWRITE,
            )
        count, size, start = total, wide_size, wide_start
    if disk or first_disk or here != count:
        raise DamagedFileError(
            "a zip archive in several volumes cannot be read", "join its volumes: `zip -s 0 FILE --out NEW`"
        )
    if start + size > file.source.size:
        raise DamagedFileError(
            f"the zip directory lies outside the file: it would end at {start + size:,} of {file.source.size:,} bytes"
        )
    return Place(start, size, count, stop)


def _end64(file: _Tail, at: int) -> tuple[int, ...]:
    if at < 0:
        raise DamagedFileError("the zip64 end record lies outside the file")
    magic, *fields = _END64.unpack(file.read_at(at, _END64.size))
    if magic != b"PK\x06\x06":
        raise DamagedFileError(f"no zip64 end record before its locator: found {magic!r}")
    return 0, *fields


def _is_sound(file: _Tail, end: _End) -> bool:
    return _shift(file, end) == 0


def _shift(file: _Tail, end: _End) -> int:
    """Return how far the directory lies from where the record says; negative if the record makes no sense."""
    try:
        return _place(file, end).shift
    except PinspectError:
        return -1


# -- why an archive is refused --------------------------------------------------------------------------


def _without_end(file: _Tail, ends: list[_End]) -> PinspectError:
    sound = [end for end in ends if end.rest > 0 and _is_sound(file, end)]
    if not sound:
        return TruncatedFileError(
            "the zip archive has no end record: the end of the file is missing", "download it again"
        )
    rest = sound[-1].rest
    size = file.source.size - rest
    tail = file.read_at(size, rest)
    kind = "zero bytes" if not any(tail) else "bytes"
    what = " (line ends)" if not tail.strip(b"\r\n") else ""
    return UnsafeFileError(
        f"{rest:,} {kind} follow the end of the archive{what}: whether it is found depends on the reader",
        f"they were appended after it was written; `head -c {size} FILE > NEW` leaves them out",
    )


def _two_ends(file: _Tail, first: _End, last: _End) -> UnsafeFileError:
    return UnsafeFileError(
        f"the archive has two end records: which one is read depends on the reader: the one at byte {first.at:,} "
        f"{_seen(file, first)}; the last one, at byte {last.at:,}, which Python's zipfile and torch take, "
        f"{_seen(file, last)}",
        _REWRITE,
    )


def _seen(file: _Tail, end: _End) -> str:
    try:
        return f"lists {_place(file, end).entries:,} members"
    except PinspectError as error:
        return f"cannot be read: {error.message}"


def _is_behind_another(source: Source, place: Place) -> bool:
    """Return whether the first member lies behind the place that is named for it by just the bytes in front."""
    return place.shift > 0 and source.read_at(place.shift, min(4, source.size - place.shift)) == LOCAL_MAGIC


def _shifted(source: Source, place: Place) -> PinspectError:
    shift = place.shift
    if _is_behind_another(source, place):
        if source.read_at(0, min(4, source.size)) == LOCAL_MAGIC:
            return UnsafeFileError(
                f"{shift:,} bytes stand before the archive: several archives in a row, of which Python's zipfile reads "
                "the last one; torch looks for its members in the first. The .distcp files of a distributed checkpoint "
                "look like this",
                "of a distributed checkpoint make one file: `python -m torch.distributed.checkpoint.format_utils "
                "dcp_to_torch FOLDER model.pt`",
            )
        return UnsafeFileError(
            f"{shift:,} bytes stand before the archive: Python's zipfile skips them, torch does not",
            f"`tail -c +{shift + 1} FILE > NEW` leaves them out",
        )
    return UnsafeFileError(
        f"{abs(shift):,} bytes {'stand' if shift > 0 else 'are missing'} before the archive or inside its directory: "
        "Python's zipfile and torch would look for its members in different places",
        "re-create the file with the tool that wrote it",
    )
