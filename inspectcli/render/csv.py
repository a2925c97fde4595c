"""CSV: one line for each record, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from inspectcli.display.blocks import Content, Report
from inspectcli.render.base import Renderer, escape

#: A cell that begins with one of these would be a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report, width: int = 80, color: bool = False) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for i, record in enumerate(report.records):
        if not i:
            writer.writerow(record)
        writer.writerow([_cell(value) for value in record.values()])
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    text = escape(str(value), 1000)
    return "'" + text if text.startswith(_FORMULA) else text


RENDERER = Renderer("csv", render, Content.RECORDS, (".csv",))
