"""For a terminal: colors by rich, and tables that fit the window without breaking a line."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inspectcli.display.blocks import Block, Column, Facts, Heading, Note, Report, Row, Table, Tone
from inspectcli.render.base import Renderer, display_width, escape, lines_of, pad, shorten_end, shorten_middle

_STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.DIM: "dim",
    Tone.GOOD: "green",
    Tone.WARN: "yellow",
    Tone.BAD: "bold red",
    Tone.ACCENT: "cyan",
}
_GAP = "  "


class _Line(NamedTuple):
    """(text, style) of its parts; `style` is that of the whole line, which theirs lie upon."""

    parts: tuple[tuple[str, str], ...] = ()
    style: str = ""


def render(report: Report, width: int = 80, color: bool = False) -> str:
    # Importing rich takes longer than many a run.
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out,
        width=max(width, 20),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    for block in report.blocks:
        for line in _lines(block, max(width, 20)):
            text = Text(style=line.style)
            for part, style in line.parts:
                text.append(part, style)
            text.rstrip()
            console.print(text, soft_wrap=True)
    return out.getvalue().lstrip("\n")


def _lines(block: Block, width: int) -> Iterator[_Line]:
    if isinstance(block, Heading):
        yield _Line()
        yield _heading(block, width)
    elif isinstance(block, Facts):
        yield from _facts(block, width)
    elif isinstance(block, Note):
        for line in _wrapped(escape(block.text, 1000), width - 1):
            yield _line(f" {line}", _STYLES[block.tone])
    else:
        yield _Line()
        yield from _table(block, width)


def _line(text: str, style: str) -> _Line:
    return _Line(((text, ""),), style)


def _heading(block: Heading, width: int) -> _Line:
    aside = shorten_middle(escape(block.aside), max(width - 14, 0))
    room = width - (display_width(aside) + 2 if aside else 0)
    title = shorten_middle(escape(block.text, 1000), max(room, 12))
    return _Line(((title, ""), (_GAP + aside if aside else "", "dim")), "bold underline")


def _facts(block: Facts, width: int) -> Iterator[_Line]:
    rows = [(escape(label), cell) for label, cell in block.rows]
    wide = min(max((display_width(label) for label, _ in rows), default=0), width // 3)
    for label, cell in rows:
        for i, part in enumerate(_wrapped(escape(cell.text, 1000), width - wide - 3)):
            shown = f" {pad(shorten_middle(label, wide) if i == 0 else '', wide)}  "
            yield _Line(((shown, ""), (part, _STYLES[cell.tone])), "dim")


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken at blanks; words that are longer are cut in the middle."""
    lines: list[str] = []
    for word in text.split(" "):
        word = shorten_middle(word, max(width, 8))
        if lines and display_width(lines[-1]) + 1 + display_width(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


# -- tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fit:
    """Which columns are shown, how wide each is."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]


def _table(table: Table, width: int) -> Iterator[_Line]:
    lines = [(row, [escape(text, 1000) for text in texts]) for row, texts in lines_of(table)]
    labels = [escape(column.label, 1000) for column in table.columns]
    natural = [
        max([display_width(labels[i]), *(display_width(texts[i]) for _, texts in lines)]) for i in range(len(labels))
    ]
    fit = _fitted(table.columns, natural, width - 1)
    titles = _GAP.join(_aligned(labels[i], w, table.columns[i]) for i, w in _pairs(fit))
    yield _line(f" {titles}", "bold")
    yield _line(" " + _GAP.join("─" * w for w in fit.widths), "dim")
    for row, texts in lines:
        yield _row(row, texts, table.columns, fit)
    hidden = [label for i, label in enumerate(labels) if i not in fit.shown]
    if hidden:
        told = f"not shown at {width} columns: {', '.join(hidden)} (widen the window, or --format plain)"
        yield from (_line(f" {line}", "dim") for line in _wrapped(told, width - 1))


def _pairs(fit: _Fit) -> Iterator[tuple[int, int]]:
    return zip(fit.shown, fit.widths, strict=True)


def _aligned(text: str, width: int, column: Column) -> str:
    shorten = shorten_end if column.sentence else shorten_middle
    return pad(shorten(text, width), width, column.right)


def _row(row: Row, texts: Sequence[str], columns: Sequence[Column], fit: _Fit) -> _Line:
    parts = [(" ", "")]
    for place, (i, width) in enumerate(_pairs(fit)):
        if place:
            parts.append((_GAP, ""))
        parts.append((_aligned(texts[i], width, columns[i]), _STYLES[row.cells[i].tone]))
    return _Line(tuple(parts))


def _fitted(columns: Sequence[Column], natural: Sequence[int], room: int) -> _Fit:
    """Leave out the columns of least weight until the rest fits; flexible ones give way first, down to their least."""
    least = [min(n, max(c.min_width, 4)) if c.flexible else n for c, n in zip(columns, natural, strict=True)]
    shown = list(range(len(columns)))

    def total(widths: Sequence[int]) -> int:
        return sum(widths[i] for i in shown) + len(_GAP) * (len(shown) - 1)

    for i in sorted(range(len(columns)), key=lambda i: columns[i].keep):
        if total(least) <= room or len(shown) == 1:
            break
        shown.remove(i)
    widths = [natural[i] for i in shown]
    flexible = [place for place, i in enumerate(shown) if columns[i].flexible]
    excess = sum(widths) + len(_GAP) * (len(shown) - 1) - room
    while excess > 0 and flexible:
        # The widest flexible column gives way first.
        place = max(flexible, key=lambda p: widths[p] - least[shown[p]])
        if widths[place] <= 4:
            break
        widths[place] -= 1
        excess -= 1
    return _Fit(tuple(shown), tuple(widths))


RENDERER = Renderer("terminal", render)
