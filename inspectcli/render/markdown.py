"""GitHub's Markdown: for pull requests, READMEs and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inspectcli.display.blocks import Block, Facts, Heading, Note, Report, Table, Tone
from inspectcli.render.base import Renderer, escape, lines_of

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
            yield f"- {text(label)}: {_toned(cell.text, cell.tone)}" if label else f"  - {_toned(cell.text, cell.tone)}"
        yield ""
    elif isinstance(block, Note):
        yield from ("", _LOUD.get(block.tone, "{}").format(text(block.text)), "")
    else:
        yield from _table(block)


def _toned(raw: str, tone: Tone) -> str:
    shown = text(raw)
    return _LOUD.get(tone, "{}").format(shown) if shown else ""


def _table(table: Table) -> Iterator[str]:
    from tabulate import tabulate

    first_is_name = bool(table.columns) and table.columns[0].flexible
    rows = [
        [
            code(shown) if i == 0 and first_is_name and shown.strip() else _toned(shown, cell.tone)
            for i, (cell, shown) in enumerate(zip(row.cells, texts, strict=True))
        ]
        for row, texts in lines_of(table)
    ]
    yield ""
    yield from tabulate(
        rows,
        headers=[text(column.label) for column in table.columns],
        tablefmt="pipe",
        colalign=["right" if column.right else "left" for column in table.columns],
        disable_numparse=True,
    ).splitlines()
    yield ""


RENDERER = Renderer("markdown", render, suffixes=(".md", ".markdown"))
