"""Build the report blocks of `pinspect MODEL`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inspectcli.commands.inspect.health_view import findings_facts, init_cell, trained_fact
from inspectcli.commands.inspect.result import FileReport, InspectReport, TensorRow, Totals
from inspectcli.display.blocks import Block, Cell, Column, Facts, Heading, Note, Report, Table, Tone
from inspectcli.display.fold import Fold, fold, unfolded
from inspectcli.display.text import (
    FORMAT_NAMES,
    common_prefix,
    count,
    number,
    percent,
    plural,
    shape,
    short,
    size,
    span,
)
from inspectcli.document import Deferred
from inspectcli.tensors.arithmetic import unravel
from inspectcli.tensors.model import Kind


@dataclass(frozen=True, slots=True)
class View:
    """What the person asked to see.

    Attributes:
        all_rows: no folding.
        tree: modules with their sums.
        sort: a key of SORT_KEYS.
        top: at most this many rows; 0 for all.
        brief: one line for each file, for folders of many.
        left_out: why some tensors are not there.
    """

    all_rows: bool = False
    tree: bool = False
    sort: str = "file"
    top: int = 0
    brief: bool = False
    left_out: str = "--optimizer shows training state"


def _figure(name: str) -> Callable[[Fold[TensorRow]], float]:
    """Largest value of a figure among the members; rows without one come last."""

    def key(line: Fold[TensorRow]) -> float:
        figures = [getattr(row.stats, name) for row in line.members if row.stats is not None]
        known = [float(f) for f in figures if f is not None]
        return -max(known) if known else math.inf

    return key


SORT_KEYS: dict[str, Callable[[Fold[TensorRow]], Any]] = {
    "file": lambda line: 0,
    "name": lambda line: [(int(p), "") if p.isdigit() else (-1, p) for p in line.name.replace("/", ".").split(".")],
    "size": lambda line: -sum(row.numel for row in line.members),
    "mean": _figure("mean"),
    "std": _figure("std"),
    "min": lambda line: -_figure("min")(line),
    "max": _figure("max"),
    "zeros": lambda line: -max(_share(row) for row in line.members),
    "nan": lambda line: -sum(row.stats.nonfinite for row in line.members if row.stats),
}


def present(report: InspectReport, view: View) -> Report:
    """The whole report: blocks for people, the document for programs, records for spreadsheets."""
    blocks: list[Block] = []
    if view.brief:
        blocks.extend(_overview(report.files))
    else:
        for file in report.files:
            blocks.extend(_file_blocks(file, view))
    return Report("inspect", tuple(blocks), Deferred(report.document), tuple(_records(report.files)), report.exit_code)


_BARS = "▁▂▃▄▅▆▇█"


def bars(lines: Sequence[TensorRow], width: int = 10) -> str:
    """A histogram in block characters over the members' 1 % to 99 % range; blank where nothing lies."""
    known = [(row.numel, row.stats.sampled) for row in lines if row.stats and row.stats.sampled]
    if not known:
        return ""
    low, high = min(s.edges[0] for _, s in known), max(s.edges[1] for _, s in known)
    heights = [0.0] * width
    for weight, sampled in known:
        total, n = sum(sampled.histogram) or 1, len(sampled.histogram)
        # Halves, since two numbers may lie further apart than any number is large.
        first, last = sampled.edges[0] / 2, sampled.edges[1] / 2
        step = (last - first) / n
        for i, c in enumerate(sampled.histogram):
            # The bins of a fold's members rarely meet the common ones: each goes where its center lies.
            center = first + step * (i + 0.5)
            place = (center - low / 2) / (high / 2 - low / 2) if high / 2 > low / 2 else 0.5
            heights[min(int(place * width), width - 1)] += weight * c / total
    peak = max(heights)
    if not peak > 0:
        return ""
    return "".join(_BARS[min(int(h / peak * 8), 7)] if h else " " for h in heights)


def _share(row: TensorRow) -> float:
    return row.stats.zeros / row.numel if row.stats and row.numel else 0.0


