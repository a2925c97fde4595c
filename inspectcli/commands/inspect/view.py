"""Build the report blocks of `pinspect MODEL`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from inspectcli.commands.inspect.fold import fold
from inspectcli.commands.inspect.health_view import coverage_text, findings_facts, init_cell, trained_fact
from inspectcli.commands.inspect.result import FileReport, InspectReport, TensorRow, Totals
from inspectcli.display.blocks import Block, Cell, Column, Facts, Field, Heading, Later, Note, Report, Row, Table, Tone
from inspectcli.display.fold import Fold, fold_row, fold_table, unfolded
from inspectcli.display.text import (
    between,
    count,
    listed,
    natural_key,
    number,
    percent,
    plural,
    setting,
    shape,
    short,
    size,
)
from inspectcli.document import Deferred
from inspectcli.formats import FORMAT_NAMES
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
        beside: paths of what lies in a model folder and is not the model: one line for each, below it.
        listed: whether folders were searched, or several files named: it ends with what was looked at.
    """

    all_rows: bool = False
    tree: bool = False
    sort: str = "file"
    top: int = 0
    brief: bool = False
    left_out: str = "--optimizer shows training state"
    beside: frozenset[str] = frozenset()
    listed: bool = False


def present(report: InspectReport, view: View) -> Report:
    """The whole report: blocks for people, the document for programs, records for spreadsheets."""
    return Report(
        "inspect",
        Later(partial(_blocks, report, view)),
        Deferred("inspect", lambda: report),
        Later(partial(_records, report.files)),
        report.exit_code,
    )


def _blocks(report: InspectReport, view: View) -> Iterable[Block]:
    if view.brief:
        yield from _overview(report.files)
    else:
        for file in report.files:
            if file.path not in view.beside:
                yield from _file_blocks(file, view)
        others = [file for file in report.files if file.path in view.beside]
        if others:
            yield from _overview(others)
    if view.listed:
        yield Note(coverage_text(report.coverage), Tone.DIM)


_BARS = "▁▂▃▄▅▆▇█"


def bars(lines: Sequence[TensorRow], width: int = 10) -> str:
    """A histogram in block characters over the members' 1 % to 99 % range; blank where nothing lies."""
    known = [(row.numel, row.stats.sampled) for row in lines if row.stats and row.stats.sampled]
    if not known:
        return ""
    edges = [s.edges for _, s in known]
    low, high = min(first for first, _ in edges), max(last for _, last in edges)
    heights = [0.0] * width
    for (weight, sampled), (first, last) in zip(known, edges, strict=True):
        counts = sampled.histogram
        total = sum(counts) or 1
        # Halves, since two numbers may lie further apart than any number is large.
        step = (last / 2 - first / 2) / len(counts)
        for i, c in enumerate(counts):
            if not c:
                continue
            # The bins of a fold's members rarely meet the common ones: each goes where its center lies.
            center = first / 2 + step * (i + 0.5)
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
        fields = _fields(lines, file.read)
        blocks.append(_tree(lines, fields) if view.tree else fold_table(fields, lines))
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
        found = listed([f"{h.what} ({h.where})" for h in file.hazards], separator="; ")
        yield "UNSAFE", Cell(f"{found}. Nothing was run; do not load it.", Tone.BAD)
    if file.foreign:
        yield "needs", Cell(f"{listed(file.foreign)} (named in the file; not run)", Tone.DIM)
    if file.hyperparameters:
        yield "hparams", Cell(_hparams(file))
    yield from _values_fact(file)
    if file.problems:
        names = listed([row.name for row in file.problems], 1, "tensor")
        yield "unreadable", Cell(f"{names}: {file.problems[0].problem}", Tone.BAD)
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
    from inspectcli.hparams.merge import agree

    parts = []
    for name, (value, current) in file.hyperparameters.items():
        moved = current is not None and value is not None and not agree(value, current)
        text = setting(current if value is None else value)
        parts.append(f"{name} {text}" + (f" → now {setting(current)}" if moved else ""))
    return ", ".join(parts)


