"""Check reports for the tests of the formats that CI servers read."""

from __future__ import annotations

from collections.abc import Iterator

from inspectcli.analysis.findings import Finding, Rule, RuleHit, Severity
from inspectcli.analysis.health.base import RuleContext
from inspectcli.commands.check.result import CheckedFile, CheckReport
from inspectcli.commands.check.view import CheckView, present_check
from inspectcli.display.blocks import Report
from inspectcli.errors import FileError


def nan_values(subject: RuleContext) -> Iterator[RuleHit]:
    """A tensor holds NaN.

    Why it matters: it spreads.

    What to do: go back.
    """
    yield from ()


RULE = Rule("PI101", "nan-values", Severity.ERROR, nan_values)


def finding(severity: str = "error", tensor: str | None = "fc.weight", message: str = "3 NaN of 9 values") -> Finding:
    return Finding("PI101", Severity(severity), tensor, message, "go back", {"nan": 3, "share": float("inf")})


def report_of(
    *findings: Finding, path: str = "models/a.pt", error: str = "", fail_on: str = "error", clean: str = ""
) -> Report:
    """A report of one file with these findings, and perhaps of an unreadable and of a clean one."""
    files = [CheckedFile(path, "torch-zip", 100, None, findings, fail_on=Severity(fail_on))]
    if error:
        files.append(CheckedFile("cut.pt", "", 7, FileError("truncated", error), ()))
    if clean:
        files.append(CheckedFile(clean, "npz", 8, None, ()))
    return present_check(CheckReport(tuple(files), (RULE,), Severity(fail_on)), CheckView())
