"""JSON: the report's document, strict; NaN and infinities as strings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from inspectcli.display.blocks import Content, Report
from inspectcli.render.base import Renderer

_MAX_INTEGER = 1 << 256


def render(report: Report, width: int = 80, color: bool = False) -> str:
    return json.dumps(strict(whole(report)), allow_nan=False, ensure_ascii=True, indent=2) + "\n"


def whole(report: Report) -> dict[str, object]:
    """The report's document with the exit code of the command, whichever it is."""
    return {**report.document, "exit_code": report.exit_code}


def strict(value: Any) -> Any:
    """The same in types that JSON has."""
    if isinstance(value, float):
        return (
            value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if value is None or isinstance(value, bool | str):
        return str(value.value) if isinstance(value, Enum) else value
    if isinstance(value, int):
        return value if -_MAX_INTEGER < value < _MAX_INTEGER else f"<integer of {value.bit_length():,} bits>"
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [strict(v) for v in value]
    if is_dataclass(value):
        return {f.name: strict(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


RENDERER = Renderer("json", render, Content.DOCUMENT, (".json",))
