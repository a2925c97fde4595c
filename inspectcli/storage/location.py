"""A place with a name, before anything of it is read: what folders, shards and neighbors are found by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from inspectcli.storage.source import Identity, Source, ensure_unchanged


class EntryKind(Enum):
    """What a name in a folder stands for, links not followed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # a FIFO, a socket, a device


class Entry(NamedTuple):
    """A name in a folder."""

    name: str
    kind: EntryKind


class Location(ABC):
    """A file, a folder, or a name of which nothing is there. Plain data: it pickles, and has nothing open.

    `str` of it is what the user named; that of a place found from it begins the same way. Links that the user names
    are followed; those that are found are, as far as they stay in the folder that was named (or that of the file that
    was), or lead into the blobs of the same Hugging Face cache. Behind any other nothing is there, nothing opens.
    """

    __slots__ = ()

    @abstractmethod
    def __str__(self) -> str: ...

    # -- names --------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its name: `model.pt`; of `runs/` and `.` too."""

    @property
    @abstractmethod
    def parent(self) -> Location:
        """The folder it lies in; the root is its own."""

    @abstractmethod
    def join(self, *names: str) -> Location:
        """A place below it. `..` leads to the folder above."""

    @abstractmethod
    def absolute(self) -> Location:
        """The same place under a name that does not depend on the working folder."""

    @abstractmethod
    def real(self) -> Location:
        """The absolute place that all links lead to."""

    @abstractmethod
    def is_below(self, folder: Location) -> bool:
        """Whether its name begins with that of the folder; for names that `real` gave."""

    @property
    def suffix(self) -> str:
        """`.pt` of `model.best.pt`; empty if there is none."""
        stem, dot, last = self.name.rpartition(".")
        return dot + last if stem.strip(".") else ""

    @property
    def stem(self) -> str:
        """`model.best` of `model.best.pt`."""
        return self.name.removesuffix(self.suffix)

    # -- what is there ------------------------------------------------------------------------------------

    @abstractmethod
    def exists(self) -> bool:
        """Whether anything is there, links followed."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether it is a regular file, links followed."""

    @abstractmethod
    def is_folder(self) -> bool:
        """Whether it is a folder, links followed."""

    @abstractmethod
    def is_link(self) -> bool:
        """Whether the name itself is a link, wherever it leads."""

    def leads_out(self) -> bool:
        """Whether it was found, and a link on the way to it leads out of the folder it was found in."""
        return False

    @abstractmethod
    def size(self) -> int:
        """Bytes of a regular file; 0 of anything else."""

    @abstractmethod
    def identity(self) -> Identity:
        """What its source would have as identity. Raises NotReadableError if nothing is there."""

    @abstractmethod
    def list(self) -> Iterator[Entry]:
        """What lies in a folder, in no order.

        Raises:
            NotReadableError: it is no folder, or may not be listed.
        """

    # -- bytes --------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> Source:
        """The bytes of the file.

        Raises:
            NotReadableError: there is no regular file that we may read.
        """

    @abstractmethod
    def opened(self, source: Source, head: bytes = b"") -> Location:
        """The same place, of which `open` gives this source. Places found from it have their own.

        Args:
            source: its bytes: the file, opened before; or those of a member of an archive.
            head: the first of them, if they were read already.
        """

    @abstractmethod
    def head(self, n: int) -> bytes:
        """The first `n` bytes of the file, or all. Raises NotReadableError."""

    @contextmanager
    def reading(self) -> Iterator[Source]:
        """The bytes of a file that is read in one go and closed.

        Raises:
            NotReadableError: there is no regular file that we may read.
            ChangedFileError: it was written to meanwhile.
        """
        source = self.open()
        try:
            yield source
            ensure_unchanged([source])
        finally:
            source.close()

    @abstractmethod
    def on_disk(self) -> str:
        """An absolute path, for libraries that open files themselves.

        Raises:
            NotReadableError: it is not a file of this machine.
        """
