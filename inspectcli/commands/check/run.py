"""`pinspect check` without the command line: from paths to a CheckReport."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from inspectcli.analysis.findings import Finding, all_rules
from inspectcli.commands.check import baseline as baselines
from inspectcli.commands.check.policy import (
    Policy,
    TensorIgnore,
    choose,
    choose_guarded,
    code_of,
    is_guarded,
    parse_size,
    severity_of,
)
from inspectcli.commands.check.result import CheckedFile, CheckReport, FoundSettings, Ignored
from inspectcli.commands.inspect.result import Coverage, FileReport
from inspectcli.commands.inspect.run import Searched, inspect_checkpoint, inspect_found
from inspectcli.errors import FileError, NoCheckpointError, PinspectError, UnsupportedFormatError, UsageError
from inspectcli.formats.discovery import Found, is_lfs_pointer, is_named_like_a_checkpoint, may_be_something_else
from inspectcli.storage import Location, locate
from inspectcli.storage.names import file_name
from inspectcli.tensors.names import fits


def judge_file(file: FileReport, policy: Policy) -> CheckedFile:
    """A file with its findings parted into those that count and those that are meant to be there."""
    kept: list[Finding] = []
    ignored: list[Ignored] = []
    guarded = 0
    for finding in file.findings:
        by = next((i for i in policy.tensor_ignores if i.fits(finding)), None)
        if by is not None and policy.asked is not None and is_guarded(finding.code):
            guarded += 1
            kept.append(finding)
        elif by is None:
            kept.append(finding)
        else:
            ignored.append(Ignored.of(finding, by))
    allowed = file.error is not None and any(
        fits(name, policy.allow_unread) for name in (file.path, file_name(file.path))
    )
    return CheckedFile(
        file.path,
        file.format,
        file.size,
        file.error,
        tuple(kept),
        tuple(ignored),
        hazards=file.hazards,
        allowed=allowed,
        fail_on=policy.fail_on,
        set_aside=0 if policy.asked is None else len(ignored),
        kept=guarded,
    )


class Checker:
    """Files go in one by one; the report comes out.

    Args:
        policy: what is asked of them.
        hook: pass over what is no checkpoint: a Git LFS pointer, a file that is only named like one.
        progress: told how many bytes were read.
        start: told the path of each file before it is read.
    """

    def __init__(
        self,
        policy: Policy,
        hook: bool = False,
        progress: Callable[[int], None] | None = None,
        start: Callable[[str], None] | None = None,
    ) -> None:
        # Names and patterns as codes, once: an unknown one is an error of the call, not of a file.
        rules = all_rules()
        ignores = tuple(i._replace(code=code_of(i.code, rules)) for i in policy.tensor_ignores)
        self._policy = replace(policy, tensor_ignores=ignores)
        # Those that a configuration set aside run too: only so can be told what it hides.
        self._rules, self._aside = choose_guarded(self._policy, rules)
        self._kept = {rule.code for rule in self._rules} - {rule.code for rule in choose(self._policy, rules)}
        self._read = any(rule.reads_values for rule in (*self._rules, *self._aside))
        self._hook = hook
        self._progress = progress
        self._start = start

    def check_paths(self, paths: Iterable[str]) -> CheckReport:
        files: list[CheckedFile] = []
        passed_over: list[str] = []
        coverage = Coverage()
        searched = Searched(paths)
        for found in searched:
            path = found.place
            if self._hook and found.error is None and not is_named_like_a_checkpoint(path):
                passed_over.append(str(path))
                continue
            if self._start is not None:
                self._start(str(path))
            report = self._report(found)
            if self._hook and report.error is not None and _is_no_checkpoint(path, report.error):
                passed_over.append(str(path))
                continue
            if searched.passes_over(found, report):
                continue
            coverage = coverage.with_file(report)
            files.append(self._judged(report))
        for refused in searched.refused:
            coverage = coverage.with_file(refused)
            files.append(judge_file(refused, self._policy))
        coverage = coverage.with_search(searched.passed_over + len(passed_over), searched.closed)
        return CheckReport(tuple(files), self._rules, self._policy.fail_on, tuple(passed_over), coverage)

    def _report(self, found: Found) -> FileReport:
        return inspect_found(found, self._read, progress=self._progress, rules=(*self._rules, *self._aside))

    def check_live(self, target: object) -> CheckReport:
        """A module or a state dict in memory."""
        from inspectcli.formats.live import from_live

        report = inspect_checkpoint(from_live(target), self._read, rules=self._rules)
        coverage = Coverage().with_file(report)
        return CheckReport((judge_file(report, self._policy),), self._rules, self._policy.fail_on, coverage=coverage)

    def _judged(self, report: FileReport) -> CheckedFile:
        """A file without the findings of the rules that were set aside."""
        aside = {rule.code for rule in self._aside}
        counted = tuple(finding for finding in report.findings if finding.code not in aside)
        judged = judge_file(replace(report, findings=counted), self._policy)
        return replace(
            judged,
            set_aside=judged.set_aside + len(report.findings) - len(counted),
            kept=judged.kept + sum(finding.code in self._kept for finding in judged.findings),
        )


def _is_no_checkpoint(path: Location, error: FileError) -> bool:
    unknown = error.code in (UnsupportedFormatError.code, NoCheckpointError.code)
    return is_lfs_pointer(path) or (unknown and may_be_something_else(path))


class Compared(NamedTuple):
    """A report against a baseline.

    Attributes:
        report: with the new findings only.
        recorded: how many findings the baseline holds now, if it was written.
        gone: how many of the baseline's findings in these files are no longer there.
    """

    report: CheckReport
    recorded: int | None = None
    gone: int = 0


def compare(report: CheckReport, path: str, update: bool = False, found: bool = False) -> Compared:
    """Leave out what the baseline knows; write it if it is not there, or is to be updated.

    Args:
        report: of what was checked.
        path: of the baseline.
        update: whether to write it in any case.
        found: whether nobody named it: then it excuses nothing of the rules that are guarded.

    Raises:
        PinspectError: it cannot be read or written.
    """
    new = not locate(path).exists()
    known = Counter() if new else baselines.read(path)
    recorded = None
    if new or update:
        # What could not be read keeps what is recorded of it.
        now = {file.path: file.findings for file in report.files if file.error is None}
        recorded = baselines.write(path, now, known)
        known = baselines.read(path)
    files = []
    gone = 0
    for file in report.files:
        where = baselines.place(file.path, path)
        findings, n = baselines.split(file.findings, where, known, is_guarded if found else lambda code: False)
        files.append(replace(file, findings=findings, known=n, set_aside=file.set_aside + (n if found else 0)))
        if file.error is None:
            gone += sum(count for key, count in known.items() if key.path == where) - n
    return Compared(replace(report, files=tuple(files)), recorded, gone)


def under(report: CheckReport, settings: str, asked: Policy) -> CheckReport:
    """A report of files for which a configuration was found, which is named in it.

    Args:
        report: of the files below the configuration.
        settings: its path.
        asked: what the command line alone asks.
    """
    files = tuple(replace(file, settings=settings) for file in report.files)
    base = {rule.code for rule in choose(asked, all_rules())}
    aside = sum(file.set_aside for file in files)
    added = any(finding.code not in base for file in files for finding in file.findings)
    turned = any(file.fails(file.fail_on) != file.fails(asked.fail_on) for file in files)
    told = FoundSettings(settings, bool(aside) or added or turned, aside, sum(file.kept for file in files))
    return replace(report, files=files, settings=(told,))


def joined(reports: Sequence[CheckReport]) -> CheckReport:
    """Several reports as one; a file that two of them hold counts as in the first."""
    if len(reports) == 1:
        return reports[0]
    files = {file.path: file for report in reversed(reports) for file in reversed(report.files)}
    rules = {rule.code: rule for report in reports for rule in report.rules}
    return replace(
        reports[0],
        files=tuple(reversed(files.values())),
        rules=tuple(rules[code] for code in sorted(rules)),
        passed_over=tuple(dict.fromkeys(path for report in reports for path in report.passed_over)),
        settings=tuple(settings for report in reports for settings in report.settings),
        coverage=Coverage(*(sum(figures) for figures in zip(*(report.coverage for report in reports), strict=True))),
    )


def check(
    target: object,
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    fail_on: str = "error",
    fast: bool = False,
    max_size: str | int | None = None,
    require_format: Iterable[str] = (),
    tensor_ignores: Mapping[str, Iterable[str]] | None = None,
    allow_unread: Iterable[str] = (),
    baseline: str | os.PathLike[str] | None = None,
) -> CheckReport:
    """Judge checkpoints, or a model in memory, as `pinspect check` does. No configuration file is read.

    Args:
        target: a path, a list of paths, a `torch.nn.Module`, or a state dict (name -> tensor or array).
        select: codes of rules, or their first letters; those that run by default if there are none.
        ignore: codes of rules that do not run.
        fail_on: `error`, `warning` or `note`: what `exit_code` counts.
        fast: headers only; no values are read.
        max_size: bytes, or `500MB`.
        require_format: as `safetensors`.
        tensor_ignores: code -> patterns of names of tensors in which it is meant to be.
        allow_unread: patterns of paths of files that may stay unread.
        baseline: a file that `pinspect check --baseline` wrote: only findings that are not in it are returned.

    Returns:
        A report; a file that cannot be read has its reason in `.error`.

    >>> check("fixtures/mlp.safetensors", select=["PI490"], max_size="100 bytes").findings[0].message
    '400 bytes, at most 100 are allowed'

    Raises:
        PinspectError: an unknown code, severity or format; a baseline that is none.
    """
    policy = Policy(
        tuple(select),
        tuple(ignore),
        severity_of(fail_on),
        fast,
        None if max_size is None else parse_size(max_size),
        tuple(require_format),
        tuple(TensorIgnore(code, tuple(patterns)) for code, patterns in (tensor_ignores or {}).items()),
        tuple(allow_unread),
    )
    checker = Checker(policy)
    if isinstance(target, str | os.PathLike):
        report = checker.check_paths([os.fspath(target)])
    elif isinstance(target, list | tuple):
        report = checker.check_paths([os.fspath(path) for path in target])
    elif baseline is None:
        return checker.check_live(target)
    else:
        raise UsageError("a model in memory has no path by which a baseline could know it", "save it first")
    if baseline is None:
        return report
    if not locate(baseline).exists():
        raise PinspectError("no such baseline", "`pinspect check --baseline FILE` writes one", os.fspath(baseline))
    return compare(report, os.fspath(baseline)).report
