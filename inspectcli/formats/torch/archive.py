"""Records, storages and pickles of a torch zip archive: shared by the readers of torch.save and TorchScript."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from inspectcli.display.text import listed
from inspectcli.encodings.zip import Member, ZipDirectory, read_directory, read_member
from inspectcli.errors import DamagedFileError, UnsafeFileError
from inspectcli.formats.torch.tree import Path, TorchTree, walk
from inspectcli.pickles.machine import Program, read_whole_pickle
from inspectcli.pickles.sweep import Budget, judged, member_swept
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


#: Records that hold values are looked at for a pickle up to this number: they are as many as tensors.
_MAX_VALUE_RECORDS = 10_000
_VALUES = ("data/", ".data/", "constants/")


def archive_hazards(archive: Archive, programs: Mapping[str, Program]) -> tuple[Hazard, ...]:
    """Return what would act in the pickles of the archive: those that were read, by record, and any other record.

    torch loads `data.pkl`, and any record whose name it is given.
    """
    budget = Budget()
    found = [h for name, program in programs.items() for h in judged((program,), archive.root + name, budget)]
    return (*found, *member_hazards(archive.source, _others(archive, programs), budget))


def _others(archive: Archive, programs: Mapping[str, Program]) -> Iterator[Member]:
    values = 0
    for member in archive.directory.members.values():
        name = member.name.removeprefix(archive.root)
        values += name.startswith(_VALUES)
        if name not in programs and not (values > _MAX_VALUE_RECORDS and name.startswith(_VALUES)):
            yield member


def member_hazards(source: Source, members: Iterable[Member], budget: Budget) -> tuple[Hazard, ...]:
    """Return what would act in those members that are pickles."""
    found: list[Hazard] = []
    for member in members:
        found.extend(member_swept(source, member, budget, loaded=member.name.endswith((".pkl", ".pickle"))))
    return tuple(found)
