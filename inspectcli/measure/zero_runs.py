"""Long runs of zeros among values that are not: what a write that stopped, or a lost sector, leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from inspectcli.measure.base import Block, Measurement, is_float_weight
from inspectcli.measure.rows import nonzero
from inspectcli.tensors.model import TensorRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

#: Zeros that follow one another by chance: of a hundredth of zeros, a run of 16 is one in 10^32.
LEAST = 16
#: More runs, or a larger share of zeros beside them, are a pattern (pruning, an identity), and no damage.
MOST_RUNS, MOST_SHARE = 4, 0.01


class Runs(NamedTuple):
    """Runs of LEAST zeros and more, as (first index, length) in the order of storage; and the zeros beside them."""

    long: tuple[tuple[int, int], ...]
    others: int


class ZeroRuns(Measurement["Runs | None"]):
    """Long runs of zeros in a matrix, a convolution or a stack of them; None if its zeros are many, a pattern.

    Of floats that are stored once and in C order. A block without zeros costs nothing, and a tensor with many of them
    is given up at the hundredth that shows it.
    """

    def __init__(self, ref: TensorRef) -> None:
        self._most = max(1, int(MOST_SHARE * ref.numel))
        self._begin: int | None = None
        self._end = 0
        #: Long runs, and those that touch an end of what was seen.
        self._runs: list[tuple[int, int]] = []
        self._others = 0
        self._is_pattern = False

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        in_order = ref.stored_shape is None and ref.strides is None
        return is_float_weight(ref) and in_order and ref.numel >= LEAST * LEAST

    @classmethod
    def empty(cls, ref: TensorRef) -> ZeroRuns:
        return cls(ref)

    def update(self, block: Block) -> None:
        if self._is_pattern or not block.count:
            return
        zeros = block.stats.zeros
        if zeros == block.count:
            found = [(block.start, block.count)]
            short = 0
        elif zeros:
            found, short = self._of_block(block)
        else:
            found, short = [], 0
        self._take(block.start, block.start + block.count, found, short)

    def merge(self, other: ZeroRuns) -> ZeroRuns:
        self._is_pattern |= other._is_pattern
        if other._begin is not None and not self._is_pattern:
            self._take(other._begin, other._end, other._runs, other._others)
        return self

    def result(self) -> Runs | None:
        long = tuple(run for run in self._runs if run[1] >= LEAST)
        others = self._others + sum(size for _, size in self._runs if size < LEAST)
        return None if self._is_pattern or len(long) > MOST_RUNS or others > self._most else Runs(long, others)

    def _of_block(self, block: Block) -> tuple[list[tuple[int, int]], int]:
        """Its runs that are long or touch an end, and the number of its other zeros."""
        import numpy as np

        edges = np.diff(~nonzero(block, 0, block.count), prepend=False, append=False).nonzero()[0]
        first, size = edges[::2], edges[1::2] - edges[::2]
        kept = (size >= LEAST) | (first == 0) | (first + size == block.count)
        short = int(size[~kept].sum())
        if kept.sum() > MOST_RUNS + 2:
            self._is_pattern = True
        return [(block.start + int(a), int(n)) for a, n in zip(first[kept], size[kept], strict=True)], short

    def _take(self, begin: int, end: int, found: list[tuple[int, int]], others: int) -> None:
        """Join the runs of what follows."""
        runs, found = self._runs, list(found)
        if runs and found and sum(runs[-1]) == found[0][0] == begin == self._end:
            runs[-1] = (runs[-1][0], runs[-1][1] + found.pop(0)[1])
        runs += found
        self._begin = begin if self._begin is None else self._begin
        self._end = end
        self._others += others
        left = [(a, n) for a, n in runs if n >= LEAST or a == self._begin or a + n == end]
        self._others += sum(n for _, n in runs) - sum(n for _, n in left)
        self._runs = left
        if len(left) > MOST_RUNS + 2 or self._others > self._most:
            self._is_pattern = True
