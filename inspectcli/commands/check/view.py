"""How `pinspect check` and `pinspect rules` tell it: findings and rules as blocks of a Report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from inspectcli.analysis.findings import Finding, Rule, Severity
from inspectcli.commands.check.result import CheckReport, FoundSettings, RulesReport
from inspectcli.commands.inspect.health_view import TONES, coverage_text
from inspectcli.contract import RANK
from inspectcli.display.blocks import Block, Cell, Column, Facts, Field, Heading, Note, Report, Table, Tone, table_of
from inspectcli.display.text import plural, size
from inspectcli.document import Deferred
from inspectcli.formats import FORMAT_NAMES


@dataclass(frozen=True, slots=True)
class CheckView:
    """What the person asked to see.

    Attributes:
        statistics: a table of the counts by code.
        explain: each rule's text under its first finding.
        most: findings of one rule that a file shows; 0 for all.
        notes: sentences for the end, of the baseline.
    """

    statistics: bool = False
    explain: bool = False
    most: int = 0
    notes: tuple[str, ...] = ()


def present_check(report: CheckReport, view: CheckView) -> Report:
    """Files with findings, then the count."""
    rules = {rule.code: rule for rule in report.rules}
    explained: set[str] = set()
    blocks: list[Block] = []
    for file in report.files:
        if file.findings:
            blocks.append(Heading(file.path, f"{FORMAT_NAMES.get(file.format, file.format)} · {size(file.size)}"))
            blocks.append(Facts(tuple(_rows(file.findings, view, rules, explained))))
    if view.statistics and report.findings:
        blocks.append(_statistics(report, rules))
    if blocks:
        blocks.append(Note(""))
    blocks.append(_summary(report))
    blocks.extend(Note(text, Tone.DIM) for text in _asides(report))
    blocks.extend(Note(text, Tone.DIM) for text in view.notes)
    blocks.append(Note(coverage_text(report.coverage), Tone.DIM))
    return Report("check", tuple(blocks), Deferred("check", lambda: report), exit_code=report.exit_code)


def _rows(
    findings: Sequence[Finding], view: CheckView, rules: dict[str, Rule], explained: set[str]
) -> Iterator[tuple[str, Cell]]:
    """Findings of one rule after each other, their advice once below them."""
    for (severity, code), group in groupby(findings, key=lambda f: (f.severity, f.code)):
        members = list(group)
        shown = members[: view.most] if view.most else members
        explain = view.explain and code not in explained and code in rules
        for finding, following in zip(shown, [*shown[1:], None], strict=True):
            where = f"{finding.about}: " if finding.about else ""
            yield f"{severity} {code}", Cell(where + finding.message, TONES[severity])
            if not explain and finding.advice and (following is None or following.advice != finding.advice):
                yield "", Cell(f"→ {finding.advice}", Tone.DIM)
        if len(members) > len(shown):
            yield "", Cell(f"and {len(members) - len(shown):,} more of {code}: --format plain shows all", Tone.DIM)
        if explain:  # its text ends with the advice
            explained.add(code)
            for text in paragraphs(rules[code].doc):
                yield "", Cell(text, Tone.DIM)


def paragraphs(doc: str) -> list[str]:
    """A docstring's paragraphs, each on one line."""
    return [re.sub(r"\s+", " ", text).strip() for text in doc.split("\n\n") if text.strip()]


def _statistics(report: CheckReport, rules: dict[str, Rule]) -> Table:
    files = Counter(code for file in report.files for code in {f.code for f in file.findings})
    worst: dict[str, Severity] = {}
    for finding in report.findings:
        worst[finding.code] = min(worst.get(finding.code, finding.severity), finding.severity, key=RANK.__getitem__)
    fields: tuple[Field[tuple[str, int]], ...] = (
        Field(Column("findings", right=True, keep=90), lambda item: Cell(f"{item[1]:,}", Tone.STRONG, item[1])),
        Field(Column("files", right=True, keep=70), lambda item: Cell(f"{files[item[0]]:,}", value=files[item[0]])),
        Field(Column("code", keep=100), lambda item: Cell(item[0])),
        Field(Column("severity", keep=60), lambda item: Cell(worst[item[0]].value, TONES[worst[item[0]]])),
        Field(
            Column("name", "rule", keep=80, flexible=True, min_width=12),
            lambda item: Cell(rules[item[0]].name if item[0] in rules else ""),
        ),
    )
    return table_of(fields, sorted(report.statistics.items(), key=lambda item: -item[1]), lambda item: item[0])


