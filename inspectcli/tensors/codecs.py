"""Runs of bytes and how they are stored: Segment, Checksum, and one table of codecs that encodings and formats fill.

A codec with a block size is all that a block-quantized type asks for:

    Q8 = register(Codec("q8", decode_q8, dtype=DTYPES["f32"], elements=32, nbytes=34))
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from inspectcli.errors import ChecksumError
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DType


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """One way to store elements.

    Attributes:
        name: the key in CODECS.
        decode: (segment, workspace) -> its decoded bytes, in pieces of any size. A piece may be a part of the
            workspace, and is valid until the next one is asked for. Raises a PinspectError.
        dtype: element type of the decoded bytes; None: that of the tensor.
        elements, nbytes: so many elements are stored as a block of so many bytes; 0 bytes: as many as their type takes.
        is_plain: the bytes stand as they are, and any range of them can be read.
        is_serial: one segment after the other is decoded, each of them whole.
    """

    name: str
    decode: Decoder = field(repr=False)
    dtype: DType | None = None
    elements: int = 1
    nbytes: int = 0
    is_plain: bool = False
    is_serial: bool = False

    def size(self, dtype: DType, elements: int) -> int:
        """Bytes that elements take, those of the last block whole; of a compressed segment, before compression."""
        return -(-elements // self.elements) * self.nbytes if self.nbytes else dtype.nbytes(elements)

    def __reduce__(self) -> tuple[Callable[[str, str], Codec], tuple[str, str]]:
        return _registered, (self.decode.__module__, self.name)


Decoder = Callable[["Segment", memoryview], Iterator[bytes | memoryview]]

#: Name -> codec. An encoding or a format registers its own when it is imported.
CODECS: dict[str, Codec] = {}


def register(codec: Codec) -> Codec:
    """Put a codec into the table.

    Raises:
        ValueError: there is another one of its name.
    """
    if codec.name in CODECS:
        raise ValueError(f"there is a codec {codec.name!r} already")
    CODECS[codec.name] = codec
    return codec


def _registered(module: str, name: str) -> Codec:
    """A codec that came from another process: its module registers it here too."""
    importlib.import_module(module)
    return CODECS[name]


def compare_crc(crc: int, segment: Segment) -> None:
    """Of all decoded bytes of a segment.

    Raises:
        ChecksumError: it is not the one that the segment carries.
    """
    if crc != segment.crc:
        raise ChecksumError(
            f"CRC mismatch: {crc:08x}, expected {segment.crc:08x}", "download it again", segment.source.name
        )


def _read(segment: Segment, workspace: memoryview) -> Iterator[memoryview]:
    from inspectcli.storage.deflate import crc32

    crc = 0
    for start in range(0, segment.nbytes, len(workspace)):
        piece = workspace[: min(len(workspace), segment.nbytes - start)]
        segment.source.read_into(segment.offset + start, piece)
        crc = crc32(piece, crc) if segment.crc else 0
        yield piece
    compare_crc(crc, segment)


#: As they are: a range of the source.
RAW = register(Codec("raw", _read, is_plain=True))


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes of one tensor.

    Attributes:
        source: where to read.
        offset: first byte in the source (of a deflated zip member: where its compressed stream begins).
        nbytes: decoded bytes of this run.
        codec: how they are stored.
        stored: compressed bytes (deflate only).
        skip: decoded bytes to pass over first (deflate only).
        crc: CRC-32 of all decoded bytes, those passed over too; 0 if there is none.
        dataset: path of the dataset (HDF5 only).
    """

    source: Source
    offset: int
    nbytes: int
    codec: Codec = RAW
    stored: int = 0
    skip: int = 0
    dataset: str = ""
    crc: int = 0


class Checksum(NamedTuple):
    """A checksum that the file itself carries: CRC-32 of `nbytes` bytes from `offset`."""

    name: str
    source: Source
    offset: int
    nbytes: int
    crc: int
