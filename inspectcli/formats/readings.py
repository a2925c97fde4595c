"""Other readings of a file: a loader may take it for another format than we do. What would act in any of them counts.

torch tries a tar before anything else, h5py looks for HDF5 behind a block of anything, zip readers begin at the end.
Nothing of this is loaded: it is asked by the same sniffers and readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from inspectcli.errors import PinspectError, UnsafeFileError
from inspectcli.formats.base import HEAD
from inspectcli.storage.location import Location
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint, Hazard

_PICKLES = ("torch-legacy", "pickle")
_ZIPS = ("torch-zip", "torchscript", "torch-package", "pt2", "keras", "npz", "zip")
_HDF5 = ("hdf5", "keras-h5", "keras-weights-h5", "keras")
#: HDF5 may begin at any power of two from this on.
_FIRST_BLOCK = 512
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def with_other_readings(checkpoint: Checkpoint, location: Location) -> Checkpoint:
    """Return the checkpoint with what would act in other readings of its file.

    Raises:
        UnsafeFileError: it is a file of another format too, in which nothing is known to act.
    """
    source = location.open()
    found = list(_as_pickle(checkpoint.format, source))
    others = list(_other_formats(checkpoint.format, location))
    for _, read in others:
        found.extend(read)
    known = {hazard.what for hazard in checkpoint.hazards}
    hazards = checkpoint.hazards + tuple(h for h in found if h.what not in known)
    if others and not hazards:
        raise UnsafeFileError(
            f"a file of two kinds, {checkpoint.format} and {others[0][0]}: what is in it depends on the reader",
            "do not load it, and ask where it comes from",
        )
    return replace(checkpoint, hazards=hazards) if found else checkpoint


def seen_before(source: Source) -> tuple[Hazard, ...]:
    """Return what would act in a file that could not be read: a loader does it before it comes to the error."""
    from inspectcli.encodings.zip import LOCAL_MAGIC, try_directory
    from inspectcli.formats.torch.tar import sniff
    from inspectcli.pickles.sweep import Budget, member_swept

    try:
        head = source.read_at(0, min(HEAD, source.size))
        if head.startswith(LOCAL_MAGIC):
            directory, budget = try_directory(source, head), Budget()
            members = directory.members.values() if directory else ()
            return tuple(h for m in members for h in member_swept(source, m, budget, loaded=False))
        found = tuple(_as_pickle("", source))
        return (*found, *_in_tar(source)) if sniff(source, head) else found
    except PinspectError:
        return ()


def _as_pickle(known: str, source: Source) -> tuple[Hazard, ...]:
    from inspectcli.pickles.sweep import Budget, begun

    if known in _PICKLES or known in _ZIPS:
        return ()
    return begun(source, "the file, read as a pickle", Budget())


def _other_formats(known: str, location: Location) -> Iterator[tuple[str, tuple[Hazard, ...]]]:
    from inspectcli.encodings.zip_end import ends_like_zip
    from inspectcli.formats.torch.tar import sniff

    source, head = location.open(), location.head(HEAD)
    if known != "torch-tar" and sniff(source, head):
        yield "tar", _in_tar(source)
    if known not in _HDF5 and _holds_hdf5(source):
        yield "HDF5", _in_hdf5(location)
    if known not in _ZIPS and ends_like_zip(source):
        yield "zip", ()


def _in_tar(source: Source) -> tuple[Hazard, ...]:
    from inspectcli.formats.torch.tar import members
    from inspectcli.pickles.sweep import Budget, begun

    budget = Budget()
    try:
        return tuple(h for name, m in members(source).items() for h in begun(m, f"the tar, in {name}", budget))
    except PinspectError:
        return ()


def _holds_hdf5(source: Source) -> bool:
    start = 0
    while start + len(_HDF5_MAGIC) <= source.size:
        if source.read_at(start, len(_HDF5_MAGIC)) == _HDF5_MAGIC:
            return True
        start = max(2 * start, _FIRST_BLOCK)
    return False


def _in_hdf5(location: Location) -> tuple[Hazard, ...]:
    from inspectcli.formats.hdf5.file import open_hdf5

    try:
        return open_hdf5(location).hazards
    except PinspectError:
        return ()
