"""What a source of bytes answers: how many there are, any range of them, which bytes they are, whether they changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Protocol

from inspectcli.errors import ChangedFileError, TruncatedFileError

#: What tells bytes apart: equal for two openings of one file that nobody wrote to in between.
Identity = tuple[object, ...]


class Source(Protocol):
    """Random access to bytes that stay as they are while we read."""

    @property
    def name(self) -> str:
        """The file they come from, for messages."""
        ...

    @property
    def size(self) -> int:
        """Their number."""
        ...

    @property
    def identity(self) -> Identity:
        """Which bytes they are; sources are equal if this is."""
        ...

    def __hash__(self) -> int: ...

    def read_at(self, offset: int, n: int) -> bytes:
        """Exactly `n` bytes from `offset`, or TruncatedFileError."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, or TruncatedFileError."""
        ...

    def changed(self) -> bool:
        """Whether the place they come from holds other bytes by now."""
        ...

    def close(self) -> None:
        """Give back what the system lent. Nothing can be read afterwards."""
        ...


class ByIdentity:
    """Equality and hash of a source: those of its identity, wherever and however often it was opened or unpickled."""

    __slots__ = ()

    @property
    @abstractmethod
    def identity(self) -> Identity: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


def check_span(source: Source, offset: int, n: int) -> None:
    """Raise TruncatedFileError if `n` bytes from `offset` are not all there."""
    if offset < 0 or n < 0 or offset + n > source.size:
        missing = offset + n - source.size
        raise TruncatedFileError(
            f"{n:,} bytes wanted at byte {offset:,}, the file ends at {source.size:,}: {missing:,} bytes are missing",
            path=source.name,
        )


def ensure_unchanged(sources: Iterable[Source]) -> None:
    """Ask every source, at the end of a run, whether what was read of it is one version of it.

    Raises:
        ChangedFileError: one was written to, replaced or removed since it was opened.
    """
    for source in sources:
        if source.changed():
            raise ChangedFileError(
                "the file changed while it was read", "read it again when nothing writes to it any more", source.name
            )
