"""Protobuf messages, read with limits: https://protobuf.dev/programming-guides/encoding/"""

from __future__ import annotations

import struct

from inspectcli.errors import DamagedFileError, LimitError, TruncatedFileError
from inspectcli.tensors.arithmetic import shortest

#: Most fields of one message, and numbers of one field: far above what a configuration needs.
MAX_FIELDS = 1_000_000


class Message:
    """One protobuf message: its fields by number. Which type a field has is up to the caller.

    Raises:
        DamagedFileError: the bytes are not a message.
        LimitError: it has too many fields.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at = count = 0
        while at < len(data):
            count += 1
            if count > MAX_FIELDS:
                raise LimitError(f"a message of more than {MAX_FIELDS:,} fields")
            tag, at = varint(data, at)
            value: int | bytes
            match tag & 7:
                case 0:
                    value, at = varint(data, at)
                case 1:
                    value, at = _take(data, at, 8)
                case 2:
                    length, at = varint(data, at)
                    value, at = _take(data, at, length)
                case 5:
                    value, at = _take(data, at, 4)
                case other:
                    raise DamagedFileError(f"a field of wire type {other} at byte {at:,} of a message")
            self._fields.setdefault(tag >> 3, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def bytes(self, number: int) -> list[bytes]:
        """Return the length-delimited fields of this number: strings, bytes, messages."""
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
        """Return the varints of this field, single or packed, as int64.

        Raises:
            LimitError: there are too many.
        """
        found: list[int] = []
        for value in self._fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            at = 0
            while at < len(value):
                item, at = varint(value, at)
                found.append(item)
                if len(found) > MAX_FIELDS:
                    raise LimitError(f"a field of more than {MAX_FIELDS:,} numbers")
        return [value - (1 << 64) if value >> 63 else value for value in found]

    def doubles(self, number: int) -> list[float]:
        """Return the float64 values of this field, single or packed."""
        return self._floats(number, "d", 8)

    def floats(self, number: int) -> list[float]:
        """Return the float32 values of this field, single or packed, each as its shortest decimal (see `shortest`)."""
        return [shortest(value) for value in self._floats(number, "f", 4)]

    def _floats(self, number: int, code: str, size: int) -> list[float]:
        found: list[float] = []
        for value in self.bytes(number):
            found += struct.unpack(f"<{len(value) // size}{code}", value[: len(value) // size * size])
        return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at byte `at`, in groups of seven bits from the lowest, and where it ends.

    Raises:
        PinspectError: it does not end, or has more than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise TruncatedFileError("a message ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DamagedFileError("a number of more than ten bytes in a message")


def _take(data: bytes, at: int, n: int) -> tuple[bytes, int]:
    if at + n > len(data):
        raise TruncatedFileError(f"a message ends at its byte {len(data):,}, inside a field that reaches {at + n:,}")
    return data[at : at + n], at + n
