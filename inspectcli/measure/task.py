"""A task: some tensors of a file, and what to measure of them. Pure and picklable: it runs in any thread or process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from inspectcli.errors import ChecksumError, PinspectError
from inspectcli.measure import neighbors
from inspectcli.measure.base import Block, Measurement
from inspectcli.measure.workers import Progress
from inspectcli.tensors.codecs import Checksum, Segment
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.stored import is_reordered, values_held

if TYPE_CHECKING:
    from inspectcli.tensors.values import Bytes

Measurements = Sequence[type[Measurement[Any]]]
#: What was measured -> what was found out.
Results = Mapping[type[Measurement[Any]], Any]


class Item(NamedTuple):
    """A tensor to read, or a part of a large one.

    Attributes:
        position: of the tensor in the checkpoint.
        ref: the whole tensor.
        checks: positions of the checksums that are compared as its bytes are read.
        part: the bytes to read; None for all.
        start: how many values of the tensor stand before the part.
    """

    position: int
    ref: TensorRef
    checks: tuple[int, ...] = ()
    part: tuple[Segment, ...] | None = None
    start: int = 0


class Task(NamedTuple):
    """What one worker does without a pause.

    Attributes:
        nbytes: bytes to read, of one run of the file as far as possible.
        items: tensors, in the order of the file.
        measurements: what to work out of each.
        checks: (position, checksum) of bytes that are read for nothing else.
    """

    nbytes: int
    items: tuple[Item, ...] = ()
    measurements: tuple[type[Measurement[Any]], ...] = ()
    checks: tuple[tuple[int, Checksum], ...] = ()


class Measured(NamedTuple):
    """What became of an item: results of a whole tensor, measurements in the making of a part, or a problem."""

    position: int
    start: int = 0
    results: Results | None = None
    parts: tuple[Measurement[Any], ...] = ()
    problem: str = ""


class Partial(NamedTuple):
    """What a task gives.

    Attributes:
        tensors: one for each item.
        bad: positions of checksums that are wrong.
    """

    tensors: tuple[Measured, ...] = ()
    bad: tuple[int, ...] = ()


def run_task(task: Task, buffer: Bytes | None = None, progress: Progress | None = None) -> Partial:
    """Read the tensors of a task. A tensor that cannot be read has its problem, and the others go on.

    Args:
        task: what to do.
        buffer: from `values.new_buffer`, to be used again by the same thread.
        progress: told how many bytes were read.
    """
    from inspectcli.tensors.values import new_buffer

    buffer = new_buffer() if buffer is None else buffer
    small = [(i.position, i.ref) for i in task.items if i.part is None and neighbors.can_be_a_row(i.ref)]
    tensors: list[Measured] = [
        Measured(position, results=results)
        for position, results in neighbors.measured(neighbors.read(small, progress), task.measurements)
    ]
    done = {measured.position for measured in tensors}
    bad: list[int] = []
    for item in task.items:
        if item.position in done:
            continue
        try:
            made = measure(item.ref, task.measurements, buffer, progress, item.part, item.start)
        except PinspectError as error:
            tensors.append(Measured(item.position, item.start, problem=error.message))
            if isinstance(error, ChecksumError):  # another tensor may share these bytes: it is marked at the end
                bad.extend(item.checks)
            continue
        if item.part is None:
            tensors.append(Measured(item.position, results=results_of(made)))
        else:
            tensors.append(Measured(item.position, item.start, parts=tuple(made)))
    bad.extend(position for position, check in task.checks if not _is_sound(check, buffer.data))
    return Partial(tuple(tensors), tuple(bad))


def measure(
    ref: TensorRef,
    measurements: Measurements,
    buffer: Bytes | None = None,
    progress: Progress | None = None,
    part: tuple[Segment, ...] | None = None,
    start: int = 0,
) -> list[Measurement[Any]]:
    """The measurements that apply to a tensor, with all its values taken in; or with those of a part of it.

    Its values are read once. Only a tensor that is not stored in C order is read a second time, if a measurement asks
    for that order.

    Raises:
        PinspectError: it cannot be read.
    """
    from inspectcli.tensors import values

    made = [measurement.empty(ref) for measurement in measurements if measurement.applies_to(ref)]
    total = values_held(ref)
    stored = ref if part is None else replace(ref, segments=part)
    for wants_order in (False, True) if is_reordered(ref) else (None,):
        own = [m for m in made if wants_order is None or m.in_order is wants_order]
        if not own:
            continue
        at = start
        for raw in values.in_order(stored) if wants_order else values.blocks(stored, buffer):
            block = Block(raw.values, raw.dtype, at, min(raw.count, total - at))
            at += block.count
            for measurement in own:
                measurement.update(block)
            if progress is not None:
                progress(raw.stored)
    return made


def results_of(made: Sequence[Measurement[Any]]) -> Results:
    """By what was measured."""
    return {type(measurement): measurement.result() for measurement in made}


def _is_sound(check: Checksum, view: memoryview) -> bool:
    """Whether bytes have their checksum; also if they cannot be read: the reader of the values reports that."""
    from inspectcli.storage.deflate import crc32

    crc = 0
    try:
        for start in range(0, check.nbytes, len(view)):
            part = view[: min(len(view), check.nbytes - start)]
            check.source.read_into(check.offset + start, part)
            crc = crc32(part, crc)
    except PinspectError:
        return True
    return crc == check.crc
