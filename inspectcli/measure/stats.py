"""Stats: what is known of a tensor's values after reading them once. A monoid: parts merge into the whole.

    Stats.empty().merge(s) == s        a.merge(b).merge(c) ~ a.merge(b.merge(c))        (up to rounding, 1e-9)

Mean and sum of squared deviations are those of `moments`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.measure.moments import Moments, moments_from, moments_of, scale_of
from inspectcli.tensors import kernels
from inspectcli.tensors.dtypes import DType, NumberClass

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts and moments of a run of values. Only finite values enter mean, m2, low and high.

    Attributes:
        count: values, all of them.
        nan, posinf, neginf: the non-finite ones.
        zeros: +0 and -0.
        subnormals: non-zero values below the type's smallest normal one.
        mean: of the finite values; 0 if there are none.
        m2: sum of squared deviations from the mean, in units of scale**2.
        scale: a power of two that keeps m2 of huge and of tiny float64 values in range.
        low, high: smallest and largest finite value; None if there are none.
        first_nonfinite: index of the first NaN or infinity in this run; None if all are finite.
    """

    count: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zeros: int = 0
    subnormals: int = 0
    mean: float = 0.0
    m2: float = 0.0
    scale: float = 1.0
    low: float | int | None = None
    high: float | int | None = None
    first_nonfinite: int | None = None

    @staticmethod
    def empty() -> Stats:
        return Stats()

    @staticmethod
    def of(values: Array, dtype: DType, count: int | None = None) -> Stats:
        """Stats of a one-dimensional native-endian array that holds elements of `dtype` as stored.

        Args:
            values: `dtype.numpy` elements (pairs for complex types, packed bytes for the 4- and 6-bit ones).
            dtype: how to understand them.
            count: how many values they are, where the last byte of packed ones holds more.
        """
        return _of(values, dtype, count)

    @property
    def finite(self) -> int:
        return self.count - self.nan - self.posinf - self.neginf

    @property
    def nonfinite(self) -> int:
        return self.nan + self.posinf + self.neginf

    @property
    def moments(self) -> Moments:
        """Of the finite values."""
        return Moments(self.finite, self.mean, self.m2, self.scale)

    @property
    def std(self) -> float:
        """Population standard deviation of the finite values; NaN if there are none."""
        finite = self.finite
        return self.scale * math.sqrt(self.m2 / finite) if finite else math.nan

    @property
    def l2(self) -> float:
        """Euclidean norm of the finite values."""
        center = self.mean / self.scale  # as `Moments.norm`, which rules would build by the million
        return self.scale * math.sqrt(self.m2 + self.finite * center * center)

    @property
    def rms(self) -> float:
        """Root mean square of the finite values; NaN if there are none."""
        return self.moments.rms

    @property
    def abs_max(self) -> float | int | None:
        if self.low is None or self.high is None:
            return None
        return max(abs(self.low), abs(self.high))

    def merge(self, other: Stats) -> Stats:
        """Stats of this run followed by the other."""
        if not self.count:
            return other
        if not other.count:
            return self
        _, mean, m2, scale = self.moments.merge(other.moments)
        first = self.first_nonfinite
        if first is None and other.first_nonfinite is not None:
            first = self.count + other.first_nonfinite
        return Stats(
            count=self.count + other.count,
            nan=self.nan + other.nan,
            posinf=self.posinf + other.posinf,
            neginf=self.neginf + other.neginf,
            zeros=self.zeros + other.zeros,
            subnormals=self.subnormals + other.subnormals,
            mean=mean,
            m2=m2,
            scale=scale,
            low=_pick(min, self.low, other.low),
            high=_pick(max, self.high, other.high),
            first_nonfinite=first,
        )

    def repeat(self, times: int) -> Stats:
        """Stats of the same values, `times` over: an expanded tensor. Indices are those of the first copy."""
        if times == 1 or not self.count:
            return self
        return replace(
            self,
            count=self.count * times,
            nan=self.nan * times,
            posinf=self.posinf * times,
            neginf=self.neginf * times,
            zeros=self.zeros * times,
            subnormals=self.subnormals * times,
            m2=self.m2 * times,
        )

    def with_zeros(self, zeros: int) -> Stats:
        """The same with `zeros` more values that are 0 and stored nowhere: a sparse tensor."""
        if not zeros:
            return self
        return self.merge(Stats(count=zeros, zeros=zeros, low=0.0, high=0.0, scale=scale_of(0.0)))


