"""Evenly spread values of a tensor, and the figures that need values at hand: quantiles, kurtosis, histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import lcm
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.measure.stats import is_coded, magnitudes
from inspectcli.tensors import kernels
from inspectcli.tensors.dtypes import DType, NumberClass
from inspectcli.tensors.values import natural

Array = npt.NDArray[Any]
#: Places of values.
Index = npt.NDArray[np.int64] | slice

#: Values kept per tensor for quantiles, kurtosis and the histogram; a tensor with fewer is kept whole.
SAMPLE_SIZE = 32_768
#: The sample is spread evenly with jitter, always the same one.
SEED = 20_250_101
HISTOGRAM_BINS = 20
KNOTS = 129
#: Of the inner edges.
_BIN_NUMBERS = np.arange(1.0, HISTOGRAM_BINS)
#: Below this many values the histogram goes from the least to the largest, not from 1 % to 99 %.
FEW = 200


@lru_cache(maxsize=1)
def _jitter() -> npt.NDArray[np.float64]:
    # The golden ratio's multiples fill the unit interval evenly (Weyl); importing numpy.random would take longer.
    return np.modf(np.arange(SEED, SEED + SAMPLE_SIZE, dtype=np.float64) * ((5**0.5 - 1) / 2))[0]


@lru_cache(maxsize=8)
def _positions(total: int) -> npt.NDArray[np.int64]:
    """One position in each of SAMPLE_SIZE equal stretches of the tensor, sorted."""
    step = total / SAMPLE_SIZE
    return np.minimum((np.arange(SAMPLE_SIZE) + _jitter()) * step, total - 1).astype(np.int64)


def sample_of(values: Array, dtype: DType, start: int, count: int, total: int) -> Array:
    """Those of a block's values that belong to the sample.

    Args:
        values: as `Stats.of` takes them.
        start: how many values of the tensor stand before these.
        count: how many these are.
        total: values of the whole tensor.
    """
    if total <= SAMPLE_SIZE:
        return _numbers(values, dtype, slice(count))
    positions = _positions(total)
    a, b = np.searchsorted(positions, (start, start + count))
    return _numbers(values, dtype, positions[a:b] - start)


def _numbers(values: Array, dtype: DType, index: Index) -> Array:
    """The values at some places: as float32 what fits it, as float64 the others; magnitudes of complex ones."""
    if is_coded(dtype):
        return kernels.code_table(dtype.name)[_codes(values, dtype.bits // dtype.per_element, index)]
    if dtype.family is NumberClass.COMPLEX:
        return magnitudes(values.reshape(-1, 2)[index])
    picked = natural(values[index], dtype)
    return picked.astype(np.float64 if picked.dtype.kind != "f" or picked.dtype.itemsize > 4 else np.float32)


def _codes(values: Array, bits: int, index: Index) -> npt.NDArray[np.uint8]:
    """Some of packed codes; only the bytes that hold them are unpacked."""
    raw = values.view(np.uint8)
    if bits == 8:
        return raw[index]
    if isinstance(index, slice):
        index = np.arange(index.stop)
    size = lcm(bits, 8) // 8  # bytes of the shortest run of whole codes
    each = size * 8 // bits
    if raw.size % size:
        raw = np.pad(raw, (0, -raw.size % size))
    runs = raw.reshape(-1, size)[index // each]
    return kernels.unpack_codes(runs.ravel(), bits).reshape(-1, each)[np.arange(index.size), index % each]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Figures of the sample; `exact` if it is the whole tensor.

    Attributes:
        size: finite values in the sample.
        exact: whether every value of the tensor was in it.
        q01, q25, median, q75, q99: quantiles, linearly interpolated.
        kurtosis: fourth central moment over squared variance: 3 for normal, 1.8 for uniform values; None if all equal.
        edges: the histogram's first and last edge (1 % and 99 % quantile, or the only value).
        histogram: counts of HISTOGRAM_BINS equal bins between the edges.
        knots: KNOTS values of the sorted sample, evenly apart in rank, both ends included: its distribution function.
    """

    size: int
    exact: bool
    q01: float
    q25: float
    median: float
    q75: float
    q99: float
    kurtosis: float | None
    edges: tuple[float, float]
    histogram: tuple[int, ...]
    knots: npt.NDArray[np.float64] = field(repr=False, compare=False)


def sampled(x: Array, exact: bool) -> Sampled | None:
    """Figures of a sample; None if there is no finite value.

    Args:
        x: its values; sorted here.
        exact: whether they are all that there are.
    """
    x = np.sort(x)  # NaN last
    if x.size and not (math.isfinite(x[0]) and math.isfinite(x[-1])):
        x = x[np.isfinite(x)]
    if not x.size:
        return None
    q = _quantiles(x)
    # Of a few values, the outermost are not outliers.
    low, high = (q[0], q[-1]) if x.size >= FEW else (float(x[0]), float(x[-1]))
    inside = x[np.searchsorted(x, low, "left") : np.searchsorted(x, high, "right")]
    if high > low:
        if math.isfinite(high - low):
            edges = _BIN_NUMBERS * ((high - low) / HISTOGRAM_BINS) + low
        else:
            share = _BIN_NUMBERS / HISTOGRAM_BINS
            edges = low * (1 - share) + high * share
        below = [0, *np.searchsorted(inside, edges).tolist(), inside.size]
        counts = tuple(b - a for a, b in pairwise(below))
    else:
        half = HISTOGRAM_BINS // 2
        counts = (*(0,) * half, inside.size, *(0,) * (HISTOGRAM_BINS - half - 1))
    return Sampled(
        size=x.size,
        exact=exact,
        q01=q[0],
        q25=q[1],
        median=q[2],
        q75=q[3],
        q99=q[4],
        kurtosis=_kurtosis(x),
        edges=(low, high),
        histogram=counts,
        knots=x[knot_ranks(x.size)].astype(np.float64),
    )


@lru_cache(maxsize=1024)
def knot_ranks(size: int) -> npt.NDArray[np.int64]:
    """Ranks, from 0, of the knots among `size` sorted values."""
    return np.linspace(0, size - 1, min(KNOTS, size)).astype(np.int64)


def _quantiles(x: Array) -> tuple[float, ...]:
    """Of sorted values, as numpy.quantile's default method."""
    below, above, share = _quantile_ranks(x.size)
    a, b = x[below].astype(np.float64), x[above].astype(np.float64)
    with np.errstate(all="ignore"):
        found = a + (b - a) * share
        # Two finite numbers may lie further apart than any number is large.
        return tuple(float(v) for v in np.where(np.isfinite(found), found, a * (1 - share) + b * share))


@lru_cache(maxsize=1024)
def _quantile_ranks(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ranks below and above each quantile among `size` sorted values, and how far it lies between them."""
    at = np.array((0.01, 0.25, 0.5, 0.75, 0.99)) * (size - 1)
    below = np.floor(at).astype(np.int64)
    return below, np.minimum(below + 1, size - 1), at - below


def _kurtosis(x: Array) -> float | None:
    """m4 / m2**2 of sorted finite values."""
    if x[0] == x[-1]:
        return None
    largest = max(abs(float(x[0])), abs(float(x[-1])))
    d = x.astype(np.float64) / largest
    d -= d.sum() / d.size
    d *= d
    variance = float(d.sum() / d.size)
    d *= d
    return float(d.sum() / d.size) / (variance * variance) if variance * variance > 0 else None
