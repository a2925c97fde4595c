"""Framings and fields of the binary logs that tools write: protobuf messages, LevelDB logs, TFRecord. All bounded.

    protobuf   https://protobuf.dev/programming-guides/encoding/
    LevelDB    https://github.com/google/leveldb/blob/main/doc/log_format.md
    TFRecord   https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

A generator of records yields what stands before the first damage, then raises: what was read is kept, and the error
becomes a note.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

from inspectcli.errors import ChecksumError, DamagedFileError, LimitError, TruncatedFileError
from inspectcli.storage.source import Source

#: Bytes of one record, and fields of one message: far above what a configuration needs.
MAX_RECORD = 64 << 20
MAX_FIELDS = 1_000_000
#: Bytes of a log that are read: histories and images come after the configuration.
MAX_LOG = 256 << 20


class Message:
    """The fields of one protobuf message, by number; what they mean is up to the caller."""

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at = count = 0
        while at < len(data):
            count += 1
            if count > MAX_FIELDS:
                raise LimitError(f"a message of more than {MAX_FIELDS:,} fields")
            tag, at = _varint(data, at)
            value: int | bytes
            match tag & 7:
                case 0:
                    value, at = _varint(data, at)
                case 1:
                    value, at = _take(data, at, 8)
                case 2:
                    length, at = _varint(data, at)
                    value, at = _take(data, at, length)
                case 5:
                    value, at = _take(data, at, 4)
                case other:
                    raise DamagedFileError(f"a field of wire type {other} at byte {at:,} of a message")
            self._fields.setdefault(tag >> 3, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def bytes(self, number: int) -> list[bytes]:
        """The fields of this number that have a length: text, bytes, messages."""
        return [value for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def messages(self, number: int) -> list[Message]:
        return [Message(value) for value in self.bytes(number)]

    def texts(self, number: int) -> list[str]:
        return [value.decode("utf-8", "replace") for value in self.bytes(number)]

    def text(self, number: int) -> str:
        return "".join(self.texts(number)[-1:])

    def integer(self, number: int) -> int:
        found = [value for value in self._fields.get(number, ()) if isinstance(value, int)]
        return found[-1] if found else 0

    def integers(self, number: int) -> list[int]:
        """Integers of this field, single or packed, signed as int64 is."""
        found: list[int] = []
        for value in self._fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            at = 0
            while at < len(value):
                item, at = _varint(value, at)
                found.append(item)
        return [value - (1 << 64) if value >> 63 else value for value in found]

    def doubles(self, number: int) -> list[float]:
        """Doubles of this field, single or packed."""
        return self._floats(number, "d", 8)

    def floats(self, number: int) -> list[float]:
        """32-bit floats of this field, single or packed, as the shortest decimal that gives them back."""
        return [shortest(value) for value in self._floats(number, "f", 4)]

    def _floats(self, number: int, code: str, size: int) -> list[float]:
        found: list[float] = []
        for value in self.bytes(number):
            found += struct.unpack(f"<{len(value) // size}{code}", value[: len(value) // size * size])
        return found


def shortest(value: float) -> float:
    """A 32-bit float, as the double that people wrote: 0.05000000074505806 -> 0.05."""
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        try:
            if struct.pack("<f", float(text)) == struct.pack("<f", value):
                return float(text)
        except OverflowError:  # rounded beyond the largest one
            continue
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise TruncatedFileError(f"a message ends inside a number, at its byte {len(data):,}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= 70:
            raise DamagedFileError(f"a number of more than ten bytes at byte {at:,} of a message")


def _take(data: bytes, at: int, n: int) -> tuple[bytes, int]:
    if at + n > len(data):
        raise TruncatedFileError(f"a message ends at its byte {len(data):,}, inside a field that reaches {at + n:,}")
    return data[at : at + n], at + n


# -- LevelDB logs ---------------------------------------------------------------------------------------

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def log_records(source: Source, start: int) -> Iterator[bytes]:
    """The records of a LevelDB log that begins at `start`, blocks counted from byte 0; CRC-32 of type and data.

    Raises:
        TruncatedFileError, ChecksumError, DamagedFileError, LimitError: after the records before the damage.
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
    """(type, data) of the pieces in one block; its last bytes may be too few for a header."""
    while at + _HEADER.size <= len(block):
        checksum, length, kind = _HEADER.unpack_from(block, at)
        if (checksum, length, kind) == (0, 0, 0):  # the rest of the block was reserved, and never written
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


# -- TFRecord -------------------------------------------------------------------------------------------

_LENGTH = struct.Struct("<QI")
_CHUNK = 1 << 20


def tf_records(source: Source, wanted: Callable[[bytes], bool] = lambda data: True) -> Iterator[bytes]:
    """The records that `wanted` asks for. Every length is checked, and the data of these.

    Raises:
        TruncatedFileError, ChecksumError, LimitError: after the records before the damage.
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
    """The length of the record that begins at `at`; None if its checksum says otherwise."""
    if len(data) - at < _LENGTH.size:
        return None
    length, checksum = _LENGTH.unpack_from(data, at)
    return length if masked_crc32c(data[at : at + 8]) == checksum else None


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and moved as TFRecord and LevelDB store it."""
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
