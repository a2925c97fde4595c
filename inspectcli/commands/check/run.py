"""`pinspect check` without the command line: which rules run, which findings count, what that comes to."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from inspectcli.analysis.health.base import RANK, Finding, Found, Rule, Severity, all_rules
from inspectcli.commands.check import baseline as baselines
from inspectcli.commands.inspect.report import (
    SCHEMA,
    FileError,
    FileReport,
    inspect_checkpoint,
    inspect_path,
    unreadable,
)
from inspectcli.errors import NotReadableError, PinspectError, UnsupportedFormatError, UsageError
from inspectcli.formats.discovery import expand, is_lfs_pointer, is_named_like_a_checkpoint, may_be_something_else

EXIT_CLEAN, EXIT_FOUND, EXIT_FAILED = 0, 1, 2

#: Of the rules in `health.limits`, which run when a limit is given, and only then.
LIMIT_CODES = MAX_SIZE_CODE, REQUIRE_FORMAT_CODE = "PI490", "PI590"


class TensorIgnore(NamedTuple):
    """Findings of a rule that are meant to be there, in tensors of these names.

    Attributes:
        code: of the rule, or the first letters of several.
        patterns: of names, as in a shell.
        reason: why; it is printed.
    """

    code: str
    patterns: tuple[str, ...]
    reason: str = ""

    def fits(self, finding: Finding) -> bool:
        name = finding.tensor
        return (
            name is not None
            and finding.code.startswith(self.code)
            and any(fnmatch.fnmatchcase(name, p) for p in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of the files.

    Attributes:
        select: codes, their first letters, or names of rules; empty for those that run by default.
        ignore: the same, of rules that do not run. Of `select` and `ignore` the longer code wins.
        fail_on: findings this bad, or worse, fail.
        fast: only rules that need no values; none are read.
        max_size: bytes; None for any.
        require_format: formats of which one is asked for; empty for any.
        tensor_ignores: findings that are meant to be there.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: Severity = Severity.ERROR
    fast: bool = False
    max_size: int | None = None
    require_format: tuple[str, ...] = ()
    tensor_ignores: tuple[TensorIgnore, ...] = ()


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


# -- which rules run ------------------------------------------------------------------------------------


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean PI101?`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else ""


def code_of(word: str, rules: Sequence[Rule]) -> str:
    """The code, or the first letters of codes, that a word stands for.

    Raises:
        UsageError: for no rule.
    """
    upper = word.strip().upper()
    if upper and any(rule.code.startswith(upper) for rule in rules):
        return upper
    named = next((rule.code for rule in rules if rule.name == word.strip().lower()), None)
    if named is not None:
        return named
    hint = nearest(upper, [r.code for r in rules]) or nearest(word.lower(), [r.name for r in rules])
    raise UsageError(f"there is no rule {word!r}", f"{hint} `pinspect rules` lists them".strip())


def choose(policy: Policy, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Those of all rules that run, with their limits.

    Raises:
        UsageError: an unknown code or format; or none is left.
    """
    select = [code_of(word, rules) for word in policy.select]
    ignore = [code_of(word, rules) for word in policy.ignore]
    limits = _limits(policy, rules)
    chosen = []
    for rule in rules:
        wanted = max((len(code) for code in select if rule.code.startswith(code)), default=-1)
        if rule.code in limits:
            wanted = len(rule.code)
        elif rule.code in LIMIT_CODES:
            wanted = -1
        elif not select and rule.default:
            wanted = 0
        if wanted > max((len(code) for code in ignore if rule.code.startswith(code)), default=-1):
            chosen.append(limits.get(rule.code, rule))
    left = tuple(rule for rule in chosen if not (policy.fast and rule.reads))
    if left:
        return left
    if chosen:
        raise UsageError("no rule is left to check: those that are selected need values", "leave out --fast")
    limited = f"{MAX_SIZE_CODE} runs with --max-size, {REQUIRE_FORMAT_CODE} with --require-format"
    raise UsageError("no rule is left to check", f"`pinspect rules` lists them; {limited}")


def _limits(policy: Policy, rules: Sequence[Rule]) -> dict[str, Rule]:
    """The rules that run because a limit is given, with it."""
    given: dict[str, dict[str, object]] = {}
    if policy.max_size is not None:
        given[MAX_SIZE_CODE] = {"limit": policy.max_size}
    if policy.require_format:
        given[REQUIRE_FORMAT_CODE] = {"allowed": _known_formats(policy.require_format)}
    return {rule.code: _limited(rule, given[rule.code]) for rule in rules if rule.code in given}


def _limited(rule: Rule, limits: Mapping[str, object]) -> Rule:
    check: Callable[..., Iterable[Found]] = rule.check
    # A partial has no docstring of its own, and the docstring is the documentation.
    return replace(rule, check=functools.update_wrapper(functools.partial(check, **limits), check))


