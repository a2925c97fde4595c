"""Plain text for pipes and files: no colors, nothing cut, every column."""

from __future__ import annotations

from collections.abc import Iterator

from inspectcli.display.blocks import Block, Facts, Heading, Note, Report, Table
from inspectcli.render.base import Renderer, display_width, escape, lines_of, pad

_LIMIT = 1000


def render(report: Report, width: int = 80, color: bool = False) -> str:
    return "\n".join(line.rstrip() for block in report.blocks for line in _lines(block)).lstrip("\n")


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield ""
        yield escape(block.text, _LIMIT) + (f"  ({escape(block.aside)})" if block.aside else "")
    elif isinstance(block, Facts):
        rows = [(escape(label), cell) for label, cell in block.rows]
        wide = max((display_width(label) for label, _ in rows), default=0)
        for label, cell in rows:
            yield f"  {pad(label, wide)}  {escape(cell.text, _LIMIT)}"
    elif isinstance(block, Note):
        yield f"  {escape(block.text, _LIMIT)}"
    else:
        yield ""
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    # Not by tabulate: importing it takes longer than all the rest of a run that reads no values.
    titles = [escape(column.label, _LIMIT) for column in table.columns]
    rows = [[escape(text, _LIMIT) for text in texts] for _, texts in lines_of(table)]
    widths = [max(map(display_width, column)) for column in zip(titles, *rows, strict=True)]
    yield "  ".join(pad(t, w, c.right) for t, w, c in zip(titles, widths, table.columns, strict=True))
    yield "  ".join("-" * w for w in widths)
    for row in rows:
        yield "  ".join(pad(t, w, c.right) for t, w, c in zip(row, widths, table.columns, strict=True))


RENDERER = Renderer("plain", render)