def _file_blocks(file: FileReport, view: View) -> list[Block]:
    if file.totals is None:
        return []  # told on stderr: there is nothing to show
    heading = Heading(file.path, f"{FORMAT_NAMES.get(file.format, file.format)} · {size(file.size)}")
    lines = _lines(file.tensors, view)
    blocks: list[Block] = [heading, Facts(tuple(_facts(file, file.totals)))]
    if lines:
        blocks.append(_tree(lines, file) if view.tree else _table(lines, file))
    more = _hidden(file, lines, view)
    if more:
        blocks.append(Note(more, Tone.DIM))
    return blocks


def _facts(file: FileReport, totals: Totals) -> Iterable[tuple[str, Cell]]:
    if file.writer:
        yield "written by", Cell(file.writer + (f", {len(file.files):,} files" if file.files else ""))
    yield "parameters", Cell(_parameters(totals), Tone.STRONG)
    apart = _apart(totals)
    if apart:
        yield "also holds", Cell(apart)
    if totals.by_dtype:
        yield (
            "types",
            Cell(" · ".join(f"{name} {short(n)}" for name, n in totals.by_dtype.items()) + f" · {size(totals.bytes)}"),
        )
    if file.training:
        yield "training", Cell(_training(file))
    if file.hazards:
        shown = "; ".join(f"{h.what} ({h.where})" for h in file.hazards[:3])
        more = f"; and {len(file.hazards) - 3:,} more" if len(file.hazards) > 3 else ""
        yield "UNSAFE", Cell(f"{shown}{more}. Nothing was run; do not load it.", Tone.BAD)
    if file.foreign:
        more = f" and {len(file.foreign) - 3:,} more" if len(file.foreign) > 3 else ""
        yield "needs", Cell(f"{', '.join(file.foreign[:3])}{more} (named in the file; not run)", Tone.DIM)
    if file.hyperparameters:
        yield "hparams", Cell(_hparams(file))
    yield from _values_fact(file)
    if file.problems:
        row = file.problems[0]
        more = f" and {len(file.problems) - 1:,} more tensors" if len(file.problems) > 1 else ""
        yield "unreadable", Cell(f"{row.name}{more}: {row.problem}", Tone.BAD)
    yield from trained_fact(file)
    for note in file.notes:
        yield "note", Cell(note, Tone.DIM)
    yield from findings_facts(file)


def _parameters(totals: Totals) -> str:
    model = totals.model_parameters
    text = f"{count(totals.unique_model_parameters)} in {plural(totals.model_tensors, 'tensor')}"
    if totals.unique_model_parameters != model:
        text += f"; {count(model)} with tied ones counted each time"
    if totals.buffer_parameters:
        text += f"; {count(totals.buffer_parameters)} of them in buffers"
    return text


def _apart(totals: Totals) -> str:
    parts = []
    if totals.optimizer_parameters:
        parts.append(f"{count(totals.optimizer_parameters)} of optimizer state")
    rest = totals.parameters - totals.model_parameters - totals.optimizer_parameters
    if rest:
        parts.append(f"{count(rest)} of other training state")
    return ", ".join(parts)


def _training(file: FileReport) -> str:
    t = file.training
    parts = [f"{name} {value:,}" for name, value in (("epoch", t.epoch), ("step", t.step)) if value is not None]
    return ", ".join([*parts, *([t.optimizer] if t.optimizer else [])])


def _hparams(file: FileReport) -> str:
    """`learning_rate 0.001 → now 2.5e-4, batch_size 32`: what `pinspect hparams` tells in full."""
    from inspectcli.hparams.merge import agree, shown

    parts = []
    for name, (value, current) in file.hyperparameters.items():
        moved = current is not None and value is not None and not agree(value, current)
        text = shown(current if value is None else value)
        parts.append(f"{name} {text}" + (f" → now {shown(current)}" if moved else ""))
    return ", ".join(parts)


