"""Rules with codes and what they find: one class of finding, one registry, from PI1 to PI6.

A rule is a generator with `@rule`, in a module of `analysis/health/`: it is found by being there.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inspectcli.analysis.health.base import RuleContext
from inspectcli.contract import Severity
from inspectcli.document import written
from inspectcli.measure.base import Measurement
from inspectcli.plugins import plugins

#: First three letters of a code -> what the family is about.
FAMILIES = {
    "PI1": "values",
    "PI2": "scale",
    "PI3": "training",
    "PI4": "structure",
    "PI5": "safety",
    "PI6": "hyperparameters",
}


class Finding(NamedTuple):
    """What a rule says of a file, of one tensor in it, or of a hyperparameter.

    Attributes:
        code: of the rule, `PI101`.
        severity: how bad it is.
        tensor: its name; None if it is of no single tensor.
        message: what is wrong, with the figures, without the names of file and tensor.
        advice: one sentence: what to do.
        figures: the numbers of the message, for programs.
        name: the canonical name of the hyperparameter it is of; None if it is of none.
    """

    code: str
    severity: Severity
    tensor: str | None
    message: str
    advice: str
    figures: Mapping[str, object] = {}
    name: str | None = None

    @property
    def about(self) -> str:
        """The tensor, or the hyperparameter, or nothing: then it is the file."""
        return self.tensor if self.tensor is not None else self.name or ""


class RuleHit(NamedTuple):
    """What a rule function yields: a finding without what the rule itself says."""

    tensor: str | None
    message: str
    figures: Mapping[str, object] = {}
    advice: str = ""  # instead of the rule's
    severity: Severity | None = None  # instead of the rule's
    name: str | None = None


RuleFunction = Callable[[RuleContext], Iterable[RuleHit]]


@written(also=("family", "what", "doc"))
@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: `PI` and three digits; the first is the family.
        name: as in a sentence, `nan-values`.
        severity: of its findings, unless a finding says otherwise.
        check: the function.
        reads_values: whether it needs them; False: the header is enough.
        default: whether it runs when nothing is selected.
        needs: what is to be measured of each tensor, besides the usual figures: `tensor.get(...)` has it.
    """

    code: str
    name: str
    severity: Severity
    check: RuleFunction = field(repr=False)
    reads_values: bool = True
    default: bool = True
    needs: tuple[type[Measurement[Any]], ...] = field(default=(), repr=False)

    @property
    def family(self) -> str:
        """What the rules of its first digit are about; empty for another package's own family."""
        return FAMILIES.get(self.code[:3], "")

    @property
    def doc(self) -> str:
        """What, why it matters, what to do: the docstring of the function."""
        from inspect import cleandoc  # imported when somebody reads

        return cleandoc(self.check.__doc__ or "")

    @property
    def what(self) -> str:
        """What it finds: the first sentence of the documentation."""
        return self.doc.split("\n\n")[0].replace("\n", " ").rstrip(".")

    @property
    def advice(self) -> str:
        """The first sentence under `What to do:`."""
        after = self.doc.partition("What to do:")[2].split("\n\n")[0]
        return re.sub(r"\s+", " ", after).strip().split(". ")[0].rstrip(".")

    def run(self, context: RuleContext) -> Iterator[Finding]:
        """What it finds in a file."""
        return map(self.finding, self.check(context))

    def finding(self, hit: RuleHit) -> Finding:
        """A hit, with what the rule says of all of them."""
        return Finding(
            self.code,
            self.severity if hit.severity is None else hit.severity,
            hit.tensor,
            hit.message,
            hit.advice or self.advice,
            hit.figures,
            hit.name,
        )


#: Code -> rule, filled by @rule when a module with rules is imported.
_RULES: dict[str, Rule] = {}


def rule(
    code: str,
    name: str,
    severity: Severity,
    *,
    reads: bool = True,
    default: bool = True,
    needs: tuple[type[Measurement[Any]], ...] = (),
) -> Callable[[RuleFunction], RuleFunction]:
    """Make a function a rule. Its docstring: one sentence, then `Why it matters:`, then `What to do:`.

    Raises:
        ValueError: another rule has this code.
    """

    def register(check: RuleFunction) -> RuleFunction:
        if code in _RULES:
            raise ValueError(f"{code} is taken by {_RULES[code].name}")
        _RULES[code] = Rule(code, name, severity, check, reads, default, needs)
        return check

    return register


def registered(code: str) -> Rule:
    """The rule of a code, if the module that holds it is imported.

    Raises:
        KeyError: it is not.
    """
    return _RULES[code]


def own_rules() -> Sequence[Rule]:
    """The rules of this package, by code."""
    for module in pkgutil.iter_modules(importlib.import_module("inspectcli.analysis.health").__path__):
        importlib.import_module(f"inspectcli.analysis.health.{module.name}")
    return tuple(_RULES[code] for code in sorted(_RULES))


def all_rules() -> Sequence[Rule]:
    """Every rule, by code: those of this package; and of the plug-ins `inspectcli.rules`, if they were asked for."""
    own_rules()
    for _ in plugins("inspectcli.rules"):  # to load one registers its rules
        pass
    return tuple(_RULES[code] for code in sorted(_RULES))


__all__ = ["FAMILIES", "Finding", "Rule", "RuleHit", "Severity", "all_rules", "own_rules", "registered", "rule"]
