"""Protobuf fields, LevelDB logs and TFRecord files, written by hand."""

from __future__ import annotations

import struct
import zlib

from inspectcli.encodings.tfrecord import masked_crc32c

BLOCK = 32768


def varint(n: int) -> bytes:
    made = b""
    while n >= 0x80:
        made += bytes([n & 0x7F | 0x80])
        n >>= 7
    return made + bytes([n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def log_of(records: list[bytes], start: bytes = b"") -> bytes:
    """A LevelDB log, as its document describes it."""
    made = bytearray(start)
    for record in records:
        first = True
        while True:
            left = BLOCK - len(made) % BLOCK
            if left < 7:
                made += bytes(left)
                left = BLOCK
            piece, record = record[: left - 7], record[left - 7 :]
            kind = (1 if first else 4) if not record else (2 if first else 3)
            made += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            first = False
            if not record:
                break
    return bytes(made)


def tf_of(records: list[bytes]) -> bytes:
    made = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        made += length + struct.pack("<I", masked_crc32c(length)) + record + struct.pack("<I", masked_crc32c(record))
    return made
