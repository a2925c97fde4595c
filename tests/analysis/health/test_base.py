"""Rules and what they may look at; the documentation that every rule carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from inspectcli.analysis.health import base
from inspectcli.analysis.health.base import (
    RANK,
    Finding,
    Rule,
    RuleContext,
    RuleHit,
    Severity,
    TensorFacts,
    all_rules,
    rule,
)
from inspectcli.analysis.roles import Roles
from inspectcli.formats.live import from_live
from inspectcli.measure.scan import scan

RULES = all_rules()


def by_code(rule: Rule) -> str:
    return rule.code


@pytest.mark.parametrize("rule", RULES, ids=by_code)
def test_every_rule_says_what_why_and_what_to_do(rule: Rule) -> None:
    what, why, todo = rule.doc.split("\n\n")[:3]
    assert what.endswith(".")
    assert why.startswith("Why it matters: ")
    assert todo.startswith("What to do: ")
    assert rule.what
    assert "\n" not in rule.what + rule.advice
    assert 10 < len(rule.advice) < 160
    assert not rule.advice.endswith(".")


def test_codes_are_unique_and_sorted_and_names_are_too() -> None:
    codes, names = [r.code for r in RULES], [r.name for r in RULES]
    assert codes == sorted(set(codes))
    assert len(names) == len(set(names))
    assert all(code[:2] == "PI" and len(code) == 5 and code[2:].isdigit() for code in codes)
    assert all(name == name.lower() and " " not in name for name in names)


def test_a_code_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_RULES", dict(base._RULES))

    def check(subject: RuleContext) -> Iterator[RuleHit]:
        """Nothing."""
        return iter(())

    assert rule("PI998", "new", Severity.NOTE)(check) is check
    assert base._RULES["PI998"].name == "new"
    with pytest.raises(ValueError, match="PI998 is taken by new"):
        rule("PI998", "newer", Severity.NOTE)(check)


def test_severities_are_ranked_and_print_as_words() -> None:
    assert sorted(Severity, key=RANK.__getitem__) == ["error", "warning", "note"]
    assert f"{Severity.ERROR}" == "error"


def test_a_finding_says_what_the_rule_says_unless_it_says_so_itself() -> None:
    def check(subject: RuleContext) -> Iterator[RuleHit]:
        """It is wrong.

        Why it matters: it does.

        What to do: mend it
        now. Or leave it.
        """
        yield RuleHit("a", "one", {"n": 1})
        yield RuleHit(None, "two", advice="ask", severity=Severity.NOTE)

    made = Rule("PI999", "wrong", Severity.ERROR, check)
    assert made.what == "It is wrong"
    assert list(made.run(subject({}))) == [
        Finding("PI999", Severity.ERROR, "a", "one", "mend it now", {"n": 1}),
        Finding("PI999", Severity.NOTE, None, "two", "ask", {}),
    ]


# -- what rules look at ---------------------------------------------------------------------------------


def subject(target: Any, read: bool = True) -> RuleContext:
    checkpoint = from_live(target)
    roles = Roles(checkpoint)
    tensors = (TensorFacts(s.ref, roles.of(s.ref), s.alias_of, s.stats, s.sampled) for s in scan(checkpoint, read))
    return RuleContext(checkpoint, tuple(tensors), read)


def test_siblings_are_of_one_name_shape_and_type() -> None:
    x = np.ones((4, 4), np.float32)
    made = subject(
        {f"h.{i}.fc.weight": x + i for i in (0, 1, 10)}
        | {"h.2.fc.weight": np.ones((4, 5), np.float32), "h.3.fc.weight": x.astype(np.float64), "h.0.out.weight": x + 3}
        | {f"layer{i}.0.conv.weight": x + i for i in (1, 2)}
    )
    siblings = {name: [tensor.name for tensor in group] for name, group in made.siblings.items()}
    assert siblings["h.0.fc.weight"] == ["h.0.fc.weight", "h.1.fc.weight", "h.10.fc.weight"]
    assert siblings["h.2.fc.weight"] == ["h.2.fc.weight"]
    assert siblings["h.3.fc.weight"] == ["h.3.fc.weight"]
    assert siblings["layer1.0.conv.weight"] == ["layer1.0.conv.weight"]


def test_tied_tensors_are_looked_at_once() -> None:
    x = torch.randn(4, 4)
    made = subject({"wte.weight": x, "lm_head.weight": x, "fc.weight": x.clone()})
    assert [tensor.name for tensor in made.unique] == ["wte.weight", "fc.weight"]
    assert made.by_name["lm_head.weight"].alias_of == "wte.weight"


def test_the_root_mean_square_is_that_of_the_finite_values() -> None:
    x = np.array([3.0, np.nan, 4.0, np.inf], np.float32)
    assert subject({"w": x}).tensors[0].rms == pytest.approx(np.sqrt(12.5))
    assert subject({"w": np.full(3, np.nan)}).tensors[0].rms == 0
    assert subject({"w": np.zeros(0)}).tensors[0].rms == 0
    assert subject({"w": x}, read=False).tensors[0].rms == 0


def test_nothing_is_trained_of_which_nothing_is_known() -> None:
    assert not subject({"w": np.ones((9, 9))}).trained
    assert not subject({}).trained