def _pick(choose: Any, a: float | int | None, b: float | int | None) -> float | int | None:
    if a is None or b is None:
        return b if a is None else a
    return choose(a, b)  # type: ignore[no-any-return]


# -- one chunk ------------------------------------------------------------------------------------------


def _of(values: Array, dtype: DType, count: int | None) -> Stats:
    if is_coded(dtype):
        return _of_codes(values, dtype, count)
    if not values.size:
        return Stats()
    if dtype.family is NumberClass.COMPLEX:
        return _of_complex(values)
    if dtype.family is NumberClass.BOOL:
        return _of_bool(values)
    if dtype.family is NumberClass.FLOAT:
        return _of_floats(values, dtype)
    return _of_integers(values)


def _of_floats(values: Array, dtype: DType) -> Stats:
    found = kernels.patterns(values)
    kind = "bf16" if dtype.name == "bf16" else values.dtype.str[1:]
    zeros, subnormals = kernels.zeros_and_subnormals(values, kind, found.least)
    made = _of_halves(values, kind, found) if values.dtype.itemsize == 2 else _of_wide(values, found)
    return replace(made, zeros=zeros, subnormals=subnormals)


def _of_wide(x: Array, found: kernels.Patterns) -> Stats:
    ends = np.array(found[:2], x.dtype.str.replace("f", "u")).view(x.dtype)
    return _moments(x, kernels.backend(), _no_sign_on_zero(ends))


def _of_halves(values: Array, kind: str, found: kernels.Patterns) -> Stats:
    """Of 16-bit floats: widened a piece at a time, so that what is widened stays in the cache."""
    engine = kernels.backend()
    widen = engine.widen_bf16 if kind == "bf16" else engine.widen_f16
    room = kernels.room(min(values.size, _PIECE))
    total = squares = 0.0
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE]
        of_piece = engine.moments(widen(piece, room[: piece.size]))
        total, squares = total + of_piece[0], squares + of_piece[1]
    low, high = _no_sign_on_zero(widen(np.array(found[:2], np.uint16).view(values.dtype)))
    if math.isfinite(total) and math.isfinite(squares):
        made = moments_from(values.size, low, high, (total, squares))
        if made is not None:
            return _bounded(made, low, high)
    return _moments(widen(values), engine, (low, high))


#: 16-bit values that are widened at a time: 512 KiB then.
_PIECE = 1 << 17


def _no_sign_on_zero(ends: Array) -> tuple[float, float]:
    low, high = ends.tolist()
    return low + 0, high + 0


def _bounds(x: Array) -> tuple[float | int, float | int]:
    """(smallest, largest), with no sign on a zero."""
    return x.min().item() + 0, x.max().item() + 0


def _moments(x: Array, engine: kernels.Backend, bounds: tuple[float, float] | None = None) -> Stats:
    """count, mean, m2, scale, bounds and non-finite counts of a float array; `bounds` if they are known."""
    total, squares = engine.moments(x)
    if not math.isfinite(squares) or not math.isfinite(total):
        return _with_nonfinite(x, engine)
    low, high = bounds or _bounds(x)
    return _bounded(moments_of(x, low, high, (total, squares)), low, high)


def _bounded(made: Moments, low: float | int, high: float | int) -> Stats:
    return Stats(count=made.n, mean=made.mean, m2=made.m2, scale=made.scale, low=low, high=high)


def _with_nonfinite(x: Array, engine: kernels.Backend) -> Stats:
    ok = np.isfinite(x)
    bad = np.flatnonzero(~ok)
    if not bad.size:  # only the squares overflowed
        low, high = _bounds(x)
        return _bounded(moments_of(x, low, high), low, high)
    rest = np.ascontiguousarray(x[ok])
    made = _moments(rest, engine) if rest.size else Stats()
    wrong = x[bad]
    return replace(
        made,
        count=x.size,
        nan=int(np.isnan(wrong).sum()),
        posinf=int((wrong == np.inf).sum()),
        neginf=int((wrong == -np.inf).sum()),
        first_nonfinite=int(bad[0]),
    )


