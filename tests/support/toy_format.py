"""A format of somebody else, in one module: a file of float32 numbers, and a folder of such files as one checkpoint.

TOY1 | u32 n | n float32 little-endian                       a folder has a file `toy.parts` with a name on each line
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from inspectcli.errors import DamagedFileError
from inspectcli.formats.base import Format
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Checkpoint, Segment, TensorRef, Training

PARTS = "toy.parts"


def write(path: Path, values: Sequence[float]) -> Path:
    path.write_bytes(b"TOY1" + struct.pack(f"<I{len(values)}f", len(values), *values))
    return path


def write_folder(folder: Path, parts: dict[str, Sequence[float]]) -> Path:
    folder.mkdir(parents=True)
    for name, values in parts.items():
        write(folder / name, values)
    (folder / PARTS).write_text("\n".join(parts))
    return folder


def sniff(source: Source, head: bytes) -> bool:
    return head.startswith(b"TOY1")


def open_toy(location: Location) -> Checkpoint:
    source = location.open()
    return Checkpoint(str(location), "toy", source.size, (_tensor(location, source),), training=_training(location))


def _tensor(location: Location, source: Source) -> TensorRef:
    (n,) = struct.unpack("<I", source.read_at(4, 4))
    if source.size != 8 + 4 * n:
        raise DamagedFileError(f"{source.size:,} bytes, expected {8 + 4 * n:,}")
    return TensorRef(f"{location.stem}.weight", DTYPES["f32"], (n,), segments=(Segment(source, 8, 4 * n),))


def _training(location: Location) -> Training:
    digits = "".join(c for c in location.stem if c.isdigit())
    return Training(step=int(digits) if digits else None)


def is_toy_folder(folder: Location) -> Sequence[Location]:
    return [folder] if any(entry.name == PARTS for entry in folder.list()) else []


def open_toy_folder(folder: Location) -> Checkpoint:
    listing = folder.join(PARTS).open()
    parts = [folder.join(name) for name in listing.read_at(0, listing.size).decode().split()]
    sources = [part.open() for part in parts]
    tensors = tuple(_tensor(part, source) for part, source in zip(parts, sources, strict=True))
    return Checkpoint(str(folder), "toy-folder", sum(s.size for s in sources), tensors, files=tuple(map(str, parts)))


FORMAT = (
    Format("toy", "toy numbers", (".toy",), sniff, open_toy),
    Format("toy-folder", "folder of toy numbers", (), None, open_toy_folder, is_toy_folder),
)
