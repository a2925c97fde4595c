"""From paths and models to an InspectReport: open, scan, analyze."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inspectcli.commands.inspect.result import FileReport, Hyperparameter, InspectReport, TensorRow, TensorStats, Totals
from inspectcli.errors import FileError, PinspectError
from inspectcli.formats import open_location
from inspectcli.formats.discovery import Found, is_no_checkpoint, may_hold_anything, search
from inspectcli.storage import Location, locate, size_of
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import TRAINING_STATE, Checkpoint, Kind, TensorRef

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from inspectcli.analysis.facts import InitMatch
    from inspectcli.analysis.findings import Rule
    from inspectcli.measure.scan import ScannedTensor
    from inspectcli.measure.workers import Progress
from inspectcli.display.text import listed


def inspect_checkpoint(
    checkpoint: Checkpoint,
    read: bool = True,
    wanted: Callable[[TensorRef], bool] | None = None,
    progress: Progress | None = None,
    rules: Sequence[Rule] | None = None,
    executor: Executor | None = None,
) -> FileReport:
    """Read what is wanted of an opened checkpoint, and judge it.

    Args:
        checkpoint: from `open_checkpoint`.
        read: False for headers only.
        wanted: which tensors to read and list; None for all. Totals are always of all.
        progress: called with numbers of bytes, as they are read.
        rules: those to judge by; None for all that run by default.
        executor: what reads the values; threads of our own if None.
    """
    from inspectcli.analysis.analyze import analyze, chosen
    from inspectcli.hparams.summary import important, rows_of
    from inspectcli.measure.plan import wanted as measured
    from inspectcli.measure.scan import scan

    refs = checkpoint.tensors if wanted is None else tuple(r for r in checkpoint.tensors if wanted(r))
    rows: dict[str, TensorRow] = {}
    made: list[TensorRow] = []
    measurements = measured(chosen(rules)) if read else ()
    tensors = scan(replace(checkpoint, tensors=refs), measurements, progress, executor)
    hyperparameters = rows_of(checkpoint)
    analysis = analyze(checkpoint, tensors, read, rules, hyperparameters)
    for scanned in tensors:
        row = _row(scanned, rows, analysis.verdicts.get(scanned.ref.name))
        rows.setdefault(row.name, row)
        made.append(row)
    return FileReport(
        path=checkpoint.path,
        format=checkpoint.format,
        size=checkpoint.size,
        error=_row_error(made, refs) if read else None,
        totals=totals(checkpoint.tensors),
        tensors=tuple(made),
        writer=checkpoint.writer,
        training=checkpoint.training,
        metadata=checkpoint.metadata,
        foreign=checkpoint.foreign,
        hazards=checkpoint.hazards,
        notes=checkpoint.notes,
        files=checkpoint.files,
        findings=analysis.findings,
        read=read,
        unread=len(checkpoint.tensors) - len(refs),
        hyperparameters={
            value.name: Hyperparameter(value.value, value.current)
            for value in (important(hyperparameters) if hyperparameters else ())
        },
        trained=analysis.trained if read else None,
    )


def _row(scanned: ScannedTensor, rows: Mapping[str, TensorRow], init: InitMatch | None) -> TensorRow:
    ref = scanned.ref
    first = rows.get(scanned.alias_of) if scanned.alias_of else None
    return TensorRow(
        name=ref.name,
        shape=ref.shape,
        dtype=ref.dtype.name,
        kind=ref.kind,
        numel=ref.numel,
        nbytes=ref.nbytes,
        alias_of=scanned.alias_of or None,
        stats=first.stats if first else _stats(scanned),
        layer=ref.layer,
        note=ref.note,
        packed=ref.packed,
        problem=scanned.problem or (first.problem if first else ""),
        init=init,
    )


def _stats(scanned: ScannedTensor) -> TensorStats | None:
    s = scanned.stats
    if s is None:
        return None
    some = s.finite > 0
    return TensorStats(
        mean=s.mean if some else None,
        std=s.std if some else None,
        min=s.low,
        max=s.high,
        abs_max=s.abs_max,
        l2=s.l2,
        zeros=s.zeros,
        subnormals=s.subnormals,
        nan=s.nan,
        posinf=s.posinf,
        neginf=s.neginf,
        first_nonfinite=s.first_nonfinite,
        sampled=scanned.sampled,
    )


def _row_error(rows: Iterable[TensorRow], tensors: Iterable[TensorRef]) -> FileError | None:
    """A file of which a tensor cannot be read was not read: said where its values were asked for."""
    bad = [(row, ref) for row, ref in zip(rows, tensors, strict=True) if row.problem]
    if not bad:
        return None
    return FileError(
        "tensor-unreadable",
        listed([f"{row.name}: {row.problem}" for row, _ in bad], 1, "tensor", "; "),
        bad[0][1].cure or "do not trust the values; get the file again",
    )


def totals(tensors: Iterable[TensorRef]) -> Totals:
    """Counts, as torch's `numel` counts."""
    seen: set[tuple[object, ...]] = set()
    counted = dict.fromkeys(Totals._fields, 0)
    by_dtype: dict[str, int] = {}
    for ref in tensors:
        n = ref.numel
        new = ref.storage is None or ref.storage not in seen
        if ref.storage is not None:
            seen.add(ref.storage)
        counted["tensors"] += 1
        counted["model_tensors"] += ref.kind not in TRAINING_STATE
        counted["parameters"] += n
        counted["unique_parameters"] += n * new
        counted["model_parameters"] += n * (ref.kind not in TRAINING_STATE)
        counted["unique_model_parameters"] += n * (new and ref.kind not in TRAINING_STATE)
        counted["optimizer_parameters"] += n * (ref.kind is Kind.OPTIMIZER)
        counted["buffer_parameters"] += n * (ref.kind is Kind.BUFFER)
        counted["bytes"] += ref.nbytes * new
        if n or ref.dtype.family is not NumberClass.OPAQUE:  # a tensor whose shard is missing has neither
            by_dtype[ref.dtype.name] = by_dtype.get(ref.dtype.name, 0) + n
    del counted["by_dtype"]
    return Totals(**counted, by_dtype=dict(sorted(by_dtype.items(), key=lambda item: -item[1])))


