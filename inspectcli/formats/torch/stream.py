"""Stream of pickles that torch wrote before 1.6, and pickles without a container.

pickle(0x1950a86a20f9469cfc6c) pickle(1001) pickle(system info) pickle(object) pickle(storage keys)
then for each key: int64 number of elements, its bytes
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py (_legacy_load)
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from inspectcli.errors import DamagedFileError, LimitError, TruncatedFileError
from inspectcli.pickles.machine import OutOfDataError, Program, read_pickle
from inspectcli.pickles.nodes import Dict, key_of, shown
from inspectcli.pickles.tensors import Rebuilder
from inspectcli.storage.memory import Memory
from inspectcli.storage.source import Identity, Source
from inspectcli.tensors.codecs import Segment

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_PICKLE = 256 << 20
_FIRST_WINDOW = 1 << 20
MAX_STORAGES = 2_000_000


def read_pickle_at(source: Source, start: int) -> Program:
    """Read the pickle that begins at byte `start`. At most about four times its length is read from the source.

    Positions in the result count from the beginning of the source.

    Raises:
        TruncatedFileError: the source ends before the pickle does.
        LimitError: it is longer than MAX_PICKLE bytes, or as of `read_pickle`, which raises other errors too.
    """
    window = _FIRST_WINDOW
    while True:
        n = min(window, source.size - start)
        if n <= 0:
            raise TruncatedFileError(f"a pickle must begin at byte {start:,}, where the file ends")
        try:
            program = read_pickle(source.read_at(start, n))
        except OutOfDataError:
            if n == source.size - start:
                raise TruncatedFileError(
                    f"the pickle that begins at byte {start:,} has no end: the file is cut",
                    "download it again",
                ) from None
            if n >= MAX_PICKLE:
                raise LimitError(f"a pickle of more than {MAX_PICKLE >> 20} MiB") from None
            window *= 4
            continue
        return program._replace(start=start, end=start + program.end)


class _Run(NamedTuple):
    """A storage in the stream. Its position is known only after the object was read."""

    storages: StreamStorages
    key: str

    def segment(self, start: int, nbytes: int) -> Segment:
        offset, size = self.storages.located(self.key)
        if start + nbytes > size:
            raise DamagedFileError(f"storage {self.key!r} holds {size:,} bytes, a tensor needs {start + nbytes:,}")
        return Segment(self.storages.source, offset + start, nbytes)


class StreamStorages:
    """The storages of a stream by key. They follow the object, so that their positions are known only later."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.sizes: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.missing: dict[str, int] = {}

    @property
    def identity(self) -> Identity:
        return self.source.identity

    def place(self, key: str, nbytes: int) -> _Run:
        known = self.sizes.setdefault(key, nbytes)
        if known != nbytes:
            raise DamagedFileError(f"storage {key!r} is {known:,} bytes to one tensor and {nbytes:,} to another")
        return _Run(self, key)

    def located(self, key: str) -> tuple[int, int]:
        if key in self.missing:
            raise TruncatedFileError(f"cut: {self.missing[key]:,} bytes of it are missing")
        try:
            return self.offsets[key], self.sizes[key]
        except KeyError:
            raise DamagedFileError(f"storage {key!r} is missing from the file") from None

    def locate(self, keys: object, at: int, itemsizes: dict[str, int]) -> int:
        """Locate the storages, which begin at byte `at`, in the order of `keys`; return where the last one ends.

        Args:
            keys: the list of storage keys, as the stream pickles it.
            itemsizes: key -> bytes of an element.
        """
        if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
            raise DamagedFileError("the list of storages is no list")
        for raw in keys:
            key = key_of(raw)
            size = self.sizes.get(key) if key is not None else None
            if key is None or size is None:
                raise DamagedFileError(f"storage {shown(raw)} follows, but no tensor uses it: its length is unknown")
            if at + 8 <= self.source.size:
                (numel,) = struct.unpack("<q", self.source.read_at(at, 8))
                if numel * itemsizes.get(key, 1) != size:
                    raise DamagedFileError(
                        f"storage {key!r} has {numel:,} elements in the stream, "
                        f"{size // itemsizes.get(key, 1):,} in the pickle"
                    )
            at += 8
            self.offsets[key] = at
            at += size
            if at > self.source.size:
                self.missing[key] = min(at - self.source.size, size)
        return at


class Stream(NamedTuple):
    """A stream, read up to its last pickle."""

    programs: tuple[Program, ...]
    value: object
    rebuilder: Rebuilder
    storages: StreamStorages
    end: int
    system: dict[str, object]


def is_stream(program: Program) -> bool:
    """Return whether the first pickle of a file is torch's magic number."""
    return program.value == MAGIC


def read_stream(source: Source, first: Program, nesting: int = 0) -> Stream:
    """Read the four pickles after the first one, and locate the storages.

    Raises:
        DamagedFileError: wrong protocol, big-endian data, sizes that contradict each other.
    """
    version = read_pickle_at(source, first.end)
    if version.value != PROTOCOL:
        raise DamagedFileError(f"torch stream protocol {shown(version.value)}: expected {PROTOCOL}")
    system = read_pickle_at(source, version.end)
    info = system.value if isinstance(system.value, Dict) else Dict()
    if info.get("little_endian") is False:
        raise DamagedFileError("written on a big-endian machine: expected little-endian values")
    body = read_pickle_at(source, system.end)
    keys = read_pickle_at(source, body.end)
    storages = StreamStorages(source)
    rebuilder = Rebuilder(storages, load_blob, nesting)
    itemsizes = _meet_storages(rebuilder, body)
    end = storages.locate(keys.value, keys.end, itemsizes)
    texts = {k: v for k, v in info.items() if isinstance(k, str) and type(v) in (bool, int, str)}
    return Stream((first, version, system, body, keys), body.value, rebuilder, storages, end, texts)


def _meet_storages(rebuilder: Rebuilder, program: Program) -> dict[str, int]:
    """Return storage key -> bytes of an element, of all storages that the object refers to."""
    itemsizes: dict[str, int] = {}
    for node in program.persistent:
        pid = node.pid
        if isinstance(pid, tuple) and pid and pid[0] in ("storage", b"storage"):
            storage = rebuilder.storage(node)
            itemsizes[str(storage.identity[1])] = storage.dtype.itemsize
    return itemsizes


def load_blob(blob: bytes, nesting: int) -> tuple[object, Rebuilder]:
    """Read the stream in `torch.storage._load_from_bytes(blob)`: (its object, the rebuilder of its tensors)."""
    source = Memory("storage kept in the pickle", blob)
    first = read_pickle_at(source, 0)
    if not is_stream(first):
        raise DamagedFileError("a storage is kept as bytes that are no torch stream")
    stream = read_stream(source, first, nesting)
    return stream.value, stream.rebuilder
