"""JSON: the report's document, laid out as `json.dumps(document, indent=2)` does it, and written as it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any

from inspectcli.display.blocks import Content, Report
from inspectcli.render.base import Renderer, inert

#: Objects and lists below so many others are written in one piece.
_DEEP = 4


def render(report: Report, width: int = 80, color: bool = False) -> Iterator[str]:
    yield from _pieces(dict(report.document), "\n", 0)
    yield "\n"


def _pieces(value: Any, margin: str, depth: int) -> Iterator[str]:
    """The text of a value. `margin` is the line end and the blanks that it stands behind."""
    inside = margin + "  "
    if isinstance(value, Sequence) and not isinstance(value, str | list):  # long, and made as it is read
        for i, inner in enumerate(value):
            yield f"{',' if i else '['}{inside}{_text(inner, inside)}"
        yield f"{margin}]"
    elif isinstance(value, dict) and value and depth < _DEEP:
        for i, (key, inner) in enumerate(value.items()):
            yield f"{',' if i else '{'}{inside}{_string(key)}: "
            yield from _pieces(inner, inside, depth + 1)
        yield margin + "}"
    elif isinstance(value, list) and value and depth < _DEEP:
        for i, inner in enumerate(value):
            yield f"{',' if i else '['}{inside}"
            yield from _pieces(inner, inside, depth + 1)
        yield f"{margin}]"
    else:
        yield _text(value, margin)


def _text(value: Any, margin: str) -> str:
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"JSON has no {value}")
        return float.__repr__(value)
    inside = margin + "  "
    if isinstance(value, Mapping):
        entries = [f"{_string(key)}: {_text(inner, inside)}" for key, inner in value.items()]
        return f"{{{inside}{f',{inside}'.join(entries)}{margin}}}" if entries else "{}"
    texts = [_text(inner, inside) for inner in value]
    return f"[{inside}{f',{inside}'.join(texts)}{margin}]" if texts else "[]"


def _string(text: str) -> str:
    return inert(encode_basestring_ascii(text))


RENDERER = Renderer("json", render, Content.DOCUMENT, (".json",))
