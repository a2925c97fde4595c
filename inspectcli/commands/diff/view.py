"""Build the report blocks of `pinspect diff`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from inspectcli.commands.diff.compare import Status
from inspectcli.commands.diff.match import How
from inspectcli.commands.diff.metadata import Changed
from inspectcli.commands.diff.modules import Module, by_module
from inspectcli.commands.diff.result import DiffReport, Prefix, Side, TensorDiff
from inspectcli.commands.diff.verdict import correlation_sentence, relative_change
from inspectcli.display.blocks import Block, Cell, Column, Facts, Field, Heading, Later, Note, Report, Tone, table_of
from inspectcli.display.fold import Fold, far, fold_by, fold_table, unfolded, usual
from inspectcli.display.text import clipped, count, listed, number, percent, plural, shape, short, size, span
from inspectcli.document import ABSENT, Deferred
from inspectcli.formats import FORMAT_NAMES

#: Metadata keys shown; the JSON has all.
_MOST_KEYS = 8
#: A fold's member is shown apart if its change is this many times its siblings'.
_RATIO = 3.0

_TONES = {
    Status.ADDED: Tone.GOOD,
    Status.REMOVED: Tone.BAD,
    Status.CHANGED: Tone.WARN,
    Status.RESHAPED: Tone.WARN,
    Status.EQUAL_ROUNDED: Tone.ACCENT,
    Status.WITHIN_TOLERANCE: Tone.ACCENT,
    Status.IDENTICAL: Tone.DIM,
    Status.EQUAL_VALUES: Tone.DIM,
}
_WORDS = {
    Status.ADDED: "added",
    Status.REMOVED: "removed",
    Status.CHANGED: "changed",
    Status.RESHAPED: "reshaped",
    Status.EQUAL_ROUNDED: "rounded",
    Status.WITHIN_TOLERANCE: "close",
    Status.IDENTICAL: "identical",
    Status.EQUAL_VALUES: "equal",
}
_HOW = {
    How.CONTENT: "found by its values",
    How.MODULE: "its module was renamed",
    How.POSITION: "matched by position",
    How.ORDER: "matched by the order of the shapes",
    How.SLICE: "",
    How.CONVENTION: "",
    How.MAP: "by --map",
}


@dataclass(frozen=True, slots=True)
class View:
    """What the person asked to see.

    Attributes:
        all_rows: unchanged tensors too, and no folding.
        only: these statuses; empty for all that are not equal.
        top: at most this many rows; 0 for all.
        stat: one line a module.
    """

    all_rows: bool = False
    only: frozenset[str] = frozenset()
    top: int = 0
    stat: bool = False


def present(report: DiffReport, view: View) -> Report:
    """The whole report: blocks for people, the document for programs, records for spreadsheets."""
    return Report(
        "diff",
        Later(partial(_blocks, report, view)),
        Deferred("diff", lambda: report),
        Later(partial(_records, report)),
        report.exit_code,
    )


def _blocks(report: DiffReport, view: View) -> Iterator[Block]:
    shown = [t for t in report.tensors if _is_wanted(t, report, view)]
    model = [t for t in shown if not t.is_state]
    state = [t for t in shown if t.is_state]
    yield Heading(f"{report.a.path} → {report.b.path}")
    yield Note(report.verdict.text, _verdict_tone(report))
    yield Facts(tuple(_facts(report)))
    if view.stat:
        yield from _stat(report)
    else:
        yield from _rows(model, view)
        if state:
            yield Heading("training state")
            yield from _rows(state, view)
    more = _hidden(report, shown)
    if more and not view.stat:
        yield Note(more, Tone.DIM)


def _verdict_tone(report: DiffReport) -> Tone:
    return Tone.BAD if report.problems else Tone.GOOD if report.same else Tone.WARN


def _is_wanted(t: TensorDiff, report: DiffReport, view: View) -> bool:
    if view.only:
        return t.status is not None and t.status.value in view.only
    renamed = t.how_matched in (How.CONTENT, How.MODULE, How.POSITION, How.ORDER, How.SLICE)
    return (
        view.all_rows
        or not t.is_same
        or renamed
        or bool(t.note)
        or bool(t.zero_signs)
        or t.dtype_a != t.dtype_b
        or bool(t.nan_a or t.nan_b)
    )


# -- facts ------------------------------------------------------------------------------------------------


def _facts(report: DiffReport) -> Iterator[tuple[str, Cell]]:
    yield "A", Cell(_side(report.a))
    yield "B", Cell(_side(report.b))
    for prefix in report.prefixes:
        yield "names", Cell(_prefix(prefix, report))
    wrapped = sum(t.how_matched is How.WRAPPER for t in report.tensors)
    if wrapped:
        yield "names", Cell(f"{plural(wrapped, 'name')} alike but for a wrapper's part inside")
    counted = [f"{n:,} {_WORDS[Status(name)]}" for name, n in report.counts.items() if n]
    if counted:
        yield "tensors", Cell(" · ".join(counted), Tone.STRONG)
    parameters = " · ".join(_parameters(report))
    if parameters:
        yield "parameters", Cell(parameters)
    if report.verdict.correlation is not None:
        yield "evidence", Cell(correlation_sentence(report.verdict.correlation))
    nan = [t for t in report.tensors if t.nan_a or t.nan_b]
    if nan:
        told = listed([f"{t.name}: {t.nan_a:,} in A, {t.nan_b:,} in B" for t in nan], 3, "tensor", "; ")
        tone = Tone.BAD if any(t.nan_a != t.nan_b for t in nan) else Tone.WARN
        yield "NaN", Cell(told, tone)
    for tensor in report.problems[:3]:
        yield "unreadable", Cell(f"{tensor.name}: {tensor.problem}", Tone.BAD)
    for changed in report.metadata[:_MOST_KEYS]:
        yield "metadata", Cell(_metadata(changed))
    if len(report.metadata) > _MOST_KEYS:
        yield (
            "metadata",
            Cell(f"and {plural(len(report.metadata) - _MOST_KEYS, 'more key')} (--format json has all)", Tone.DIM),
        )


def _side(side: Side) -> str:
    name = FORMAT_NAMES.get(side.format, side.format)
    return f"{name} · {size(side.size)} · {count(side.parameters)} parameters in {side.tensors:,} tensors"


def _prefix(prefix: Prefix, report: DiffReport) -> str:
    n = sum(t.how_matched in (How.PREFIX, How.CONVENTION) for t in report.tensors)
    if not prefix.a:
        return f"B puts {prefix.b}. before {n:,} names of A"
    if not prefix.b:
        return f"A puts {prefix.a}. before {n:,} names of B"
    return f"{prefix.a}. of A is {prefix.b}. of B in {n:,} names"


def _parameters(report: DiffReport) -> Iterable[str]:
    model = [t for t in report.tensors if not t.is_state]
    for word, statuses in (
        ("added", (Status.ADDED,)),
        ("removed", (Status.REMOVED,)),
        ("reshaped", (Status.RESHAPED,)),
        ("in changed tensors", (Status.CHANGED,)),
        ("close", (Status.WITHIN_TOLERANCE,)),
        ("rounded", (Status.EQUAL_ROUNDED,)),
        ("untouched", (Status.IDENTICAL, Status.EQUAL_VALUES)),
    ):
        n = sum(t.numel for t in model if t.status in statuses and not t.tied)
        if n:
            yield f"{short(n)} {word}"


def _metadata(changed: Changed) -> str:
    if changed.a is ABSENT:
        return f"+ {changed.key}: {_value(changed.b)}"
    if changed.b is ABSENT:
        return f"- {changed.key}: {_value(changed.a)}"
    return f"{changed.key}: {_value(changed.a)} → {_value(changed.b)}"


def _value(value: object) -> str:
    return clipped(str(value), 60)


# -- the table --------------------------------------------------------------------------------------------

Line = Fold[TensorDiff]


def _rows(tensors: Sequence[TensorDiff], view: View) -> Iterator[Block]:
    lines = unfolded(tensors) if view.all_rows else _folded(tensors)
    lines.sort(key=_rank)
    below = len(lines) - view.top if view.top else 0
    if view.top:
        lines = lines[: view.top]
    if not lines:
        return
    yield fold_table(list(_fields(lines)), lines)
    if below > 0:
        yield Note(f"{plural(below, 'more row')} below the top {view.top}", Tone.DIM)


def _folded(tensors: Sequence[TensorDiff]) -> list[Line]:
    return fold_by(
        tensors,
        lambda t: (
            t.status,
            t.shape_a,
            t.shape_b,
            t.dtype_a,
            t.dtype_b,
            t.kind,
            t.how_matched,
            t.layout,
            t.note,
            t.rank,
            t.rounded_to,
            t.rounded_side,
            t.rounded_via,
            bool(t.copy_of or t.kept_in),
        ),
        lambda t: bool(t.problem or t.nan_a or t.nan_b or t.nonfinite_changed),
        _odd,
    )


def _odd(tensors: Sequence[TensorDiff]) -> list[str]:
    """Members whose change is far from their siblings'."""
    changes = usual([t.rel_l2 for t in tensors if t.rel_l2])
    return [far("relative change", t.rel_l2, changes, _RATIO) if t.rel_l2 else "" for t in tensors]


