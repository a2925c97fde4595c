"""Places that need no disk: what a test has in memory, where the program looks for a file."""

from __future__ import annotations

from inspectcli.storage.local import LocalPath
from inspectcli.storage.location import Location
from inspectcli.storage.memory import Memory


def in_memory(name: str, data: bytes) -> Location:
    """A file of this name and these bytes. Nothing lies beside it."""
    return LocalPath(name).opened(Memory(name, data))
