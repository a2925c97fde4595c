"""What a rule is, what it may look at, and what it says."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.analysis.roles import Role, Roles, pattern
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef
from inspectcli.words import Word

if TYPE_CHECKING:
    from inspectcli.analysis.initializers.recognize import InitMatch
    from inspectcli.measure.stats import Sampled, Stats


class Severity(Word):
    """How bad; the order is that of `RANK`."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


#: Worst first.
RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Finding(NamedTuple):
    """What a rule says of a file, or of one tensor in it.

    Attributes:
        code: of the rule, `PI101`.
        tensor: its name; None for the file.
        message: what is wrong, with the figures, without the name of file and tensor.
        advice: one sentence: what to do.
        figures: the numbers of the message, for programs.
    """

    code: str
    severity: Severity
    tensor: str | None
    message: str
    advice: str
    figures: Mapping[str, object] = {}


class RuleHit(NamedTuple):
    """What a rule function yields: a finding without what the rule itself says."""

    tensor: str | None
    message: str
    figures: Mapping[str, object] = {}
    advice: str = ""  # instead of the rule's
    severity: Severity | None = None  # instead of the rule's


class TensorFacts(NamedTuple):
    """One tensor, with all that is known of it. `stats` is None where nothing was read."""

    ref: TensorRef
    role: Role
    alias_of: str = ""
    stats: Stats | None = None
    sampled: Sampled | None = None
    problem: str = ""
    verdict: InitMatch | None = None

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def rms(self) -> float:
        """Root mean square of the finite values; 0 without any."""
        stats = self.stats
        return stats.l2 / stats.finite**0.5 if stats is not None and stats.finite else 0.0


@dataclass(frozen=True)
class RuleContext:
    """A file as the rules see it.

    Attributes:
        checkpoint: what its reader understood.
        tensors: those of the file, in order.
        read: whether values were read.
    """

    checkpoint: Checkpoint
    tensors: tuple[TensorFacts, ...]
    read: bool = True

    @cached_property
    def unique(self) -> tuple[TensorFacts, ...]:
        """Tensors with figures, tied ones once."""
        return tuple(tensor for tensor in self.tensors if tensor.stats is not None and not tensor.alias_of)

    @cached_property
    def trained(self) -> bool:
        """Whether most weights have moved: in a fresh model, what is as initialized is as it should be.

        Their moving average does not count: it may have stayed where it began.
        """
        weights = [tensor for tensor in self.unique if tensor.role.is_weight and tensor.ref.kind is not Kind.EMA]
        drawn = [
            tensor.verdict for tensor in weights if tensor.verdict is not None and tensor.verdict.family != "constant"
        ]
        return bool(drawn) and 2 * sum(v.strength == "moved" for v in drawn) > len(drawn)

    @cached_property
    def last_weights(self) -> Mapping[Kind, TensorFacts]:
        """The last weight of each kind, in the order of the file."""
        return {tensor.ref.kind: tensor for tensor in self.unique if tensor.role.is_weight}

    @cached_property
    def by_name(self) -> Mapping[str, TensorFacts]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def siblings(self) -> Mapping[str, tuple[TensorFacts, ...]]:
        """Pattern of the name -> the tensors of that name in all blocks, of one shape and element type."""
        found: dict[tuple[object, ...], list[TensorFacts]] = {}
        for tensor in self.unique:
            found.setdefault(
                (pattern(tensor.name), tensor.ref.shape, tensor.ref.dtype.name, tensor.role.kind), []
            ).append(tensor)
        shared = [tuple(group) for group in found.values()]
        return {tensor.name: group for group in shared for tensor in group}

    @cached_property
    def sibling_sizes(self) -> Mapping[str, tuple[float, ...]]:
        """Root mean squares of a tensor's siblings, itself included, the smallest first."""
        found: dict[str, tuple[float, ...]] = {}
        for name, group in self.siblings.items():
            if name not in found:
                found.update(
                    dict.fromkeys((tensor.name for tensor in group), tuple(sorted(tensor.rms for tensor in group)))
                )
        return found


RuleFunction = Callable[[RuleContext], Iterable[RuleHit]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: `PI` and three digits; the first is the family.
        name: as in a sentence, `nan-values`.
        severity: of its findings, unless a finding says otherwise.
        check: the function.
        reads: whether it needs values; False: the header is enough.
        default: whether it runs when nothing is selected.
    """

    code: str
    name: str
    severity: Severity
    check: RuleFunction = field(repr=False)
    reads: bool = True
    default: bool = True

    @property
    def doc(self) -> str:
        """What, why it matters, what to do: the docstring of the function."""
        from inspect import cleandoc  # imported when somebody reads

        return cleandoc(self.check.__doc__ or "")

    @property
    def what(self) -> str:
        return self.doc.split("\n\n")[0].replace("\n", " ").rstrip(".")

    @property
    def advice(self) -> str:
        """The first sentence under `What to do:`."""
        after = self.doc.partition("What to do:")[2].split("\n\n")[0]
        return re.sub(r"\s+", " ", after).strip().split(". ")[0].rstrip(".")

    def run(self, subject: RuleContext) -> Iterator[Finding]:
        for found in self.check(subject):
            severity = self.severity if found.severity is None else found.severity
            yield Finding(self.code, severity, found.tensor, found.message, found.advice or self.advice, found.figures)


#: Code -> rule, filled by @rule when a module of the package is imported.
_RULES: dict[str, Rule] = {}


def rule(
    code: str, name: str, severity: Severity, *, reads: bool = True, default: bool = True
) -> Callable[[RuleFunction], RuleFunction]:
    """Make a function a rule. Its docstring: one sentence, then `Why it matters:`, then `What to do:`."""

    def register(check: RuleFunction) -> RuleFunction:
        if code in _RULES:
            raise ValueError(f"{code} is taken by {_RULES[code].name}")
        _RULES[code] = Rule(code, name, severity, check, reads, default)
        return check

    return register


def own_rules() -> Sequence[Rule]:
    """The rules of this package, by code."""
    for module in pkgutil.iter_modules(importlib.import_module("inspectcli.analysis.health").__path__):
        importlib.import_module(f"inspectcli.analysis.health.{module.name}")
    return tuple(_RULES[code] for code in sorted(_RULES))


def all_rules() -> Sequence[Rule]:
    """Every rule, by code: those of this package, and those that other packages offer as `inspectcli.rules`."""
    own_rules()
    from importlib.metadata import entry_points  # takes longer to import than all rules together

    for entry in entry_points(group="inspectcli.rules"):
        entry.load()
    return tuple(_RULES[code] for code in sorted(_RULES))


__all__ = [
    "RANK",
    "Finding",
    "Role",
    "Roles",
    "Rule",
    "RuleContext",
    "RuleHit",
    "Severity",
    "TensorFacts",
    "all_rules",
    "own_rules",
    "pattern",
    "rule",
]
