"""Evenly spread values of a tensor, and the figures that need values at hand: quantiles, kurtosis, histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from math import lcm
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.document import written
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
#: Rows of more values are searched for the edges of the bins; of fewer, every value is compared with them.
_SEARCHED = 128


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


def numbers_of_rows(values: Array, dtype: DType) -> Array:
    """All values of small tensors, each a row of elements as stored; no row holds packed ones."""
    flat = values.reshape(-1)
    return _numbers(flat, dtype, slice(flat.size)).reshape(len(values), -1)


class Sketches(NamedTuple):
    """Figures of samples of one size, a row each: those of 100,000 small tensors are a few arrays.

    Attributes:
        size, exact: as in `Sampled`, for all rows.
        quantiles: (rows, 5).
        kurtosis: (rows,); NaN for none.
        edges: (rows, 2).
        histogram: (rows, HISTOGRAM_BINS).
        knots: (rows, KNOTS or fewer), in the type of the sample.
    """

    size: int
    exact: bool
    quantiles: Array
    kurtosis: Array
    edges: Array
    histogram: Array
    knots: Array


@written(also=("size", "exact", "q01", "q25", "median", "q75", "q99", "kurtosis", "edges", "histogram"))
class Sampled:
    """Figures of the sample; `exact` if it is the whole tensor.

    They are a row of `Sketches`: no number is an object of its own before somebody asks for it.

    Attributes:
        size: finite values in the sample.
        exact: whether every value of the tensor was in it.
        q01, q25, median, q75, q99: quantiles, linearly interpolated.
        kurtosis: fourth central moment over squared variance: 3 for normal, 1.8 for uniform values; None if all equal.
        edges: the histogram's first and last edge (1 % and 99 % quantile, or the only value).
        histogram: counts of HISTOGRAM_BINS equal bins between the edges.
        knots: KNOTS values of the sorted sample, evenly apart in rank, both ends included: its distribution function.
    """

    __slots__ = ("_row", "_sketches")

    def __init__(self, sketches: Sketches, row: int) -> None:
        self._sketches = sketches
        self._row = row

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sampled):
            return NotImplemented
        return self._figures() == other._figures() and np.array_equal(self.knots, other.knots)

    def __hash__(self) -> int:
        return hash(self._figures())

    def __repr__(self) -> str:
        return f"Sampled(size={self.size}, q01={self.q01}, median={self.median}, q99={self.q99})"

    def __reduce__(self) -> tuple[type[Sampled], tuple[Sketches, int]]:
        return Sampled, (self._sketches, self._row)

    def _figures(self) -> tuple[object, ...]:
        s, row = self._sketches, self._row
        return s.size, s.exact, tuple(s.quantiles[row].tolist()), self.kurtosis, self.edges, self.histogram

    @property
    def size(self) -> int:
        return self._sketches.size

    @property
    def exact(self) -> bool:
        return self._sketches.exact

    @property
    def q01(self) -> float:
        return float(self._sketches.quantiles[self._row, 0])

    @property
    def q25(self) -> float:
        return float(self._sketches.quantiles[self._row, 1])

    @property
    def median(self) -> float:
        return float(self._sketches.quantiles[self._row, 2])

    @property
    def q75(self) -> float:
        return float(self._sketches.quantiles[self._row, 3])

    @property
    def q99(self) -> float:
        return float(self._sketches.quantiles[self._row, 4])

    @property
    def kurtosis(self) -> float | None:
        found = float(self._sketches.kurtosis[self._row])
        return None if math.isnan(found) else found

    @property
    def edges(self) -> tuple[float, float]:
        low, high = self._sketches.edges[self._row].tolist()
        return low, high

    @property
    def histogram(self) -> tuple[int, ...]:
        return tuple(self._sketches.histogram[self._row].tolist())

    @property
    def knots(self) -> npt.NDArray[np.float64]:
        knots: npt.NDArray[np.float64] = self._sketches.knots[self._row].astype(np.float64)
        return knots


def sampled(x: Array, exact: bool) -> Sampled | None:
    """Figures of a sample; None if there is no finite value.

    Args:
        x: its values.
        exact: whether they are all that there are.
    """
    return sampled_rows(x[None, :], exact)[0] if x.size else None


def sampled_rows(x: Array, exact: bool) -> Sequence[Sampled | None]:
    """Those of the rows of an array, each a sample of its own and none of them empty."""
    x = np.sort(x, axis=1)  # NaN last
    sound = np.isfinite(x[:, 0]) & np.isfinite(x[:, -1])
    if sound.all():
        sketches = _sketched(x, exact)
        return [Sampled(sketches, row) for row in range(len(x))]
    made: list[Sampled | None] = [None] * len(x)
    whole = np.flatnonzero(sound)
    if whole.size:
        sketches = _sketched(x[whole], exact)
        for row, place in enumerate(whole.tolist()):
            made[place] = Sampled(sketches, row)
    for place in np.flatnonzero(~sound).tolist():
        finite = x[place][np.isfinite(x[place])]
        made[place] = Sampled(_sketched(finite[None, :], exact), 0) if finite.size else None
    return made


def _sketched(x: Array, exact: bool) -> Sketches:
    """Of rows of sorted finite values."""
    size = x.shape[1]
    quantiles = _quantiles(x)
    # Of a few values, the outermost are not outliers.
    low, high = (quantiles[:, 0], quantiles[:, -1]) if size >= FEW else x[:, [0, -1]].astype(np.float64).T
    with np.errstate(all="ignore"):
        inner = _BIN_NUMBERS * ((high - low) / HISTOGRAM_BINS)[:, None] + low[:, None]
        share = _BIN_NUMBERS / HISTOGRAM_BINS
        # Two finite numbers may lie further apart than any number is large.
        inner = np.where(np.isfinite(inner), inner, low[:, None] * (1 - share) + high[:, None] * share)
    first, end = _ranks(x, low[:, None]), _ranks(x, high[:, None], "right")
    below = np.clip(_ranks(x, inner), first, end)
    histogram = np.diff(below, axis=1, prepend=first, append=end)
    single = ~(high > low)
    if single.any():
        histogram[single] = 0
        histogram[single, HISTOGRAM_BINS // 2] = (end - first)[single, 0]
    return Sketches(
        size=size,
        exact=exact,
        quantiles=quantiles,
        kurtosis=_kurtosis(x),
        edges=np.stack((low, high), axis=1),
        histogram=histogram.astype(np.uint16),
        knots=x[:, knot_ranks(size)],
    )


def _ranks(x: Array, edges: Array, side: Literal["left", "right"] = "left") -> Array:
    """How many values of each sorted row lie below each of its edges; on the right side, those equal to it too."""
    if x.shape[1] > _SEARCHED:
        return np.stack([np.searchsorted(row, own, side) for row, own in zip(x, edges, strict=True)])
    lies = np.less if side == "left" else np.less_equal
    wide = x.astype(np.float64)
    return np.stack([np.count_nonzero(lies(wide, edge[:, None]), axis=1) for edge in edges.T], axis=1)


@lru_cache(maxsize=1024)
def knot_ranks(size: int) -> npt.NDArray[np.int64]:
    """Ranks, from 0, of the knots among `size` sorted values."""
    return np.linspace(0, size - 1, min(KNOTS, size)).astype(np.int64)


def _quantiles(x: Array) -> npt.NDArray[np.float64]:
    """Of rows of sorted values, as numpy.quantile's default method."""
    below, above, share = _quantile_ranks(x.shape[1])
    a, b = x[:, below].astype(np.float64), x[:, above].astype(np.float64)
    with np.errstate(all="ignore"):
        found = a + (b - a) * share
        # Two finite numbers may lie further apart than any number is large.
        exact: npt.NDArray[np.float64] = np.where(np.isfinite(found), found, a * (1 - share) + b * share)
    return exact


@lru_cache(maxsize=1024)
def _quantile_ranks(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ranks below and above each quantile among `size` sorted values, and how far it lies between them."""
    at = np.array((0.01, 0.25, 0.5, 0.75, 0.99)) * (size - 1)
    below = np.floor(at).astype(np.int64)
    return below, np.minimum(below + 1, size - 1), at - below


def _kurtosis(x: Array) -> npt.NDArray[np.float64]:
    """m4 / m2**2 of rows of sorted finite values; NaN where all are equal."""
    size = x.shape[1]
    with np.errstate(all="ignore"):
        d = x.astype(np.float64)
        d /= np.maximum(np.abs(d[:, 0]), np.abs(d[:, -1]))[:, None]
        d -= (d.sum(axis=1) / size)[:, None]
        d *= d
        variance = d.sum(axis=1) / size
        d *= d
        square = variance * variance
        found: npt.NDArray[np.float64] = d.sum(axis=1) / size / square
    found[(x[:, 0] == x[:, -1]) | ~(square > 0)] = np.nan
    return found
