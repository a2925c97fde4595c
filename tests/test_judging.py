"""From scanned tensors to verdicts and findings: the order, which rules run, and what they see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from inspectcli.analysis.health.base import Found, Rule, Severity, Subject
from inspectcli.analysis.judging import Judgement, judge
from inspectcli.formats.live import from_live
from inspectcli.measure.scan import scan


def judged(target: Any, read: bool = True, rules: list[Rule] | None = None) -> Judgement:
    checkpoint = from_live(target)
    return judge(checkpoint, list(scan(checkpoint, read)), read, rules)


def made(code: str, severity: Severity, *found: Found, reads: bool = True) -> Rule:
    return Rule(code, "made-up", severity, lambda subject: iter(found), reads)


def test_findings_come_worst_first_and_then_in_the_order_of_the_rules() -> None:
    rules = [
        made("PI901", Severity.NOTE, Found("c", "1")),
        made("PI902", Severity.ERROR, Found("a", "2"), Found("b", "3", severity=Severity.WARNING)),
        made("PI903", Severity.ERROR, Found(None, "4")),
    ]
    findings = judged({}, rules=rules).findings
    assert [(f.code, str(f.severity), f.message) for f in findings] == [
        ("PI902", "error", "2"), ("PI903", "error", "4"), ("PI902", "warning", "3"), ("PI901", "note", "1"),
    ]  # fmt: skip


def test_a_note_beside_an_error_of_the_same_tensor_is_left_out() -> None:
    rules = [
        made("PI901", Severity.NOTE, Found("a", ""), Found(None, "of the file")),
        made("PI902", Severity.ERROR, Found("a", ""), Found(None, "")),
        made("PI903", Severity.WARNING, Found("a", "")),
    ]
    assert [(f.code, f.tensor) for f in judged({}, rules=rules).findings] == [
        ("PI902", "a"), ("PI902", None), ("PI903", "a"), ("PI901", None),
    ]  # fmt: skip


def test_without_values_only_rules_of_the_header_run() -> None:
    rules = [made("PI901", Severity.NOTE, Found("a", "")), made("PI902", Severity.NOTE, Found("b", ""), reads=False)]
    judgement = judged({"a": np.ones((9, 9))}, read=False, rules=rules)
    assert [f.code for f in judgement.findings] == ["PI902"]
    assert judgement.verdicts == {}


def test_rules_see_roles_figures_and_verdicts() -> None:
    seen: list[Subject] = []

    def check(subject: Subject) -> Iterator[Found]:
        seen.append(subject)
        return iter(())

    torch.manual_seed(0)
    state = torch.nn.Linear(64, 64).state_dict()
    verdicts = judged(state | {"tied": state["weight"]}, rules=[Rule("PI901", "x", Severity.NOTE, check)]).verdicts
    (subject,) = seen
    assert [look.name for look in subject.looks] == ["weight", "bias", "tied"]
    assert [look.name for look in subject.unique] == ["weight", "bias"]
    assert [look.role.kind.value for look in subject.looks] == ["weight", "bias", "weight"]
    assert [look.alias_of for look in subject.looks] == ["", "", "weight"]
    assert [look.verdict for look in subject.looks] == [verdicts[name] for name in ("weight", "bias", "tied")]
    assert subject.looks[0].rms == pytest.approx(state["weight"].square().mean().sqrt().item())
    assert subject.read
    assert not subject.trained


def test_an_empty_checkpoint_is_clean() -> None:
    assert judged({}) == Judgement({}, ())


def test_rules_that_are_off_run_only_when_they_are_chosen() -> None:
    off = made("PI901", Severity.NOTE, Found("a", ""))
    off = Rule(off.code, off.name, off.severity, off.check, default=False)
    assert [f.code for f in judged({}, rules=[off]).findings] == ["PI901"]