def _values_fact(file: FileReport) -> Iterable[tuple[str, Cell]]:
    """NaN and Inf: how many, where; or that there are none."""
    if not file.read:
        yield "values", Cell("not read (--no-stats)", Tone.DIM)
        return
    hollow = [row.name for row in file.tensors if row.note.startswith("meta:")]
    if hollow:
        yield "hollow", Cell(f"no values of {listed(hollow, 2, 'tensor')} are in the file (meta device)", Tone.WARN)
    read = [row for row in file.tensors if row.stats and not row.alias_of]
    bad = [row for row in read if row.stats and row.stats.nonfinite]
    if not bad:
        if read:
            yield "values", Cell(f"no NaN, no Inf in {plural(len(read), 'tensor')} read", Tone.GOOD)
        return
    yield "values", Cell(listed([_where(row) for row in bad], 3, "tensor", "; "), Tone.BAD)


def _where(row: TensorRow) -> str:
    s = row.stats
    assert s is not None
    kinds = [f"{n:,} {name}" for n, name in ((s.nan, "NaN"), (s.posinf, "+Inf"), (s.neginf, "-Inf")) if n]
    place = f", first at {list(unravel(s.first_nonfinite, row.shape))}" if s.first_nonfinite is not None else ""
    return f"{' and '.join(kinds)} in {row.name}{place}"


def _lines(rows: Sequence[TensorRow], view: View) -> list[Fold[TensorRow]]:
    lines = unfolded(rows) if view.all_rows else fold(rows)
    if view.sort in _SORTS:
        lines = _ordered(lines, *_SORTS[view.sort])
    return lines[: view.top] if view.top else lines


#: `--sort` -> the column whose values say the order, and whether the largest comes first.
_SORTS = {
    "name": ("name", False),
    "size": ("numel", True),
    "mean": ("mean", True),
    "std": ("std", True),
    "min": ("min", False),
    "max": ("max", True),
    "zeros": ("zeros", True),
    "nan": ("nonfinite", True),
}
#: What `--sort` may be; `file` is the order of the file.
SORT_KEYS = ("file", *_SORTS)


def _ordered(lines: Iterable[Fold[TensorRow]], key: str, descending: bool) -> list[Fold[TensorRow]]:
    """Names by their numbers, figures by size; lines without a figure come last."""

    def place(line: Fold[TensorRow]) -> tuple[bool, object]:
        value = _FIELDS[key].cell(line).value
        if isinstance(value, str):
            return False, natural_key(value)
        return value is None, 0 if value is None else -value if descending else value

    return sorted(lines, key=place)


# -- columns --------------------------------------------------------------------------------------------


_KIND_WORDS = {
    Kind.PARAMETER: "param",
    Kind.QUANTIZATION: "quant",
    Kind.HYPERPARAMETER: "hparam",
    Kind.GRADIENT: "grad",
}


def _name(line: Fold[TensorRow]) -> Cell:
    tone = Tone.BAD if line.first.problem else Tone.WARN if line.odd else Tone.PLAIN
    return Cell(line.text, tone, line.name)


def _kind(line: Fold[TensorRow]) -> Cell:
    return Cell(_KIND_WORDS.get(line.first.kind, str(line.first.kind)), Tone.DIM)


def _numel(line: Fold[TensorRow]) -> Cell:
    n = sum(row.numel for row in line.members)
    return Cell(short(n), value=n)


def _nbytes(line: Fold[TensorRow]) -> Cell:
    n = sum(row.nbytes for row in line.members)
    return Cell(size(n), value=n)


def _has_figures(line: Fold[TensorRow]) -> bool:
    """Whether figures are shown: those of a tied tensor stand where it is tied to."""
    return not line.first.alias_of and line.first.stats is not None