def inspect_path(
    path: str | Location,
    read: bool = True,
    wanted: Callable[[TensorRef], bool] | None = None,
    progress: Progress | None = None,
    rules: Sequence[Rule] | None = None,
    executor: Executor | None = None,
) -> FileReport:
    """Open, read and judge one checkpoint; what goes wrong stands in `error`."""
    try:
        checkpoint = open_location(locate(path))
        report = inspect_checkpoint(checkpoint, read, wanted, progress, rules, executor)
        ensure_unchanged(checkpoint.sources)
        return report
    except PinspectError as error:
        return unreadable(error.path or str(path), error)
    except RecursionError:
        return unreadable(str(path), PinspectError("nested too deeply to be read"))
    except MemoryError:
        return unreadable(str(path), PinspectError("it needs more memory than there is"))


class Searched:
    """The checkpoints that some paths name, each once; a folder that cannot be searched stands as its error.

    Args:
        paths: files and folders.

    Attributes:
        passed_over: files in the folders that are no checkpoints.
        closed: folders that were not looked into.
        refused: reports of texts that name no place.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = paths
        self.passed_over = 0
        self.closed = 0
        self.refused: list[FileReport] = []

    def __iter__(self) -> Iterator[Found]:
        seen: set[Location] = set()
        for path in self._paths:
            for found in self._of(path):
                if found.place not in seen:
                    seen.add(found.place)
                    yield found

    def _of(self, path: str) -> Sequence[Found]:
        try:
            place = locate(path)
        except PinspectError as error:
            self.refused.append(unreadable(path, error))
            return []
        try:
            made = search(place)
        except PinspectError as error:
            return [Found(place, error, listed=False)]
        self.passed_over += made.passed_over
        self.closed += made.closed
        return made.found

    def passes_over(self, found: Found, report: FileReport) -> bool:
        """Whether a file in a folder turned out to be no checkpoint, which is counted."""
        if report.error is not None:
            nothing = is_no_checkpoint(found, report.error.code)
        else:
            nothing = not ((report.totals and report.totals.tensors) or report.hazards) and may_hold_anything(found)
        self.passed_over += nothing
        return nothing


def inspect_found(
    found: Found,
    read: bool = True,
    wanted: Callable[[TensorRef], bool] | None = None,
    progress: Progress | None = None,
    rules: Sequence[Rule] | None = None,
) -> FileReport:
    """The report of a checkpoint that a search found."""
    if found.error is not None:
        return unreadable(found.error.path or str(found.place), found.error)
    return inspect_path(found.place, read, wanted, progress, rules)


def unreadable(path: str, error: PinspectError) -> FileReport:
    """The report of a file that gave an error and nothing else."""
    return FileReport(path, "", size_of(path), FileError.of(error), None, ())


def inspect(
    target: object, *, stats: bool = True, rules: Sequence[Rule] | None = None, executor: Executor | None = None
) -> InspectReport:
    """Look into checkpoints, or into a model in memory.

    Args:
        target: a path, a list of paths, a `torch.nn.Module`, or a state dict (name -> tensor or array).
        stats: False to read headers only.
        rules: those to judge by; None for all that run by default.
        executor: what reads the values, as a `concurrent.futures.ProcessPoolExecutor`; threads of our own if None.
            The report is the same.

    Returns:
        One FileReport for each path. A path that cannot be read has its reason in `.error`.

    >>> report = inspect("fixtures/mlp.safetensors")
    >>> report.files[0].totals.parameters
    26
    """
    if isinstance(target, str | os.PathLike):
        return InspectReport((inspect_path(os.fspath(target), stats, rules=rules, executor=executor),))
    if isinstance(target, list | tuple):
        paths = [os.fspath(path) for path in target]
        return InspectReport(tuple(inspect_path(path, stats, rules=rules, executor=executor) for path in paths))
    from inspectcli.formats.live import from_live

    return InspectReport((inspect_checkpoint(from_live(target), stats, rules=rules, executor=executor),))
