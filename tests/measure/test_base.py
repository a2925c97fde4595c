"""A measurement of one's own: one object, named by a rule, and nothing else edited."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.negatives import Negatives

import inspectcli
from inspectcli.analysis.findings import Rule, RuleHit, own_rules
from inspectcli.analysis.health.base import RuleContext
from inspectcli.contract import Severity
from inspectcli.measure.base import Block, Measurement, is_averaged
from inspectcli.measure.figures import Figures
from inspectcli.measure.scan import scan
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import TensorRef


def all_negative(subject: RuleContext) -> Iterable[RuleHit]:
    """All values of a tensor are negative.

    Why it matters: it is a toy.

    What to do: nothing.
    """
    for tensor in subject.unique:
        if tensor.get(Negatives) == tensor.ref.numel:
            yield RuleHit(tensor.name, "all values are below 0")


TOY = Rule("X101", "all-negative", Severity.NOTE, all_negative, needs=(Negatives,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(700, 900)).astype(np.float32)
    save_file({"mixed": mixed, "below": -np.abs(mixed) - 1}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_rule_has_what_it_needs(path: Path) -> None:
    findings = inspectcli.inspect(path, rules=[TOY]).files[0].findings
    assert [(f.code, f.tensor) for f in findings] == [("X101", "below")]


def test_it_is_measured_in_the_pass_that_makes_the_figures(path: Path) -> None:
    told: list[int] = []
    found = scan(inspectcli.open_checkpoint(path), (Figures, Negatives), told.append)
    assert sum(told) == 2 * 4 * 700 * 900
    for scanned in found:
        x = np.asarray(scanned.ref.numpy())
        assert scanned.get(Negatives) == int((x < 0).sum())
        assert scanned.stats is not None
        assert scanned.stats.count == x.size


def test_what_was_not_asked_for_is_not_there(path: Path) -> None:
    for scanned in scan(inspectcli.open_checkpoint(path), (Figures,)):
        assert scanned.get(Negatives) is None
        assert scanned.sampled is None


def test_a_headers_only_run_measures_nothing(path: Path) -> None:
    (file,) = inspectcli.inspect(path, stats=False, rules=[TOY]).files
    assert file.findings == ()


class Recording(Measurement[tuple[tuple[int, int], ...]]):
    """(first value, number of values) of each block, and whether the figures are those of these values."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    @classmethod
    def empty(cls, ref: TensorRef) -> Recording:
        return cls()

    def update(self, block: Block) -> None:
        assert block.numbers.size == block.count == block.stats.count
        assert block.stats is block.stats
        self.seen.append((block.start, block.count))

    def merge(self, other: Recording) -> Recording:
        self.seen += other.seen
        return self

    def result(self) -> tuple[tuple[int, int], ...]:
        return tuple(self.seen)


def test_blocks_follow_each_other_to_the_end(path: Path) -> None:
    for scanned in scan(inspectcli.open_checkpoint(path), (Recording,)):
        seen = scanned.get(Recording)
        assert seen is not None
        assert len(seen) > 1
        at = 0
        for start, count in seen:
            assert start == at
            at += count
        assert at == scanned.ref.numel


UNREAD: dict[str, TensorRef] = {
    "packed": TensorRef("x", DTYPES["i32"], (0,), packed=True),
    "opaque": TensorRef("x", DTYPES["bits8"], (0,)),
    "meta": TensorRef("x", DTYPES["f32"], (3,)),
    "damaged": TensorRef("x", DTYPES["f32"], (0,), problem="its storage is missing"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_has_no_numbers_is_not_measured(case: str) -> None:
    assert not is_averaged(UNREAD[case])
    assert not Negatives.applies_to(UNREAD[case])


def test_rules_of_the_package_name_what_they_need() -> None:
    assert {rule.code: [need.__name__ for need in rule.needs] for rule in own_rules() if rule.needs} == {
        "PI107": ["ZeroRuns"],
        "PI108": ["WholeNumbers"],
        "PI109": ["LeastMagnitudes"],
        "PI122": ["ZeroRun"],
        "PI123": ["ZeroRun"],
        "PI207": ["ZeroSlices"],
        "PI208": ["RowMarks"],
    }
