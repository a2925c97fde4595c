"""CRC-32 and DEFLATE of the bytes of values: by zlib-ng, which is ten times faster, or by zlib where it is missing.

Imported when values are read: a listing needs neither.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol


class Inflater(Protocol):
    """A stream that is inflated piece by piece.

    Attributes:
        eof: whether its end was reached.
        unconsumed_tail: what is left of the last piece, because `max_length` bytes came out.
    """

    eof: bool
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


def _engine() -> Any:
    try:
        return importlib.import_module("zlib_ng.zlib_ng")
    except ImportError:
        return importlib.import_module("zlib")


_ENGINE = _engine()
crc32: Callable[..., int] = _ENGINE.crc32
InflateError: type[Exception] = _ENGINE.error


def raw_inflater() -> Inflater:
    """Of a stream without header and checksum, with a window of 2**15 bytes, as in zip files."""
    made: Inflater = _ENGINE.decompressobj(-15)
    return made
