"""TFRecord files, read with limits: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

Records before the first damage are yielded, then the error is raised, so that callers can keep what was read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache

from inspectcli.encodings.leveldb import MAX_LOG, MAX_RECORD
from inspectcli.errors import ChecksumError, LimitError, TruncatedFileError
from inspectcli.storage.source import Source

_LENGTH = struct.Struct("<QI")
_CHUNK = 1 << 20


def tf_records(source: Source, wanted: Callable[[bytes], bool] = lambda data: True) -> Iterator[bytes]:
    """Yield the data of the records that `wanted` accepts. The checksums of all lengths and of these data are checked.

    Raises:
        TruncatedFileError: the last record is cut.
        ChecksumError: a length or the data of a record was changed.
        LimitError: a record is larger than MAX_RECORD, or the file than MAX_LOG.
    """
    at = 0
    base, window = 0, b""
    while at < source.size:
        if at >= MAX_LOG:
            raise LimitError(f"only the first {MAX_LOG >> 20} MiB were read")
        if at + _LENGTH.size > base + len(window):
            base, window = at, source.read_at(at, min(_CHUNK, source.size - at))
        if len(window) - (at - base) < _LENGTH.size:
            raise TruncatedFileError(f"the file ends inside the record at byte {at:,}")
        length = tf_length(window, at - base)
        if length is None:
            raise ChecksumError(f"the length of the record at byte {at:,} was changed since it was written")
        end = at + _LENGTH.size + length + 4
        if end > source.size:
            raise TruncatedFileError(f"the file ends inside the record at byte {at:,}")
        if length > MAX_RECORD:
            raise LimitError(f"a record of {length:,} bytes at byte {at:,}: at most {MAX_RECORD:,} are read")
        if end > base + len(window):
            base, window = at, source.read_at(at, min(max(_CHUNK, end - at), source.size - at))
        data = window[at - base + _LENGTH.size : end - base - 4]
        if wanted(data):
            if masked_crc32c(data) != int.from_bytes(window[end - base - 4 : end - base], "little"):
                raise ChecksumError(f"the record at byte {at:,} was changed since it was written")
            yield data
        at = end


def tf_length(data: bytes, at: int) -> int | None:
    """Return the length in bytes of the record that begins at `at`; None if its checksum does not fit."""
    if len(data) - at < _LENGTH.size:
        return None
    length, checksum = _LENGTH.unpack_from(data, at)
    return length if masked_crc32c(data[at : at + 8]) == checksum else None


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C, rotated and offset as TFRecord and LevelDB store it."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@lru_cache(maxsize=1)
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)
