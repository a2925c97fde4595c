"""Figures of the difference of two arrays, read once. A monoid: figures of parts merge into those of the whole.

NaN equals NaN, and an infinity equals itself. Places where either side is not finite enter no sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inspectcli.measure.moments import CANCELLATION, Moments, merge_products, moments_of, products_of
from inspectcli.tensors import kernels
from inspectcli.tensors.values import Array

_Bools = npt.NDArray[np.bool_]

#: Range of sums of squares of float32 values in which no square was lost to underflow or overflow.
_LEAST_SQUARES, _MOST_SQUARES = 1e-70, 1e100
#: Ratio of the variances of both sides beyond which differences rounded to float32 lose too much.
_OF_ONE_SIZE = 100.0
_NOTHING = Moments()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Values are close if |a - b| <= absolute + relative * max(|a|, |b|), which is symmetric."""

    absolute: float = 0.0
    relative: float = 0.0

    def __bool__(self) -> bool:
        return self.absolute > 0 or self.relative > 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Sums over two arrays, a and b.

    Attributes:
        count: places.
        finite: places where both are finite.
        changed: places where the values differ.
        beyond: places where they differ by more than the tolerance.
        nan_a, nan_b: number of NaN on each side.
        nonfinite: places where one side is NaN or infinite, and the other is not the same.
        first_nonfinite: the first of these.
        max_abs: largest |a - b| at finite places.
        max_at: its place; None if nothing differs.
        a, b: moments of each side over the finite places; of magnitudes if the values are complex.
        d: moments of a - b, or of its magnitudes, over the finite places.
        products: sum of the products of the deviations of a and b from their means.
    """

    count: int = 0
    finite: int = 0
    changed: int = 0
    beyond: int = 0
    nan_a: int = 0
    nan_b: int = 0
    nonfinite: int = 0
    first_nonfinite: int | None = None
    max_abs: float = 0.0
    max_at: int | None = None
    a: Moments = _NOTHING
    b: Moments = _NOTHING
    d: Moments = _NOTHING
    products: float = 0.0

    def merge(self, other: Difference) -> Difference:
        """Return the figures of both sets of places together."""
        larger = other if other.max_at is not None and other.max_abs > self.max_abs else self
        if self.max_at is None:
            larger = other
        return Difference(
            count=self.count + other.count,
            finite=self.finite + other.finite,
            changed=self.changed + other.changed,
            beyond=self.beyond + other.beyond,
            nan_a=self.nan_a + other.nan_a,
            nan_b=self.nan_b + other.nan_b,
            nonfinite=self.nonfinite + other.nonfinite,
            first_nonfinite=self.first_nonfinite if self.first_nonfinite is not None else other.first_nonfinite,
            max_abs=larger.max_abs,
            max_at=larger.max_at,
            a=self.a.merge(other.a),
            b=self.b.merge(other.b),
            d=self.d.merge(other.d),
            products=merge_products((self.a, self.b, self.products), (other.a, other.b, other.products)),
        )

    # -- figures ----------------------------------------------------------------------------------------

    @property
    def changed_fraction(self) -> float:
        return self.changed / self.count if self.count else 0.0

    @property
    def l2(self) -> float:
        """||a - b||, the Euclidean norm of the difference."""
        return self.d.norm

    @property
    def rel_l2(self) -> float | None:
        """||a - b|| / ||a||: 0 if both norms are 0, None if only ||a|| is."""
        if not self.l2:
            return 0.0
        return self.l2 / self.a.norm if self.a.norm else None

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between a and b: 1 if both are 0, None if only one is, or if a norm overflows."""
        d, a, b = self.l2, self.a.norm, self.b.norm
        if not d:
            return 1.0
        if not (a and b and all(map(math.isfinite, (a, b, d)))):
            return None
        # (aa + bb - dd) / 2ab by ratios: the product could overflow.
        return max(-1.0, min(1.0, (a / b + b / a - d / a * (d / b)) / 2))

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation, near 0 for independent models; None if a side is constant."""
        spread = math.sqrt(self.a.m2) * math.sqrt(self.b.m2)
        return max(-1.0, min(1.0, self.products / spread)) if spread else None

    @property
    def mean_a(self) -> float:
        return self.a.mean if self.finite else math.nan

    @property
    def mean_b(self) -> float:
        return self.b.mean if self.finite else math.nan

    @property
    def std_a(self) -> float:
        return self.a.std

    @property
    def std_b(self) -> float:
        return self.b.std


# -- one piece ------------------------------------------------------------------------------------------


class Workspace:
    """Buffers of one thread: allocating them anew would take longer than the arithmetic."""

    def __init__(self, size: int) -> None:
        self._d = np.empty(size, np.float32)
        self._unequal = np.empty(size, np.bool_)

    def subtract(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b, out=self._d[: a.size]) if a.size <= self._d.size else a - b

    def unequal(self, a: Array, b: Array) -> _Bools:
        return np.not_equal(a, b, out=self._unequal[: a.size]) if a.size <= self._unequal.size else a != b


def difference(
    a: Array,
    b: Array,
    start: int = 0,
    tolerance: Tolerance = Tolerance(),
    workspace: Workspace | None = None,
    least: float = 0.0,
) -> Difference:
    """Return the difference of two one-dimensional arrays of equal length.

    Args:
        a, b: the values.
        start: place of the first one.
        tolerance: which values count as close.
        workspace: buffers; None to allocate them.
        least: largest difference at other places: one that is not larger is not located.
    """
    workspace = workspace or Workspace(0)
    with np.errstate(all="ignore"):
        if a.dtype.kind == b.dtype.kind == "f" and a.dtype.itemsize <= 4 and b.dtype.itemsize <= 4:
            known = _of_floats(_single(a), _single(b), start, tolerance, workspace, least)
            if known is not None:
                return known
        return _careful(a, b, start, tolerance)


def _single(values: Array) -> Array:
    return kernels.backend().widen_f16(np.ascontiguousarray(values)) if values.dtype.itemsize == 2 else values


def _of_floats(
    a: Array, b: Array, start: int, tolerance: Tolerance, workspace: Workspace, least: float
) -> Difference | None:
    """Compute in float32, which is fast; None if anything is not finite, or overflows."""
    d = workspace.subtract(a, b)
    high, low = float(d.max()), float(d.min())
    peak = max(high, -low)
    if not math.isfinite(peak):
        return None
    sums = kernels.backend().moments
    sums_a, sums_b, sums_d = sums(a), sums(b), sums(d)
    if not math.isfinite(sums_a[1] + sums_b[1]):
        return None
    of_a, of_b, of_d = _moments(a, sums_a), _moments(b, sums_b), Moments(d.size, 0.0, sums_d[1])
    changed = int(np.count_nonzero(workspace.unequal(a, b)))
    max_abs, max_at = 0.0, None
    if peak and peak >= np.float32(least):
        # Rounding is monotonic: the largest exact difference is among those that are largest after rounding.
        best = np.flatnonzero((d == peak) | (d == -peak))
        exact = np.abs(a[best].astype(np.float64) - b[best])
        winner = int(exact.argmax())
        max_abs, max_at = float(exact[winner]), start + int(best[winner])
    beyond = changed
    if tolerance and changed:
        bound = tolerance.absolute + tolerance.relative * np.maximum(np.abs(a), np.abs(b)).astype(np.float64)
        beyond = int(np.count_nonzero(np.abs(a.astype(np.float64) - b) > bound))
    return Difference(
        count=a.size,
        finite=a.size,
        changed=changed,
        beyond=beyond,
        max_abs=max_abs,
        max_at=max_at,
        a=of_a,
        b=of_b,
        d=of_d,
        products=_products(a, b, of_a, of_b, sums_d),
    )


def _moments(x: Array, sums: tuple[float, float] | None = None) -> Moments:
    """Return the moments of finite values. The bounds, another pass, are computed only if the sums do not suffice."""
    if not x.size:
        return Moments()
    if sums is not None and _LEAST_SQUARES < sums[1] < _MOST_SQUARES:
        mean = sums[0] / x.size
        m2 = sums[1] - sums[0] * mean
        if m2 >= CANCELLATION * sums[1]:
            return Moments(x.size, mean, m2)
    return moments_of(x, x.min().item(), x.max().item())


def _products(a: Array, b: Array, of_a: Moments, of_b: Moments, sums_d: tuple[float, float]) -> float:
    """Return the sum of products of deviations, from the variance of the differences where that is accurate."""
    m2_d = sums_d[1] - sums_d[0] * sums_d[0] / a.size
    ample = m2_d >= CANCELLATION * sums_d[1] and of_a.scale == of_b.scale == 1.0
    small, large = sorted((of_a.m2, of_b.m2))
    if ample and large < _OF_ONE_SIZE * small:
        return (of_a.m2 + of_b.m2 - m2_d) / 2
    return products_of(a, b, of_a, of_b)


def _careful(a: Array, b: Array, start: int, tolerance: Tolerance) -> Difference:
    """Compute for any types and values, in float64."""
    equal = (a == b) | (np.isnan(a) & np.isnan(b)) if _has_nan(a) and _has_nan(b) else a == b
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x) & np.isfinite(y)
    odd = ~finite & ~equal
    x, y = (x, y) if finite.all() else (x[finite], y[finite])
    size = _integer_distance(a, b) if a.dtype.kind in "iu" and b.dtype.kind in "iu" else np.abs(x - y)
    unequal = ~equal if finite.all() else ~equal[finite]
    bound = tolerance.absolute + tolerance.relative * np.maximum(np.abs(x), np.abs(y)) if tolerance else 0.0
    best = int(size.argmax()) if size.size and unequal.any() else None
    magnitude_x, magnitude_y = (np.abs(x), np.abs(y)) if wide is np.complex128 else (x, y)
    of_x, of_y = _moments(magnitude_x), _moments(magnitude_y)
    return Difference(
        count=a.size,
        finite=int(x.size),
        changed=int(np.count_nonzero(~equal)),
        beyond=int(np.count_nonzero(unequal & (size > bound))) + int(np.count_nonzero(odd)),
        nan_a=int(np.count_nonzero(np.isnan(a))) if _has_nan(a) else 0,
        nan_b=int(np.count_nonzero(np.isnan(b))) if _has_nan(b) else 0,
        nonfinite=int(np.count_nonzero(odd)),
        first_nonfinite=start + int(odd.argmax()) if odd.any() else None,
        max_abs=0.0 if best is None else float(size[best]),
        max_at=None if best is None else start + int(np.flatnonzero(finite)[best]),
        a=of_x,
        b=of_y,
        d=_moments(size) if np.isfinite(size).all() else Moments(size.size, 0.0, math.inf),
        products=products_of(magnitude_x, magnitude_y, of_x, of_y) if x.size else 0.0,
    )


def _has_nan(values: Array) -> bool:
    return values.dtype.kind in "fc"


def _integer_distance(a: Array, b: Array) -> Array:
    """Return |a - b| of integers without overflow, exact before it becomes a float."""
    if a.dtype.kind != b.dtype.kind and 8 in (a.dtype.itemsize, b.dtype.itemsize):
        return np.abs(a.astype(np.float64) - b.astype(np.float64))
    high, low = np.maximum(a, b).astype(np.int64), np.minimum(a, b).astype(np.int64)
    distance: Array = (high.view(np.uint64) - low.view(np.uint64)).astype(np.float64)
    return distance
