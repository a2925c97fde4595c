"""One pass over a checkpoint: its tensors are measured by several workers, and its checksums compared beside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from inspectcli.measure.base import Measurement
from inspectcli.measure.figures import Figures, Sample
from inspectcli.measure.plan import FIGURES, plan
from inspectcli.measure.task import Measured, Measurements, Partial, Results, Task, measure, results_of, run_task
from inspectcli.measure.workers import Progress, WorkerPool
from inspectcli.storage.memory import place
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Checksum
from inspectcli.tensors.model import Checkpoint, TensorRef, aliases

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from inspectcli.measure.sample import Sampled
    from inspectcli.measure.stats import Stats
    from inspectcli.tensors.values import Bytes

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ScannedTensor:
    """A tensor and what reading it gave.

    Attributes:
        ref: its description.
        alias_of: name of the tensor it is tied to; then it was not read again.
        results: what was measured -> what was found; empty if there is nothing to measure (see `ref.note`), or it
            could not be read (see `problem`).
        problem: why it could not be read.
    """

    ref: TensorRef
    alias_of: str = ""
    results: Results = field(default_factory=dict)
    problem: str = ""

    def get(self, measurement: type[Measurement[R]]) -> R | None:
        """What a measurement gave; None if it was not asked for, or does not apply."""
        found: R | None = self.results.get(measurement)
        return found

    @property
    def stats(self) -> Stats | None:
        """Counts, bounds and moments."""
        return self.get(Figures)

    @property
    def sampled(self) -> Sampled | None:
        """Quantiles, kurtosis and histogram, of the sample."""
        return self.get(Sample)


def scan(
    checkpoint: Checkpoint,
    measurements: Measurements = FIGURES,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Sequence[ScannedTensor]:
    """Every tensor, in file order, with what was measured.

    Args:
        checkpoint: an opened checkpoint.
        measurements: what to work out; of none of them for headers only.
        progress: told how many bytes were read; never by two threads at once.
        executor: what runs the tasks, for instance a `ProcessPoolExecutor`; threads of our own if None. The figures
            are the same, to the last bit.

    A tensor that cannot be read is given with its problem; the run goes on.
    """
    tied = aliases(checkpoint.tensors)
    tensors = [ScannedTensor(ref, tied.get(i, ""), problem=ref.problem) for i, ref in enumerate(checkpoint.tensors)]
    if not measurements:
        return tensors
    to_read = ((i, t.ref) for i, t in enumerate(tensors) if not t.alias_of and not t.problem)
    tasks = list(plan(to_read, checkpoint.checksums, measurements))
    bad: list[Checksum] = []
    parts: dict[int, list[Measured]] = {}
    for partial in _run(tasks, progress, executor):
        bad.extend(checkpoint.checksums[i] for i in partial.bad)
        for measured in partial.tensors:
            parts.setdefault(measured.position, []).append(measured)
    for position, found in parts.items():
        tensors[position] = _merged(tensors[position], found)
    return _marked(tensors, bad)


def _run(tasks: Sequence[Task], progress: Progress | None, executor: Executor | None) -> Iterable[Partial]:
    """What the tasks give, in any order; raises what one of them raised."""
    if executor is None:
        return _in_threads(tasks, progress)
    return _by_executor(sorted(tasks, key=lambda task: -task.nbytes), progress, executor)


def _in_threads(tasks: Sequence[Task], progress: Progress | None) -> list[Partial]:
    from inspectcli.tensors.values import new_buffer  # imports NumPy, once, before there are threads

    done: list[Partial] = []
    pool = WorkerPool(((task.nbytes, task) for task in tasks), progress)

    def worker() -> Callable[[Task], None]:
        buffer = new_buffer()
        return lambda task: done.append(run_task(task, buffer, pool.advance))

    pool.run(worker)
    return done


def _by_executor(tasks: Sequence[Task], progress: Progress | None, executor: Executor) -> Iterator[Partial]:
    for task, partial in zip(tasks, executor.map(run_task, tasks), strict=True):
        if progress is not None:
            progress(task.nbytes)
        yield partial


def _merged(tensor: ScannedTensor, parts: list[Measured]) -> ScannedTensor:
    """A tensor with the results of its parts, in the order of its bytes."""
    parts.sort(key=lambda part: part.start)
    problem = next((part.problem for part in parts if part.problem), "")
    if problem:
        return ScannedTensor(tensor.ref, problem=problem)
    if parts[0].results is not None:
        return ScannedTensor(tensor.ref, tensor.alias_of, parts[0].results)
    made = zip(*(part.parts for part in parts), strict=True)
    return replace(tensor, results=results_of([reduce(lambda a, b: a.merge(b), same) for same in made]))


def _marked(tensors: list[ScannedTensor], bad: Sequence[Checksum]) -> list[ScannedTensor]:
    """With a problem for each tensor that has bytes in a range whose checksum is wrong."""
    if not bad:
        return tensors
    ranges: dict[Source, list[tuple[int, int, str]]] = {}
    for check in bad:
        source, offset = place(check.source, check.offset)
        ranges.setdefault(source, []).append((offset, offset + check.nbytes, check.name))
    for of_source in ranges.values():
        of_source.sort()  # the ranges of an archive do not overlap

    def marked(scanned: ScannedTensor) -> ScannedTensor:
        for segment in scanned.ref.segments:
            source, offset = place(segment.source, segment.offset)
            of_source = ranges.get(source, [])
            before = bisect_right(of_source, offset, key=itemgetter(0)) - 1
            if before >= 0 and offset < of_source[before][1]:
                what = f"the bytes of {of_source[before][2]} are not those that were written"
                return ScannedTensor(scanned.ref, problem=f"CRC mismatch: {what}")
        return scanned

    return [marked(scanned) for scanned in tensors]


def stats_of(ref: TensorRef, buffer: Bytes | None = None, progress: Progress | None = None) -> Stats:
    """Counts, bounds and moments of one tensor."""
    (made,) = measure(ref, (Figures,), buffer, progress)
    stats: Stats = made.result()
    return stats
