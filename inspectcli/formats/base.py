"""What a format is: its names, how to recognize its bytes or its folders, how to open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint

#: Bytes of the head that `sniff` is given: enough for every magic, HDF5 user blocks up to 2 kB, and tar's at 257.
HEAD = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of checkpoint: a kind of file, or a way to lay out a folder.

    Attributes:
        name: what `Checkpoint.format` says, for programs: `torch-zip`. Empty if it is that of a file in the folder.
        title: for people, and for the table in the README.
        suffixes: usual file suffixes; for the README and for what is looked for in folders, never for recognition.
        sniff: whether these bytes are of this format: (source, its first HEAD bytes) -> bool. None if no file is one.
        open: read the headers of a file that `sniff` knows, or of a folder that `folder` knows. The source that was
            sniffed at is what `location.open()` gives.
        folder: the checkpoints of a folder that is laid out in the way of this format: the folder itself, or files in
            it. Nothing if it is another one's.
        variants: other names that its checkpoints may have, with their titles.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Source, bytes], bool] | None
    open: Callable[[Location], Checkpoint]
    folder: Callable[[Location], Sequence[Location]] | None = None
    variants: Mapping[str, str] = field(default_factory=dict)

    @property
    def titles(self) -> Mapping[str, str]:
        """Every name that its checkpoints may have, with its title."""
        return {**({self.name: self.title} if self.name else {}), **self.variants}
