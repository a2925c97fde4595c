"""JSON: the report's document."""

from __future__ import annotations

import json

from inspectcli.display.blocks import Content, Report
from inspectcli.render.base import Renderer, inert


def render(report: Report, width: int = 80, color: bool = False) -> str:
    return inert(json.dumps(dict(report.document), allow_nan=False, ensure_ascii=True, indent=2)) + "\n"


RENDERER = Renderer("json", render, Content.DOCUMENT, (".json",))
