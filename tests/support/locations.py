"""Places that are no path of this machine: what a test has in memory, where the program looks for files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from inspectcli.errors import NotReadableError
from inspectcli.storage.local import LocalPath
from inspectcli.storage.location import Entry, EntryKind, Location
from inspectcli.storage.memory import Memory
from inspectcli.storage.source import Identity, Source


def in_memory(name: str, data: bytes) -> Location:
    """A file of this name and these bytes. Nothing lies beside it."""
    return LocalPath(name).opened(Memory(name, data))


@dataclass(frozen=True)
class Stored(Location):
    """A place in a store of files by name, as in a bucket: `store://run/model.pt`."""

    path: str
    files: Mapping[str, Memory] = field(compare=False, repr=False)
    source: Source | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"store://{self.path}"

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Location:
        return Stored(posixpath.dirname(self.path), self.files)

    def join(self, *names: str) -> Location:
        return Stored(posixpath.normpath(posixpath.join(self.path, *names)), self.files)

    def absolute(self) -> Location:
        return self

    def real(self) -> Location:
        return self

    def is_below(self, folder: Location) -> bool:
        return str(self).startswith(f"{folder}/")

    def exists(self) -> bool:
        return self.is_file() or self.is_folder()

    def is_file(self) -> bool:
        return self.path in self.files

    def is_folder(self) -> bool:
        return any(name.startswith(f"{self.path}/") for name in self.files)

    def is_link(self) -> bool:
        return False

    def size(self) -> int:
        return self.files[self.path].size if self.is_file() else 0

    def identity(self) -> Identity:
        return self.open().identity

    def list(self) -> Iterator[Entry]:
        if not self.is_folder():
            raise NotReadableError("no such folder", path=str(self))
        below = (posixpath.relpath(name, self.path) for name in self.files if name.startswith(f"{self.path}/"))
        for name in {way.partition("/")[0] for way in below}:
            yield Entry(name, EntryKind.FOLDER if self.join(name).is_folder() else EntryKind.FILE)

    def open(self) -> Source:
        if self.source is not None:
            return self.source
        if not self.is_file():
            raise NotReadableError("no such file", path=str(self))
        return self.files[self.path]

    def opened(self, source: Source, head: bytes = b"") -> Location:
        return replace(self, source=source)

    def head(self, n: int) -> bytes:
        source = self.open()
        return source.read_at(0, min(n, source.size))

    def on_disk(self) -> str:
        raise NotReadableError("not a file of this machine", path=str(self))


def stored(folder: Path, path: str = "") -> Stored:
    """A store that has the files of a folder."""
    names = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    return Stored(path, {name: Memory(f"store://{name}", file.read_bytes()) for name, file in names.items()})
