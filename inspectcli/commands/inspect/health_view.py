"""How verdicts and findings are told: one sentence, one column, and the findings under the summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from inspectcli.display.blocks import Cell, Tone
from inspectcli.display.text import listed, plural, significant, size
from inspectcli.tensors.model import Kind

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


def init_cell(line: Fold[TensorRow]) -> Cell:
    """`untouched`, `init-like`, `×0.8…1.3` of the default's spread, `moved`, `unknown`, `760 of 800 rows`."""
    verdicts = [row.init for row in line.members if row.init is not None and not row.alias_of]
    if not verdicts:
        return Cell("")
    words = {str(v.strength) for v in verdicts}
    if len(verdicts) == 1 and verdicts[0].rows is not None:
        return Cell(f"moved, {verdicts[0].rows:,} rows as init", Tone.WARN)
    if words == {"moved"}:
        ratios = [v.ratio for v in verdicts if v.ratio is not None]
        if not ratios:
            return Cell("moved", Tone.DIM)
        low, high = _times(min(ratios)), _times(max(ratios))
        return Cell(f"×{low}" if low == high else f"×{low}…{high}", Tone.DIM)
    if len(words) == 1:
        plain = words == {"unknown"} or not any(v.is_drawn for v in verdicts)
        return Cell(words.pop(), Tone.DIM if plain else Tone.ACCENT)
    still = sum(v.strength in ("untouched", "init-like") for v in verdicts)
    return Cell(f"{still} of {len(verdicts)} as init", Tone.DIM)


def _times(ratio: float) -> str:
    return significant(ratio, 2 if ratio < 100 else 1)


#: Signs that the sentence tells; all are in the JSON.
_SIGNS = 2
_ANSWERS = {"trained": "yes", "not-trained": "no", "unknown": "cannot be told"}


def trained_fact(file: FileReport) -> Iterable[tuple[str, Cell]]:
    """`yes: batch norms saw 4,800 batches; 54 weights fit no known initializer; 2 are as drawn: a, b (formula)`."""
    judged = file.trained
    if judged is None or not judged.weights:
        return
    as_drawn = [
        row
        for row in file.tensors
        if row.init is not None
        and row.init.is_as_drawn
        and len(row.shape) > 1
        and not row.alias_of
        and row.kind is not Kind.EMA
    ]
    parts = list(judged.evidence[:_SIGNS])
    if judged.is_trained and judged.moved and len(judged.evidence) > _SIGNS:
        parts.append(judged.evidence[-1])
    if as_drawn:
        parts.insert(len(parts) if judged.is_trained else 0, _as_drawn(as_drawn, judged.weights))
    unknown = judged.weights - judged.moved - judged.as_drawn
    if unknown:
        parts.append(f"of {plural(unknown, 'weight')} nothing can be told")
    tone = Tone.PLAIN if not judged.is_trained else Tone.WARN if as_drawn else Tone.GOOD
    yield "trained", Cell(f"{_ANSWERS[judged.answer]}: {'; '.join(parts)}", tone)


def _as_drawn(rows: Sequence[TensorRow], weights: int) -> str:
    """`all 4 weights are as drawn (formula)`, `2 of 54 weights look as drawn: a, b (formula)`."""
    sure = all(row.init is not None and row.init.strength == "untouched" for row in rows)
    look = "are" if sure else "look"
    if len(rows) < weights:
        return f"{len(rows):,} of {plural(weights, 'weight')} {look} as drawn: {_names(rows)}"
    every = {1: f"the only weight {'is' if sure else 'looks'}", 2: f"both weights {look}"}
    formulas = {row.init.formula for row in rows if row.init is not None}
    words = f" ({formulas.pop()})" if len(formulas) == 1 else ""
    return f"{every.get(weights, f'all {weights:,} weights {look}')} as drawn{words}"


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
