"""Rows and columns of zeros, found while the values are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from inspectcli.measure.base import Block, Measurement, is_averaged
from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import TRAINING_STATE, TensorRef
from inspectcli.tensors.stored import reading_order, shape_as_stored, shape_once

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

#: Indices that are kept of each axis, the first ones.
SHOWN = 100
#: A byte is held for each index along an axis: a longer one, which no layer has, is not measured.
LONGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class Slices:
    """Indices along an axis: how many, and the first SHOWN."""

    count: int
    first: tuple[int, ...]


class ZeroSlices(Measurement[Mapping[int, Slices]]):
    """Axis -> indices along it at which every value is 0: of a matrix, its dead rows (axis 0) and columns (axis 1).

    Of floats with two dimensions or more that are not state of training. An axis longer than LONGEST is left out.
    A block without zeros costs next to nothing, and so does one with fewer zeros than it has rows and columns.
    """

    def __init__(self, ref: TensorRef) -> None:
        import numpy as np

        shape, once, pair = shape_as_stored(ref), shape_once(ref), ref.dtype.per_element
        self._shape = (*shape[:-1], shape[-1] * pair)
        dims = (*once[:-1], once[-1] * pair)
        #: Axes with more than one index, in the order of reading: the outermost first.
        self._axes = [axis for axis in reading_order(ref) if dims[axis] != 1]
        self._dims = [dims[axis] for axis in self._axes]
        #: Which indices have a value that is not 0; None for an axis that is too long.
        self._used = [np.zeros(dim, np.bool_) if dim <= LONGEST else None for dim in self._dims]
        self._is_zero = True

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return (
            is_averaged(ref)
            and len(shape_as_stored(ref)) > 1
            and ref.dtype.family in (NumberClass.FLOAT, NumberClass.COMPLEX)
            and ref.kind not in TRAINING_STATE
        )

    @classmethod
    def empty(cls, ref: TensorRef) -> ZeroSlices:
        return cls(ref)

    def update(self, block: Block) -> None:
        zeros = block.stats.zeros
        if zeros < block.count:
            self._is_zero = False
            self._mark(0, block.start, _Run(block.count, zeros, lambda a, b: nonzero(block, a, b)))

    def merge(self, other: ZeroSlices) -> ZeroSlices:
        self._is_zero &= other._is_zero
        for own, others in zip(self._used, other._used, strict=True):
            if own is not None and others is not None:
                own |= others
        return self

    def result(self) -> Mapping[int, Slices]:
        used = dict(zip(self._axes, self._used, strict=True))
        found = {}
        for axis, dim in enumerate(self._shape):
            flags = used.get(axis)
            if flags is not None:
                indices = (~flags).nonzero()[0]
                found[axis] = Slices(len(indices), tuple(indices[:SHOWN].tolist()))
            elif axis not in used:  # one index, or many that are the same one
                count = dim if self._is_zero else 0
                found[axis] = Slices(count, tuple(range(min(count, SHOWN))))
        return found

    def _mark(self, level: int, start: int, run: _Run) -> None:
        """Take in consecutive values of the dimensions from `level` on, of which the first has the flat index `start`.

        They are parted into the end of a row, whole rows, and the beginning of a row.
        """
        if level == len(self._dims) or not run.size or self._is_done(level):
            return
        inner = prod(self._dims[level + 1 :])
        row, skipped = divmod(start, inner)
        head = min(inner - skipped, run.size) if skipped or run.size < inner else 0
        rows = (run.size - head) // inner
        end = head + rows * inner
        if head:
            self._mark_part(level, row, skipped, run.part(0, head))
            row += 1
        if rows:
            self._mark_rows(level, row, rows, run.part(head, end))
        if end < run.size:
            self._mark_part(level, row + rows, 0, run.part(end, run.size))

    def _is_done(self, level: int) -> bool:
        return all(flags is None or bool(flags.all()) for flags in self._used[level:])

    def _mark_part(self, level: int, row: int, skipped: int, run: _Run) -> None:
        """Values of one row."""
        if run.most_zeros < run.size or run.nonzero().any():
            flags = self._used[level]
            if flags is not None:
                flags[row] = True
            self._mark(level + 1, skipped, run)

    def _mark_rows(self, level: int, row: int, rows: int, run: _Run) -> None:
        """Whole rows: fewer zeros than a row has values fill no row, fewer than there are rows fill no column."""
        import numpy as np

        inner, flags = run.size // rows, self._used[level]
        if flags is not None and run.most_zeros < inner:
            flags[row : row + rows] = True
        elif flags is not None:
            flags[row : row + rows] |= run.nonzero().reshape(rows, inner).any(axis=1)
        if run.most_zeros < rows:
            self._mark(level + 1, 0, _Run(inner))
        elif not self._is_done(level + 1):
            columns: Bools = np.logical_or.reduce(run.nonzero().reshape(rows, inner))
            self._mark(level + 1, 0, _Run(inner, inner - int(columns.sum()), lambda a, b: columns[a:b]))


class _Run:
    """Some values: how many, at most how many zeros, and which are none, worked out if somebody asks."""

    def __init__(self, size: int, most_zeros: int = 0, read: Callable[[int, int], Bools] | None = None) -> None:
        self.size = size
        self.most_zeros = most_zeros
        self._read = read
        self._nonzero: Bools | None = None

    def part(self, first: int, end: int) -> _Run:
        read = self._read
        if read is None or (first, end) == (0, self.size):
            return self if end - first == self.size else _Run(end - first)
        return _Run(end - first, min(self.most_zeros, end - first), lambda a, b: read(first + a, first + b))

    def nonzero(self) -> Bools:
        import numpy as np

        if self._nonzero is None:
            self._nonzero = np.ones(self.size, np.bool_) if self._read is None else self._read(0, self.size)
        return self._nonzero


def nonzero(block: Block, first: int, end: int) -> Bools:
    """Which values of a block are not +0 or -0."""
    from inspectcli.measure.stats import is_coded
    from inspectcli.tensors import kernels

    dtype = block.dtype
    if dtype.family is NumberClass.COMPLEX:
        found = (block.values.reshape(-1, 2)[first:end] != 0).any(axis=1)
    elif is_coded(dtype) and (dtype.bits < 8 or dtype.per_element > 1):
        found = block.numbers[first:end] != 0
    elif is_coded(dtype):
        found = (kernels.code_table(dtype.name) != 0)[block.values.view("u1")[first:end]]
    elif dtype.name == "bf16":
        found = (block.values[first:end] & 0x7FFF) != 0
    else:
        found = block.values[first:end] != 0
    nonzero: Bools = found
    return nonzero
