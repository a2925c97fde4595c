"""Moments: how many values, their mean and their spread, merged by one function for every figure pinspect gives.

The mean and the sum of squared deviations merge by the formula of Chan, Golub and LeVeque (1979), the sum of products
of deviations of two runs by that of Pébay (2008, Sandia report SAND2008-6212, equation 3.12). A sum of squares alone
would lose the spread of values that lie far from 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.tensors import kernels

Array = npt.NDArray[Any]

#: Where the sum of squared deviations is a smaller part of the sum of squares, it is computed anew, about the mean.
CANCELLATION = 1e-4
#: Magnitudes of which a billion squares neither overflow nor vanish.
LEAST, MOST = 1e-140, 1e140


class Moments(NamedTuple):
    """Of a run of finite numbers.

    Attributes:
        n: how many.
        mean: 0 if there are none.
        m2: sum of squared deviations from the mean, in units of scale**2.
        scale: a power of two that keeps m2 of huge and of tiny float64 values in range.
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    scale: float = 1.0

    def merge(self, other: Moments) -> Moments:
        """Of this run followed by the other."""
        if not self.n:
            return other
        if not other.n:
            return self
        n = self.n + other.n
        scale = max(self.scale, other.scale)
        delta = other.mean / scale - self.mean / scale
        if self.scale == other.scale == 1.0:
            mean = self.mean + (other.mean - self.mean) * (other.n / n)
        else:  # the difference of the means could overflow
            mean = self.mean * (self.n / n) + other.mean * (other.n / n)
        m2 = self.m2 * (self.scale / scale) ** 2 + other.m2 * (other.scale / scale) ** 2
        return Moments(n, mean, m2 + delta * delta * (self.n * (other.n / n)), scale)

    @property
    def std(self) -> float:
        """Population standard deviation; NaN if there are no values."""
        return self.scale * math.sqrt(self.m2 / self.n) if self.n else math.nan

    @property
    def norm(self) -> float:
        """Euclidean norm."""
        center = self.mean / self.scale
        return self.scale * math.sqrt(self.m2 + self.n * center * center)

    @property
    def rms(self) -> float:
        """Root mean square; NaN if there are no values."""
        if not self.n:
            return math.nan
        center = self.mean / self.scale
        return self.scale * math.sqrt(self.m2 / self.n + center * center)


def merge_products(a: tuple[Moments, Moments, float], b: tuple[Moments, Moments, float]) -> float:
    """The sum of products of deviations of two pairs of runs, one after the other.

    Args:
        a, b: of the first part of both runs, and of the second: moments of x, moments of y, and the sum of
            (x - mean of x) * (y - mean of y), in units of the product of their scales.
    """
    (ax, ay, ap), (bx, by, bp) = a, b
    if not ax.n or not bx.n:
        return ap if ax.n else bp
    sx, sy = max(ax.scale, bx.scale), max(ay.scale, by.scale)
    dx, dy = bx.mean / sx - ax.mean / sx, by.mean / sy - ay.mean / sy
    own = ap * (ax.scale / sx) * (ay.scale / sy) + bp * (bx.scale / sx) * (by.scale / sy)
    return own + dx * dy * (ax.n * (bx.n / (ax.n + bx.n)))


def scale_of(largest: float) -> float:
    """1, or the power of two near magnitudes whose squares would overflow or vanish; for zeros the smallest one."""
    if LEAST <= largest <= MOST:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(largest)[1], -1021), 1023) if largest else -1021)


def moments_of(x: Array, low: float | int, high: float | int, sums: tuple[float, float] | None = None) -> Moments:
    """Of a one-dimensional array of finite numbers, not empty.

    Args:
        x: the values.
        low, high: the smallest and the largest.
        sums: their sum and the sum of their squares, where these are known.
    """
    made = moments_from(x.size, low, high, kernels.backend().moments(x) if sums is None else sums)
    if made is not None:
        return made
    scale = scale_of(float(max(abs(low), abs(high))))
    if scale != 1.0:
        unit = x.astype(np.float64) / scale
        mean, m2 = _about_the_mean(unit, float(unit.sum()) / x.size)
        return Moments(x.size, mean * scale, m2, scale)
    total = kernels.backend().moments(x)[0] if sums is None else sums[0]
    return Moments(x.size, *_about_the_mean(x, total / x.size))


def moments_from(n: int, low: float | int, high: float | int, sums: tuple[float, float]) -> Moments | None:
    """From sum and sum of squares alone; None where these are not exact enough, and the values are needed again.

    Args:
        n: how many values, all of them finite.
        low, high: the smallest and the largest.
        sums: their sum and the sum of their squares.
    """
    scale = scale_of(float(max(abs(low), abs(high))))
    if low == high:
        return Moments(n, float(low), 0.0, scale)
    if scale != 1.0:
        return None
    total, squares = sums
    mean = total / n
    m2 = squares - total * mean
    return None if m2 < CANCELLATION * squares else Moments(n, mean, m2)


def products_of(x: Array, y: Array, of_x: Moments, of_y: Moments) -> float:
    """The sum of products of deviations of two arrays from their means, in units of the product of their scales."""
    if not of_x.m2 or not of_y.m2:
        return 0.0
    return float(np.dot(_deviations(x, of_x), _deviations(y, of_y)))


def _deviations(x: Array, of_x: Moments) -> Array:
    wide = x.astype(np.float64)
    deviations: Array = wide - of_x.mean if of_x.scale == 1.0 else wide / of_x.scale - of_x.mean / of_x.scale
    return deviations


def _about_the_mean(x: Array, guess: float) -> tuple[float, float]:
    """Mean and m2 by a second pass: deviations from a first guess, corrected for its error."""
    deviations = x.astype(np.float64) - guess
    shift = float(deviations.sum()) / x.size
    m2 = float(np.dot(deviations, deviations)) - x.size * shift * shift
    return guess + shift, max(m2, 0.0)
