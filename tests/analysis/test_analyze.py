"""From scanned tensors to verdicts and findings: the order, which rules run, and what they see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inspectcli.analysis.analyze import Analysis, analyze
from inspectcli.analysis.findings import Rule, RuleHit, Severity, all_rules
from inspectcli.analysis.health.base import RuleContext
from inspectcli.formats import open_checkpoint
from inspectcli.formats.live import from_live
from inspectcli.measure.plan import FIGURES
from inspectcli.measure.scan import scan


def judged(target: Any, read: bool = True, rules: list[Rule] | None = None) -> Analysis:
    checkpoint = from_live(target)
    return analyze(checkpoint, list(scan(checkpoint, FIGURES if read else ())), read, rules)


def made(code: str, severity: Severity, *found: RuleHit, reads: bool = True) -> Rule:
    return Rule(code, "made-up", severity, lambda subject: iter(found), reads)


def test_findings_come_worst_first_and_then_in_the_order_of_the_rules() -> None:
    rules = [
        made("PI901", Severity.NOTE, RuleHit("c", "1")),
        made("PI902", Severity.ERROR, RuleHit("a", "2"), RuleHit("b", "3", severity=Severity.WARNING)),
        made("PI903", Severity.ERROR, RuleHit(None, "4")),
    ]
    findings = judged({}, rules=rules).findings
    assert [(f.code, str(f.severity), f.message) for f in findings] == [
        ("PI902", "error", "2"), ("PI903", "error", "4"), ("PI902", "warning", "3"), ("PI901", "note", "1"),
    ]  # fmt: skip


def test_a_note_beside_an_error_of_the_same_tensor_is_left_out() -> None:
    rules = [
        made("PI901", Severity.NOTE, RuleHit("a", ""), RuleHit(None, "of the file")),
        made("PI902", Severity.ERROR, RuleHit("a", ""), RuleHit(None, "")),
        made("PI903", Severity.WARNING, RuleHit("a", "")),
    ]
    assert [(f.code, f.tensor) for f in judged({}, rules=rules).findings] == [
        ("PI902", "a"), ("PI902", None), ("PI903", "a"), ("PI901", None),
    ]  # fmt: skip


def test_without_values_only_rules_of_the_header_run() -> None:
    rules = [
        made("PI901", Severity.NOTE, RuleHit("a", "")),
        made("PI902", Severity.NOTE, RuleHit("b", ""), reads=False),
    ]
    analysis = judged({"a": np.ones((9, 9))}, read=False, rules=rules)
    assert [f.code for f in analysis.findings] == ["PI902"]
    assert analysis.verdicts == {}


def test_rules_see_roles_figures_and_verdicts() -> None:
    seen: list[RuleContext] = []

    def check(subject: RuleContext) -> Iterator[RuleHit]:
        seen.append(subject)
        return iter(())

    torch.manual_seed(0)
    state = torch.nn.Linear(64, 64).state_dict()
    verdicts = judged(state | {"tied": state["weight"]}, rules=[Rule("PI901", "x", Severity.NOTE, check)]).verdicts
    (subject,) = seen
    assert [tensor.name for tensor in subject.tensors] == ["weight", "bias", "tied"]
    assert [tensor.name for tensor in subject.unique] == ["weight", "bias"]
    assert [tensor.role.kind.value for tensor in subject.tensors] == ["weight", "bias", "weight"]
    assert [tensor.alias_of for tensor in subject.tensors] == ["", "", "weight"]
    assert [tensor.verdict for tensor in subject.tensors] == [verdicts[name] for name in ("weight", "bias", "tied")]
    assert subject.tensors[0].rms == pytest.approx(state["weight"].square().mean().sqrt().item())
    assert subject.read
    assert not subject.trained


def test_an_empty_checkpoint_is_clean() -> None:
    assert judged({}) == Analysis({}, ())


def test_rules_that_are_off_run_only_when_they_are_chosen(fixtures: Path) -> None:
    checkpoint = open_checkpoint(fixtures / "mlp.pt")
    scanned = scan(checkpoint, ())
    assert "PI506" not in {f.code for f in analyze(checkpoint, scanned, read=False).findings}
    (off,) = (rule for rule in all_rules() if rule.code == "PI506")
    assert [f.code for f in analyze(checkpoint, scanned, read=False, rules=[off]).findings] == ["PI506"]
