"""What a format is: a name, how to recognize its bytes, how to open them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint

#: Bytes of the head that `sniff` is given: enough for every magic, HDF5 user blocks up to 2 kB, and tar's at 257.
HEAD = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file.

    Attributes:
        name: for people and for the README's table.
        suffixes: usual file suffixes; for the README and for folders, never for recognition.
        sniff: whether these bytes are of this format: (source, its first HEAD bytes) -> bool.
        open: read the headers: (path as the user named it, source) -> Checkpoint.
    """

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Source, bytes], bool]
    open: Callable[[str, Source], Checkpoint]


def stem(path: str) -> str:
    """`runs/model.best.pt` -> `model.best`."""
    return os.path.splitext(os.path.basename(path))[0]