#: Among rows without a relative change.
_ORDER = [None, Status.RESHAPED, Status.ADDED, Status.REMOVED]


def _rank(line: Line) -> tuple[float, int, str]:
    """Unreadable and changed beyond measure, then the largest relative change, then the rest."""
    first = line.first
    if first.status in _ORDER and first.rel_l2 is None:
        return (-math.inf, _ORDER.index(first.status), "")
    return (-max(relative_change(t) for t in line.members), len(_ORDER), "")


def _fields(lines: Sequence[Line]) -> Iterator[Field[Line]]:
    rows = [t for line in lines for t in line.members]
    yield Field(Column("name", "tensor", keep=100, flexible=True, min_width=60), _name)
    yield Field(Column("shape", keep=60), _shape)
    yield Field(Column("dtype", "type", keep=40), _dtype)
    yield Field(Column("status", keep=99), _status)
    if any(t.changed for t in rows):
        yield Field(Column("rel_l2", "relative change", right=True, keep=98), _relative)
        yield Field(Column("bar", "scale", keep=45), _bar)
        yield Field(Column("max_abs", "largest |a-b|", right=True, keep=80), _largest)
        yield Field(Column("max_abs_index", "at", keep=30), _place)
        yield Field(Column("cosine", right=True, keep=65), _cosine)
        yield Field(Column("changed_fraction", "values changed", right=True, keep=70), _share)
        yield Field(Column("mean", right=True, keep=20), lambda line: _before_after(line, "mean"))
        yield Field(Column("std", right=True, keep=25), lambda line: _before_after(line, "std"))
    if any(t.rank is not None for t in rows):
        yield Field(Column("rank", right=True, keep=97), _matrix_rank)
    if any(_remark(line) for line in lines):
        yield Field(
            Column("remark", keep=75, flexible=True, min_width=16, sentence=True),
            lambda line: Cell(_remark(line), Tone.DIM),
        )


