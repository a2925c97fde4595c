"""Zip archives, read strictly: where each member's bytes lie. Whatever two readers could read in two ways is refused.

[local header, name, extra, data, (descriptor)]*  [central entry]*  (zip64 end, locator)  end record
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (6.3.10)
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Checksum, Codec, Segment, compare_crc, register

LOCAL_MAGIC = b"PK\x03\x04"

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_ZIP64 = 0xFFFFFFFF

MAX_MEMBERS = 200_000
MAX_DIRECTORY = 64 << 20
#: A member that inflates to more than this many times its stored size, and to more bytes than the floor, is a bomb.
MAX_RATIO, RATIO_FLOOR = 100, 16 << 20

_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40
_UTF8 = 0x800
_METHODS = {0: "stored", 8: "deflated"}
_SYMLINK = 0o120000


class Member(NamedTuple):
    """One file of an archive.

    Attributes:
        offset: position in the archive of its first data byte.
        size, stored: bytes after and before inflating.
        method: 0 stored, 8 deflated.
        crc: CRC-32 of the inflated bytes; 0 if the writer computed none.
    """

    name: str
    offset: int
    size: int
    stored: int
    method: int
    crc: int

    def segment(self, source: Source, skip: int, nbytes: int) -> Segment:
        """Return the segment of `nbytes` inflated bytes that begins `skip` bytes into this member."""
        if self.method == 0:
            whole = skip == 0 and nbytes == self.size
            return Segment(source, self.offset + skip, nbytes, crc=self.crc if whole else 0)
        crc = self.crc if skip + nbytes == self.size else 0
        return Segment(source, self.offset, nbytes, DEFLATE, self.stored, skip, crc=crc)


class ZipDirectory(NamedTuple):
    """Members by name, in the order of the central directory."""

    members: dict[str, Member]

    def find(self, suffix: str) -> list[Member]:
        """Return the members whose name ends with `suffix`."""
        return [m for name, m in self.members.items() if name.endswith(suffix)]

    def checksums(self, source: Source) -> tuple[Checksum, ...]:
        """Return the CRC-32 of every uncompressed member whose writer computed one."""
        return tuple(
            Checksum(m.name, source, m.offset, m.size, m.crc)
            for m in self.members.values()
            if m.method == 0 and m.crc and m.size
        )


#: The directories that were read last: several formats sniff at one. Each is of one opening of a file and is found by
#: that, since a file can be rewritten within one tick of the clock that its identity has.
_recent: list[tuple[Source, ZipDirectory]] = []
_MOST_RECENT = 4


def read_directory(source: Source) -> ZipDirectory:
    """Read and check the central directory and every local header; the last few results are kept.

    Raises:
        TruncatedFileError: there is no end record: the end of the file is missing.
        DamagedFileError: counts, sizes or names contradict each other.
        UnsafeFileError: a name twice, a path out of the folder, a link, an overlap, or bytes around the archive.
        LimitError: more members than MAX_MEMBERS, or a directory larger than MAX_DIRECTORY.
    """
    found = next((directory for opened, directory in list(_recent) if opened is source), None)
    if found is None:
        found = _read_directory(source)
        _recent[:] = [*_recent[1 - _MOST_RECENT :], (source, found)]
    return found


def _read_directory(source: Source) -> ZipDirectory:
    start, size, count, end = _find_directory(source)
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise LimitError(f"the zip directory is too large: {count:,} members, at most {MAX_MEMBERS:,}")
    if start + size != end:
        raise UnsafeFileError(
            f"{abs(end - start - size):,} bytes stand before the archive or inside its directory",
            "re-create the file with the tool that wrote it",
        )
    entries = list(_central_entries(source.read_at(start, size), count))
    members: dict[str, Member] = {}
    folded: set[str] = set()
    for header_offset, entry in entries:
        # Names that differ only in case are two arrays in an .npz, but one file to many unpackers.
        key = entry.name if entry.name.endswith(".npy") else entry.name.casefold()
        if key in folded:
            raise UnsafeFileError(f"the archive holds {entry.name!r} twice: which one is read depends on the reader")
        folded.add(key)
        members[entry.name] = _check_local_header(source, header_offset, entry)
    _check_layout([(offset, members[entry.name]) for offset, entry in entries], start)
    return ZipDirectory(members)


def _find_directory(source: Source) -> tuple[int, int, int, int]:
    """Return start, size and member count of the central directory, and where it must end, in bytes of the file."""
    tail_size = min(source.size, _END.size + _MAX_COMMENT)
    tail_start = source.size - tail_size
    tail = source.read_at(tail_start, tail_size)
    ends = [m.start() for m in re.finditer(rb"PK\x05\x06", tail) if m.start() + _END.size <= len(tail)]
    fitting = [e for e in ends if e + _END.size + _END.unpack_from(tail, e)[-1] == len(tail)]
    if not fitting:
        if ends:
            raise UnsafeFileError("bytes follow the end of the archive", "re-create or re-download the file")
        raise TruncatedFileError(
            "the zip archive has no end record: the end of the file is missing", "download it again"
        )
    at = fitting[0]
    _, disk, cd_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    # torch always writes a zip64 end record and its locator; others do where a field overflows.
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :][:4] == b"PK\x06\x07":
        _, _, end, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        if end + _END64.size > tail_start + at:
            raise DamagedFileError("the zip64 end record lies outside the file")
        magic, _, _, _, disk, cd_disk, here, total, wide_size, wide_start = _END64.unpack(
            source.read_at(end, _END64.size)
        )
        if magic != b"PK\x06\x06":
            raise DamagedFileError(f"no zip64 end record where the locator points: found {magic!r}")
        narrow = ((count, total, 0xFFFF), (size, wide_size, _ZIP64), (start, wide_start, _ZIP64))
        if any(short not in (wide, overflow) for short, wide, overflow in narrow):
            raise UnsafeFileError("the two end records of the archive contradict each other")
        count, size, start = total, wide_size, wide_start
    # One before the directory is of an archive that is stored in this one, and no reader takes it for this one's.
    if len(fitting) > 1 or any(other != at and tail_start + other >= start for other in ends):
        raise UnsafeFileError("the archive has two end records: which one is read depends on the reader")
    if disk or cd_disk or here != count:
        raise DamagedFileError("a zip archive in several volumes cannot be read")
    if start + size > source.size:
        raise DamagedFileError(
            f"the zip directory lies outside the file: it would end at {start + size:,} of {source.size:,} bytes"
        )
    return start, size, count, end


def _central_entries(data: bytes, count: int) -> Iterator[tuple[int, Member]]:
    """Yield (offset of the local header, member without its data offset) of each entry."""
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data):
            raise DamagedFileError(f"the zip directory ends early: {count:,} members announced")
        (
            magic,
            made,
            _,
            flags,
            method,
            _,
            _,
            crc,
            stored,
            size,
            n_name,
            n_extra,
            n_comment,
            disk,
            _,
            attributes,
            offset,
        ) = _CENTRAL.unpack_from(data, at)
        if magic != b"PK\x01\x02":
            raise DamagedFileError(f"no zip directory entry where one must stand: found {magic!r}")
        at += _CENTRAL.size
        name = _member_name(data[at : at + n_name], flags)
        extra = data[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra + n_comment
        if at > len(data):
            raise DamagedFileError("a zip directory entry is cut")
        if flags & _ENCRYPTED_OR_PATCHED:
            raise UnsafeFileError(f"zip member {name!r} is encrypted or a patch: no checkpoint writer makes these")
        if method not in _METHODS:
            raise DamagedFileError(f"zip member {name!r} uses compression method {method}: expected stored or deflate")
        if made >> 8 == 3 and (attributes >> 16) & 0o170000 == _SYMLINK:
            raise UnsafeFileError(f"zip member {name!r} is a symbolic link")
        if disk not in (0, 0xFFFF):
            raise DamagedFileError(f"zip member {name!r} lies in another volume")
        size, stored, offset = _zip64_fields(extra, size, stored, offset)
        yield offset, Member(name, -1, size, stored, method, crc)
    if at != len(data):
        raise DamagedFileError(f"{len(data) - at:,} stray bytes in the zip directory")


def _member_name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    if "\0" in name:
        raise UnsafeFileError(f"a zip member's name holds a NUL: {name!r}")
    if "\\" in name or name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise UnsafeFileError(f"zip member {name!r} would be unpacked outside its folder")
    return name


def _zip64_fields(extra: bytes, size: int, stored: int, offset: int) -> tuple[int, int, int]:
    """Return size, stored size and offset. Extra field 0x0001 holds, in this order, those that overflow 32 bits."""
    if _ZIP64 not in (size, stored, offset):
        return size, stored, offset
    at = 0
    while at + 4 <= len(extra):
        tag, n = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + n]
        at += 4 + n
        if tag != 1:
            continue
        values = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
        try:
            return tuple(next(values) if v == _ZIP64 else v for v in (size, stored, offset))  # type: ignore[return-value]
        except (StopIteration, RuntimeError):
            break
    raise DamagedFileError("a zip64 member lacks its 64-bit sizes")


def _check_local_header(source: Source, offset: int, entry: Member) -> Member:
    """Return the member with its data offset, which only the local header tells: torch pads with its extra field."""
    wanted = len(entry.name.encode("utf-8", "surrogateescape")) + _LOCAL.size
    head = source.read_at(offset, max(min(wanted + 16, source.size - offset), 0)) if offset <= source.size else b""
    if len(head) < _LOCAL.size or not head.startswith(LOCAL_MAGIC):
        raise DamagedFileError(f"zip member {entry.name!r}: no local header at byte {offset:,}")
    _, _, flags, method, _, _, _, _, _, n_name, n_extra = _LOCAL.unpack_from(head)
    raw = head[_LOCAL.size : _LOCAL.size + n_name]
    if len(raw) < n_name and offset + _LOCAL.size + n_name <= source.size:
        raw = source.read_at(offset + _LOCAL.size, n_name)
    if _member_name(raw, flags) != entry.name:
        raise UnsafeFileError(
            f"zip member {entry.name!r} calls itself {_member_name(raw, flags)!r} in its local header"
        )
    if method != entry.method or flags & _ENCRYPTED_OR_PATCHED:
        raise UnsafeFileError(f"zip member {entry.name!r}: the local header contradicts the directory")
    if entry.method == 0 and entry.size != entry.stored:
        raise DamagedFileError(f"zip member {entry.name!r} is stored, yet {entry.size:,} bytes take {entry.stored:,}")
    return Member(
        entry.name, offset + _LOCAL.size + n_name + n_extra, entry.size, entry.stored, entry.method, entry.crc
    )


def _check_layout(headers: list[tuple[int, Member]], directory: int) -> None:
    """Check that members begin at byte 0, follow each other up to the directory, and share no byte."""
    headers.sort(key=lambda pair: pair[0])
    if headers and headers[0][0] != 0:
        raise UnsafeFileError(f"{headers[0][0]:,} bytes stand before the first zip member")
    for (_, member), (following, _) in zip(headers, [*headers[1:], (directory, None)], strict=True):
        if member.offset + member.stored > following:
            raise UnsafeFileError(f"zip member {member.name!r} overlaps what follows it")


def inflate(
    source: Source, offset: int, stored: int, size: int, block: int = 1 << 20, partial: bool = False
) -> Iterator[bytes]:
    """Yield the first `size` inflated bytes of a deflated member, in blocks of at most `block` bytes.

    Args:
        offset, stored: where its deflated bytes begin, and how many they are.
        partial: accept a member that holds more than `size` bytes.

    Raises:
        DamagedFileError: the bytes cannot be inflated, or are not `size` bytes then.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    done = read = 0
    pending = b""
    while not decoder.eof and not (partial and done == size):
        if not pending and read < stored:
            n = min(block, stored - read)
            pending = source.read_at(offset + read, n)
            read += n
        try:
            # Ask for one byte more than announced, to see whether there are more.
            out = decoder.decompress(pending, min(block, size - done + (not partial)))
        except zlib.error as error:
            raise DamagedFileError(f"a compressed member cannot be inflated: {error}") from None
        pending = decoder.unconsumed_tail
        done += len(out)
        if done > size:
            break
        if out:
            yield out
        elif not pending and read >= stored:
            break
    if done != size:
        more = "more than " if done > size else ""
        raise DamagedFileError(
            f"a compressed member holds {more}{min(done, size):,} bytes, its directory entry says {size:,}"
        )


