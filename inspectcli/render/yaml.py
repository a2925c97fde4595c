"""YAML: the report's document, the same object as in JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from inspectcli.display.blocks import Content, Report
from inspectcli.render.base import Renderer

#: Texts that are safe without quotes: no YAML of any version reads them as something else.
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./ -]*[A-Za-z0-9_./]|[A-Za-z_]")
_WORDS = frozenset("true false yes no on off null none y n nan inf".split())


def render(report: Report, width: int = 80, color: bool = False) -> Iterator[str]:
    for line in _lines(dict(report.document), ""):
        yield line + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", inner, indent + "  ")
        return
    for inner in value:
        if not _deep(inner):
            yield f"{indent}- {_scalar(inner)}"
            continue
        for i, line in enumerate(_lines(inner, indent + "  ")):
            yield line if i else f"{indent}- {line[len(indent) + 2 :]}"


def _entry(start: str, value: Any, indent: str) -> Iterator[str]:
    if _deep(value):
        yield start
        yield from _lines(value, indent)
    else:
        yield f"{start} {_scalar(value)}"


def _deep(value: Any) -> bool:
    """Whether it stands on lines of its own; a list of scalars does not."""
    if isinstance(value, dict):
        return bool(value)
    return _is_list(value) and any(isinstance(v, dict) or _is_list(v) for v in value)


def _is_list(value: Any) -> bool:
    """Whether it is a list, or a long one that is made as it is read."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def _scalar(value: Any) -> str:
    """A scalar, an empty container or a flat list."""
    if _is_list(value):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        # `1e-05` is a number in YAML 1.2 only; with a point it is one in all.
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return value if _BARE.fullmatch(value) and value.lower() not in _WORDS else _quoted(value)


def _quoted(text: str) -> str:
    """In double quotes; all but printable ASCII as an escape, and `##`, with which commands of CI jobs begin."""
    return '"' + re.sub("#(?=#)", r"\\x23", "".join(_escaped(c) for c in text)) + '"'


def _escaped(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    code = ord(c)
    if 0x20 <= code < 0x7F:
        return c
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


RENDERER = Renderer("yaml", render, Content.DOCUMENT, (".yaml", ".yml"))