def _name(line: Line) -> Cell:
    status = line.first.status
    mark = {Status.ADDED: "+ ", Status.REMOVED: "- "}.get(status, "") if status else ""
    return Cell(mark + line.text, Tone.BAD if status is None else _TONES[status], line.name)


def _shape(line: Line) -> Cell:
    first = line.first
    if first.status is Status.RESHAPED and first.shape_a is not None and first.shape_b is not None:
        return Cell(f"{shape(first.shape_a)} → {shape(first.shape_b)}", Tone.WARN)
    return Cell(shape(first.shape))


def _dtype(line: Line) -> Cell:
    first = line.first
    if first.dtype_a and first.dtype_b and first.dtype_a != first.dtype_b:
        return Cell(f"{first.dtype_a} → {first.dtype_b}", Tone.ACCENT)
    return Cell(first.dtype, Tone.DIM)


def _status(line: Line) -> Cell:
    status = line.first.status
    if status is None:
        return Cell("unreadable", Tone.BAD)
    text = _WORDS[status]
    if status is Status.EQUAL_ROUNDED:
        first = line.first
        text += " on both sides" if first.rounded_side == "both" else f" to {first.rounded_to}"
        text += f" by way of {first.rounded_via}" if first.rounded_via else ""
    return Cell(text, _TONES[status])


def _relative(line: Line) -> Cell:
    if not any(t.changed for t in line.members):
        return Cell("")
    if any(t.nonfinite_changed for t in line.members):
        return Cell("NaN or Inf", Tone.BAD)
    if any(t.rel_l2 is None for t in line.members):
        return Cell("was zero", Tone.WARN)
    known = [t.rel_l2 for t in line.members if t.rel_l2 is not None]
    return Cell(span(known), Tone.STRONG, max(known))


def _bar(line: Line) -> Cell:
    """A tenth of the width for each factor of 4, from one millionth to 1."""
    largest = max((relative_change(t) for t in line.members), default=0.0)
    if not largest:
        return Cell("")
    steps = 10 if math.isinf(largest) else round(10 + math.log(largest, 4))
    return Cell("█" * min(max(steps, 1), 10), Tone.WARN)


def _largest(line: Line) -> Cell:
    known = [t.max_abs for t in line.members if t.changed and t.max_abs is not None]
    return Cell(number(max(known)), value=max(known)) if known else Cell("")


def _place(line: Line) -> Cell:
    index = line.first.max_abs_index
    return Cell(str(list(index)) if index is not None and len(line.members) == 1 else "", Tone.DIM)


def _cosine(line: Line) -> Cell:
    known = [t.cosine for t in line.members if t.changed and t.cosine is not None]
    if not known:
        return Cell("")
    low = min(known)
    # A cosine just below 1 is not 1.
    return Cell(f"1-{number(1 - low, 2)}" if 0.999 < low < 1 else number(low), value=low)


def _share(line: Line) -> Cell:
    known = [t.changed_fraction for t in line.members if t.changed and t.changed_fraction is not None]
    if not known:
        return Cell("")
    low, high = percent(min(known)), percent(max(known))
    return Cell(low if low == high else f"{low}…{high}", value=max(known))