def _figures(line: Fold[TensorRow], name: str) -> list[float]:
    return [v for row in line.members if row.stats is not None and (v := getattr(row.stats, name)) is not None]


def _range(name: str) -> Callable[[Fold[TensorRow]], Cell]:
    """A figure over the members: `0.1`, `0.1…0.3`."""

    def cell(line: Fold[TensorRow]) -> Cell:
        known = _figures(line, name)
        if not known:
            return Cell("–" if _has_figures(line) else "")
        low, high = min(known), max(known)
        return Cell(between(low, high) if _has_figures(line) else "", value=high)

    return cell


def _extreme(name: str, choose: Callable[[list[float]], float]) -> Callable[[Fold[TensorRow]], Cell]:
    """The least or the largest of the members."""

    def cell(line: Fold[TensorRow]) -> Cell:
        known = _figures(line, name)
        value = choose(known) if known else None
        return Cell(number(value) if _has_figures(line) else "", value=value)

    return cell


def _zeros(line: Fold[TensorRow]) -> Cell:
    shares = [_share(row) for row in line.members]
    least, most = min(shares), max(shares)
    if not _has_figures(line):
        return Cell("", value=most)
    low, high = percent(least), percent(most)
    return Cell(low if low == high else f"{low}…{high}", Tone.PLAIN if most else Tone.DIM, most)


def _nonfinite(line: Fold[TensorRow]) -> Cell:
    n = sum(row.stats.nonfinite for row in line.members if row.stats)
    return Cell(f"{n:,}", Tone.BAD if n else Tone.DIM, n) if _has_figures(line) else Cell("", value=n)


def _histogram(line: Fold[TensorRow]) -> Cell:
    return _instead(line) or Cell(bars(line.members), Tone.ACCENT)


def _instead(line: Fold[TensorRow]) -> Cell | None:
    """What stands where the figures would be, if there are none."""
    row = line.first
    if row.problem:
        return Cell("unreadable", Tone.BAD)
    if row.alias_of:
        return Cell(f"= {row.alias_of}", Tone.DIM, link=row.alias_of)
    if row.stats is None:
        return Cell("packed" if row.packed else "–", Tone.DIM)
    return None


_FIELDS = {
    f.column.key: f
    for f in (
        Field(Column("name", "tensor", keep=100, flexible=True, min_width=36), _name),
        Field(Column("shape", keep=90), lambda line: Cell(shape(line.first.shape))),
        Field(Column("dtype", "type", keep=35), lambda line: Cell(line.first.dtype, Tone.DIM)),
        Field(Column("kind", keep=25), _kind),
        Field(Column("numel", "params", right=True, keep=55), _numel),
        Field(Column("nbytes", "bytes", right=True, keep=50), _nbytes),
        Field(Column("mean", right=True, keep=60), _range("mean")),
        Field(Column("std", right=True, keep=95), _range("std")),
        Field(Column("min", right=True, keep=70), _extreme("min", min)),
        Field(Column("max", right=True, keep=72), _extreme("max", max)),
        Field(Column("zeros", right=True, keep=40), _zeros),
        Field(Column("nonfinite", "NaN/Inf", right=True, keep=98), _nonfinite),
        Field(Column("init", keep=45), init_cell),
        Field(Column("histogram", "values 1–99 %", keep=65), _histogram),
    )
}


def _fields(lines: Sequence[Fold[TensorRow]], read: bool) -> list[Field[Fold[TensorRow]]]:
    """The columns that say something about these lines."""
    rows = [row for line in lines for row in line.members]
    shown = {
        "kind": len({row.kind for row in rows}) > 1,
        "nbytes": not read,
        **dict.fromkeys(("mean", "std", "min", "max", "histogram"), read),
        "zeros": read and any(_share(row) > 0 for row in rows),
        "nonfinite": read and any(row.stats and row.stats.nonfinite for row in rows),
        "init": read and any(row.init is not None and row.init.family != "constant" for row in rows),
    }
    return [f for key, f in _FIELDS.items() if shown.get(key, True)]


