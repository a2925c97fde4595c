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
