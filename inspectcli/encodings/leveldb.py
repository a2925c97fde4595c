"""LevelDB logs, read with limits: https://github.com/google/leveldb/blob/main/doc/log_format.md

Records before the first damage are yielded, then the error is raised, so that callers can keep what was read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from inspectcli.errors import ChecksumError, DamagedFileError, LimitError, TruncatedFileError
from inspectcli.storage.source import Source

#: Largest record, in bytes: far above what a configuration needs.
MAX_RECORD = 64 << 20
#: Bytes of a log that are read: the configuration precedes histories and images.
MAX_LOG = 256 << 20
_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def log_records(source: Source, start: int) -> Iterator[bytes]:
    """Yield the records of a LevelDB log. Its blocks are counted from byte 0, its first record begins at byte `start`.

    Raises:
        TruncatedFileError: the last record is cut.
        ChecksumError: the CRC-32 of a piece of a record does not fit.
        DamagedFileError: the pieces of a record are not in order.
        LimitError: a record is larger than MAX_RECORD, or the file than MAX_LOG.
    """
    parts: list[bytes] = []
    size = 0
    for at in range(0, source.size, _BLOCK):
        if at >= MAX_LOG:
            raise LimitError(f"only the first {MAX_LOG >> 20} MiB were read")
        block = source.read_at(at, min(_BLOCK, source.size - at))
        for kind, data in _chunks(block, at, start if at == 0 else 0):
            if (kind in (_FULL, _FIRST)) == bool(parts):
                raise DamagedFileError(f"a record is cut off by another one, in the block at byte {at:,}")
            parts.append(data)
            size += len(data)
            if size > MAX_RECORD:
                raise LimitError(f"a record of more than {MAX_RECORD >> 20} MiB")
            if kind in (_FULL, _LAST):
                yield b"".join(parts)
                parts, size = [], 0
    if parts:
        raise TruncatedFileError("the file ends in the middle of a record")


def _chunks(block: bytes, base: int, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, data) of the pieces of records in one block. Its last bytes may be too few for a header."""
    while at + _HEADER.size <= len(block):
        checksum, length, kind = _HEADER.unpack_from(block, at)
        if (checksum, length, kind) == (0, 0, 0):  # the rest of the block was reserved and never written
            return
        end = at + _HEADER.size + length
        if end > _BLOCK or not _FULL <= kind <= _LAST:
            raise DamagedFileError(f"no record at byte {base + at:,}: found type {kind}, {length:,} bytes")
        if end > len(block):
            raise TruncatedFileError(f"the file ends inside the record at byte {base + at:,}")
        data = block[at + _HEADER.size : end]
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise ChecksumError(f"the record at byte {base + at:,} was changed since it was written")
        yield kind, data
        at = end
    if at < len(block) < _BLOCK:
        raise TruncatedFileError(f"the file ends inside the record at byte {base + at:,}")
