"""GitHub's Markdown: for pull requests, READMEs and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tabulate import tabulate

from inspectcli.display.blocks import Block, Cell, Facts, Heading, Note, Report, Table, Tone
from inspectcli.render.base import escape

_LIMIT = 1000
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~@$])")
#: Not by a backslash: what reads Markdown as HTML must see no tag either.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
#: A name without these stands in a code span; any other one is escaped, since not every reader knows spans.
_HARMLESS = re.compile(r"[\w./:{},=…×*+ -]*")
_LOUD = {Tone.BAD: "**{}**", Tone.WARN: "**{}**"}


def render(report: Report, width: int = 80, color: bool = False) -> str:
    return "\n".join(line for block in report.blocks for line in _lines(block)).lstrip("\n")


def text(raw: str) -> str:
    """Untrusted text as itself: nothing in it is markup, a mention or a cell's end."""
    escaped = _SPECIAL.sub(r"\\\1", escape(raw, _LIMIT))
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], escaped)


def code(raw: str) -> str:
    """A name in a code span; one that could be markup as escaped text."""
    shown = escape(raw, _LIMIT)
    return f"`{shown}`" if _HARMLESS.fullmatch(shown) else text(raw)


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield from ("", f"## {code(block.text)}", "")
        if block.aside:
            yield from (text(block.aside), "")
    elif isinstance(block, Facts):
        for label, cell in block.rows:
            # Without a label it belongs to the line above.
            yield f"- {text(label)}: {_toned(cell)}" if label else f"  - {_toned(cell)}"
        yield ""
    elif isinstance(block, Note):
        yield from ("", _LOUD.get(block.tone, "{}").format(text(block.text)), "")
    else:
        yield from _table(block)


def _toned(cell: Cell) -> str:
    shown = text(cell.text)
    return _LOUD.get(cell.tone, "{}").format(shown) if shown else ""


def _table(table: Table) -> Iterator[str]:
    first_is_name = bool(table.columns) and table.columns[0].flexible
    rows = [
        [
            code(cell.text) if i == 0 and first_is_name and cell.text.strip() else _toned(cell)
            for i, cell in enumerate(row)
        ]
        for row in table.rows
    ]
    yield ""
    yield from tabulate(
        rows,
        headers=[text(column.title) for column in table.columns],
        tablefmt="pipe",
        colalign=["right" if column.right else "left" for column in table.columns],
        disable_numparse=True,
    ).splitlines()
    yield ""
