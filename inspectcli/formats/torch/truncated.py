"""Zip archives that lost their end, and with it their directory: how much is missing, and which tensors are cut.

The local header before each member still tells its name. torch leaves the sizes in it zero; the pickle, which comes
first, tells the size of each storage.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from inspectcli.display.text import listed
from inspectcli.encodings.zip import LOCAL_MAGIC, MAX_MEMBERS
from inspectcli.errors import PinspectError, TruncatedFileError
from inspectcli.formats.torch.stream import load_blob, read_pickle_at
from inspectcli.formats.torch.tree import walk
from inspectcli.pickles.machine import OutOfDataError
from inspectcli.pickles.tensors import Rebuilder
from inspectcli.storage.source import Identity, Source
from inspectcli.tensors.codecs import Segment

_LOCAL = struct.Struct("<4s5H3L2H")
_SIZE_FOLLOWS = 0x8
_ZIP64 = 0xFFFFFFFF
#: Bytes between two members: a data descriptor takes 12 to 24, and no padding precedes a header.
_DESCRIPTOR = 24
#: Members whose size is not told before them are small records of torch: they end within this many bytes.
_SMALL = 1 << 16
_HINT = "the download or the save did not finish: fetch the file again"


@dataclass(frozen=True, slots=True)
class _Found:
    """A member whose local header is intact: its name, where its data begin, and its size if the header tells."""

    name: str
    offset: int
    size: int | None


@dataclass
class _CutStorages:
    """The storages by key of an archive without a directory. Remembers how many bytes each must have."""

    found: dict[str, int]
    end: int
    missing: dict[str, int] = field(default_factory=dict)
    identity: Identity = ("cut",)

    def place(self, key: str, nbytes: int) -> _CutStorage:
        offset = self.found.get(key)
        there = 0 if offset is None else max(min(self.end - offset, nbytes), 0)
        if there < nbytes:
            self.missing[key] = nbytes - there
        return _CutStorage(there)


@dataclass(frozen=True, slots=True)
class _CutStorage:
    there: int

    def segment(self, start: int, nbytes: int) -> Segment:
        if start + nbytes > self.there:
            raise TruncatedFileError("cut")
        return Segment(None, start, nbytes)  # type: ignore[arg-type]


def explain(source: Source) -> TruncatedFileError:
    """Return the error for an archive without an end record: bytes missing and tensors cut, as far as can be told."""
    first = _local_header(source, 0)
    try:
        if first is not None and first.name.endswith("/data.pkl") and first.name.count("/") == 1:
            return _cut_torch(source, first)
        return _cut_members(source)
    except (PinspectError, OutOfDataError):
        return TruncatedFileError("the zip archive has no end record: the end of the file is missing", _HINT)


def _cut_torch(source: Source, pickle: _Found) -> TruncatedFileError:
    try:
        program = read_pickle_at(source, pickle.offset)
    except (PinspectError, OutOfDataError):
        return TruncatedFileError(f"cut inside {pickle.name}, before the first value of any tensor", _HINT)
    root = pickle.name.removesuffix("data.pkl")
    # Without any storage, all of them are missing: the pickle tells their sizes.
    nothing = _CutStorages({}, 0)
    walk(program.value, Rebuilder(nothing, load_blob), "data")
    sizes = {f"{root}data/{key}": n for key, n in nothing.missing.items()}
    records = _torch_records(source, program.end, sizes)
    storages = _CutStorages({name.removeprefix(f"{root}data/"): at for name, at in records.items()}, source.size)
    tensors = walk(program.value, Rebuilder(storages, load_blob), "data").tensors
    cut = [t.name for t in tensors if t.problem]
    missing = sum(storages.missing.values())
    if not cut:
        return TruncatedFileError(
            f"cut at {source.size:,} bytes: all {len(tensors):,} tensors are there, the zip directory is missing",
            _HINT,
        )
    return TruncatedFileError(
        f"cut at {source.size:,} bytes: at least {missing:,} bytes are missing; {_named(cut, len(tensors))}",
        _HINT,
    )


def _torch_records(source: Source, at: int, sizes: dict[str, int]) -> dict[str, int]:
    """Return the position of the data of each record whose header is intact, in file order."""
    records: dict[str, int] = {}
    while len(records) < MAX_MEMBERS:
        header = _next_header(source, at, _DESCRIPTOR)
        if header is None:
            header = _next_header(source, at, _SMALL)
        if header is None:
            return records
        records[header.name] = header.offset
        at = header.offset + sizes.get(header.name, 0)
    return records


def _next_header(source: Source, at: int, within: int) -> _Found | None:
    if at >= source.size:
        return None
    near = source.read_at(at, min(within + len(LOCAL_MAGIC), source.size - at))
    found = near.find(LOCAL_MAGIC)
    return None if found < 0 else _local_header(source, at + found)


def _local_header(source: Source, at: int) -> _Found | None:
    """Return the member whose local header is at this byte; None without one, or if it is cut."""
    if at + _LOCAL.size > source.size:
        return None
    magic, _, flags, _, _, _, _, stored, size, n_name, n_extra = _LOCAL.unpack(source.read_at(at, _LOCAL.size))
    at += _LOCAL.size
    if magic != LOCAL_MAGIC or at + n_name + n_extra > source.size:
        return None
    name = source.read_at(at, n_name).decode("utf-8", "replace")
    extra = source.read_at(at + n_name, n_extra)
    if _ZIP64 in (stored, size) and extra[:2] == b"\1\0" and len(extra) >= 20:
        stored = struct.unpack_from("<Q", extra, 12)[0]
    return _Found(name, at + n_name + n_extra, None if flags & _SIZE_FOLLOWS else stored)


def _cut_members(source: Source) -> TruncatedFileError:
    """Return the error for an archive of Python's zipfile (.npz, .keras), whose local headers tell the sizes."""
    last = next(iter(deque(_sized(source), maxlen=1)), None)
    if last is None or last.size is None or last.offset + last.size <= source.size:
        return TruncatedFileError("the zip archive has no end record: the end of the file is missing", _HINT)
    missing = last.offset + last.size - source.size
    return TruncatedFileError(
        f"cut at {source.size:,} bytes inside {last.name}: at least {missing:,} bytes are missing", _HINT
    )


def _sized(source: Source) -> Iterator[_Found]:
    at = 0
    for _ in range(MAX_MEMBERS):
        header = _local_header(source, at)
        if header is None:
            return
        yield header
        if header.size is None:
            return
        at = header.offset + header.size


def _named(cut: list[str], total: int) -> str:
    return f"{len(cut):,} of {total:,} tensors are cut: {listed([name[-60:] for name in cut])}"
