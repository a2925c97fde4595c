"""Workflow commands of GitHub Actions: each finding is an annotation on its file.

::error file=models/a.pt,title=PI101 nan-values::fc1.weight: 12 of 4,096 values are NaN
"""

from __future__ import annotations

from inspectcli.display.blocks import Content, Report
from inspectcli.render._findings import LIMIT, files_of, findings_of, rule_names, sentence, settings_of, told
from inspectcli.render.base import Renderer, escape
from inspectcli.storage.names import from_here

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def render(report: Report, width: int = 80, color: bool = False) -> str:
    names = rule_names(report)
    lines = [
        _command(_LEVELS[f["severity"]], file["path"], f"{f['code']} {names.get(f['code'], '')}".strip(), sentence(f))
        for file, f in findings_of(report)
    ]
    lines += [
        _command(
            "notice" if file["allowed"] else "error",
            file["path"],
            "could not be read",
            escape(file["error"]["message"], LIMIT),
        )
        for file in files_of(report)
        if file["error"] is not None
    ]
    lines += [f"::notice title=settings::{_encoded(told(s), _DATA)}" for s in settings_of(report) if s["changed"]]
    return "".join(f"{line}\n" for line in lines)


def _command(level: str, path: str, title: str, message: str) -> str:
    file = _encoded(escape(from_here(path), LIMIT), _PROPERTY)
    return f"::{level} file={file},title={_encoded(title, _PROPERTY)}::{_encoded(message, _DATA)}"


def _encoded(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(c, c) for c in text)


RENDERER = Renderer("github", render, Content.FINDINGS)
