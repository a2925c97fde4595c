"""Facts about one tensor: its description, role and figures, and the initializer that its values fit."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from inspectcli.analysis.roles import Role
from inspectcli.measure.base import Measurement
from inspectcli.measure.task import Results
from inspectcli.tensors.model import TensorRef
from inspectcli.words import Word

if TYPE_CHECKING:
    from inspectcli.measure.sample import Sampled
    from inspectcli.measure.stats import Stats

R = TypeVar("R")


class Strength(Word):
    """How certain it is that a tensor is as it was initialized."""

    UNTOUCHED = "untouched"  # exact: constants, uniform bounds, orthogonality
    INIT_LIKE = "init-like"  # fits a normal initializer; a small change would not show
    MOVED = "moved"


class InitMatch(NamedTuple):
    """The initializer that a tensor fits, or what it is compared with.

    Attributes:
        strength: how certain it is.
        formula: in the usual notation, `PyTorch default, U(±1/sqrt(fan_in)) = U(±0.0625)`; for a moved tensor the
            default that it is compared with; empty if there is none.
        family: constant, uniform, normal, truncated-normal, orthogonal; empty for a moved one.
        ratio: standard deviation over that of the default; None without one.
    """

    strength: Strength
    formula: str = ""
    family: str = ""
    ratio: float | None = None

    @property
    def sentence(self) -> str:
        if self.strength is Strength.UNTOUCHED:
            return f"untouched since initialization: {self.formula}"
        if self.strength is Strength.INIT_LIKE:
            return f"cannot be told from {self.formula}"
        return "moved" + (f": {self.ratio:.2f} times the spread of {self.formula}" if self.ratio is not None else "")


class TensorFacts(NamedTuple):
    """One tensor with all that is known of it. `stats` is None if no values were read.

    `results` has what else was measured, because a rule needs it.
    """

    ref: TensorRef
    role: Role
    alias_of: str = ""
    stats: Stats | None = None
    sampled: Sampled | None = None
    problem: str = ""
    verdict: InitMatch | None = None
    results: Results = MappingProxyType({})

    @property
    def name(self) -> str:
        return self.ref.name

    def get(self, measurement: type[Measurement[R]]) -> R | None:
        """What a measurement gave; None if it does not apply, or the tensor was not read."""
        found: R | None = self.results.get(measurement)
        return found

    @property
    def rms(self) -> float:
        """Root mean square of the finite values; 0 without any."""
        stats = self.stats
        finite = stats.finite if stats is not None else 0
        return stats.l2 / finite**0.5 if stats is not None and finite else 0.0
