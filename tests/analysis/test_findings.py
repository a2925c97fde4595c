"""Rules, the findings they give, and the documentation that every rule carries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inspectcli.analysis import findings
from inspectcli.analysis.findings import FAMILIES, Finding, Rule, RuleHit, Severity, all_rules, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.contract import RANK
from inspectcli.tensors.model import Checkpoint

RULES = all_rules()
EMPTY = RuleContext(Checkpoint("none.pt", "torch-zip", 0, ()), ())


def by_code(rule: Rule) -> str:
    return rule.code


@pytest.mark.parametrize("rule", RULES, ids=by_code)
def test_every_rule_says_what_why_and_what_to_do(rule: Rule) -> None:
    what, why, *basis, todo = rule.doc.split("\n\n")
    assert what.endswith(".")
    assert why.startswith("Why it matters: ")
    assert all(paragraph.startswith("What it rests on: ") for paragraph in basis[:1])
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
    monkeypatch.setattr(findings, "_RULES", dict(findings._RULES))

    def check(subject: RuleContext) -> Iterator[RuleHit]:
        """Nothing."""
        return iter(())

    assert rule("PI998", "new", Severity.NOTE)(check) is check
    assert findings._RULES["PI998"].name == "new"
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
        yield RuleHit(None, "two", advice="ask", severity=Severity.NOTE, name="seed")

    made = Rule("PI999", "wrong", Severity.ERROR, check)
    assert made.what == "It is wrong"
    assert list(made.run(EMPTY)) == [
        Finding("PI999", Severity.ERROR, "a", "one", "mend it now", {"n": 1}),
        Finding("PI999", Severity.NOTE, None, "two", "ask", {}, "seed"),
    ]


def test_a_finding_is_about_a_tensor_or_a_hyperparameter_or_the_file() -> None:
    about = [
        Finding("PI601", Severity.NOTE, tensor, "", "", {}, hyperparameter).about
        for tensor, hyperparameter in (("w", "num_layers"), ("", None), (None, "num_layers"), (None, None))
    ]
    assert about == ["w", "", "num_layers", ""]


def test_the_rules_of_this_package_have_a_family() -> None:
    assert {rule.family for rule in RULES} <= set(FAMILIES.values())
    assert Rule("XX101", "of-another-package", Severity.NOTE, lambda context: ()).family == ""