def _values_fact(file: FileReport) -> Iterable[tuple[str, Cell]]:
    """NaN and Inf: how many, where; or that there are none."""
    if not file.read:
        yield "values", Cell("not read (--no-stats)", Tone.DIM)
        return
    read = [row for row in file.tensors if row.stats and not row.alias_of]
    bad = [row for row in read if row.stats and row.stats.nonfinite]
    if not bad:
        if read:
            yield "values", Cell(f"no NaN, no Inf in {plural(len(read), 'tensor')} read", Tone.GOOD)
        return
    shown = "; ".join(_where(row) for row in bad[:3])
    more = f"; and {len(bad) - 3:,} more tensors" if len(bad) > 3 else ""
    yield "values", Cell(f"{shown}{more}", Tone.BAD)


def _where(row: TensorRow) -> str:
    s = row.stats
    assert s is not None
    kinds = [f"{n:,} {name}" for n, name in ((s.nan, "NaN"), (s.posinf, "+Inf"), (s.neginf, "-Inf")) if n]
    place = f", first at {list(unravel(s.first_nonfinite, row.shape))}" if s.first_nonfinite is not None else ""
    return f"{' and '.join(kinds)} in {row.name}{place}"


def _lines(rows: Sequence[TensorRow], view: View) -> list[Fold[TensorRow]]:
    lines = unfolded(rows) if view.all_rows else fold(rows)
    if view.sort != "file":
        lines = sorted(lines, key=SORT_KEYS[view.sort])
    return lines[: view.top] if view.top else lines


_KIND_WORDS = {
    Kind.PARAMETER: "param",
    Kind.QUANTIZATION: "quant",
    Kind.HYPERPARAMETER: "hparam",
    Kind.GRADIENT: "grad",
}


def _columns(
    lines: Sequence[Fold[TensorRow]], read: bool, params_keep: int = 55
) -> list[tuple[Column, Callable[[Fold[TensorRow]], Cell]]]:
    """The columns that say something about these lines, each with how its cells are made."""
    rows = [row for line in lines for row in line.members]
    kinds = {row.kind for row in rows}
    nonfinite = any(row.stats and row.stats.nonfinite for row in rows)
    zeros = any(_share(row) > 0 for row in rows)
    columns: list[tuple[Column, Callable[[Fold[TensorRow]], Cell]]] = [
        (Column("tensor", keep=100, flexible=True, min_width=36), _name),
        (Column("shape", keep=90), lambda line: Cell(shape(line.first.shape))),
        (Column("type", keep=35), lambda line: Cell(line.first.dtype, Tone.DIM)),
    ]
    if len(kinds) > 1:
        columns.append(
            (
                Column("kind", keep=25),
                lambda line: Cell(_KIND_WORDS.get(line.first.kind, str(line.first.kind)), Tone.DIM),
            )
        )
    columns.append(
        (Column("params", right=True, keep=params_keep), lambda line: Cell(short(sum(r.numel for r in line.members))))
    )
    if not read:
        columns.append(
            (
                Column("bytes", right=True, keep=50),
                lambda line: Cell(size(sum(r.nbytes for r in line.members))),
            )
        )
        return columns
    columns += [
        (Column("mean", right=True, keep=60), _figure_cell("mean")),
        (Column("std", right=True, keep=95), _figure_cell("std")),
        (Column("min", right=True, keep=70), lambda line: _extreme(line, "min", min)),
        (Column("max", right=True, keep=72), lambda line: _extreme(line, "max", max)),
    ]
    if zeros:
        columns.append((Column("zeros", right=True, keep=40), _zeros))
    if nonfinite:
        columns.append((Column("NaN/Inf", right=True, keep=98), _nonfinite))
    if any(row.init is not None and row.init.family != "constant" for row in rows):
        columns.append((Column("init", keep=45), init_cell))
    columns.append((Column("values 1–99 %", keep=65), _histogram))
    return columns


def _table(lines: Sequence[Fold[TensorRow]], file: FileReport) -> Table:
    columns = _columns(lines, file.read)
    prefix = common_prefix([line.name for line in lines])
    if prefix:
        title = columns[0][0]._replace(title=f"tensor below {prefix.rstrip('./')}")
        columns[0] = (title, lambda line: _name(replace(line, name=line.name[len(prefix) :])))
    return Table(tuple(c for c, _ in columns), tuple(tuple(cell(line) for _, cell in columns) for line in lines))


