"""What `pinspect check` found, as plain data: the `pinspect/1` object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from inspectcli.analysis.findings import Finding, Rule, Severity
from inspectcli.commands.check.policy import TensorIgnore
from inspectcli.commands.inspect.result import FileError
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_FOUND, RANK, SCHEMA


class Ignored(NamedTuple):
    """A finding that does not count, and why."""

    finding: Finding
    by: TensorIgnore


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One checkpoint, judged.

    Attributes:
        findings: those that count, worst first.
        ignored: those that are meant to be there.
        known: how many are in the baseline.
    """

    path: str
    format: str
    size: int
    error: FileError | None
    findings: tuple[Finding, ...]
    ignored: tuple[Ignored, ...] = ()
    known: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` returns: the same data as `pinspect check --format json`.

    Attributes:
        rules: those that ran.
        passed_over: files that a hook was given and that are no checkpoints.
    """

    files: tuple[CheckedFile, ...]
    rules: tuple[Rule, ...]
    fail_on: Severity = Severity.ERROR
    passed_over: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for file in self.files for finding in file.findings)

    @property
    def exit_code(self) -> int:
        """2 if a file could not be read, 1 if a finding is bad enough, else 0."""
        if any(file.error for file in self.files):
            return EXIT_FAILED
        return EXIT_FOUND if any(RANK[f.severity] <= RANK[self.fail_on] for f in self.findings) else EXIT_CLEAN

    @property
    def statistics(self) -> Mapping[str, int]:
        """Code -> number of findings, by code."""
        return dict(sorted(Counter(f.code for f in self.findings).items()))

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return {
            "schema": SCHEMA,
            "command": "check",
            "exit_code": self.exit_code,
            "fail_on": self.fail_on,
            "files": [_file_document(file) for file in self.files],
            "passed_over": self.passed_over,
            "statistics": self.statistics,
            "rules": [_rule_document(rule) for rule in self.rules],
        }


def _file_document(file: CheckedFile) -> dict[str, Any]:
    return {
        "path": file.path,
        "format": file.format,
        "size": file.size,
        "error": file.error and file.error._asdict(),
        "findings": [finding._asdict() for finding in file.findings],
        "ignored": [
            {"code": f.code, "tensor": f.tensor, "patterns": by.patterns, "reason": by.reason} for f, by in file.ignored
        ],
        "known": file.known,
    }


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "what": rule.what,
        "doc": rule.doc,
    }
