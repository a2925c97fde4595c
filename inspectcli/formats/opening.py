"""Open a file, an index or a folder as what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from inspectcli.errors import DamagedFileError, NotReadableError, PinspectError, UnsafeFileError, UnsupportedFormatError
from inspectcli.formats.base import HEAD, Format
from inspectcli.formats.finding import find_folder, find_format
from inspectcli.formats.folder import models_by_suffix, no_model
from inspectcli.storage import locate
from inspectcli.storage.location import Location
from inspectcli.storage.memory import place
from inspectcli.storage.source import Source
from inspectcli.tensors.model import Checkpoint


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint: a file, a `*.index.json`, or a folder that holds one model. Reads headers only.

    >>> checkpoint = open_checkpoint("fixtures/mlp.safetensors")
    >>> [tensor.name for tensor in checkpoint]
    ['fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight']

    Raises:
        PinspectError: `path: what is wrong: found, expected`; see `inspectcli.errors`.
    """
    return open_location(locate(path))


def open_location(location: Location) -> Checkpoint:
    """Open the checkpoint at a place. Raises PinspectError: with the place, what was found and what to do."""
    if not location.is_folder():
        return open_file(location)
    try:
        known = find_folder(location)
        if known is None:
            return open_one(location, models_by_suffix(location))
        return _placed(known.open(location), location)
    except PinspectError as error:
        raise error.at(str(location)) from None


def open_file(location: Location, without: tuple[Format, ...] = ()) -> Checkpoint:
    """Open a file as what its bytes are.

    Args:
        location: of the file; a folder is refused.
        without: formats that it cannot have where it lies: a shard is no index of other shards.

    Raises:
        PinspectError: with the place, what was found and what to do.
    """
    try:
        source = location.open()
        try:
            head = source.read_at(0, min(HEAD, source.size))
            return _placed(
                _open_as(location.opened(source, head), find_format(source, head, without)), location, source
            )
        except PinspectError as error:
            raise _told(error, source) from None
    except PinspectError as error:
        raise error.at(str(location)) from None


def _open_as(location: Location, known: Format | None) -> Checkpoint:
    from inspectcli.formats.readings import with_other_readings
    from inspectcli.formats.unknown import unknown_file

    if known is None:
        raise unknown_file(location.open(), location.head(HEAD))
    return with_other_readings(known.open(location), location)


def _told(error: PinspectError, source: Source) -> PinspectError:
    """The error, with how a transfer as text damaged the file, and what would act before a loader comes to it."""
    from inspectcli.formats.readings import seen_before

    if isinstance(error, DamagedFileError | UnsafeFileError | UnsupportedFormatError):
        error = _by_transfer(error, source)
    acts = seen_before(source)
    if acts:
        error.message += f"; before a loader comes to that, {acts[0].what}"
    return error


def _by_transfer(error: PinspectError, source: Source) -> PinspectError:
    """The same error, or one that says how a transfer as text damaged the file."""
    from inspectcli.encodings.transfer import text_damage

    found = text_damage(source)
    return error if found is None else DamagedFileError(f"{found.what} ({error.message})", found.cure, error.path)


def open_one(folder: Location, models: Sequence[Location]) -> Checkpoint:
    """The one model of a folder.

    Raises:
        NotReadableError: there is none, or there are several: named.
    """
    if not models:
        raise no_model(folder)
    if len(models) > 1:
        shown = ", ".join(model.name for model in models[:4]) + (", ..." if len(models) > 4 else "")
        raise NotReadableError(f"a directory with {len(models):,} models: {shown}", "name one of them", str(folder))
    return open_location(models[0])


def _placed(checkpoint: Checkpoint, location: Location, *opened: Source) -> Checkpoint:
    """With the place it was opened at, and every source that was read."""
    if checkpoint.location is not None:  # it is a file in the folder, which has them
        return checkpoint
    sources = (*opened, *checkpoint.sources)
    if not sources:
        sources = tuple(place(segment.source, 0)[0] for ref in checkpoint.tensors for segment in ref.segments)
    return replace(checkpoint, location=location, sources=tuple(dict.fromkeys(sources)))
