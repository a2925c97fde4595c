"""Records, storages and pickles of a torch zip archive: shared by the readers of torch.save and TorchScript."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from inspectcli.display.text import listed
from inspectcli.encodings.zip import Member, ZipDirectory, read_directory, read_member
from inspectcli.errors import DamagedFileError, PinspectError, UnsafeFileError
from inspectcli.formats.torch.tree import Path, TorchTree, walk
from inspectcli.pickles.globals import hazards
from inspectcli.pickles.machine import OutOfDataError, Program, read_pickle, read_whole_pickle
from inspectcli.pickles.tensors import Rebuilder
from inspectcli.storage.source import Identity, Source
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.model import Hazard, Kind

MAX_PICKLE = 256 << 20
MAX_TEXT = 64 << 10


class Archive(NamedTuple):
    """A torch zip archive. The name of every record begins with `root/`."""

    source: Source
    directory: ZipDirectory
    root: str

    def member(self, name: str) -> Member | None:
        return self.directory.members.get(self.root + name)

    def text(self, name: str) -> str:
        """Return the text of a small record; empty if it is missing."""
        member = self.member(name)
        return "" if member is None else read_member(self.source, member, MAX_TEXT).decode("utf-8", "replace").strip()

    def program(self, member: Member) -> Program:
        data = read_member(self.source, member, MAX_PICKLE)
        program = read_whole_pickle(data)
        if program.end != len(data):
            raise UnsafeFileError(f"{len(data) - program.end:,} bytes follow the pickle in {member.name}")
        return program


def archive_root(directory: ZipDirectory) -> str | None:
    """Return the root of the records, `model/` for `model/data.pkl`; None if this is not a torch archive.

    A renamed file keeps the root of the name it was saved under.

    Raises:
        UnsafeFileError: there are several roots: which object is loaded depends on the reader.
    """
    pickles = [m.name for m in directory.find("data.pkl") if m.name.endswith("/data.pkl") or m.name == "data.pkl"]
    # The object is the record nearest to the top; deeper ones belong to an archive inside the archive.
    tops = [name for name in pickles if name.count("/") <= 1]
    if len(tops) > 1:
        raise UnsafeFileError(f"the archive has several roots: {listed(tops)}")
    return tops[0].removesuffix("data.pkl") if tops else None


def open_archive(source: Source) -> Archive:
    directory = read_directory(source)
    root = archive_root(directory)
    if root is None:
        raise DamagedFileError("the archive holds no data.pkl: found " + listed(list(directory.members), 4))
    return Archive(source, directory, root)


class Record(NamedTuple):
    """A storage that is a record of the archive."""

    source: Source
    member: Member

    def segment(self, start: int, nbytes: int) -> Segment:
        return self.member.segment(self.source, start, nbytes)


class _Nowhere(NamedTuple):
    """A storage without elements, for which torch writes no record."""

    def segment(self, start: int, nbytes: int) -> Segment:
        raise DamagedFileError("an empty storage was asked for values")


class ZipStorages:
    """The storages of an archive by key: the record `root/data/0`, or `root/constants/0`, by `0`.

    Args:
        folder, suffix: what stands before and behind the key in the names of the records.
    """

    def __init__(self, archive: Archive, folder: str, suffix: str = "") -> None:
        self.archive = archive
        self.folder = folder
        self.suffix = suffix

    @property
    def identity(self) -> Identity:
        return *self.archive.source.identity, self.folder

    def place(self, key: str, nbytes: int) -> Record | _Nowhere:
        name = f"{self.folder}/{key}{self.suffix}"
        member = self.archive.member(name)
        if member is None:
            if not nbytes:
                return _Nowhere()
            raise DamagedFileError(f"storage {key!r} is missing: no record {self.archive.root}{name}")
        if member.size != nbytes:
            raise DamagedFileError(
                f"storage {key!r} is {member.size:,} bytes in the archive, {nbytes:,} according to the pickle"
            )
        return Record(self.archive.source, member)


def walk_pickle(
    archive: Archive, name: str, folder: str, prefix: Path = (), kind: Kind | None = None
) -> tuple[Program, TorchTree]:
    """Read the pickle in record `name`, and the tensors in its object.

    Args:
        folder: of the storages, `data` or `constants`.
        prefix: path of the object, in front of the names of its tensors.
        kind: of its tensors; None to tell it from their paths.
    """
    from inspectcli.formats.torch.stream import load_blob

    member = archive.member(name)
    if member is None:
        raise DamagedFileError(f"the archive holds no {name}")
    program = archive.program(member)
    rebuilder = Rebuilder(ZipStorages(archive, folder), load_blob)
    return program, walk(program.value, rebuilder, folder, prefix, kind)


def other_pickles(archive: Archive, known: frozenset[str]) -> tuple[Hazard, ...]:
    """Return the hazards of records that are pickles too, though torch does not load them. `known` are left out."""
    others = [m for m in archive.directory.members.values() if not _is_known(m.name.removeprefix(archive.root), known)]
    return member_hazards(archive.source, others)


def _is_known(name: str, known: frozenset[str]) -> bool:
    return name in known or name.startswith(("data/", "constants/", "code/"))


def member_hazards(source: Source, members: Iterable[Member]) -> tuple[Hazard, ...]:
    """Return the hazards of those members that are pickles, which some loader may read."""
    found: list[Hazard] = []
    for member in members:
        if 2 < member.size <= MAX_PICKLE:
            found.extend(pickle_hazards(read_head(source, member), member.name))
    return tuple(found)


def read_head(source: Source, member: Member) -> bytes:
    """Return the first bytes of a member: enough to see whether it is a pickle."""
    if member.method == 0:
        return source.read_at(member.offset, min(member.size, MAX_TEXT))
    return read_member(source, member, MAX_PICKLE) if member.size <= 1 << 20 else b""


def pickle_hazards(data: bytes, where: str) -> tuple[Hazard, ...]:
    """Return the hazards of bytes that may be a pickle; none if they are not."""

    if data[:1] not in (b"\x80", b"(", b"c", b"]", b"}"):
        return ()
    try:
        return hazards(read_pickle(data), where)
    except (PinspectError, OutOfDataError):
        return ()
