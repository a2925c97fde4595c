"""What `pinspect MODEL` knows of each file, as plain data: the `pinspect/1` object, one dataclass per level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_FOUND, Severity
from inspectcli.document import report_document, written
from inspectcli.errors import FileError
from inspectcli.tensors.model import Hazard, Kind, Training

if TYPE_CHECKING:
    from inspectcli.analysis.facts import InitMatch
    from inspectcli.analysis.findings import Finding
    from inspectcli.analysis.training import TrainingJudgment
    from inspectcli.measure.sample import Sampled


class TensorStats(NamedTuple):
    """Figures of one tensor; None where there is no finite value.

    Attributes:
        mean: of the finite values.
        std: their standard deviation.
        min: the smallest finite value.
        max: the largest finite value.
        abs_max: the largest magnitude.
        l2: square root of the sum of squares.
        zeros: number of zeros.
        subnormals: number of values too small for the full precision of their type.
        nan: number of NaN.
        posinf: number of +Inf.
        neginf: number of -Inf.
        first_nonfinite: place of the first NaN or Inf, in C order.
        sampled: figures that need values at hand, of a sample.
    """

    mean: float | None
    std: float | None
    min: float | int | None
    max: float | int | None
    abs_max: float | int | None
    l2: float
    zeros: int
    subnormals: int
    nan: int
    posinf: int
    neginf: int
    first_nonfinite: int | None
    sampled: Sampled | None

    @property
    def nonfinite(self) -> int:
        return self.nan + self.posinf + self.neginf


@written(quiet=("layer", "note", "problem", "init", "packed"))
class TensorRow(NamedTuple):
    """One tensor of the report. A tied tensor carries the figures of the one it is tied to.

    Attributes:
        name: as a user of the model knows it.
        shape: as the writing library gives it.
        dtype: element type, as in safetensors' files, in lower case.
        kind: what it is for.
        numel: number of elements.
        nbytes: bytes that its elements take.
        alias_of: name of the tensor that it is tied to; None if it is tied to none.
        stats: figures of its values; None if they were not read, or have no mean.
        layer: the class of the module it belongs to, if the file says so.
        note: what a reader should know (`sparse_coo, 12 stored`).
        problem: why its values cannot be read.
        init: which initializer its numbers look like.
        packed: whether it holds several values in each element, which are never averaged.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind
    numel: int
    nbytes: int
    alias_of: str | None
    stats: TensorStats | None
    layer: str = ""
    note: str = ""
    problem: str = ""
    init: InitMatch | None = None
    packed: bool = False


class Totals(NamedTuple):
    """Counts over all tensors of a file.

    Attributes:
        tensors: entries.
        model_tensors: entries that are not training state.
        parameters: elements of all entries, tied ones each time.
        unique_parameters: elements, a (storage, offset, shape, strides) once.
        model_parameters: without optimizer, callbacks, hyper_parameters and random states.
        unique_model_parameters: the same, tied ones once.
        optimizer_parameters: elements of the optimizer's state.
        buffer_parameters: elements of buffers.
        bytes: of unique entries.
        by_dtype: elements of all entries, by element type, most first.
    """

    tensors: int
    model_tensors: int
    parameters: int
    unique_parameters: int
    model_parameters: int
    unique_model_parameters: int
    optimizer_parameters: int
    buffer_parameters: int
    bytes: int
    by_dtype: Mapping[str, int]


class Hyperparameter(NamedTuple):
    """A value that was set before training.

    Attributes:
        value: as configured; None if only the current one is known.
        current: what it is by now; None if nothing tells.
    """

    value: object
    current: object


@dataclass(frozen=True)
class FileReport:
    """One checkpoint.

    Attributes:
        path: what was named.
        format: how it is stored: `torch-zip`, `safetensors`, ...; empty if that is not known.
        size: bytes of all its files.
        error: why it could not be read, or not completely; None if it was.
        totals: counts over all tensors; None if the file could not be opened.
        tensors: all, or those that were asked for.
        writer: the library that wrote it, as far as known.
        training: how far training was.
        metadata: facts of the container: versions, header strings, counts.
        foreign: classes that the file names and that are neither the library's nor Python's; none was imported.
        hazards: what would act on a careless loader.
        notes: what a reader should know, and what was not looked at.
        files: the files it consists of, if more than one.
        findings: what the rules found, worst first.
        read: whether values were read; False if only the headers were.
        unread: number of tensors that were not asked for.
        hyperparameters: the most important that the file holds, by canonical name.
        trained: whether the model was trained, as its values tell; None if they were not read.
    """

    path: str
    format: str
    size: int
    error: FileError | None
    totals: Totals | None
    tensors: tuple[TensorRow, ...]
    writer: str = ""
    training: Training = field(default_factory=Training)
    metadata: Mapping[str, object] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    read: bool = True
    unread: int = 0
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    trained: TrainingJudgment | None = None

    @property
    def problems(self) -> tuple[TensorRow, ...]:
        """Tensors that could not be read."""
        return tuple(row for row in self.tensors if row.problem)

    def __getitem__(self, name: str) -> TensorRow:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, TensorRow]:
        return {row.name: row for row in reversed(self.tensors)}  # of equal names the first counts


class Coverage(NamedTuple):
    """What was looked at, and what was not: nothing is said of the rest.

    Attributes:
        files: checkpoints that were read.
        unread: those that could not be read, or not completely; each has its reason in `files` of the report.
        passed_over: files in the folders, or given by a hook, that are no checkpoints.
        closed: hidden folders, and links to folders, that were not searched.
        tensors: of the checkpoints, as far as they could be opened.
        tensors_read: those whose values were looked at, tied ones each time.
        bytes: of the checkpoints.
        bytes_read: of values that were looked at.
    """

    files: int = 0
    unread: int = 0
    passed_over: int = 0
    closed: int = 0
    tensors: int = 0
    tensors_read: int = 0
    bytes: int = 0
    bytes_read: int = 0

    def with_file(self, file: FileReport) -> Coverage:
        """With one more checkpoint."""
        read = [row for row in file.tensors if row.stats is not None]
        return self._replace(
            files=self.files + (file.error is None),
            unread=self.unread + (file.error is not None),
            tensors=self.tensors + (file.totals.tensors if file.totals is not None else 0),
            tensors_read=self.tensors_read + len(read),
            bytes=self.bytes + file.size,
            bytes_read=self.bytes_read + sum(row.nbytes for row in read if not row.alias_of),
        )

    def with_search(self, passed_over: int, closed: int) -> Coverage:
        """With what a search came upon besides checkpoints."""
        return self._replace(passed_over=self.passed_over + passed_over, closed=self.closed + closed)


@written(also=("exit_code",))
@dataclass(frozen=True, slots=True)
class InspectReport:
    """What `inspect` returns: the same data as `pinspect --format json`.

    Attributes:
        files: one for each path, in their order.
        strict: whether errors and warnings of the rules count for the exit code.
        coverage: what was looked at, and what was not.
    """

    files: tuple[FileReport, ...]
    strict: bool = False
    coverage: Coverage = Coverage()  # noqa: RUF009  (immutable)

    @property
    def exit_code(self) -> int:
        """2 if a file could not be read; 1 if one would run code or, when strict, has an error or a warning; else 0."""
        if any(file.error for file in self.files):
            return EXIT_FAILED
        told = self.strict and any(f.severity is not Severity.NOTE for file in self.files for f in file.findings)
        return EXIT_FOUND if told or any(file.hazards for file in self.files) else EXIT_CLEAN

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("inspect", self)
