"""What `pinspect check` found, and what `pinspect rules` lists, as plain data: the `pinspect/1` objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from inspectcli.analysis.findings import Finding, Rule
from inspectcli.commands.check.policy import TensorIgnore
from inspectcli.commands.inspect.result import Coverage
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_FOUND, RANK, Severity
from inspectcli.document import report_document, written
from inspectcli.errors import FileError
from inspectcli.tensors.model import Hazard


class Ignored(NamedTuple):
    """A finding that does not count, and why.

    Attributes:
        code: of the rule.
        tensor: its name; None if it is of no single tensor.
        name: the canonical name of the hyperparameter it is of; None if it is of none.
        patterns: those of the configuration, of which one fits the name.
        reason: why, as the configuration says it; may be empty.
    """

    code: str
    tensor: str | None
    name: str | None
    patterns: tuple[str, ...]
    reason: str

    @staticmethod
    def of(finding: Finding, by: TensorIgnore) -> Ignored:
        return Ignored(finding.code, finding.tensor, finding.name, by.patterns, by.reason)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One checkpoint, judged.

    Attributes:
        path: what was named.
        format: how it is stored: `torch-zip`, `safetensors`, ...; empty if that is not known.
        size: bytes of all its files.
        error: why it could not be read, or not completely; None if it was.
        findings: those that count, worst first.
        ignored: those that are meant to be there.
        known: how many are in the baseline.
        hazards: what would act on a careless loader, whichever rules ran.
        allowed: whether it may stay unread.
        fail_on: findings this bad, or worse, fail.
        settings: the configuration that was found for it; empty without one.
        set_aside: how many findings that configuration, or a baseline that it names, keeps from counting.
        kept: how many it would have, if it had been named.
    """

    path: str
    format: str
    size: int
    error: FileError | None
    findings: tuple[Finding, ...]
    ignored: tuple[Ignored, ...] = ()
    known: int = 0
    hazards: tuple[Hazard, ...] = ()
    allowed: bool = False
    fail_on: Severity = Severity.ERROR
    settings: str = ""
    set_aside: int = 0
    kept: int = 0

    @property
    def is_refused(self) -> bool:
        """Whether it could not be read, and may not stay unread."""
        return self.error is not None and not self.allowed

    def fails(self, fail_on: Severity) -> bool:
        """Whether one of its findings is this bad, or worse."""
        return any(RANK[finding.severity] <= RANK[fail_on] for finding in self.findings)


class FoundSettings(NamedTuple):
    """A configuration that nobody named, and what it did.

    Attributes:
        path: of the file.
        changed: whether the report would say anything else without it.
        set_aside: how many findings it keeps from counting.
        kept: how many it would have, if it had been named: they are of safety, or of what could not be read.
    """

    path: str
    changed: bool
    set_aside: int
    kept: int


@written(also=("exit_code", "statistics"))
@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` returns: the same data as `pinspect check --format json`.

    Attributes:
        files: one for each checkpoint.
        rules: those that ran.
        fail_on: findings this bad, or worse, fail.
        passed_over: files that a hook was given and that are no checkpoints.
        coverage: what was looked at, and what was not.
        settings: the configurations that were found, and what they did.
    """

    files: tuple[CheckedFile, ...]
    rules: tuple[Rule, ...]
    fail_on: Severity = Severity.ERROR
    passed_over: tuple[str, ...] = ()
    coverage: Coverage = Coverage()  # noqa: RUF009  (immutable)
    settings: tuple[FoundSettings, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for file in self.files for finding in file.findings)

    @property
    def exit_code(self) -> int:
        """2 if a file could not be read and may not stay unread, 1 if a finding is bad enough, else 0."""
        if any(file.is_refused for file in self.files):
            return EXIT_FAILED
        return EXIT_FOUND if any(file.fails(file.fail_on) for file in self.files) else EXIT_CLEAN

    @property
    def statistics(self) -> Mapping[str, int]:
        """Code -> number of findings, by code."""
        return dict(sorted(Counter(f.code for f in self.findings).items()))

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("check", self)


@written(also=("exit_code",))
@dataclass(frozen=True, slots=True)
class RulesReport:
    """What `pinspect rules` lists.

    Attributes:
        rules: by code.
    """

    rules: tuple[Rule, ...]

    @property
    def exit_code(self) -> int:
        """Always 0."""
        return EXIT_CLEAN

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("rules", self)
