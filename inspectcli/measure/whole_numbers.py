"""Whether floats are whole numbers: codes of a quantized tensor without their scale."""

from __future__ import annotations

from inspectcli.measure.base import Block, Measurement, is_float_weight
from inspectcli.tensors.model import TensorRef

#: Values that are looked at before all others of a block: one of them is no whole number, as a rule.
_FIRST = 64


class WholeNumbers(Measurement[bool]):
    """Whether all values of a float tensor of two dimensions or more are finite and whole."""

    def __init__(self) -> None:
        self._is_whole = True

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return is_float_weight(ref) and ref.dtype.bits >= 16

    @classmethod
    def empty(cls, ref: TensorRef) -> WholeNumbers:
        return cls()

    def update(self, block: Block) -> None:
        import numpy as np

        from inspectcli.tensors.values import natural

        if not self._is_whole:
            return
        head = natural(block.values[: min(_FIRST, block.count)], block.dtype)
        with np.errstate(invalid="ignore"):
            self._is_whole = bool((np.rint(head) == head).all()) and bool(
                (np.rint(block.numbers) == block.numbers).all()
            )
        self._is_whole &= not block.stats.nonfinite

    def merge(self, other: WholeNumbers) -> WholeNumbers:
        self._is_whole &= other._is_whole
        return self

    def result(self) -> bool:
        return self._is_whole