def _known_formats(names: Sequence[str]) -> tuple[str, ...]:
    from inspectcli.commands.inspect.view import FORMAT_NAMES

    known = {part for name in FORMAT_NAMES for part in (name, name.partition("-")[0])} - {"memory"}
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"known are {', '.join(sorted(known))}"
            raise UsageError(f"there is no format {name!r}", hint)
    return tuple(names)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i)?)?b?(?:ytes)?", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """`500MB`, `1.5 GiB`, `4096` -> bytes.

    >>> parse_size("500MB"), parse_size("1.5 GiB"), parse_size(4096)
    (500000000, 1610612736, 4096)

    Raises:
        UsageError: not a size.
    """
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise UsageError(f"{str(text)[:40]!r} is not a size", "write it like 500MB, 1.5GB or 2GiB")
    digits, unit, binary = found.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    return int(float(digits) * (1024 if binary else 1000) ** power)


# -- which findings count -------------------------------------------------------------------------------


def judge_file(file: FileReport, policy: Policy) -> CheckedFile:
    """A file with its findings parted into those that count and those that are meant to be there."""
    kept: list[Finding] = []
    ignored: list[Ignored] = []
    for finding in file.findings:
        by = next((i for i in policy.tensor_ignores if i.fits(finding)), None)
        if by is None:
            kept.append(finding)
        else:
            ignored.append(Ignored(finding, by))
    return CheckedFile(file.path, file.format, file.size, file.error, tuple(kept), tuple(ignored))


class Gate:
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
        self._rules = choose(self._policy, rules)
        self._read = any(rule.reads for rule in self._rules)
        self._hook = hook
        self._progress = progress
        self._start = start

    def look(self, paths: Iterable[str]) -> CheckReport:
        files: list[CheckedFile] = []
        passed_over: list[str] = []
        for path in dict.fromkeys(found for named in paths for found in self._expanded(named, files)):
            if self._hook and not is_named_like_a_checkpoint(path):
                passed_over.append(path)
                continue
            if self._start is not None:
                self._start(path)
            report = inspect_path(path, self._read, progress=self._progress, rules=self._rules)
            if self._hook and report.error is not None and _is_no_checkpoint(path, report.error):
                passed_over.append(path)
                continue
            files.append(judge_file(report, self._policy))
        return CheckReport(tuple(files), self._rules, self._policy.fail_on, tuple(passed_over))

    def look_at_live(self, target: object) -> CheckReport:
        """A module or a state dict in memory."""
        from inspectcli.formats.live import from_live

        report = inspect_checkpoint(from_live(target), self._read, rules=self._rules)
        return CheckReport((judge_file(report, self._policy),), self._rules, self._policy.fail_on)

    def _expanded(self, path: str, files: list[CheckedFile]) -> Iterator[str]:
        try:
            yield from expand(path)
        except NotReadableError as error:
            files.append(judge_file(unreadable(path, error), self._policy))


def _is_no_checkpoint(path: str, error: FileError) -> bool:
    return is_lfs_pointer(path) or (error.code == UnsupportedFormatError.code and may_be_something_else(path))


# -- the baseline ---------------------------------------------------------------------------------------


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


def compare(report: CheckReport, path: str, update: bool = False) -> Compared:
    """Leave out what the baseline knows; write it if it is not there, or is to be updated.

    Raises:
        PinspectError: it cannot be read or written.
    """
    new = not os.path.exists(path)
    known = Counter() if new else baselines.read(path)
    recorded = None
    if new or update:
        # What could not be read keeps what is recorded of it.
        found = {file.path: file.findings for file in report.files if file.error is None}
        recorded = baselines.write(path, found, known)
        known = baselines.read(path)
    files = []
    gone = 0
    for file in report.files:
        where = baselines.place(file.path, path)
        findings, n = baselines.split(file.findings, where, known)
        files.append(replace(file, findings=findings, known=n))
        if file.error is None:
            gone += sum(count for key, count in known.items() if key.path == where) - n
    return Compared(replace(report, files=tuple(files)), recorded, gone)


# -- for Python -----------------------------------------------------------------------------------------


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
    )
    gate = Gate(policy)
    if isinstance(target, str | os.PathLike):
        report = gate.look([os.fspath(target)])
    elif isinstance(target, list | tuple):
        report = gate.look([os.fspath(path) for path in target])
    elif baseline is None:
        return gate.look_at_live(target)
    else:
        raise UsageError("a model in memory has no path by which a baseline could know it", "save it first")
    if baseline is None:
        return report
    if not os.path.exists(baseline):
        raise PinspectError("no such baseline", "`pinspect check --baseline FILE` writes one", os.fspath(baseline))
    return compare(report, os.fspath(baseline)).report


def severity_of(word: str) -> Severity:
    """
    Raises:
        UsageError: not a severity.
    """
    try:
        return Severity(word)
    except ValueError:
        known = ", ".join(s.value for s in Severity)
        raise UsageError(f"{str(word)[:40]!r} is not a severity", f"known are {known}") from None
