"""What `pinspect MODEL` knows of each file, as plain data: the `pinspect/1` object, one dataclass per level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from inspectcli.contract import SCHEMA
from inspectcli.errors import PinspectError
from inspectcli.tensors.model import Hazard, Kind, Training

if TYPE_CHECKING:
    from inspectcli.analysis.facts import InitMatch
    from inspectcli.analysis.findings import Finding
    from inspectcli.measure.stats import Sampled


class TensorStats(NamedTuple):
    """Figures of one tensor; None where there is no finite value. `sampled` says of how many values it is."""

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


class TensorRow(NamedTuple):
    """One tensor of the report. A tied tensor carries the figures of the one it is tied to.

    `packed`: its elements are words that hold several values each, and have no figures of their own.
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
        optimizer_parameters, buffer_parameters: of these kinds.
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


class FileError(NamedTuple):
    """Why a file could not be read, or not completely."""

    code: str
    message: str
    hint: str = ""

    @staticmethod
    def of(error: PinspectError) -> FileError:
        return FileError(error.code, error.message, error.hint)


@dataclass(frozen=True)
class FileReport:
    """One checkpoint.

    Attributes:
        read: whether values were read (False: headers only).
        tensors: all, or those that were asked for; `totals` is of all.
        unread: tensors whose values were not asked for.
        hyperparameters: the ten most important that the file holds: name, value, what it is by now (None if unknown).
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
    hyperparameters: tuple[tuple[str, object, object], ...] = ()

    @property
    def problems(self) -> tuple[TensorRow, ...]:
        """Tensors that could not be read."""
        return tuple(row for row in self.tensors if row.problem)

    def __getitem__(self, name: str) -> TensorRow:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, TensorRow]:
        return {row.name: row for row in reversed(self.tensors)}  # of equal names the first counts


@dataclass(frozen=True, slots=True)
class InspectReport:
    """What `inspect` returns: the same data as `pinspect --format json`."""

    files: tuple[FileReport, ...]

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`, with numbers as numbers."""
        return {"schema": SCHEMA, "command": "inspect", "files": [_file_document(f) for f in self.files]}


def _file_document(report: FileReport) -> dict[str, Any]:
    return {
        "path": report.path,
        "format": report.format,
        "size": report.size,
        "error": report.error and report.error._asdict(),
        "totals": report.totals and {name: getattr(report.totals, name) for name in Totals._fields},
        "tensors": [_tensor_document(row) for row in report.tensors],
        "metadata": report.metadata,
        "foreign": report.foreign,
        "findings": [finding._asdict() for finding in report.findings],
        "writer": report.writer,
        "training": {
            "epoch": report.training.epoch,
            "step": report.training.step,
            "optimizer": report.training.optimizer,
        },
        "hyperparameters": {
            name: {"value": value, "current": current} for name, value, current in report.hyperparameters
        },
        "unsafe": [{"what": h.what, "where": h.where} for h in report.hazards],
        "notes": report.notes,
        "files": report.files,
    }


def _tensor_document(row: TensorRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": row.shape,
        "dtype": row.dtype,
        "kind": row.kind.value,
        "numel": row.numel,
        "nbytes": row.nbytes,
        "alias_of": row.alias_of,
        "stats": row.stats and _stats_document(row.stats),
        **({"layer": row.layer} if row.layer else {}),
        **({"note": row.note} if row.note else {}),
        **({"problem": row.problem} if row.problem else {}),
        **({"init": row.init._asdict()} if row.init else {}),
    }


def _stats_document(stats: TensorStats) -> dict[str, Any]:
    made = {name: getattr(stats, name) for name in TensorStats._fields}
    sampled = stats.sampled
    made["sampled"] = sampled and {name: getattr(sampled, name) for name in type(sampled).__slots__ if name != "knots"}
    return made