def _of_integers(values: Array) -> Stats:
    engine = kernels.backend()
    low, high = _bounds(values)
    zeros = values.size - int(np.count_nonzero(values))
    if low == high:
        made = Stats(count=values.size, mean=float(low), scale=scale_of(abs(float(low))))
    else:
        made = _moments(values, engine) if values.dtype.itemsize <= 2 else _moments(values.astype(np.float64), engine)
    return replace(made, zeros=zeros, low=low, high=high)


def _of_bool(values: Array) -> Stats:
    ones = int(np.count_nonzero(values))
    n = values.size
    mean = ones / n
    return Stats(
        count=n,
        zeros=n - ones,
        mean=mean,
        m2=ones * (1 - mean) ** 2 + (n - ones) * mean**2,
        low=int(ones == n),
        high=int(ones > 0),
    )


def _of_complex(values: Array) -> Stats:
    """Of the magnitudes |z|, the one reading in which a complex tensor has a smallest and a largest value."""
    magnitude = magnitudes(values.reshape(-1, 2))
    made = _moments(magnitude, kernels.backend())
    return replace(made, zeros=int((magnitude == 0).sum()))


def magnitudes(parts: Array) -> npt.NDArray[np.float64]:
    """Of an array of (real part, imaginary part)."""
    wide = parts.astype(np.float64)
    broken = np.isnan(wide).any(axis=1)
    with np.errstate(all="ignore"):
        magnitude: npt.NDArray[np.float64] = np.hypot(wide[:, 0], wide[:, 1])
    magnitude[broken] = np.nan  # hypot(inf, nan) is inf; torch and NumPy call such a number NaN
    return magnitude


def is_coded(dtype: DType) -> bool:
    """Whether NumPy has no such numbers: 8-, 6- and 4-bit floats, whose values are looked up."""
    return dtype.bits < 8 or dtype.per_element > 1 or (dtype.family is NumberClass.FLOAT and dtype.bits == 8)


def _of_codes(values: Array, dtype: DType, count: int | None) -> Stats:
    """8-, 6- and 4-bit floats have at most 256 values: count each, and every figure is exact."""
    bits = dtype.bits // dtype.per_element
    codes = kernels.unpack_codes(values.view(np.uint8), bits)[:count]
    if not codes.size:
        return Stats()
    table = kernels.code_table(dtype.name)
    counts = kernels.count_codes(codes)[: table.size]
    used = counts > 0
    ok = np.isfinite(table) & used
    n, x = counts[ok].astype(np.float64), table[ok]
    made = Stats(count=codes.size)
    if ok.any():
        finite = float(n.sum())
        mean = math.fsum(n * x) / finite
        m2 = math.fsum(n * (x - mean) ** 2)
        made = replace(made, mean=mean, m2=m2, low=float(x.min()), high=float(x.max()))
    first = None
    if (~np.isfinite(table) & used).any():
        first = int(np.argmax(~np.isfinite(table)[codes]))
    # The smallest normal value has exponent field 1; all that is smaller, but not 0, is subnormal.
    small = np.abs(table) < _smallest_normal(dtype.name)
    return replace(
        made,
        nan=int(counts[np.isnan(table)].sum()),
        posinf=int(counts[table == np.inf].sum()),
        neginf=int(counts[table == -np.inf].sum()),
        zeros=int(counts[table == 0].sum()),
        subnormals=int(counts[small & (table != 0)].sum()),
        first_nonfinite=first,
    )


_MANTISSA_OF = {
    "f8_e4m3": 3,
    "f8_e5m2": 2,
    "f8_e4m3fnuz": 3,
    "f8_e5m2fnuz": 2,
    "f6_e2m3": 3,
    "f6_e3m2": 2,
    "f4": 1,
    "f4_x2": 1,
}


def _smallest_normal(name: str) -> float:
    # e8m0 has neither zero nor mantissa: all its values are normal.
    return float(kernels.code_table(name)[1 << _MANTISSA_OF[name]]) if name in _MANTISSA_OF else 0.0
