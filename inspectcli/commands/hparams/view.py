"""Build the report blocks of `pinspect hparams`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inspectcli.analysis.health.hyperparameters import findings
from inspectcli.commands.hparams.result import HParams, HParamsDiff, TrialReport, is_visible, visible
from inspectcli.commands.inspect.health_view import TONES
from inspectcli.display.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Field,
    Heading,
    Note,
    Report,
    Row,
    Table,
    Tone,
    table_of,
)
from inspectcli.display.text import listed, plural, setting, significant
from inspectcli.document import Deferred
from inspectcli.hparams.advice import METHODS, Advice, beside, on_nonfinite
from inspectcli.hparams.base import HParamRow, Kind, Reach, Trial
from inspectcli.hparams.collect import Run
from inspectcli.hparams.conflicts import is_comparable
from inspectcli.hparams.merge import IMPORTANT, HParamValue, agree, base_name
from inspectcli.hparams.privacy import MASK
from inspectcli.storage import locate
from inspectcli.storage.names import file_name, relative

#: Values without a known name that are shown by default.
MAX_OTHERS = 12
#: Runs of a folder that are shown one by one; more become lines of a table.
MAX_RUNS = 6
#: Values of one name at other places that are shown.
MAX_OTHER_VALUES = 3

_BAR = "▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class HParamsView:
    """What the person asked to see.

    Attributes:
        all_rows: settings and masked values too, every place on a line of its own.
        advice: what is usual.
        trials: a line for each trial.
    """

    all_rows: bool = False
    advice: bool = False
    trials: bool = False


def present_hparams(found: HParams, view: HParamsView, nonfinite: int | None = None) -> Report:
    """The report of one path. `nonfinite`: how many NaN and Inf are in the weights, if somebody looked."""
    blocks: list[Block] = [Heading(found.path, _aside(found))]
    if view.trials:
        blocks += _trials(found.trials)
    elif len(found.runs) > MAX_RUNS and not view.all_rows:
        blocks.append(_runs_table(found.runs))
        blocks.append(Note("--run NAME shows one of them", Tone.DIM))
    else:
        for run in found.runs:
            if len(found.runs) > 1:
                blocks.append(Heading(run.folder or ".", plural(len(run.stores), "file")))
            blocks += _run(run, view, found.path)
            if view.advice:
                blocks += _advice(run, nonfinite)
    blocks += [Note(note, Tone.DIM) for note in found.notes]
    document = Deferred("hparams", lambda: found.report(view.all_rows, view.trials, view.advice))
    if view.trials:
        records = _trial_records(found.report(view.all_rows).trials)
    elif view.advice:
        records = tuple({**item._asdict(), "value": _flat(item.value)} for item in found.advice)
    else:
        records = _records(visible(found.rows, view.all_rows))
    return Report("hparams", tuple(blocks), document, records, found.exit_code)


def _aside(found: HParams) -> str:
    return f"hyperparameters from {plural(len(dict.fromkeys(found.files)), 'file')}"


def _records(rows: Iterable[HParamRow]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": row.name,
            "raw_key": row.raw_key,
            "value": _flat(row.value),
            "current": _flat(row.current),
            "kind": row.kind.value,
            "file": row.source.file,
            "locator": row.source.locator,
            "tool": row.source.tool,
            "note": row.note,
        }
        for row in rows
    )


def _trial_records(trials: Sequence[TrialReport]) -> tuple[dict[str, Any], ...]:
    """A record for each trial, all with the same keys."""
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    most = max((len(trial.objectives) for trial in trials), default=0)
    return tuple(
        {
            "trial": trial.name,
            "study": trial.study,
            "state": trial.state,
            "objective": trial.objective,
            **{f"objectives.{i}": trial.objectives[i] if i < len(trial.objectives) else None for i in range(most)},
            "best": trial.best,
            **{f"values.{name}": _flat(trial.values.get(name)) for name in names},
        }
        for trial in trials
    )


def _flat(value: object) -> object:
    return setting(value) if isinstance(value, list | tuple | dict) else value


# -- one run --------------------------------------------------------------------------------------------


def _run(run: Run, view: HParamsView, top: str) -> Iterator[Block]:
    facts = list(_facts(run, top))
    if facts:
        yield Facts(tuple(facts))
    if view.all_rows:
        yield _every_row(run, top)
    else:
        entries = [e for e in run.entries.values() if e.value is not None or e.current is not None]
        if entries:
            yield _table(entries, run, top)
        yield from _others(run)
    yield from _tensors(run)
    for finding in findings(run.conflicts):
        yield Note(f"{finding.code} {finding.about}: {finding.message}", TONES[finding.severity])
        yield Note(f"→ {finding.advice}", Tone.DIM)
    if run.not_recorded:
        names = ", ".join(name.replace("_", " ") for name in run.not_recorded)
        yield Note(f"not recorded in {'these files' if len(run.stores) > 1 else 'this file'}: {names}", Tone.WARN)


def _facts(run: Run, top: str) -> Iterator[tuple[str, Cell]]:
    tools = dict.fromkeys(row.source.tool for row in run.rows)
    if tools:
        yield "written by", Cell(", ".join(tools))
    files = [_short(path, top) for path, _ in run.stores]
    if len(files) > 1:
        yield "files", Cell(listed(files, 8), Tone.DIM)
    progress = _progress(run)
    if progress:
        yield "progress", Cell(progress)


def _short(path: str, top: str) -> str:
    """A file as it is called below the folder that was asked for."""
    if locate(top).is_folder() and path != top:
        return relative(path, top)
    return file_name(path.rstrip("/\\")) or path


def _progress(run: Run) -> str:
    """`learning rate 1e-3 -> now 2.5e-4, cosine, step 4,000 of 10,000`."""
    entries = run.entries
    parts = []
    rate = entries.get("learning_rate")
    if rate is not None and rate.current is not None:
        moved = rate.value is not None and not agree(rate.value, rate.current)
        parts.append(f"learning rate {setting(rate.value)} → now {setting(rate.current)}" if moved else "")
        schedule = entries.get("lr_scheduler")
        if moved and schedule is not None and isinstance(schedule.value, str):
            parts.append(schedule.value)
    for name, total in (("step", "max_steps"), ("epoch", "epochs")):
        entry, of = entries.get(name), entries.get(total)
        if entry is not None and isinstance(entry.current, int | float):
            most = of.value if of is not None and type(of.value) in (int, float) and of.value else None
            parts.append(f"{name} {_whole(entry.current)}" + (f" of {_whole(most)}" if _positive(most) else ""))
    return ", ".join(part for part in parts if part)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _whole(value: object) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) and float(value).is_integer() else setting(value)


def _table(entries: Sequence[HParamValue], run: Run, top: str) -> Table:
    fields = [
        Field(Column("name", "hyperparameter", keep=100, flexible=True, min_width=18), _name_cell),
        Field(Column("value", keep=99, flexible=True, min_width=12), _value_cell),
        Field(Column("current", "now", keep=95), lambda e: Cell(_now(e), Tone.ACCENT, _number(e.current))),
        Field(Column("raw_key", "key", keep=70, flexible=True, min_width=10), lambda e: Cell(e.row.raw_key, Tone.DIM)),
        Field(
            Column("locator", "place", keep=60, flexible=True, min_width=14),
            lambda e: Cell(e.row.source.locator, Tone.DIM),
        ),
        Field(Column("file", keep=50, flexible=True, min_width=12), lambda e: _file_cell(e.row, top)),
        Field(
            Column("remark", keep=40, flexible=True, min_width=12, sentence=True),
            lambda e: Cell(_remark(e), Tone.DIM),
        ),
    ]
    left_out = {"current"} - {"current" for e in entries if _now(e)} | ({"file"} if len(run.stores) == 1 else set())
    return table_of([f for f in fields if f.column.key not in left_out], entries, lambda e: e.name)


def _name_cell(entry: HParamValue) -> Cell:
    return Cell(entry.name, Tone.STRONG if entry.name in IMPORTANT else Tone.PLAIN)


def _value_cell(entry: HParamValue) -> Cell:
    if entry.value is None:
        return Cell("–", Tone.DIM)
    if entry.row.private:
        return Cell(MASK, Tone.DIM)
    return _setting_cell(entry.value, Tone.STRONG if entry.name in IMPORTANT else Tone.PLAIN)


def _setting_cell(value: object, tone: Tone = Tone.PLAIN) -> Cell:
    return Cell(setting(value), tone, _number(value))


def _number(value: object) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _file_cell(row: HParamRow, top: str) -> Cell:
    return Cell(_short(row.source.file, top), Tone.DIM, row.source.file)


def _now(entry: HParamValue) -> str:
    if entry.current is None or (entry.value is not None and agree(entry.value, entry.current)):
        return ""
    return setting(entry.current)


def _remark(entry: HParamValue) -> str:
    """What the row itself notes; values of other parameter groups; how many places say the same."""
    note = "" if entry.layered else entry.row.note
    groups = [r for r in entry.rows if r.reach is Reach.GROUP and r.kind is Kind.STATIC]
    parts = [note] if note else []
    parts += [f"{setting(r.value)} in {r.note}" for r in groups[:2]]
    parts += _otherwise(entry)
    same = sum(is_comparable(r) and agree(r.value, entry.value) for r in entry.rows if r is not entry.row)
    if same > 0 and not entry.layered and not parts:
        parts.append(f"and in {plural(same, 'other place')}")
    return "; ".join(parts)


def _otherwise(entry: HParamValue) -> list[str]:
    """Other values that hold for the whole run as well, and where: of a second optimizer, of another file."""
    if entry.layered or base_name(entry.row.name or "")[1] is not None:
        return []
    others: dict[str, HParamRow] = {}
    for row in entry.rows:
        whole = row.kind is Kind.STATIC and row.reach is Reach.RUN and row.is_set and not row.private
        if whole and row.name == entry.row.name and not agree(row.value, entry.value):
            others.setdefault(setting(row.value), row)
    parts = [f"{text} in {row.source.locator or file_name(row.source.file)}" for text, row in others.items()]
    return parts if len(parts) <= MAX_OTHER_VALUES else [*parts[:MAX_OTHER_VALUES], f"{len(parts):,} values in all"]


def _others(run: Run) -> Iterator[Block]:
    """Numbers without a known name, and how much is not shown."""
    unnamed = [r for r in run.rows if r.name is None and is_visible(r, False) and r.value not in (None, [], "")]
    hidden = sum(1 for r in run.rows if r.name is None) - len(unnamed[:MAX_OTHERS])
    if unnamed:
        text = ", ".join(f"{r.raw_key} {setting(r.value)}" for r in unnamed[:MAX_OTHERS])
        title = "others" if any(isinstance(r.value, str) for r in unnamed[:MAX_OTHERS]) else "other numbers"
        yield Facts(((title, Cell(text, Tone.DIM)),))
    if hidden > 0:
        yield Note(f"{plural(hidden, 'more value')}, settings and keys without a known name: --all", Tone.DIM)


def _tensors(run: Run) -> Iterator[Block]:
    if run.from_tensors:
        text = "; ".join(f"{t.name} {setting(t.value)} ({t.tensor} {t.shape})" for t in run.from_tensors)
        yield Facts((("tensors say", Cell(text, Tone.DIM)),))


def _every_row(run: Run, top: str) -> Table:
    fields: tuple[Field[HParamRow], ...] = (
        Field(
            Column("name", "hyperparameter", keep=90, flexible=True, min_width=14),
            lambda row: Cell(row.name or "–", Tone.STRONG if row.name else Tone.DIM),
        ),
        Field(Column("raw_key", "key", keep=99, flexible=True, min_width=12), lambda row: Cell(row.raw_key)),
        Field(Column("value", keep=100, flexible=True, min_width=14), lambda row: _setting_cell(row.value)),
        Field(Column("kind", keep=50), lambda row: Cell(row.kind.value, Tone.DIM)),
        Field(
            Column("locator", "place", keep=80, flexible=True, min_width=14),
            lambda row: Cell(row.source.locator, Tone.DIM),
        ),
        Field(Column("file", keep=60, flexible=True, min_width=12), lambda row: _file_cell(row, top)),
        Field(
            Column("note", "remark", keep=40, flexible=True, min_width=12, sentence=True),
            lambda row: Cell(row.note, Tone.DIM),
        ),
    )
    return table_of(fields, run.rows)


# -- advice ---------------------------------------------------------------------------------------------


def _advice(run: Run, nonfinite: int | None) -> Iterator[Block]:
    known = beside(run.entries)
    if not known:
        return
    fields: tuple[Field[tuple[HParamValue, Advice, str]], ...] = (
        Field(Column("name", "advice for", keep=100), lambda item: Cell(item[0].name)),
        Field(
            Column("value", keep=95, flexible=True, min_width=8),
            lambda item: _setting_cell(item[0].current if item[0].value is None else item[0].value),
        ),
        Field(
            Column("sensitivity", "matters", keep=80),
            lambda item: Cell(item[1].sensitivity, Tone.STRONG if item[1].sensitivity == "high" else Tone.DIM),
        ),
        Field(Column("moves", "kind", keep=50), lambda item: Cell(item[1].moves, Tone.DIM)),
        Field(
            Column("text", "typically", keep=90, flexible=True, min_width=24, sentence=True),
            lambda item: Cell(f"{item[2]}; {item[1].text}", Tone.WARN) if item[2] else Cell(item[1].text),
        ),
        Field(
            Column("source", keep=40, flexible=True, min_width=12, sentence=True),
            lambda item: Cell(item[1].source, Tone.DIM),
        ),
    )
    yield table_of(fields, known, lambda item: item[0].name)
    if nonfinite:
        weights = f"the weights hold {plural(nonfinite, 'value')} that {'is' if nonfinite == 1 else 'are'} NaN or Inf"
        yield Note(f"{weights}: {on_nonfinite(run.entries)}", Tone.BAD)
    yield Note(METHODS, Tone.DIM)
    yield Note("advice says what is usual, not what is right: it changes no exit code", Tone.DIM)


# -- trials and runs ------------------------------------------------------------------------------------


def _trials(trials: Sequence[Trial]) -> Iterator[Block]:
    if not trials:
        yield Note("no store here holds more than one trial", Tone.DIM)
        return
    names = list(dict.fromkeys(row.name or row.raw_key for trial in trials for row in trial.rows))
    common = [n for n in IMPORTANT if n in names]
    chosen = (common + [n for n in names if n not in common])[:8]
    low, high = _span(trials)
    fields: tuple[Field[Trial], ...] = (
        Field(Column("trial", keep=100), lambda t: Cell(t.name + (" best" if t.best else ""), _trial_tone(t), t.name)),
        Field(Column("state", keep=60), lambda t: Cell(t.state, Tone.DIM)),
        Field(Column("objective", right=True, keep=98), _objective_cell),
        Field(Column("bar", "", keep=70), lambda t: Cell(_bar(t.objective, low, high), Tone.ACCENT)),
    )
    columns = [Column(f"values.{n}", n, keep=90 - i, flexible=True, min_width=10) for i, n in enumerate(chosen)]
    rows = []
    for trial in trials:
        values = {row.name or row.raw_key: row for row in trial.rows}
        cells = (*(f.cell(trial) for f in fields), *(_trial_cell(values.get(name)) for name in chosen))
        rows.append(Row(cells, key=trial.name))
    yield Table((*(f.column for f in fields), *columns), tuple(rows))


def _trial_tone(trial: Trial) -> Tone:
    return Tone.GOOD if trial.best else Tone.PLAIN


def _objective_cell(trial: Trial) -> Cell:
    several = trial.objectives or (() if trial.objective is None else (trial.objective,))
    text = ", ".join(significant(value, 6) for value in several)
    return Cell(text, _trial_tone(trial), trial.objective)


def _trial_cell(row: HParamRow | None) -> Cell:
    if row is None:
        return Cell("")
    if row.private:
        return Cell(MASK, Tone.DIM)
    # A sampled value has sixteen digits; four tell it from the next trial's.
    if isinstance(row.value, float):
        return Cell(significant(row.value, 4), value=row.value)
    return _setting_cell(row.value)


def _span(trials: Sequence[Trial]) -> tuple[float, float]:
    known = [t.objective for t in trials if t.objective is not None and abs(t.objective) < 1e300]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _bar(value: float | None, low: float, high: float, width: int = 8) -> str:
    """A bar from the lowest to the highest objective; the lowest one is a sliver."""
    if value is None or not low <= value <= high:
        return ""
    eighths = max(round((value - low) / (high - low) * width * 8), 1) if high > low else width * 8
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BAR[rest - 1] if rest else "")


def _runs_table(runs: Sequence[Run]) -> Table:
    """A line for each run: the important ones that differ first."""
    names = [n for n in IMPORTANT if any(n in run.entries for run in runs)]
    differ = [n for n in names if len({setting(_of(run, n)) for run in runs}) > 1]
    chosen = (differ + [n for n in names if n not in differ])[:7]
    columns = (
        Column("run", keep=100, flexible=True, min_width=16),
        *(Column(f"values.{n}", n, keep=90 - i, flexible=True, min_width=6) for i, n in enumerate(chosen)),
    )
    rows = (
        Row((Cell(run.folder or "."), *(_setting_cell(_of(run, n)) for n in chosen)), key=run.folder) for run in runs
    )
    return Table(columns, tuple(rows))


def _of(run: Run, name: str) -> object:
    entry = run.entries.get(name)
    return "" if entry is None else entry.current if entry.value is None else entry.value


# -- two sets -------------------------------------------------------------------------------------------


def present_comparison(found: HParamsDiff) -> Report:
    """What was changed from one set to another; what only one of them has."""
    columns = (
        Column("name", "hyperparameter", keep=100, flexible=True, min_width=18),
        Column("a", "A", keep=99, flexible=True, min_width=12),
        Column("b", "B", keep=98, flexible=True, min_width=12),
        Column("status", "", keep=90),
    )
    lines = [
        (Cell(n, Tone.STRONG), _setting_cell(pair.a), _setting_cell(pair.b, Tone.WARN), Cell("changed"))
        for n, pair in found.changed.items()
    ]
    lines += [(Cell(n), _setting_cell(v), Cell(""), Cell("only in A", Tone.DIM)) for n, v in found.only_in_a.items()]
    lines += [(Cell(n), Cell(""), _setting_cell(v), Cell("only in B", Tone.DIM)) for n, v in found.only_in_b.items()]
    blocks: list[Block] = [
        Heading("hyperparameters of two sets"),
        Facts((("A", Cell(found.a)), ("B", Cell(found.b)))),
    ]
    if lines:
        blocks.append(Table(columns, tuple(Row(cells, key=cells[0].text) for cells in lines)))
    only = f"{len(found.only_in_a):,} only in A, {len(found.only_in_b):,} only in B"
    blocks.append(Note(f"{len(found.changed):,} changed, {only}, {len(found.same):,} the same"))
    blocks += [Note(note, Tone.DIM) for note in found.notes]
    pairs = {n: (pair.a, pair.b) for n, pair in found.changed.items()}
    pairs |= {n: (value, None) for n, value in found.only_in_a.items()}
    pairs |= {n: (None, value) for n, value in found.only_in_b.items()}
    records = tuple({"name": n, "a": _flat(a), "b": _flat(b)} for n, (a, b) in pairs.items())
    return Report("hparams", tuple(blocks), Deferred("hparams", lambda: found), records, found.exit_code)
