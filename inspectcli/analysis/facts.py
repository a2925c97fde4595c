"""Facts about one tensor: its description, role and figures, and the initializer that its values fit."""

from __future__ import annotations

import math
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

    UNTOUCHED = "untouched"  # exact: constants, uniform bounds, orthogonality, the grid of a generator
    INIT_LIKE = "init-like"  # fits an initializer; a small change would not show
    MOVED = "moved"  # fits none, in a file that was trained
    UNKNOWN = "unknown"  # too small to tell, or outside of the known initializers with no sign of training


#: Ends a formula whose scale was fitted to the values.
UNNAMED = "no known initializer"


class InitMatch(NamedTuple):
    """The initializer that a tensor fits, or what it is compared with.

    Attributes:
        strength: how certain it is.
        formula: in the usual notation, `PyTorch default, U(±1/sqrt(fan_in)) = U(±0.0625)`; for a moved tensor the
            default that it is compared with; empty if there is none.
        family: constant (filled, or computed, as an identity is), uniform, normal, truncated-normal, orthogonal; empty
            for a moved one.
        ratio: standard deviation over that of the default; None without one.
        within: share of its bound by which a uniform draw could have moved unseen; None if the match is exact, or the
            family has no bound.
        rows: of a table that has moved, how many rows are as drawn; None if they were not told apart.
    """

    strength: Strength
    formula: str = ""
    family: str = ""
    ratio: float | None = None
    within: float | None = None
    rows: int | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it is about random numbers: what is filled or computed may be the same before and after training."""
        return self.family != "constant"

    @property
    def is_named(self) -> bool:
        """Whether the scale is that of a known initializer, and not fitted: trained weights may be normal by chance."""
        return bool(self.formula) and not self.formula.endswith(UNNAMED)

    @property
    def is_as_drawn(self) -> bool:
        """Whether these are random numbers that look as an initializer drew them."""
        return self.is_drawn and self.strength in (Strength.UNTOUCHED, Strength.INIT_LIKE)

    @property
    def sentence(self) -> str:
        within = f" to within {_percent(self.within)} of its bound" if self.within is not None else ""
        if self.strength is Strength.UNTOUCHED:
            return f"untouched{within} since initialization: {self.formula}"
        if self.strength is Strength.INIT_LIKE:
            return f"cannot be told{within} from {self.formula}"
        if self.strength is Strength.UNKNOWN:
            return "fits no known initializer"
        if self.rows is not None:
            return f"moved, but for {self.formula}"
        return "moved" + (f": {self.ratio:.2f} times the spread of {self.formula}" if self.ratio is not None else "")


def _percent(share: float) -> str:
    """One digit, rounded up: 0.0123 -> `2 %`."""
    digit = 10.0 ** math.floor(math.log10(share * 100))
    return f"{math.ceil(share * 100 / digit - 1e-9) * digit:g} %"


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
    def constant(self) -> float | int | None:
        """The number that all its values are; None if they differ, some are not finite, or it was not read."""
        s = self.stats
        return s.low if s is not None and not s.nonfinite and s.low == s.high else None

    @property
    def rms(self) -> float:
        """Root mean square of the finite values; 0 without any."""
        stats = self.stats
        finite = stats.finite if stats is not None else 0
        return stats.l2 / finite**0.5 if stats is not None and finite else 0.0
