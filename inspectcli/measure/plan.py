"""What is to be measured, and in which tasks: decided before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import lcm
from typing import Any, Protocol

from inspectcli.measure.base import Measurement
from inspectcli.measure.figures import Figures, Sample
from inspectcli.measure.task import Item, Measurements, Task
from inspectcli.storage.memory import place
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import RAW, Checksum, Segment
from inspectcli.tensors.model import TensorRef

#: What every report shows.
FIGURES: Measurements = (Figures, Sample)
#: Tensors that follow each other make one task, up to so many bytes: a few of them are enough for all workers.
_TOGETHER = 1 << 20
#: A larger tensor is read in several tasks. Nothing that a report says depends on how many workers there are.
MOST = 4 << 30


class Asking(Protocol):
    """A rule: what it needs to know of each tensor."""

    @property
    def needs(self) -> tuple[type[Measurement[Any]], ...]: ...


def wanted(rules: Iterable[Asking]) -> Measurements:
    """What a report shows, and what the rules need besides, each once."""
    return tuple(dict.fromkeys((*FIGURES, *(need for rule in rules for need in rule.needs))))


def plan(
    tensors: Iterable[tuple[int, TensorRef]],
    checksums: Sequence[Checksum],
    measurements: Measurements,
    most: int = MOST,
) -> Iterator[Task]:
    """Tasks that read each tensor once, and compare each checksum once.

    Args:
        tensors: (position in the checkpoint, tensor), those to read.
        checksums: of the file.
        measurements: what to work out.
        most: bytes of a tensor that one task reads.
    """
    chosen = tuple(measurements)
    positions = {_extent(check.source, check.offset, check.nbytes): i for i, check in enumerate(checksums)}
    compared: set[int] = set()
    serial: list[Item] = []
    items: list[Item] = []
    size = 0
    for position, ref in tensors:
        if not any(measurement.applies_to(ref) for measurement in chosen):
            continue
        checks = tuple(positions[extent] for s in ref.segments if (extent := _own_extent(s)) in positions)
        item = Item(position, ref, checks)
        if any(segment.codec.is_serial for segment in ref.segments):
            serial.append(item)
            continue
        if ref.strides is None:  # a view may not reach all bytes
            compared.update(checks)
        nbytes = ref.nbytes
        if nbytes > most and _can_be_cut(ref, chosen):
            yield from _cut(item, most, chosen)
            continue
        if items and size + nbytes > _TOGETHER:
            yield Task(size, tuple(items), chosen)
            items, size = [], 0
        items.append(item)
        size += nbytes
    if items:
        yield Task(size, tuple(items), chosen)
    if serial:  # one child process decodes them, one after the other
        yield Task(sum(item.ref.nbytes for item in serial), tuple(serial), chosen)
    yield from _checks((i, checksums[i]) for i in positions.values() if i not in compared)


def _checks(left: Iterable[tuple[int, Checksum]]) -> Iterator[Task]:
    """Bytes that are read for their checksum alone, small ones together."""
    checks: list[tuple[int, Checksum]] = []
    size = 0
    for position, check in left:
        if checks and size + check.nbytes > _TOGETHER:
            yield Task(size, checks=tuple(checks))
            checks, size = [], 0
        checks.append((position, check))
        size += check.nbytes
    if checks:
        yield Task(size, checks=tuple(checks))


def _can_be_cut(ref: TensorRef, measurements: Measurements) -> bool:
    """Whether its values can be read in parts: stored as they are, in C order, and no checksum is of them all."""
    return (
        ref.strides is None
        and ref.affine is None
        and all(segment.codec is RAW and not segment.crc for segment in ref.segments)
        and all(measurement.can_be_merged for measurement in measurements if measurement.applies_to(ref))
    )


def _cut(item: Item, most: int, measurements: tuple[type[Measurement[Any]], ...]) -> Iterator[Task]:
    """A task for each part of at most `most` bytes, none of which ends within a value."""
    dtype = item.ref.dtype
    whole = lcm(dtype.bits, 8) // 8
    start = 0
    for segment in item.ref.segments:
        for first in range(0, segment.nbytes, most // whole * whole):
            nbytes = min(most // whole * whole, segment.nbytes - first)
            part = replace(segment, offset=segment.offset + first, nbytes=nbytes)
            yield Task(nbytes, (item._replace(part=(part,), start=start),), measurements)
            start += nbytes * 8 // dtype.bits * dtype.per_element


def _extent(source: Source, offset: int, nbytes: int) -> tuple[Source, int, int]:
    return (*place(source, offset), nbytes)


def _own_extent(segment: Segment) -> tuple[Source, int, int] | None:
    """The bytes whose checksum is compared when the segment is read."""
    raw = segment.codec is RAW and segment.crc
    return _extent(segment.source, segment.offset, segment.nbytes) if raw else None