def _summary(report: CheckReport) -> Note:
    read = [file for file in report.files if file.error is None]
    found = Counter(finding.severity for finding in report.findings)
    files = plural(len(report.files), "file")
    unread = f", {len(report.files) - len(read):,} could not be read" if len(read) < len(report.files) else ""
    if not report.files:
        return Note("no files to check", Tone.DIM)
    if not read and not found:
        return Note(f"{files}: none could be read", Tone.BAD)
    if not found:
        nothing = "nothing new" if any(file.known for file in report.files) else "nothing found"
        rules = plural(len(report.rules), "rule")
        checked = f"{plural(len(read), 'file')} checked by {rules}: {nothing}"
        return Note(f"{checked}{unread}", Tone.WARN if unread else Tone.GOOD)
    counts = ", ".join(plural(found[s], s.value) for s in Severity if found[s])
    bad = sum(1 for file in report.files if file.findings)
    worst = next(s for s in Severity if found[s])
    return Note(f"{counts} in {bad:,} of {files}{unread}", TONES[worst])


def _asides(report: CheckReport) -> Iterator[str]:
    """What does not count, and why."""
    codes: dict[tuple[str, str], list[str]] = {}
    for file in report.files:
        for ignored in file.ignored:
            codes.setdefault((" ".join(ignored.patterns), ignored.reason), []).append(ignored.code)
    for (patterns, reason), found in codes.items():
        of = ", ".join(sorted(set(found)))
        yield f"{plural(len(found), 'finding')} of {of} ignored in {patterns}" + (f": {reason}" if reason else "")
    for file in report.files:
        if file.allowed and file.error is not None:
            yield f"{file.path} may stay unread: {file.error.message}"
    known = sum(file.known for file in report.files)
    if known:
        yield f"{plural(known, 'finding')} known from the baseline"
    yield from map(told, report.settings)


def told(settings: FoundSettings) -> str:
    """A configuration that nobody named, and what it did, as a sentence."""
    did = []
    if settings.set_aside:
        did.append(f"{plural(settings.set_aside, 'finding')} set aside")
    if settings.kept:
        did.append(f"{plural(settings.kept, 'finding')} kept, which only --config {settings.path} sets aside")
    return f"settings of {settings.path}" + (f": {'; '.join(did)}" if did else "")


# -- rules ----------------------------------------------------------------------------------------------

#: How a finding is silenced: where, what to write.
_SILENCE = (
    ("for a run", "pinspect check --ignore {code} ..."),
    ("for a project", 'ignore = ["{code}"] under [tool.pinspect] in pyproject.toml'),
    (
        "for some tensors",
        '{code} = {{ patterns = ["*.lm_head.*"], reason = "..." }} under [tool.pinspect.per-tensor-ignores]',
    ),
    ("for what is there today", "pinspect check --baseline FILE ..."),
)


def present_rules(rules: Sequence[Rule]) -> Report:
    """The list of rules, a table for each family; one rule alone is explained."""
    document = Deferred("rules", lambda: RulesReport(tuple(rules)))
    if len(rules) == 1:
        return Report("rules", tuple(_explained(rules[0])), document)
    blocks: list[Block] = []
    for prefix, group in groupby(rules, key=lambda rule: rule.code[:3]):
        members = list(group)
        blocks += [
            Heading(f"{prefix}xx {members[0].family}".rstrip()),
            table_of(_RULE_FIELDS, members, lambda rule: rule.code),
        ]
    if any(not rule.default for rule in rules):
        blocks += [Note(""), Note("(off) runs only when it is selected, or its limit is given", Tone.DIM)]
    return Report("rules", tuple(blocks), document)


_RULE_FIELDS: tuple[Field[Rule], ...] = (
    Field(Column("code", keep=100), lambda rule: Cell(rule.code, Tone.STRONG)),
    Field(Column("name", keep=90), lambda rule: Cell(rule.name)),
    Field(
        Column("severity", keep=70),
        lambda rule: Cell(rule.severity.value + ("" if rule.default else " (off)"), TONES[rule.severity]),
    ),
    Field(Column("what", "finds", keep=95, flexible=True, min_width=24, sentence=True), lambda rule: Cell(rule.what)),
)


def _explained(rule: Rule) -> Iterator[Block]:
    yield Heading(f"{rule.code} {rule.name}", rule.family)
    facts = [("severity", Cell(rule.severity.value, TONES[rule.severity]))]
    facts.append(("reads", Cell("values" if rule.reads_values else "headers only: --fast runs it too")))
    if not rule.default:
        facts.append(("runs", Cell("only when it is selected, or its limit is given")))
    yield Facts(tuple(facts))
    for text in paragraphs(rule.doc):
        yield Note("")
        yield Note(text)
    yield Note("")
    yield Note("To silence it:")
    yield Facts(tuple((where, Cell(how.format(code=rule.code), Tone.ACCENT)) for where, how in _SILENCE))
