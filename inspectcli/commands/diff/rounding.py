"""What a cast to a smaller float gives: round to nearest, ties to even, as torch, NumPy and ml_dtypes do it.

They do not agree beyond the largest value: see `saturated`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from inspectcli.tensors import kernels
from inspectcli.tensors.values import Array

Floats = npt.NDArray[np.float32]

#: Types that weights are rounded to, the narrowest last.
ROUNDED_TO = ("f32", "bf16", "f16", "f8_e4m3", "f8_e5m2", "f8_e4m3fnuz", "f8_e5m2fnuz")
#: Looked for where both sides are stored in one wide type: rounded once, and widened again.
WIDENED_FROM = ("bf16", "f16", "f8_e4m3", "f8_e5m2")


def cast(values: Array, dtype: str) -> Array:
    """The values after a cast to `dtype` and back. Beyond the largest value: NaN, or infinity where there is one."""
    with np.errstate(all="ignore"):
        if dtype == "f32":
            return values.astype(np.float32)
        if dtype == "f16":
            return values.astype(np.float16).astype(np.float32)
        # torch casts a double to these types through a float.
        narrow = values.astype(np.float32, copy=False)
        return _to_bf16(narrow) if dtype == "bf16" else _to_small(narrow, dtype)


def _to_bf16(values: Floats) -> Floats:
    bits = values.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), values, rounded.view(np.float32))


@cache
def _ladder(dtype: str) -> tuple[Floats, Floats]:
    """(values of the codes of positive numbers, midpoints between them); what follows the largest comes last."""
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
    """A cast that gives the largest value where `cast` gives NaN or infinity: torch's of e4m3, and of many trainers."""
    rungs, _ = _ladder(dtype)
    top = rungs[-2]
    return cast(np.clip(values, -top, top), dtype)


#: Bits at the end of a float that are zero in one that was widened: from f32, and from f16 or less.
_TAILS: dict[int, np.unsignedinteger] = {8: np.uint64((1 << 29) - 1), 4: np.uint32((1 << 13) - 1)}


def is_short(values: Array) -> bool:
    """Whether these could have been rounded to a narrower type; quick to say no."""
    tail = _TAILS.get(values.dtype.itemsize) if values.dtype.kind == "f" else None
    if tail is None:
        return True
    finite = values[np.isfinite(values)]
    return not (finite.view(tail.dtype) & tail).any()


def is_cast(values: Array, other: Array, dtype: str) -> bool:
    """Whether `other` is exactly what a cast of `values` gives, in one of the ways in which libraries cast."""
    if _same(cast(values, dtype), other):
        return True
    if dtype == "f16" and values.dtype == np.float64:  # torch goes through a float, NumPy does not
        return _same(cast(values.astype(np.float32), dtype), other)
    return dtype.startswith("f8") and _same(saturated(values, dtype), other)


def _same(x: Array, y: Array) -> bool:
    return bool(np.all((x == y) | (np.isnan(x) & np.isnan(y))))
