"""Tensors of which one side has more rows or channels: what both have, and what the longer one has besides."""

from __future__ import annotations

from typing import NamedTuple

from inspectcli.commands.diff.compare import Tools
from inspectcli.display.text import number
from inspectcli.measure.base import is_averaged
from inspectcli.measure.scan import stats_of
from inspectcli.tensors.layout import box, is_sliceable, plain
from inspectcli.tensors.model import TensorRef


class Overlap(NamedTuple):
    """The part that both sides have, and the rest of the longer one.

    Attributes:
        a, b: the first `common` rows of each.
        rest: what follows them on the longer side.
        side: the longer one, `A` or `B`.
        axis: the dimension in which they differ.
        common: length of that dimension on the shorter side.
    """

    a: TensorRef
    b: TensorRef
    rest: TensorRef
    side: str
    axis: int
    common: int

    @property
    def words(self) -> str:
        """`first 96 rows`."""
        return f"first {self.common:,} {self.unit}"

    @property
    def unit(self) -> str:
        """`rows`, `columns`, `indices of axis 2`."""
        matrix = len(self.a.shape) <= 2
        return "rows" if self.axis == 0 else "columns" if matrix else f"indices of axis {self.axis}"


def overlap(a: TensorRef, b: TensorRef) -> Overlap | None:
    """Return the parts of two tensors that differ in the length of one dimension; None of any others."""
    if len(a.shape) != len(b.shape) or not (is_averaged(a) and is_averaged(b)):
        return None
    axes = [i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n]
    a, b = plain(a), plain(b)
    if len(axes) != 1 or not (is_sliceable(a) and is_sliceable(b)) or a.held != a.numel or b.held != b.numel:
        return None
    axis = axes[0]
    common = min(a.shape[axis], b.shape[axis])
    if not common or 0 in (*(a.strides or ()), *(b.strides or ())):
        return None
    start = [0] * len(a.shape)
    shape = tuple(min(m, n) for m, n in zip(a.shape, b.shape, strict=True))
    longer = a if a.shape[axis] > common else b
    beyond = [common if i == axis else 0 for i in range(len(shape))]
    rest = tuple(n - first for n, first in zip(longer.shape, beyond, strict=True))
    side = "A" if longer is a else "B"
    return Overlap(box(a, start, shape), box(b, start, shape), plain(box(longer, beyond, rest)), side, axis, common)


def described(found: Overlap, same: bool, tools: Tools) -> str:
    """Return what became of the common part, and what the rest looks like."""
    more = found.rest.shape[found.axis]
    stats = stats_of(found.rest, tools.buffers[0])
    if stats.low is None:
        values = "no finite value"
    elif stats.low == stats.high:
        values = f"all {number(float(stats.low))}"
    else:
        values = f"mean {number(stats.mean)}, std {number(stats.std)}"
    shared = f"{found.words} {'identical' if same else 'changed'}"
    return f"{shared}; {more:,} more in {found.side}: {values}"
