"""PyTorch files without an archive: the stream of torch before 1.6, and plain pickles of state dicts or arrays."""

from __future__ import annotations

from inspectcli.errors import NoCheckpointError, PinspectError
from inspectcli.formats.base import Format
from inspectcli.formats.torch.stream import (
    Stream,
    StreamStorages,
    is_stream,
    load_blob,
    read_pickle_at,
    read_stream,
)
from inspectcli.formats.torch.tree import scalars, training, walk
from inspectcli.formats.torch.zip import walk_notes
from inspectcli.pickles.globals import foreign, named
from inspectcli.pickles.machine import OutOfDataError, Program, read_pickle
from inspectcli.pickles.sweep import judged, swept
from inspectcli.pickles.tensors import Rebuilder
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint

#: First bytes of a pickle: of protocols 2 to 5, and of protocols 0 and 1 for a call, a container or an integer.
_BINARY = tuple(bytes([0x80, n]) for n in range(2, 6))
_TEXT = (b"(", b"c", b"]", b"}", b"I", b"L")


def sniff(source: Source, head: bytes) -> bool:
    if head[:2] in _BINARY:
        return True
    return head[:1] in _TEXT and _looks_like_text_pickle(head)


def _looks_like_text_pickle(head: bytes) -> bool:
    """Return whether the first opcodes can be read: protocols 0 and 1 have no magic number."""

    try:
        read_pickle(head)
    except OutOfDataError:
        return len(head) >= 64
    except PinspectError:
        return False
    return True


def open_legacy(location: Location) -> Checkpoint:
    return open_pickle(location, tensors_only=True)


def open_pickle(location: Location, tensors_only: bool = False) -> Checkpoint:
    """A file that begins with a pickle; one without tensors, which may hold settings, is refused with `tensors_only`.

    Raises:
        PinspectError: it cannot be read, or holds no tensors.
    """
    source = location.open()
    first = read_pickle_at(source, 0)
    if is_stream(first):
        return _open_stream(location, source, read_stream(source, first))
    return _open_pickle(location, source, first, tensors_only)


def _open_stream(location: Location, source: Source, stream: Stream) -> Checkpoint:
    tree = walk(stream.value, stream.rebuilder, "stream")
    body = stream.programs[3]
    rest = source.size - stream.end
    notes = list(walk_notes(tree))
    found = [*judged(stream.programs, "the stream")]
    if rest > 0:
        notes.append(f"{rest:,} bytes follow the last storage and were not looked at")
        found.extend(swept(source, f"byte {stream.end:,} on", stream.end))
    if stream.storages.missing:
        cut = sum(stream.storages.missing.values())
        notes.append(f"the end of the file is missing: {cut:,} bytes")
    return Checkpoint(
        path=str(location),
        format="torch-legacy",
        size=source.size,
        tensors=tuple(tree.tensors),
        metadata={
            "pickle_protocol": body.protocol,
            "system": stream.system,
            **({"values": dict(values)} if (values := scalars(stream.value)) else {}),
        },
        objects=stream.value,
        writer="torch before 1.6, or torch.save(_use_new_zipfile_serialization=False)",
        foreign=foreign(stream.programs),
        globals=named(stream.programs),
        hazards=tuple(found),
        notes=tuple(notes),
        training=training(stream.value),
    )


def _open_pickle(location: Location, source: Source, program: Program, tensors_only: bool) -> Checkpoint:
    rebuilder = Rebuilder(StreamStorages(source), load_blob)
    tree = walk(program.value, rebuilder, "pickle")
    found = judged((program,), "the pickle") + swept(source, f"a second pickle at byte {program.end:,}", program.end)
    if tensors_only and not tree.tensors and not found:
        raise NoCheckpointError("a pickle without tensors", "it may hold settings: this command looks for parameters")
    rest = source.size - program.end
    return Checkpoint(
        path=str(location),
        format="pickle",
        size=source.size,
        tensors=tuple(tree.tensors),
        metadata={
            "pickle_protocol": program.protocol,
            **({"values": dict(values)} if (values := scalars(program.value)) else {}),
        },
        objects=program.value,
        writer="pickle.dump",
        foreign=foreign((program,)),
        hazards=found,
        notes=(
            *walk_notes(tree),
            *((f"{rest:,} bytes follow the pickle and were not looked at",) if rest else ()),
        ),
        training=training(program.value),
    )


FORMAT = Format(
    "torch-legacy",
    "PyTorch legacy stream",
    (".pt", ".pth", ".bin", ".pkl"),
    sniff,
    open_legacy,
    variants={"pickle": "pickle"},
)
