"""A folder of one run's checkpoints: how far each is from the first, and from the one before."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from inspectcli.commands.diff.compare import Status
from inspectcli.commands.diff.modules import by_module
from inspectcli.commands.diff.result import DiffReport
from inspectcli.commands.diff.run import Options, diff_checkpoints
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_FOUND
from inspectcli.display.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Field,
    Heading,
    Later,
    Note,
    Report,
    Row,
    Table,
    Tone,
    table_of,
)
from inspectcli.display.text import natural_key, number
from inspectcli.document import Deferred, report_document, written
from inspectcli.errors import ChangedFileError, FileError, NotReadableError, PinspectError
from inspectcli.formats import open_location
from inspectcli.formats.discovery import models_in
from inspectcli.formats.folder import model_suffixes
from inspectcli.measure.scan import scan
from inspectcli.measure.workers import Progress
from inspectcli.storage import Location, locate
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.model import TRAINING_STATE, Checkpoint, Hazard
from inspectcli.tensors.names import common_prefix, module_of

#: Modules that have a row of their own in the table; the JSON has all.
_MOST_MODULES = 24


class Change(NamedTuple):
    """How far two checkpoints, or two modules, are apart.

    Attributes:
        l2: ||a - b||.
        rel: the same as a share of the norm in the first checkpoint; None if that was zero.
    """

    l2: float
    rel: float | None


class ModuleChange(NamedTuple):
    """How far a module is from what it was.

    Attributes:
        name: of the module.
        from_first: since the first checkpoint.
        from_previous: since the one before.
    """

    name: str
    from_first: Change
    from_previous: Change


class RunPoint(NamedTuple):
    """One checkpoint of a run.

    Attributes:
        name: of the file or folder.
        step: of the training, as far as the file says so.
        same_as_previous: whether it equals the one before in every tensor; true of the first.
        from_first: change of all since the first checkpoint; None for that one itself.
        from_previous: change of all since the one before; None for the first.
        added: number of tensors that the one before does not have.
        removed: number of tensors that only the one before has.
        modules: the same changes by module.
        hazards: what would act on a careless loader.
    """

    name: str
    step: int | float | None
    same_as_previous: bool
    from_first: Change | None = None
    from_previous: Change | None = None
    added: int = 0
    removed: int = 0
    modules: tuple[ModuleChange, ...] = ()
    hazards: tuple[Hazard, ...] = ()


@written(also=("exit_code",))
@dataclass(frozen=True, slots=True)
class RunDiff:
    """A run, checkpoint by checkpoint: the same data as `pinspect diff DIR --format json`.

    Attributes:
        path: the folder.
        trajectory: its checkpoints, in the order of their steps.
        problems: why some of them could not be read, or not completely.
    """

    path: str
    trajectory: tuple[RunPoint, ...]
    problems: tuple[FileError, ...] = ()

    @property
    def exit_code(self) -> int:
        """2 if something could not be read, 1 if a checkpoint differs from the one before, else 0."""
        if self.problems:
            return EXIT_FAILED
        return EXIT_CLEAN if all(point.same_as_previous for point in self.trajectory) else EXIT_FOUND

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("diff", self)


def trajectory(path: str, options: Options, progress: Progress | None = None) -> RunDiff:
    """Compare the checkpoints of a folder in the order of their steps.

    Raises:
        NotReadableError: there are fewer than two.
    """
    opened, problems = _checkpoints(locate(path))
    if len(opened) < 2:
        raise NotReadableError(
            f"{len(opened)} readable checkpoints, at least two expected"
            + (f" ({problems[0].path}: {problems[0].message})" if problems else ""),
            "name two checkpoints, or the folder that holds those of a run",
            path,
        )
    first = opened[0][1]
    norms = _norms(first, options)
    points = [RunPoint(opened[0][0], first.training.step, True, hazards=first.hazards)]
    for (_, before), (name, now) in pairwise(opened):
        since_first = diff_checkpoints(first, now, options, progress)
        since_last = since_first if before is first else diff_checkpoints(before, now, options, progress)
        problems += [FileError("tensor-unreadable", f"{t.name}: {t.problem}", path=name) for t in since_last.problems]
        points.append(_point(name, now, since_first, since_last, norms))
    problems += _changes(opened)
    return RunDiff(path, tuple(points), tuple(problems))


def _changes(opened: Iterable[tuple[str, Checkpoint]]) -> Iterator[FileError]:
    """What was written to while it was compared."""
    for name, checkpoint in opened:
        try:
            ensure_unchanged(checkpoint.sources)
        except ChangedFileError as error:
            yield FileError.of(error)._replace(path=name)


def _point(name: str, now: Checkpoint, first: DiffReport, last: DiffReport, norms: dict[str, float]) -> RunPoint:
    a, b = _by_module(first, norms), _by_module(last, norms)
    none = Change(0.0, 0.0)
    return RunPoint(
        name=name,
        step=now.training.step,
        same_as_previous=last.same,
        from_first=_together(a.values(), norms),
        from_previous=_together(b.values(), norms),
        added=last.counts[Status.ADDED.value],
        removed=last.counts[Status.REMOVED.value],
        modules=tuple(
            ModuleChange(module, a.get(module, none), b.get(module, none)) for module in dict.fromkeys([*a, *b])
        ),
        hazards=now.hazards,
    )


def _by_module(report: DiffReport, norms: dict[str, float]) -> dict[str, Change]:
    rows = [t for t in report.tensors if not t.is_state]
    return {m.name: _change(m.l2, norms.get(m.name, 0.0)) for m in by_module(rows)}


def _together(changes: Iterable[Change], norms: dict[str, float]) -> Change:
    total = math.sqrt(sum(c.l2**2 for c in changes))
    return _change(total, math.sqrt(sum(n**2 for n in norms.values())))


def _change(l2: float, norm: float) -> Change:
    return Change(l2, l2 / norm if norm else 0.0 if not l2 else None)


def _norms(checkpoint: Checkpoint, options: Options) -> dict[str, float]:
    """Norm of each module of the first checkpoint."""
    wanted = options.wanted
    refs = [r for r in checkpoint.tensors if r.kind not in TRAINING_STATE and (wanted is None or wanted(r.name))]
    prefix = common_prefix([ref.name for ref in refs])
    names = {id(ref) for ref in refs}
    squares: dict[str, float] = {}
    for scanned in scan(checkpoint):
        if id(scanned.ref) in names and scanned.stats is not None:
            module = module_of(scanned.ref.name, prefix)
            squares[module] = squares.get(module, 0.0) + scanned.stats.l2**2
    return {module: math.sqrt(s) for module, s in squares.items()}


# -- which checkpoints ------------------------------------------------------------------------------------


def _checkpoints(folder: Location) -> tuple[list[tuple[str, Checkpoint]], list[FileError]]:
    """(name, checkpoint) in the order of steps; and what could not be read."""
    opened, problems = [], []
    for location in _candidates(folder):
        try:
            opened.append((location.name, open_location(location)))
        except PinspectError as error:
            problems.append(FileError.of(error)._replace(path=location.name))
    steps = [c.training.step for _, c in opened]
    known = [s for s in steps if s is not None]
    if len(known) == len(steps) == len(set(known)):
        opened.sort(key=lambda item: item[1].training.step or 0)
    return opened, problems


def _candidates(folder: Location) -> list[Location]:
    """Models in the folder and folders with a model, those without a number at the end: `final` follows the steps."""
    found = list(models_in(folder))
    for entry in folder.list():
        inner = folder.join(entry.name)
        if not entry.name.startswith(".") and inner.is_folder() and models_in(inner):
            found.append(inner)
    suffixes = re.compile("|".join(rf"{re.escape(suffix)}\b" for suffix in model_suffixes()))
    return sorted(found, key=lambda location: _step_order(suffixes.sub("", location.name)))


def _step_order(stem: str) -> tuple[bool, tuple[object, ...]]:
    """`checkpoint-500` before `checkpoint-1000`, and what has no number last."""
    return not re.search("[0-9]", stem), natural_key(stem)


# -- what people see --------------------------------------------------------------------------------------


def present_trajectory(found: RunDiff) -> Report:
    """Blocks for people, the document for programs, one record for each checkpoint and module."""
    blocks: list[Block] = [Heading(found.path, f"{len(found.trajectory):,} checkpoints in step order")]
    if found.problems:
        blocks.append(Facts(tuple(("not read", Cell(problem_text(p), Tone.BAD)) for p in found.problems[:5])))
    blocks.append(_table(found.trajectory))
    blocks.extend(_modules(found.trajectory))
    blocks.append(
        Note("changes are ||a - b|| as a share of the norm in the first checkpoint; --format json has both", Tone.DIM)
    )
    return Report(
        "diff", tuple(blocks), Deferred("diff", lambda: found), Later(partial(_records, found)), found.exit_code
    )


def problem_text(problem: FileError) -> str:
    """`checkpoint-500: why`."""
    return f"{problem.path}: {problem.message}"


def _table(steps: Sequence[RunPoint]) -> Table:
    fields = (
        Field(Column("name", "checkpoint", keep=100, flexible=True, min_width=16), lambda s: Cell(s.name)),
        Field(Column("step", right=True, keep=60), _step_cell),
        *_change_fields("from_first", "from the first", 95, 40, [s.from_first for s in steps]),
        *_change_fields("from_previous", "from the previous", 94, 39, [s.from_previous for s in steps]),
        Field(Column("remark", "most changed", keep=50, flexible=True, min_width=12), _remark),
    )
    return table_of(fields, steps, lambda s: s.name)


def _step_cell(step: RunPoint) -> Cell:
    return Cell("" if step.step is None else f"{step.step:,}", Tone.DIM, step.step)


def _change_fields(
    name: str, title: str, keep: int, keep_bar: int, changes: Sequence[Change | None]
) -> Iterator[Field[RunPoint]]:
    """A change as a share, and as a bar beside the largest one."""
    most = max((c.l2 for c in changes if c), default=0.0)

    def bar(step: RunPoint) -> Cell:
        change: Change | None = getattr(step, name)
        if change is None:
            return Cell("")
        return Cell("█" * round(10 * change.l2 / most) if most else "", Tone.WARN)

    yield Field(Column(name, title, right=True, keep=keep), lambda step: _change_cell(getattr(step, name)))
    yield Field(Column(f"{name}.bar", "scale", keep=keep_bar), bar)


def _change_cell(change: Change | None) -> Cell:
    return Cell("–", Tone.DIM) if change is None else Cell(_share(change), Tone.STRONG, change.rel)


def _remark(step: RunPoint) -> Cell:
    top = max(step.modules, key=lambda module: module.from_previous.rel or 0.0, default=None)
    changed = step.added or step.removed
    structure = f"{step.added:,} tensors added, {step.removed:,} removed" if changed else ""
    remark = "same as the one before" if step.same_as_previous and step.from_first else structure
    return Cell(top.name if top and top.from_previous.l2 and not remark else remark, Tone.DIM)


def _share(change: Change) -> str:
    return "was zero" if change.rel is None else number(change.rel)


def _modules(steps: Sequence[RunPoint]) -> Iterator[Block]:
    """From the first and from the previous checkpoint, by module; a column for each checkpoint."""
    names = list(dict.fromkeys(module.name for step in steps for module in step.modules))
    known = [{module.name: module[1:] for module in step.modules} for step in steps[1:]]
    names.sort(key=lambda name: -max((k[name][0].rel or 0.0) for k in known if name in k))
    for title, which in (("from the first, by module", 0), ("from the previous, by module", 1)):
        yield Heading(title)
        columns = (
            Column("module", keep=1000, flexible=True, min_width=12),
            *(Column(f"steps.{step.name}", step.name, right=True, keep=100 + i) for i, step in enumerate(steps[1:])),
        )
        rows = (
            Row((Cell(name), *(_cell_of(k[name][which]) if name in k else Cell("") for k in known)), key=name)
            for name in names[:_MOST_MODULES]
        )
        yield Table(columns, tuple(rows))
        if len(names) > _MOST_MODULES:
            yield Note(f"{len(names) - _MOST_MODULES:,} modules changed less", Tone.DIM)


def _cell_of(change: Change) -> Cell:
    return Cell(_share(change), value=change.rel)


def _records(found: RunDiff) -> Iterator[dict[str, object]]:
    for step in found.trajectory:
        for name, first, last in step.modules:
            yield {
                "checkpoint": step.name,
                "step": step.step,
                "module": name,
                "from_first": first.l2,
                "from_first_relative": first.rel,
                "from_previous": last.l2,
                "from_previous_relative": last.rel,
            }
