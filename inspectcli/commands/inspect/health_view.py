"""How verdicts and findings are told: one sentence, one column, and the findings under the summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from inspectcli.display.blocks import Cell, Tone
from inspectcli.display.text import listed, plural, significant, size

if TYPE_CHECKING:
    from inspectcli.analysis.findings import Finding
    from inspectcli.commands.inspect.result import Coverage, FileReport, TensorRow
    from inspectcli.display.fold import Fold

TONES = {"error": Tone.BAD, "warning": Tone.WARN, "note": Tone.DIM}
#: Findings of one code that are told one by one, and codes that are told at all.
_EACH, _CODES = 3, 8


def coverage_text(coverage: Coverage) -> str:
    """`3 files read (50 of 58 tensors, 59 kB of values), 1 not read, 12 passed over: no checkpoints`."""
    of = plural(coverage.tensors, "tensor")
    if coverage.tensors_read < coverage.tensors:
        of = f"{coverage.tensors_read:,} of {of}"
    parts = [f"{plural(coverage.files, 'file')} read ({of}, {size(coverage.bytes_read)} of values)"]
    parts.append(f"{coverage.unread:,} not read")
    parts.append(f"{coverage.passed_over:,} passed over: no checkpoints" if coverage.passed_over else "0 passed over")
    closed = f"; {plural(coverage.closed, 'hidden or linked folder')} not searched" if coverage.closed else ""
    return ", ".join(parts) + closed


def _drawn(rows: Iterable[TensorRow]) -> list[TensorRow]:
    """Those whose verdict is about drawn numbers: a constant may be the same before and after training."""
    return [row for row in rows if row.init is not None and row.init.family != "constant" and len(row.shape) > 1]


def init_cell(line: Fold[TensorRow]) -> Cell:
    """`untouched`, `init-like`, `×0.8…1.3` of the default's spread, `moved`."""
    verdicts = [row.init for row in line.members if row.init is not None and not row.alias_of]
    if not verdicts:
        return Cell("")
    words = {str(v.strength) for v in verdicts}
    if words == {"moved"}:
        ratios = [v.ratio for v in verdicts if v.ratio is not None]
        if not ratios:
            return Cell("moved", Tone.DIM)
        low, high = _times(min(ratios)), _times(max(ratios))
        return Cell(f"×{low}" if low == high else f"×{low}…{high}", Tone.DIM)
    if len(words) == 1:
        constant = all(v.family == "constant" for v in verdicts)
        return Cell(words.pop(), Tone.DIM if constant else Tone.ACCENT)
    still = sum(v.strength != "moved" for v in verdicts)
    return Cell(f"{still} of {len(verdicts)} as init", Tone.DIM)


def _is_one_constant(row: TensorRow) -> bool:
    """Whether a matrix holds nothing but one value."""
    constant = row.init is not None and row.init.family == "constant"
    same = row.stats is not None and row.stats.min is not None and row.stats.min == row.stats.max
    return constant and same and sum(n > 1 for n in row.shape) > 1


def _times(ratio: float) -> str:
    return significant(ratio, 2 if ratio < 100 else 1)


def trained_fact(file: FileReport) -> Iterable[tuple[str, Cell]]:
    """`142 of 148 weights have moved from their initialization; 6 are untouched: a, b, c and 3 more`."""
    rows = _drawn(row for row in file.tensors if not row.alias_of)
    if not rows:
        return
    groups = {
        word: [row for row in rows if row.init is not None and row.init.strength == word]
        for word in ("moved", "untouched", "init-like")
    }
    moved = groups["moved"]
    weights = plural(len(rows), "weight")
    still = [row for row in file.tensors if _is_one_constant(row) and not row.alias_of]
    if len(moved) == len(rows) and still:
        names = listed([row.name for row in still], 2)
        told = f"{plural(len(rows), 'weight')} moved from initialization; {len(still):,} hold one value each: {names}"
        yield "trained", Cell(told, Tone.WARN)
        return
    if len(moved) == len(rows):
        every = {1: "the only weight has moved from its", 2: "both weights have moved from their"}
        yield (
            "trained",
            Cell(f"{every.get(len(rows), f'all {weights} have moved from their')} initialization", Tone.GOOD),
        )
        return
    parts = [f"{len(moved):,} of {weights} moved from initialization" if moved else f"none of {weights} moved"]
    if groups["untouched"]:
        parts.append(f"{len(groups['untouched']):,} untouched: {_names(groups['untouched'])}")
    if groups["init-like"]:
        parts.append(f"{len(groups['init-like']):,} cannot be told from it: {_names(groups['init-like'])}")
    yield "trained", Cell("; ".join(parts), Tone.WARN if moved else Tone.PLAIN)


def _names(rows: Sequence[TensorRow]) -> str:
    formula = rows[0].init.formula if rows[0].init is not None else ""
    same = all(row.init is not None and row.init.formula == formula for row in rows)
    return listed([row.name for row in rows], 2) + (f" ({formula})" if same and formula else "")


def _told(group: Sequence[Finding]) -> Iterable[str]:
    """`name: message`; tensors of which the same is said share a line."""
    alike: dict[str, list[str]] = {}
    for finding in group:
        alike.setdefault(finding.message, []).append(finding.about)
    for message, names in list(alike.items())[:_EACH]:
        shown = listed(names, 2)
        yield f"{shown}: {message}" if shown else message
    if len(alike) > _EACH:
        more = sum(len(names) for names in list(alike.values())[_EACH:])
        yield f"and in {plural(more, 'more tensor')}" if group[0].tensor is not None else f"and {more:,} more"


def findings_facts(file: FileReport) -> Iterable[tuple[str, Cell]]:
    """Errors and warnings, worst first, a few of each code; notes are only counted."""
    told = [f for f in file.findings if f.severity != "note" and not (file.hazards and f.code == "PI501")]
    by_code: dict[str, list[Finding]] = {}
    for finding in told:
        by_code.setdefault(finding.code, []).append(finding)
    for code, group in list(by_code.items())[:_CODES]:
        for text in _told(group):
            yield code, Cell(text, TONES[group[0].severity])
        advice = group[0].advice
        yield "", Cell(f"→ {advice[:1].upper()}{advice[1:]}.", Tone.DIM)
    hidden = sum(len(group) for group in list(by_code.values())[_CODES:])
    notes = sum(f.severity == "note" for f in file.findings)
    rest = [plural(n, noun) for n, noun in ((hidden, "more finding"), (notes, "note")) if n]
    if rest:
        yield "findings", Cell(f"{' and '.join(rest)}: `pinspect check` lists them", Tone.DIM)
