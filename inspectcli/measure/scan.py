"""The one loop that reads values: Checkpoint -> ScannedTensor stream, with checksums beside it."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.errors import ChecksumError, PinspectError
from inspectcli.measure.workers import Progress, WorkerPool
from inspectcli.storage.memory import place
from inspectcli.tensors.codecs import RAW, Checksum, Segment
from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import Checkpoint, TensorRef, aliases

if TYPE_CHECKING:
    from inspectcli.measure.stats import Sampled, Stats
    from inspectcli.storage.source import Source
    from inspectcli.tensors.values import Bytes


@dataclass(frozen=True, slots=True)
class ScannedTensor:
    """A tensor and what reading it gave.

    Attributes:
        ref: its description.
        alias_of: name of the tensor it is tied to; then it was not read again.
        stats: None if it has no values to average (see `ref.note`), or could not be read (see `problem`).
        sampled: quantiles, kurtosis and histogram, of the sample.
        problem: why it could not be read.
    """

    ref: TensorRef
    alias_of: str = ""
    stats: Stats | None = None
    sampled: Sampled | None = None
    problem: str = ""


def is_averaged(ref: TensorRef) -> bool:
    """Whether its numbers have a mean: not packed words, not bits without a meaning, not a meta tensor."""
    return ref.has_values and not ref.packed and ref.dtype.family is not NumberClass.OPAQUE


def scan(checkpoint: Checkpoint, read: bool = True, progress: Progress | None = None) -> Iterator[ScannedTensor]:
    """Every tensor, in file order, with its statistics.

    Args:
        checkpoint: an opened checkpoint.
        read: False for headers only: nothing but `ref`, `alias_of` and `problem` is filled in.
        progress: told how many bytes were read; never by two threads at once.

    A tensor that cannot be read is yielded with its problem; the run goes on.
    """
    tied = aliases(checkpoint.tensors)
    tensors = [ScannedTensor(ref, tied.get(i, ""), problem=ref.problem) for i, ref in enumerate(checkpoint.tensors)]
    if read:
        tensors = _Reading(tensors, checkpoint.checksums, progress).run()
    yield from tensors


class _Job(NamedTuple):
    """Tensors to read, by position, or a checksum to compare."""

    tensors: Sequence[int] = ()
    check: Checksum | None = None


class _Reading:
    """One pass over a file: its jobs, and their results by position."""

    def __init__(self, tensors: list[ScannedTensor], checksums: Sequence[Checksum], progress: Progress | None) -> None:
        self._tensors = tensors
        self._checksums = {_extent(check.source, check.offset, check.nbytes): check for check in checksums}
        self._bad: list[Checksum] = []
        self._crew = WorkerPool(self._plan(), progress)

    def _plan(self) -> Iterator[tuple[int, _Job]]:
        beside = dict(self._checksums)
        decoded = []
        for i, scanned in enumerate(self._tensors):
            ref = scanned.ref
            if scanned.alias_of or scanned.problem or not is_averaged(ref):
                continue
            if any(segment.codec.is_serial for segment in ref.segments):
                decoded.append(i)
                continue
            if ref.strides is None:
                for segment in ref.segments:
                    if (extent := _own_extent(segment)) is not None:
                        beside.pop(extent, None)
            yield ref.nbytes, _Job((i,))
        if decoded:  # one child process decodes them, one after the other
            yield sum(self._tensors[i].ref.nbytes for i in decoded), _Job(decoded)
        for check in beside.values():
            yield check.nbytes, _Job(check=check)

    def run(self) -> list[ScannedTensor]:
        """Read all; raises what a thread raised."""
        from inspectcli.tensors.values import new_buffer  # imports NumPy, once, before there are threads

        self._crew.run(lambda: partial(self._do, buffer=new_buffer()))
        return _marked(self._tensors, self._bad)

    def _do(self, job: _Job, buffer: Bytes) -> None:
        for position in job.tensors:
            self._tensors[position] = self._read(self._tensors[position].ref, buffer)
        if job.check is not None:
            self._verify(job.check, buffer)

    def _read(self, ref: TensorRef, buffer: Bytes) -> ScannedTensor:
        from inspectcli.measure.stats import sampled

        try:
            stats = stats_of(ref, buffer, self._crew.advance)
            # What is drawn from the sample is kept, the sample is not.
            return ScannedTensor(ref, stats=replace(stats, sample=()), sampled=sampled(stats))
        except ChecksumError as error:
            # Another tensor may share these bytes: it is marked by the check, at the end.
            self._bad.extend(self._checksums[e] for s in ref.segments if (e := _own_extent(s)) in self._checksums)
            return ScannedTensor(ref, problem=error.message)
        except PinspectError as error:
            return ScannedTensor(ref, problem=error.message)

    def _verify(self, check: Checksum, buffer: Bytes) -> None:
        try:
            good = _crc(check, buffer.data) == check.crc
        except PinspectError:
            return  # the reader of the values reports it
        if not good:
            self._bad.append(check)


def _extent(source: Source, offset: int, nbytes: int) -> tuple[Source, int, int]:
    return (*place(source, offset), nbytes)


def _own_extent(segment: Segment) -> tuple[Source, int, int] | None:
    """The bytes whose checksum is compared when the segment is read."""
    raw = segment.codec is RAW and segment.crc
    return _extent(segment.source, segment.offset, segment.nbytes) if raw else None


def _marked(tensors: list[ScannedTensor], bad: Sequence[Checksum]) -> list[ScannedTensor]:
    """With a problem for each tensor that has bytes in a range whose checksum is wrong."""
    if not bad:
        return tensors
    # By the identity of the outermost source, then by offset: the ranges of an archive do not overlap.
    ranges = sorted(
        (id(source), offset, offset + check.nbytes, check.name)
        for check in bad
        for source, offset in [place(check.source, check.offset)]
    )
    starts = [(source, start) for source, start, _, _ in ranges]

    def marked(scanned: ScannedTensor) -> ScannedTensor:
        for segment in scanned.ref.segments:
            source, offset = place(segment.source, segment.offset)
            found = bisect_right(starts, (id(source), offset)) - 1
            if found >= 0 and ranges[found][0] == id(source) and offset < ranges[found][2]:
                what = f"the bytes of {ranges[found][3]} are not those that were written"
                return ScannedTensor(scanned.ref, problem=f"CRC mismatch: {what}")
        return scanned

    return [marked(scanned) for scanned in tensors]


def stats_of(ref: TensorRef, buffer: Bytes | None = None, progress: Progress | None = None) -> Stats:
    """Statistics of one tensor, read a block at a time."""
    from inspectcli.measure.stats import Stats
    from inspectcli.tensors import values
    from inspectcli.tensors.stored import expansion, is_reordered

    total = (ref.held // expansion(ref)) * ref.dtype.per_element
    made = Stats.empty()
    for block in values.blocks(ref, buffer):
        made = made.merge(Stats.of(block.values, block.dtype, made.count, total))
        if progress is not None:
            progress(block.stored)
    if made.nonfinite and is_reordered(ref):
        made = replace(made, first_nonfinite=values.first_nonfinite(ref))
    return made.repeat(expansion(ref)).with_zeros(ref.implicit_zeros)


def _crc(check: Checksum, view: memoryview) -> int:
    crc = 0
    for start in range(0, check.nbytes, len(view)):
        part = view[: min(len(view), check.nbytes - start)]
        check.source.read_into(check.offset + start, part)
        crc = zlib.crc32(part, crc)
    return crc