def _before_after(line: Line, figure: str) -> Cell:
    before = [v for t in line.members if t.changed and (v := getattr(t, f"{figure}_a")) is not None]
    after = [v for t in line.members if t.changed and (v := getattr(t, f"{figure}_b")) is not None]
    return Cell(f"{span(before)} → {span(after)}" if before else "", Tone.DIM, max(after, default=None))


def _matrix_rank(line: Line) -> Cell:
    first = line.first
    text = "" if first.rank is None else f"{'≥' if first.rank_at_least else ''}{first.rank}"
    return Cell(text, Tone.ACCENT, first.rank)


def _remark(line: Line) -> str:
    first = line.first
    parts = [first.problem, first.note, first.layout]
    if first.a is not None and first.b is not None and first.how_matched in _HOW:
        was = f"was {first.a}" if len(line.members) == 1 else "was named otherwise"
        parts.append(", ".join(p for p in (was, _HOW[first.how_matched]) if p))
    if first.how_matched is How.SLICE and len(line.members) == 1:
        parts.append(first.part)
    elif first.how_matched is How.SLICE:
        parts.append("as slices of larger tensors")
    if any(t.zero_signs for t in line.members):
        parts.append(f"the sign of {plural(sum(t.zero_signs for t in line.members), 'zero')} differs")
    if first.rounded_to and first.nonfinite_changed:
        side, other = ("B", "A") if first.rounded_side == "b" else ("A", "B")
        n = first.nonfinite_changed
        parts.append(f"{plural(n, 'finite value')} of {other} became Inf or NaN in {side}")
    if first.kept_in and len(line.members) == 1:
        parts.append(f"its values are {first.kept_in} in B")
    if first.copy_of:
        parts.append(f"values of {first.copy_of} in A" if len(line.members) == 1 else "values of other tensors of A")
    if first.nan_a != first.nan_b:
        parts.append(f"{first.nan_a:,} → {first.nan_b:,} NaN")
    if line.odd:
        parts.append(line.odd)
    return "; ".join(p for p in parts if p)


def _hidden(report: DiffReport, shown: Sequence[TensorDiff]) -> str:
    seen = set(map(id, shown))
    hidden = [t for t in report.tensors if id(t) not in seen]
    same = sum(t.is_same for t in hidden)
    rest = len(hidden) - same
    parts = [f"{same:,} unchanged tensors not shown (--all)"] if same else []
    if rest:
        parts.append(f"{rest:,} others not shown (--only)")
    return ", ".join(parts)


# -- one line a module ------------------------------------------------------------------------------------


def _stat(report: DiffReport) -> Iterator[Block]:
    modules = by_module(t for t in report.tensors if not t.is_state)
    state = by_module(t for t in report.tensors if t.is_state)
    if modules or state:
        yield table_of(_MODULE_FIELDS, (*modules, *state), lambda m: m.name)


def _module_tone(m: Module) -> Tone:
    return Tone.DIM if m.is_frozen else Tone.PLAIN


def _some(n: int, tone: Tone) -> Cell:
    return Cell(f"{n:,}" if n else "", tone, n)


def _module_change(m: Module) -> Cell:
    text = "frozen" if m.is_frozen else number(m.rel_l2) if m.rel_l2 is not None else ""
    return Cell(text, _module_tone(m), m.rel_l2)


def _module_bar(m: Module) -> Cell:
    steps = round(10 + math.log(m.rel_l2, 4)) if m.rel_l2 else 0
    return Cell("█" * min(max(steps, 1), 10) if m.rel_l2 else "", Tone.WARN)


_MODULE_FIELDS: tuple[Field[Module], ...] = (
    Field(Column("module", keep=100, flexible=True, min_width=20), lambda m: Cell(m.name, _module_tone(m))),
    Field(Column("tensors", right=True, keep=60), lambda m: Cell(f"{m.tensors:,}", _module_tone(m), m.tensors)),
    Field(Column("untouched", right=True, keep=70), lambda m: Cell(f"{m.untouched:,}", _module_tone(m), m.untouched)),
    Field(Column("changed", right=True, keep=90), lambda m: _some(m.changed, Tone.WARN)),
    Field(Column("added", right=True, keep=88), lambda m: _some(m.added, Tone.GOOD)),
    Field(Column("removed", right=True, keep=87), lambda m: _some(m.removed, Tone.BAD)),
    Field(Column("rel_l2", "relative change", right=True, keep=95), _module_change),
    Field(Column("bar", "scale", keep=50), _module_bar),
)


# -- for spreadsheets -------------------------------------------------------------------------------------


def _records(report: DiffReport) -> Iterator[dict[str, object]]:
    for tensor in report.tensors:
        yield tensor._asdict()