# -- the tree -------------------------------------------------------------------------------------------


#: The sums of modules are what a tree is about: they stay in narrow windows.
_SUMS_KEEP = 97


@dataclass(slots=True)
class _Module:
    """A module by its name, with the number of elements below it."""

    name: str
    numel: int = 0
    modules: dict[str, _Module] = field(default_factory=dict)

    def below(self, name: str) -> _Module:
        return self.modules.setdefault(name, _Module(name))


def _tree(lines: Sequence[Fold[TensorRow]], fields: Sequence[Field[Fold[TensorRow]]]) -> Table:
    """The same lines under their modules, each module with the sum of what is below it.

    A module that the file leaves and comes back to stands twice, with the sum of all.
    """
    top = _Module("")
    for line in lines:
        module, n = top, sum(row.numel for row in line.members)
        for part in _path(line.name)[:-1]:
            module = module.below(part)
            module.numel += n
    titles = tuple(replace(f.column, keep=_SUMS_KEEP) if f.column.key == "numel" else f.column for f in fields)
    # The modules around the line at hand, each with the rows that stand below it so far.
    around: list[tuple[_Module, list[Row]]] = [(top, [])]
    for line in lines:
        *modules, leaf = _path(line.name)
        shared = 0
        while shared < min(len(modules), len(around) - 1) and around[shared + 1][0].name == modules[shared]:
            shared += 1
        _close(around, shared + 1, titles)
        for part in modules[shared:]:
            around.append((around[-1][0].below(part), []))
        around[-1][1].append(fold_row(fields, replace(line, label=leaf)))
    _close(around, 1, titles)
    return Table(titles, tuple(around[0][1]))


_BLANK = Cell("")


def _close(around: list[tuple[_Module, list[Row]]], depth: int, columns: Sequence[Column]) -> None:
    """Modules that are left become rows of the modules around them."""
    while len(around) > depth:
        module, rows = around.pop()
        cells = {"name": Cell(module.name, Tone.STRONG), "numel": Cell(short(module.numel), Tone.DIM, module.numel)}
        around[-1][1].append(Row(tuple(cells.get(c.key, _BLANK) for c in columns), tuple(rows)))


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
        Column("path", "file", keep=100, flexible=True, min_width=26),
        Column("format", keep=60),
        Column("size", right=True, keep=50),
        Column("tensors", right=True, keep=70),
        Column("parameters", right=True, keep=90),
        Column("dtypes", "types", keep=40),
        Column("nonfinite", "NaN/Inf", right=True, keep=95),
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


def _overview_row(file: FileReport, name: str) -> Row:
    tone = Tone.PLAIN if file.totals else Tone.BAD
    cells = [Cell(name, tone, file.path), *([Cell("")] * 6), _remark(file)]
    cells[2] = Cell(size(file.size), value=file.size)
    if file.totals:
        bad = sum(row.stats.nonfinite for row in file.tensors if row.stats)
        parameters = file.totals.unique_model_parameters
        cells[1] = Cell(FORMAT_NAMES.get(file.format, file.format), Tone.DIM)
        cells[3] = Cell(f"{file.totals.tensors:,}", value=file.totals.tensors)
        cells[4] = Cell(short(parameters), Tone.STRONG, parameters)
        cells[5] = Cell(listed(list(file.totals.by_dtype), 4, separator=" "), Tone.DIM)
        if file.read or bad:
            cells[6] = Cell(f"{bad:,}", Tone.BAD if bad else Tone.DIM, bad)
    return Row(tuple(cells), key=file.path)


def _remark(file: FileReport) -> Cell:
    if file.error is not None:
        return Cell(file.error.message, Tone.BAD)
    if file.hazards:
        return Cell(f"UNSAFE: {file.hazards[0].what}", Tone.BAD)
    if file.foreign:
        return Cell(f"needs {listed(file.foreign, 1)}", Tone.DIM)
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
