"""What the formats for CI share: the findings of a check report's document, of which CI makes annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inspectcli.display.blocks import Report
from inspectcli.errors import UsageError
from inspectcli.render.base import escape

#: Messages are cut here: names in them come from the file.
LIMIT = 1000


def files_of(report: Report) -> list[Mapping[str, Any]]:
    """The files of the document.

    Raises:
        UsageError: a report of another command.
    """
    if report.command != "check":
        raise UsageError(f"this format shows findings, and `{report.command}` has none", "use `pinspect check`")
    files: list[Mapping[str, Any]] = report.document["files"]  # type: ignore[assignment]
    return files


def findings_of(report: Report) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each finding with its file."""
    for file in files_of(report):
        for finding in file["findings"]:
            yield file, finding


def rules_of(report: Report) -> list[Mapping[str, Any]]:
    """The rules that ran."""
    rules: list[Mapping[str, Any]] = report.document["rules"]  # type: ignore[assignment]
    return rules


def rule_names(report: Report) -> Mapping[str, str]:
    """Code -> name."""
    return {rule["code"]: rule["name"] for rule in rules_of(report)}


def settings_of(report: Report) -> list[Mapping[str, Any]]:
    """The configurations that nobody named."""
    settings: list[Mapping[str, Any]] = report.document["settings"]  # type: ignore[assignment]
    return settings


def told(settings: Mapping[str, Any]) -> str:
    """A configuration that nobody named, and what it did, escaped."""
    did = f": {settings['set_aside']:,} findings set aside" if settings["set_aside"] else ""
    return f"settings of {escape(settings['path'], LIMIT)}{did}"


def about(finding: Mapping[str, Any]) -> str:
    """The tensor, or the hyperparameter, escaped; empty if it is the file."""
    name = finding["name"] if finding["tensor"] is None else finding["tensor"]
    return "" if name is None else escape(name, LIMIT)


def sentence(finding: Mapping[str, Any]) -> str:
    """Where, what, and what to do, escaped."""
    where = f"{about(finding)}: " if about(finding) else ""
    advice = finding["advice"]
    next_step = f" {advice[0].upper()}{advice[1:]}." if advice else ""
    return escape(f"{where}{finding['message']}.{next_step}", LIMIT)