def _name(line: Fold[TensorRow]) -> Cell:
    times = f"  ×{len(line.members)}" if len(line.members) > 1 else ""
    tone = Tone.BAD if line.first.problem else Tone.WARN if line.odd else Tone.PLAIN
    return Cell(line.name + times, tone)


def _instead(line: Fold[TensorRow]) -> Cell | None:
    """What stands where the figures would be, if there are none."""
    row = line.first
    if row.problem:
        return Cell("unreadable", Tone.BAD)
    if row.alias_of:
        return Cell(f"= {row.alias_of}", Tone.DIM)
    if row.stats is None:
        return Cell("packed" if row.packed else "–", Tone.DIM)
    return None


def _figure_cell(name: str) -> Callable[[Fold[TensorRow]], Cell]:
    def cell(line: Fold[TensorRow]) -> Cell:
        if line.first.alias_of or line.first.stats is None:
            return Cell("")
        return Cell(span(getattr(row.stats, name) for row in line.members))

    return cell


def _extreme(line: Fold[TensorRow], name: str, choose: Callable[[list[float]], float]) -> Cell:
    if line.first.alias_of or line.first.stats is None:
        return Cell("")
    known = [v for row in line.members if (v := getattr(row.stats, name)) is not None]
    return Cell(number(choose(known)) if known else "–")


def _zeros(line: Fold[TensorRow]) -> Cell:
    if line.first.alias_of or line.first.stats is None:
        return Cell("")
    shares = [_share(row) for row in line.members]
    low, high = percent(min(shares)), percent(max(shares))
    return Cell(low if low == high else f"{low}…{high}", Tone.DIM if max(shares) == 0 else Tone.PLAIN)


def _nonfinite(line: Fold[TensorRow]) -> Cell:
    n = sum(row.stats.nonfinite for row in line.members if row.stats)
    if line.first.alias_of or line.first.stats is None:
        return Cell("")
    return Cell(f"{n:,}", Tone.BAD) if n else Cell("0", Tone.DIM)


def _histogram(line: Fold[TensorRow]) -> Cell:
    instead = _instead(line)
    return instead or Cell(bars(line.members), Tone.ACCENT)


def _tree(lines: Sequence[Fold[TensorRow]], file: FileReport) -> Table:
    """The same lines under their modules, each module with the sum of what is below it."""
    columns = _columns(lines, file.read, params_keep=97)
    rows: list[tuple[Cell, ...]] = []
    open_path: tuple[str, ...] = ()
    below: dict[tuple[str, ...], int] = {}
    for line in lines:
        path = _path(line.name)
        n = sum(row.numel for row in line.members)
        for depth in range(1, len(path)):
            below[path[:depth]] = below.get(path[:depth], 0) + n
    title = [column.title for column, _ in columns]
    for line in lines:
        path = _path(line.name)
        shared = next(
            (i for i, (a, b) in enumerate(zip(path[:-1], open_path, strict=False)) if a != b),
            min(len(path) - 1, len(open_path)),
        )
        for depth in range(shared, len(path) - 1):
            cells = [Cell("")] * len(columns)
            cells[0] = Cell("  " * depth + path[depth], Tone.STRONG)
            cells[title.index("params")] = Cell(short(below[path[: depth + 1]]), Tone.DIM)
            rows.append(tuple(cells))
        open_path = path[:-1]
        leaf = [cell(line) for _, cell in columns]
        times = f"  ×{len(line.members)}" if len(line.members) > 1 else ""
        leaf[0] = Cell("  " * (len(path) - 1) + path[-1] + times, leaf[0].tone)
        rows.append(tuple(leaf))
    return Table(tuple(column for column, _ in columns), tuple(rows))


def _path(name: str) -> tuple[str, ...]:
    """Parts of a name; the dots of `{0..11}` separate nothing."""
    separator = "/" if "/" in name and "." not in name.replace("..", "") else "."
    return tuple(part.replace("\0", "..") for part in name.replace("..", "\0").split(separator))


