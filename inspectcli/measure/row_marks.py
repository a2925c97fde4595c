"""Rows along the first dimension: which are equal, and how large each is."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from inspectcli.measure.again import SecondPass
from inspectcli.measure.base import Block, Measurement, is_float_weight
from inspectcli.tensors.model import TensorRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]
    Floats = npt.NDArray[np.float64]

#: Values of a row that mark it, and those it must have.
MARKED = 8
#: Eight bytes are held for each row: more rows than the largest vocabularies have are not measured.
MOST_ROWS = 1 << 18
LEAST_ROWS = 4
#: Odd, without a pattern in its bits: 2^64 over the golden ratio.
_MIX = 0x9E3779B97F4A7C15


class Equal(NamedTuple):
    """Rows that are not all 0: how many, and how many different ones."""

    rows: int = 0
    different: int = 0


class RowMarks(Measurement[Equal]):
    """How many rows differ in their first values: equal rows have equal marks, and a second pass says which are equal.

    Of floats in C order. A row that two blocks share in its first values is left out.
    """

    def __init__(self, ref: TensorRef) -> None:
        self._row = prod(ref.shape[1:])
        self._marks: list[Words] = []

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return (
            is_float_weight(ref)
            and ref.dtype.bits >= 16
            and ref.stored_shape is None
            and ref.strides is None
            and LEAST_ROWS <= ref.shape[0] <= MOST_ROWS
            and prod(ref.shape[1:]) >= MARKED
        )

    @classmethod
    def empty(cls, ref: TensorRef) -> RowMarks:
        return cls(ref)

    def update(self, block: Block) -> None:
        import numpy as np

        first = -block.start % self._row
        rows = max(0, (block.count - MARKED - first) // self._row + 1)
        if not rows:
            return
        places = first + self._row * np.arange(rows)[:, None] + np.arange(MARKED)
        bits = np.ascontiguousarray(block.values[places]).view(np.uint64)
        self._marks.append((bits * _factors(np.arange(bits.shape[1]))).sum(axis=1, dtype=np.uint64))

    def merge(self, other: RowMarks) -> RowMarks:
        self._marks += other._marks
        return self

    def result(self) -> Equal:
        return _counted(self._marks)


class RowHashes(SecondPass[Equal]):
    """How many rows are equal bit for bit, as far as a 64-bit sum tells.

    A second pass over the few tensors of which half the marks are equal.
    """

    in_order: ClassVar[bool] = True

    def __init__(self, ref: TensorRef) -> None:
        import numpy as np

        self._row = prod(ref.shape[1:])
        self._sums = np.zeros(ref.shape[0], np.uint64)

    @classmethod
    def empty(cls, ref: TensorRef) -> RowHashes:
        return cls(ref)

    def update(self, block: Block) -> None:
        import numpy as np

        values = block.values[: block.count]
        bits = values.view(f"u{values.dtype.itemsize}").astype(np.uint64)
        bits *= _factors((block.start + np.arange(block.count)) % self._row)
        first, cuts = _cuts(block, self._row)
        self._sums[first : first + len(cuts)] += np.add.reduceat(bits, cuts)

    def merge(self, other: RowHashes) -> RowHashes:
        self._sums += other._sums
        return self

    def result(self) -> Equal:
        return _counted([self._sums])


class RowSizes(SecondPass["Floats"]):
    """Root mean square of each row.

    A second pass over the few tensors of which the largest magnitude is far beyond the usual one.
    """

    in_order: ClassVar[bool] = True

    def __init__(self, ref: TensorRef) -> None:
        import numpy as np

        self._row = prod(ref.shape[1:])
        self._squares = np.zeros(ref.shape[0], np.float64)

    @classmethod
    def empty(cls, ref: TensorRef) -> RowSizes:
        return cls(ref)

    def update(self, block: Block) -> None:
        import numpy as np

        squares = np.square(block.numbers.astype(np.float64))
        first, cuts = _cuts(block, self._row)
        self._squares[first : first + len(cuts)] += np.add.reduceat(squares, cuts)

    def merge(self, other: RowSizes) -> RowSizes:
        self._squares += other._squares
        return self

    def result(self) -> Floats:
        import numpy as np

        sizes: Floats = np.sqrt(self._squares / self._row)
        return sizes


def _cuts(block: Block, row: int) -> tuple[int, npt.NDArray[np.int64]]:
    """The first row of a block, and where each of its rows begins in it."""
    import numpy as np

    first, skipped = divmod(block.start, row)
    cuts = np.arange(-skipped, block.count, row)
    cuts[0] = 0
    return first, cuts


def _factors(places: npt.NDArray[np.int64]) -> Words:
    """An odd factor for each place, so that values that change places change the sum."""
    import numpy as np

    mixed: Words = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(_MIX)
    mixed ^= mixed >> np.uint64(29)
    return mixed | np.uint64(1)


def _counted(marks: list[Words]) -> Equal:
    import numpy as np

    if not marks:
        return Equal()
    found = np.concatenate(marks)
    found = found[found != 0]
    return Equal(found.size, np.unique(found).size)
