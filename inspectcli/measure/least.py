"""The smallest magnitudes of a tensor: one that is far below all others has lost a bit of its exponent."""

from __future__ import annotations

import math
from typing import NamedTuple

from inspectcli.measure.base import Block, Measurement, is_float_weight
from inspectcli.tensors.model import TensorRef

_KINDS = frozenset({"f64", "f32", "bf16"})
#: Two passes over the bits cost a tenth of all figures: of larger tensors, most of a large file, this is not measured.
_MOST = 1 << 20
#: Of n values, the smallest is about the root mean square over n: below this share of it, the next one is looked at.
SUSPECT = 1e-3


class Least(NamedTuple):
    """Magnitudes of the smallest value that is not 0 and of the next one; infinite if there is none."""

    first: float = math.inf
    second: float = math.inf


class LeastMagnitudes(Measurement[Least]):
    """The smallest magnitude that is not 0, and the next one where the first is suspiciously small.

    Of float64, float32 and bfloat16, whose exponents reach far below the values of any weight, and of two dimensions
    or more, up to a million values.
    """

    def __init__(self) -> None:
        self._least = Least()

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return is_float_weight(ref) and ref.dtype.name in _KINDS

    @classmethod
    def empty(cls, ref: TensorRef) -> LeastMagnitudes:
        return cls()

    def update(self, block: Block) -> None:
        from inspectcli.tensors.kernels import least_magnitudes

        s = block.stats
        if not s.finite or s.zeros == s.count or s.nonfinite:
            return
        first, second = least_magnitudes(block.values, block.dtype.name, bool(s.zeros), SUSPECT * s.rms / s.count)
        self._least = _of(self._least, Least(first, second))

    def merge(self, other: LeastMagnitudes) -> LeastMagnitudes:
        self._least = _of(self._least, other._least)
        return self

    def result(self) -> Least:
        return self._least


def _of(a: Least, b: Least) -> Least:
    first, second, *_ = sorted((*a, *b))
    return Least(first, second)