def _hidden(file: FileReport, lines: Sequence[Fold[TensorRow]], view: View) -> str:
    parts = []
    if file.unread:
        parts.append(f"{plural(file.unread, 'tensor')} of the file not shown and not read: {view.left_out}")
    shown = sum(len(line.members) for line in lines)
    if shown < len(file.tensors):
        parts.append(f"{len(file.tensors) - shown:,} tensors are below the top {view.top}")
    if any(row.stats and row.stats.sampled and not row.stats.sampled.exact for line in lines for row in line.members):
        parts.append(
            "histograms of tensors above 32,768 values are of an even sample; all other figures are of every value"
        )
    return ". ".join(parts)


def _overview(files: Sequence[FileReport]) -> Iterable[Block]:
    folder = _common_folder([file.path for file in files])
    columns = (
        Column("file", keep=100, flexible=True, min_width=26),
        Column("format", keep=60),
        Column("size", right=True, keep=50),
        Column("tensors", right=True, keep=70),
        Column("parameters", right=True, keep=90),
        Column("types", keep=40),
        Column("NaN/Inf", right=True, keep=95),
        Column("remark", keep=98, flexible=True, min_width=24, sentence=True),
    )
    if folder:
        yield Heading(folder, plural(len(files), "file"))
    yield Table(columns, tuple(_overview_row(file, file.path[len(folder) :]) for file in files))
    if any(file.totals for file in files):
        yield Note("name one of these files to see its tensors", Tone.DIM)


def _common_folder(paths: Sequence[str]) -> str:
    """`runs/exp3/` of `runs/exp3/a.pt` and `runs/exp3/best/b.pt`."""
    first, last = min(paths), max(paths)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: max(first.rfind("/", 0, shared), first.rfind(os.sep, 0, shared)) + 1]


def _overview_row(file: FileReport, name: str) -> tuple[Cell, ...]:
    remark = _remark(file)
    if file.totals is None:
        return (
            Cell(name, Tone.BAD),
            Cell(""),
            Cell(size(file.size)),
            Cell(""),
            Cell(""),
            Cell(""),
            Cell(""),
            remark,
        )
    bad = sum(row.stats.nonfinite for row in file.tensors if row.stats)
    return (
        Cell(name),
        Cell(FORMAT_NAMES.get(file.format, file.format), Tone.DIM),
        Cell(size(file.size)),
        Cell(f"{file.totals.tensors:,}"),
        Cell(short(file.totals.unique_model_parameters), Tone.STRONG),
        Cell(_types(list(file.totals.by_dtype)), Tone.DIM),
        Cell(f"{bad:,}", Tone.BAD) if bad else Cell("0" if file.read else "", Tone.DIM),
        remark,
    )


def _types(names: list[str]) -> str:
    return " ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")


def _remark(file: FileReport) -> Cell:
    if file.error is not None:
        return Cell(file.error.message, Tone.BAD)
    if file.hazards:
        return Cell(f"UNSAFE: {file.hazards[0].what}", Tone.BAD)
    if file.foreign:
        return Cell(
            f"needs {file.foreign[0]}" + (f" and {len(file.foreign) - 1:,} more" if file.foreign[1:] else ""),
            Tone.DIM,
        )
    if file.training:
        return Cell(_training(file), Tone.DIM)
    return Cell("")


def _records(files: Sequence[FileReport]) -> Iterable[dict[str, object]]:
    for file in files:
        for row in file.tensors:
            s = row.stats
            figures = (
                "mean",
                "std",
                "min",
                "max",
                "abs_max",
                "l2",
                "zeros",
                "nan",
                "posinf",
                "neginf",
                "first_nonfinite",
            )
            yield {
                "path": file.path,
                "name": row.name,
                "shape": row.shape,
                "dtype": row.dtype,
                "kind": row.kind.value,
                "numel": row.numel,
                "nbytes": row.nbytes,
                "alias_of": row.alias_of,
                **{name: getattr(s, name) if s else None for name in figures},
                "note": row.problem or row.note,
            }
