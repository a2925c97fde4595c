"""The one loop that reads values: Checkpoint -> ScannedTensor stream, with checksums beside it."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inspectcli.dtypes import Family
from inspectcli.errors import PinspectError
from inspectcli.model import Check, Checkpoint, TensorRef, aliases
from inspectcli.source import place

if TYPE_CHECKING:
    from inspectcli.stats import Sampled, Stats

#: Called with the bytes read since the last call.
Progress = Callable[[int], None]

_CHECK_BLOCK = 1 << 20


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
    return ref.has_values and not ref.packed and ref.dtype.family is not Family.OPAQUE


def scan(checkpoint: Checkpoint, read: bool = True, progress: Progress | None = None) -> Iterator[ScannedTensor]:
    """Every tensor, in file order, with its statistics.

    Args:
        checkpoint: an opened checkpoint.
        read: False for headers only: nothing but `ref`, `alias_of` and `problem` is filled in.
        progress: told how many bytes were read.

    A tensor that cannot be read is yielded with its problem; the run goes on.
    """
    tied = aliases(checkpoint.tensors)
    if not read:
        for position, ref in enumerate(checkpoint.tensors):
            yield ScannedTensor(ref, tied.get(position, ""), problem=ref.problem)
        return
    # Started first: checksums take no interpreter lock, so they overlap with importing NumPy.
    failures = _Checks(checkpoint.checks)
    yield from _scan_values(checkpoint, tied, failures, progress)


def _scan_values(
    checkpoint: Checkpoint, tied: dict[int, str], checks: _Checks, progress: Progress | None
) -> Iterator[ScannedTensor]:
    from inspectcli.stats import sampled
    from inspectcli.values import new_buffer

    buffer = new_buffer()
    done: list[ScannedTensor] = []
    for position, ref in enumerate(checkpoint.tensors):
        if position in tied or ref.problem or not is_averaged(ref):
            done.append(ScannedTensor(ref, tied.get(position, ""), problem=ref.problem))
            continue
        try:
            stats = stats_of(ref, buffer, progress)
            done.append(ScannedTensor(ref, stats=stats, sampled=sampled(stats)))
        except PinspectError as error:
            done.append(ScannedTensor(ref, problem=error.message))
        done[-1] = _without_sample(done[-1])
    bad = checks.failures()
    for scanned in done:
        yield _with_check(scanned, bad)


def _without_sample(scanned: ScannedTensor) -> ScannedTensor:
    """The figures are drawn from it: the values need not be kept."""
    return replace(scanned, stats=replace(scanned.stats, sample=())) if scanned.stats else scanned


def _with_check(scanned: ScannedTensor, bad: list[Check]) -> ScannedTensor:
    for check in bad:
        start = place(check.source, check.offset)
        for segment in scanned.ref.segments:
            source, offset = place(segment.source, segment.offset)
            if source is start[0] and start[1] <= offset < start[1] + check.nbytes:
                return ScannedTensor(
                    scanned.ref,
                    problem=f"CRC mismatch: the bytes of {check.name} are not those that were written",
                )
    return scanned


def stats_of(ref: TensorRef, buffer: object = None, progress: Progress | None = None) -> Stats:
    """Statistics of one tensor, read a block at a time."""
    from inspectcli import values
    from inspectcli.stats import Stats

    total = (ref.held // values.expansion(ref)) * ref.dtype.per_element
    made = Stats.empty()
    for block in values.blocks(ref, buffer):  # type: ignore[arg-type]
        made = made.merge(Stats.of(block.values, block.dtype, made.count, total))
        if progress is not None:
            progress(block.stored)
    if made.nonfinite and values.is_reordered(ref):
        made = replace(made, first_nonfinite=values.first_nonfinite(ref))
    return made.repeat(values.expansion(ref)).with_zeros(ref.implicit_zeros)


class _Checks:
    """CRC-32 of the records of an archive, computed in threads of their own."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._todo = iter(tuple(checks))
        self._bad: list[Check] = []
        self._lock = threading.Lock()
        self._stop = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2 if checks else 0)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        buffer = bytearray(_CHECK_BLOCK)
        while not self._stop:
            with self._lock:
                check = next(self._todo, None)
            if check is None:
                return
            try:
                good = _crc(check, buffer) == check.crc
            except PinspectError:
                continue  # the reader of the values reports it
            if not good:
                self._bad.append(check)

    def failures(self) -> list[Check]:
        """Wait for all, and return those that do not match."""
        for thread in self._threads:
            thread.join()
        return self._bad


def _crc(check: Check, buffer: bytearray) -> int:
    view, crc = memoryview(buffer), 0
    for start in range(0, check.nbytes, len(buffer)):
        part = view[: min(len(buffer), check.nbytes - start)]
        check.source.read_into(check.offset + start, part)
        crc = zlib.crc32(part, crc)
    return crc
