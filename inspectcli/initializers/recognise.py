"""Which initialiser a tensor's numbers look like, or how far they have moved from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from inspectcli.health.base import Look
    from inspectcli.model import Checkpoint


class Strength(str, Enum):
    """How sure a verdict is."""

    UNTOUCHED = "untouched"  # exact: constants, uniform bounds, orthogonality
    INIT_LIKE = "init-like"  # cannot be told from a normal initialiser; a small change would not show
    MOVED = "moved"

    def __str__(self) -> str:
        return self.value


class Verdict(NamedTuple):
    """What is said of one tensor.

    Attributes:
        strength: see Strength.
        formula: in the field's words, `PyTorch default, U(±1/sqrt(fan_in)) = U(±0.0625)`; for a moved tensor the
            default that it is compared with; empty if there is none.
        family: constant, uniform, normal, truncated normal, orthogonal; empty for a moved one.
        ratio: standard deviation over that of the default; None without one.
    """

    strength: Strength
    formula: str = ""
    family: str = ""
    ratio: float | None = None


def recognise(checkpoint: Checkpoint, looks: Sequence[Look]) -> Mapping[str, Verdict]:
    """Verdicts by name; tensors of which nothing can be said are left out."""
    return {}
