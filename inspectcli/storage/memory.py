"""Bytes that are here already, and ranges of other sources: archives in archives."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field

from inspectcli.storage.source import ByIdentity, Identity, Source, check_span

_numbers = itertools.count()


def _mark() -> tuple[int, int]:
    """A number that no other Memory of any of our processes has."""
    return os.getpid(), next(_numbers)


@dataclass(frozen=True, eq=False)
class Memory(ByIdentity):
    """Bytes in memory: a live tensor, or data held inside a pickle. A pickled copy is equal to the original."""

    name: str
    data: bytes | memoryview
    mark: tuple[int, int] = field(default_factory=_mark, repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def identity(self) -> Identity:
        return "memory", *self.mark

    def read_at(self, offset: int, n: int) -> bytes:
        check_span(self, offset, n)
        return bytes(self.data[offset : offset + n])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        check_span(self, offset, len(buffer))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def changed(self) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to give back."""

    def __reduce__(self) -> tuple[type[Memory], tuple[str, bytes, tuple[int, int]]]:
        return Memory, (self.name, bytes(self.data), self.mark)


@dataclass(frozen=True, eq=False)
class Window(ByIdentity):
    """A range of another source, as a source of its own: an archive stored inside an archive."""

    base: Source
    start: int
    size: int

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def identity(self) -> Identity:
        return "window", self.base.identity, self.start, self.size

    def read_at(self, offset: int, n: int) -> bytes:
        check_span(self, offset, n)
        return self.base.read_at(self.start + offset, n)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        check_span(self, offset, len(buffer))
        self.base.read_into(self.start + offset, buffer)

    def changed(self) -> bool:
        return self.base.changed()

    def close(self) -> None:
        """The base is closed by who opened it."""


def place(source: Source, offset: int) -> tuple[Source, int]:
    """The same byte as an offset in the outermost source: windows are looked through."""
    while isinstance(source, Window):
        offset += source.start
        source = source.base
    return source, offset
