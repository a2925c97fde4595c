"""Casts to smaller floats: to the nearest value, ties to even, as torch, NumPy and ml_dtypes do.

They differ beyond the largest value: see `saturated`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from inspectcli.tensors import kernels
from inspectcli.tensors.values import Array

Floats = npt.NDArray[np.float32]

#: Types to which weights are rounded, the narrowest last.
ROUNDED_TO = ("f32", "bf16", "f16", "f8_e4m3", "f8_e5m2", "f8_e4m3fnuz", "f8_e5m2fnuz")
#: Types that are tried if both sides are stored in one wide type: values may have been rounded and widened again.
WIDENED_FROM = ("bf16", "f16", "f8_e4m3", "f8_e5m2")


def cast(values: Array, dtype: str) -> Array:
    """Return the values after a cast to `dtype` and back. Beyond its largest value: infinity, or NaN if it has none."""
    with np.errstate(all="ignore"):
        if dtype == "f32":
            return values.astype(np.float32)
        if dtype == "f16":
            return values.astype(np.float16).astype(np.float32)
        # torch casts float64 to these types by way of float32.
        narrow = values.astype(np.float32, copy=False)
        return _to_bf16(narrow) if dtype == "bf16" else _to_small(narrow, dtype)


def _to_bf16(values: Floats) -> Floats:
    bits = values.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), values, rounded.view(np.float32))


@cache
def _ladder(dtype: str) -> tuple[Floats, Floats]:
    """Return (values of the positive codes, midpoints between them); the last is what follows the largest value."""
    table = kernels.code_table(dtype)[:128].astype(np.float32)
    finite = table[np.isfinite(table)]
    beyond = 2 * finite[-1] - finite[-2]
    after = table[finite.size] if finite.size < 128 else np.float32(np.nan)
    middles = (finite + np.append(finite[1:], beyond)) / 2
    return np.append(finite, after), middles


def _to_small(values: Floats, dtype: str) -> Floats:
    rungs, middles = _ladder(dtype)
    size = np.abs(values)
    code = np.searchsorted(middles, size, side="left")
    tie = (code < middles.size) & (size == middles[np.minimum(code, middles.size - 1)])
    code = np.where(tie, code + (code & 1), code)
    return np.where(np.isnan(values), values, np.copysign(rungs[code], values))


def saturated(values: Array, dtype: str) -> Array:
    """Return a cast that gives the largest value where `cast` gives NaN or infinity, as many trainers cast to e4m3."""
    rungs, _ = _ladder(dtype)
    top = rungs[-2]
    return cast(np.clip(values, -top, top), dtype)


#: Type -> (bits of the significand, with the implicit one; exponent of the distance between subnormal values).
_GRIDS = {
    "bf16": (8, -133),
    "f16": (11, -24),
    "f8_e4m3": (4, -9),
    "f8_e5m2": (3, -16),
    "f8_e4m3fnuz": (4, -10),
    "f8_e5m2fnuz": (3, -17),
}


def have_one_origin(a: Array, b: Array, dtype_a: str, dtype_b: str) -> bool:
    """Return whether some value rounds to `a` in one type and to `b` in the other, at every place.

    The values that round to x are those within half a step of x: the two ranges must touch.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    odd = ~(np.isfinite(x) & np.isfinite(y))
    if odd.any():
        if not _same(x[odd], y[odd]):
            return False
        x, y = x[~odd], y[~odd]
    return bool(np.all(np.abs(x - y) <= (_step(x, dtype_a) + _step(y, dtype_b)) / 2))


def _step(values: Array, dtype: str) -> npt.NDArray[np.float64]:
    """Return the distance to the next value of the type."""
    bits, least = _GRIDS[dtype]
    _, exponent = np.frexp(values)
    step: npt.NDArray[np.float64] = np.ldexp(1.0, np.maximum(exponent - bits, least))
    return step


def can_have_one_origin(dtype_a: str, dtype_b: str) -> bool:
    """Return whether both are types to which one model may have been rounded, each for itself."""
    return dtype_a != dtype_b and dtype_a in _GRIDS and dtype_b in _GRIDS


#: Last bits of a float that are 0 if it was widened: from f32, and from f16 or less.
_TAILS: dict[int, np.unsignedinteger] = {8: np.uint64((1 << 29) - 1), 4: np.uint32((1 << 13) - 1)}


def is_short(values: Array) -> bool:
    """Return whether these values may have been rounded to a narrower type; fast if they were not."""
    tail = _TAILS.get(values.dtype.itemsize) if values.dtype.kind == "f" else None
    if tail is None:
        return True
    finite = values[np.isfinite(values)]
    return not (finite.view(tail.dtype) & tail).any()


def is_cast(values: Array, other: Array, dtype: str) -> bool:
    """Return whether `other` is exactly a cast of `values`, in one of the ways in which libraries cast."""
    if _same(cast(values, dtype), other):
        return True
    if dtype == "f16" and values.dtype == np.float64:  # torch casts by way of float32, NumPy does not
        return _same(cast(values.astype(np.float32), dtype), other)
    return dtype.startswith("f8") and _same(saturated(values, dtype), other)


def _same(x: Array, y: Array) -> bool:
    return bool(np.all((x == y) | (np.isnan(x) & np.isnan(y))))
