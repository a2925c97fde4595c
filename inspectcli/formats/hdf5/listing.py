"""Objects of an HDF5 file as the child process lists them, and how the values of each dataset can be read."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from inspectcli.errors import TruncatedFileError
from inspectcli.formats.hdf5.process import HDF5
from inspectcli.pickles.sweep import Budget, begun
from inspectcli.storage.memory import Memory
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES, DType
from inspectcli.tensors.model import Hazard

MAGIC = b"\x89HDF\r\n\x1a\n"
#: Offsets at which the superblock may stand: a file may begin with a block of user data.
STARTS = (0, 512, 1024, 2048)

#: A dataset that declares this many times the bytes it stores, and more than the floor, is a bomb.
MAX_RATIO, RATIO_FLOOR = 1000, 256 << 20


def superblock(head: bytes) -> int | None:
    """Return the offset of the superblock; None if this is not an HDF5 file."""
    return next((start for start in STARTS if head.startswith(MAGIC, start)), None)


def check_end(source: Source, head: bytes) -> None:
    """Check that the file is as long as its superblock says.

    v0: 8 signature, version, 4 versions, size of offsets at 13, ..., base address at 24, free space, end of file
    v1: the same with 4 more bytes before the addresses; v2 and v3: size of offsets at 9, base address at 12
    https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html#Superblock

    Raises:
        TruncatedFileError: the file is shorter; with the number of missing bytes.
    """
    start = superblock(head)
    if start is None or start + 48 > len(head):
        return
    version = head[start + 8]
    size_at, addresses = {0: (13, 24), 1: (13, 28), 2: (9, 12), 3: (9, 12)}.get(version, (0, 0))
    width = head[start + size_at] if size_at else 0
    if width not in (2, 4, 8):
        return
    at = start + addresses
    base, end = (int.from_bytes(head[at + i * width : at + (i + 1) * width], "little") for i in (0, 2))
    missing = (end if base == start else end + start) - source.size
    if missing > 0 and end < 1 << (8 * width - 1):
        raise TruncatedFileError(
            f"{missing:,} bytes are missing at the end: found {source.size:,}, expected {source.size + missing:,}",
            "download it again",
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """One array of the file.

    Attributes:
        path: from the root, without a leading slash.
        shape: None for a null dataspace.
        type: name of an element type (`f32`), or in parentheses what it is instead.
        stored: bytes it takes in the file.
        offset: position of contiguous data in the file; None for chunks.
        address: equal for hard links to one object.
        unreadable: why libhdf5 cannot give the values; empty if it can.
        sources: files that a virtual dataset takes its values from; "." is this one.
    """

    path: str
    shape: tuple[int, ...] | None
    type: str
    big_endian: bool
    layout: str
    offset: int | None
    stored: int
    external: tuple[str, ...]
    filters: tuple[str, ...]
    missing_filters: tuple[str, ...]
    address: str
    unreadable: str = ""
    sources: tuple[str, ...] = ()

    @property
    def dtype(self) -> DType | None:
        return DTYPES.get(self.type) if self.shape is not None else None

    @property
    def nbytes(self) -> int:
        """Size of the decoded elements, in bytes."""
        dtype = self.dtype
        return dtype.nbytes(prod(self.shape or ())) if dtype else 0

    @property
    def obstacle(self) -> str:
        """Why its values cannot or must not be read; empty if they may be."""
        if self.external:
            return f"its values lie in another file, {self.external[0][:80]!r}: not followed"
        if self.layout == "virtual":
            return _virtual(self.sources)
        if self.unreadable:
            return self.unreadable
        if self.missing_filters:
            return f"compressed with {', '.join(self.missing_filters)[:80]}, a filter that is not installed"
        if self.nbytes > RATIO_FLOOR and self.nbytes > MAX_RATIO * self.stored:
            return f"declares {self.nbytes:,} bytes and stores {self.stored:,}: not read"
        return ""

    @property
    def cure(self) -> str:
        """What helps against the obstacle; empty if the file itself is at fault."""
        if self.external:
            return "the values are not in this file: ask for a copy that holds them"
        if self.layout == "virtual":
            return "look at the files that it is put together from, or copy it with `h5repack`"
        if self.missing_filters:
            return "the file may be whole: pip install 'inspectcli[hdf5]' brings the filters of hdf5plugin"
        return ""

    def segment(self, source: Source) -> Segment:
        """Return its values as a range of the file if they are contiguous, else as a dataset that libhdf5 decodes."""
        if self.layout == "contiguous" and self.offset is not None and self.stored == self.nbytes:
            return Segment(source, self.offset, self.nbytes)
        return Segment(source, 0, self.nbytes, HDF5, dataset=self.path)

    @property
    def decoded(self) -> bool:
        """Whether libhdf5 decodes the values, which also makes them little-endian."""
        return not (self.layout == "contiguous" and self.offset is not None and self.stored == self.nbytes)


def _virtual(sources: tuple[str, ...]) -> str:
    elsewhere = [name for name in sources if name != "."]
    if sources and not elsewhere:
        return "a virtual dataset: a view of other datasets of this file, which are listed"
    shown = ", ".join(repr(name[:60]) for name in elsewhere[:3]) + (", ..." if len(elsewhere) > 3 else "")
    return f"a virtual dataset: its values lie in other files, not followed{f': {shown}' if shown else ''}"


class Pickled(NamedTuple):
    """A Python object in the file, which some readers unpickle.

    Attributes:
        where: `attribute config of /`.
        data: its bytes.
    """

    where: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a file: datasets, attributes of groups by path, links to other places, and pickled objects."""

    library: str
    datasets: tuple[Dataset, ...]
    attributes: Mapping[str, Mapping[str, Any]]
    external_links: Mapping[str, str]
    soft_links: Mapping[str, str]
    too_deep: bool
    pickles: tuple[Pickled, ...] = ()
    pickles_left_out: int = 0

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Listing:
        links = [(link["kind"], link["path"], link["target"]) for link in found["links"]]
        return cls(
            library=found["library"],
            datasets=tuple(_dataset(d) for d in found["datasets"]),
            attributes=found["groups"],
            external_links={path: target for kind, path, target in links if kind == "external"},
            soft_links={path: target for kind, path, target in links if kind == "soft"},
            too_deep=found["too_deep"],
            pickles=tuple(Pickled(p["where"], b64decode(p["data"])) for p in found["pickles"]),
            pickles_left_out=found["pickles_left_out"],
        )

    def attribute(self, group: str, name: str) -> Any:
        """Return an attribute of a group; None if it is missing."""
        return self.attributes.get(group, {}).get(name)

    def text(self, group: str, name: str) -> str:
        value = self.attribute(group, name)
        return value if isinstance(value, str) else ""

    def names(self, group: str, name: str) -> list[str]:
        """Return the list of names in an attribute; empty if it is missing."""
        value = self.attribute(group, name)
        return [str(v) for v in value] if isinstance(value, list) else []

    def hazards(self) -> tuple[Hazard, ...]:
        """Return the hazards of links and storage outside the file, which a loader would follow, and of its pickles."""
        outside = [(path, target) for path, target in self.external_links.items()]
        outside += [(d.path, ", ".join(d.external)) for d in self.datasets if d.external]
        budget = Budget()
        inside = [h for p in self.pickles for h in begun(Memory(p.where, p.data), p.where, budget)]
        return (
            *inside,
            *(
                Hazard(
                    f"a loader would read another file, {target[:120]!r}, as if it were part of this one",
                    path[:200],
                    "file",
                )
                for path, target in outside
            ),
        )


def _dataset(entry: Mapping[str, Any]) -> Dataset:
    return Dataset(
        path=entry["path"],
        shape=None if entry["shape"] is None else tuple(entry["shape"]),
        type=entry["dtype"],
        big_endian=entry["big"],
        layout=entry["layout"],
        offset=entry["offset"],
        stored=entry["stored"],
        external=tuple(entry["external"]),
        filters=tuple(entry["filters"]),
        missing_filters=tuple(entry["missing_filters"]),
        address=entry["address"],
        unreadable=entry["unreadable"],
        sources=tuple(entry["sources"]),
    )
