"""For a terminal: colors by rich, and tables that fit the window without breaking a line."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from inspectcli.display.blocks import Block, Cell, Column, Facts, Heading, Note, Report, Table, Tone
from inspectcli.render.base import display_width, escape, pad, shorten_end, shorten_middle

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


def render(report: Report, width: int = 80, color: bool = False) -> str:
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
            line.rstrip()
            console.print(line, soft_wrap=True)
    return out.getvalue().lstrip("\n")


def _lines(block: Block, width: int) -> Iterator[Text]:
    if isinstance(block, Heading):
        yield Text()
        yield _heading(block, width)
    elif isinstance(block, Facts):
        yield from _facts(block, width)
    elif isinstance(block, Note):
        for line in _wrapped(escape(block.text, 1000), width - 1):
            yield Text(f" {line}", _STYLES[block.tone])
    else:
        yield Text()
        yield from _table(block, width)


def _heading(block: Heading, width: int) -> Text:
    aside = shorten_middle(escape(block.aside), max(width - 14, 0))
    room = width - (display_width(aside) + 2 if aside else 0)
    line = Text(shorten_middle(escape(block.text, 1000), max(room, 12)), "bold underline")
    if aside:
        line.append(_GAP + aside, "dim")
    return line


def _facts(block: Facts, width: int) -> Iterator[Text]:
    rows = [(escape(label), cell) for label, cell in block.rows]
    wide = min(max((display_width(label) for label, _ in rows), default=0), width // 3)
    for label, cell in rows:
        for i, part in enumerate(_wrapped(escape(cell.text, 1000), width - wide - 3)):
            line = Text(f" {pad(shorten_middle(label, wide) if i == 0 else '', wide)}  ", "dim")
            line.append(part, _STYLES[cell.tone])
            yield line


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


def _table(table: Table, width: int) -> Iterator[Text]:
    table = table._replace(columns=tuple(c._replace(title=escape(c.title, 1000)) for c in table.columns))
    texts = [[escape(cell.text, 1000) for cell in row] for row in table.rows]
    natural = [
        max([display_width(column.title), *(display_width(row[i]) for row in texts)])
        for i, column in enumerate(table.columns)
    ]
    fit = _fitted(table.columns, natural, width - 1)
    yield Text(" " + _GAP.join(_aligned(table.columns[i].title, w, table.columns[i]) for i, w in _pairs(fit)), "bold")
    yield Text(" " + _GAP.join("─" * w for w in fit.widths), "dim")
    for row, shown in zip(table.rows, texts, strict=True):
        yield _row(row, shown, table.columns, fit)
    hidden = [column.title for i, column in enumerate(table.columns) if i not in fit.shown]
    if hidden:
        yield from (
            Text(f" {line}", "dim")
            for line in _wrapped(
                f"not shown at {width} columns: {', '.join(hidden)} (widen the window, or --format plain)",
                width - 1,
            )
        )


def _pairs(fit: _Fit) -> Iterator[tuple[int, int]]:
    return zip(fit.shown, fit.widths, strict=True)


def _aligned(text: str, width: int, column: Column) -> str:
    shorten = shorten_end if column.sentence else shorten_middle
    return pad(shorten(text, width), width, column.right)


def _row(cells: Sequence[Cell], texts: Sequence[str], columns: Sequence[Column], fit: _Fit) -> Text:
    line = Text(" ")
    for place, (i, width) in enumerate(_pairs(fit)):
        if place:
            line.append(_GAP)
        line.append(_aligned(texts[i], width, columns[i]), _STYLES[cells[i].tone])
    return line


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