def _decode(segment: Segment, workspace: memoryview) -> Iterator[bytes]:
    skip, crc = segment.skip, 0
    for piece in inflate(segment.source, segment.offset, segment.stored, segment.skip + segment.nbytes, partial=True):
        crc = zlib.crc32(piece, crc) if segment.crc else 0
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield piece[skip:]
        skip = 0
    compare_crc(crc, segment)


#: A zip member: inflated from its first byte, up to the wanted ones.
DEFLATE = register(Codec("deflate", _decode))


def read_member(source: Source, member: Member, limit: int) -> bytes:
    """Return a whole member, inflated, with its CRC-32 checked where the writer computed one.

    Raises:
        LimitError: it is larger than `limit` bytes, or inflates more than MAX_RATIO times.
        DamagedFileError: wrong size or CRC.
    """
    if member.size > limit:
        raise LimitError(f"{member.name} is {member.size:,} bytes, at most {limit:,} are read")
    if member.method == 0:
        data = source.read_at(member.offset, member.size)
    else:
        if member.size > RATIO_FLOOR and member.size > MAX_RATIO * member.stored:
            raise LimitError(f"{member.name} would inflate {member.size // max(member.stored, 1):,} times: a zip bomb")
        data = b"".join(inflate(source, member.offset, member.stored, member.size))
    if member.crc and zlib.crc32(data) != member.crc:
        raise DamagedFileError(
            f"{member.name} is damaged: CRC-32 {zlib.crc32(data):08x}, expected {member.crc:08x}",
            "download it again",
        )
    return data


def try_directory(source: Source, head: bytes) -> ZipDirectory | None:
    """Return the directory of a sound zip archive; None for anything else. `head` is the beginning of the file."""
    if not head.startswith(LOCAL_MAGIC):
        return None
    try:
        return read_directory(source)
    except PinspectError:
        return None
