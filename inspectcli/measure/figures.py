"""The figures that every report has: counts, bounds and moments, and those of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inspectcli.measure.base import Block, Measurement, Rows
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.stored import expansion, is_reordered, reading_order, shape_as_stored, shape_once, values_held

if TYPE_CHECKING:
    from inspectcli.measure.sample import Sampled
    from inspectcli.measure.stats import Stats
    from inspectcli.tensors.values import Array


class Figures(Measurement["Stats"]):
    """Counts, bounds and moments of all values, those of an expanded tensor as often as they occur."""

    def __init__(self, ref: TensorRef) -> None:
        from inspectcli.measure.stats import Stats

        self._ref = ref
        self._stats = Stats.empty()
        self._first: int | None = None  # of a reordered tensor

    @classmethod
    def empty(cls, ref: TensorRef) -> Figures:
        return cls(ref)

    def update(self, block: Block) -> None:
        self._stats = self._stats.merge(block.stats)
        if block.stats.nonfinite and is_reordered(self._ref):
            self._first = _least(self._first, self._first_in_c_order(block))

    def merge(self, other: Figures) -> Figures:
        self._stats = self._stats.merge(other._stats)
        self._first = _least(self._first, other._first)
        return self

    def result(self) -> Stats:
        stats = self._stats
        if self._first is not None:
            stats = replace(stats, first_nonfinite=self._first)
        return stats.repeat(expansion(self._ref)).with_zeros(self._ref.implicit_zeros)

    @classmethod
    def of_rows(cls, refs: Sequence[TensorRef], rows: Rows) -> Sequence[Stats]:
        return rows.stats

    def _first_in_c_order(self, block: Block) -> int:
        """The least C-order index of a NaN or infinity of a block that was read in another order."""
        import numpy as np

        shape, once, order = shape_as_stored(self._ref), shape_once(self._ref), reading_order(self._ref)
        if not shape:
            return 0
        bad = block.start + np.flatnonzero(~np.isfinite(block.numbers))
        found = dict(zip(order, np.unravel_index(bad, [once[axis] for axis in order]), strict=True))
        return int(np.ravel_multi_index([found[axis] for axis in range(len(shape))], shape).min())


def _least(a: int | None, b: int | None) -> int | None:
    return a if b is None else b if a is None else min(a, b)


class Sample(Measurement["Sampled | None"]):
    """Quantiles, kurtosis, histogram and distribution function, of evenly spread values; None if none is finite."""

    def __init__(self, ref: TensorRef) -> None:
        self._total = values_held(ref)
        self._is_all = expansion(ref) == 1 and not ref.implicit_zeros
        self._parts: list[Array] = []

    @classmethod
    def empty(cls, ref: TensorRef) -> Sample:
        return cls(ref)

    def update(self, block: Block) -> None:
        from inspectcli.measure.sample import sample_of

        self._parts.append(sample_of(block.values, block.dtype, block.start, block.count, self._total))

    def merge(self, other: Sample) -> Sample:
        self._parts += other._parts
        return self

    def result(self) -> Sampled | None:
        import numpy as np

        from inspectcli.measure.sample import sampled

        if not self._parts:
            return None
        x = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return sampled(x, self._is_all and x.size == self._total)

    @classmethod
    def of_rows(cls, refs: Sequence[TensorRef], rows: Rows) -> Sequence[Sampled | None]:
        from inspectcli.measure.sample import numbers_of_rows, sampled_rows

        return sampled_rows(numbers_of_rows(rows.values, rows.dtype), True)
