"""The arithmetic under Stats: NumKong where it is faster, NumPy as the reference and the fall-back.

Both backends add up and widen one-dimensional arrays; the counts and bounds below are NumPy's in either case.
NumKong 7.8 accumulates float32 in float64 (relative error of a sum of squares below 1e-13 for 2^18 values), but
16-bit floats in float32: they are widened first, which costs it nothing at memory speed.
"""

from __future__ import annotations

import math
import threading
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]
Wide = npt.NDArray[np.float32]


class Backend(Protocol):
    """Sums of a non-empty, contiguous, native-endian array of finite or non-finite numbers, and wider floats."""

    name: str

    def moments(self, x: Array) -> tuple[float, float]:
        """(sum, sum of squares), accumulated in float64; non-finite if any element is."""
        ...

    def widen_f16(self, x: Array, out: Wide | None = None) -> Wide:
        """The same numbers as float32; in `out`, an array of that size, if it is given."""
        ...

    def widen_bf16(self, x: Array, out: Wide | None = None) -> Wide: ...


class NumPyBackend:
    name = "numpy"

    def moments(self, x: Array) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            return float(wide.sum()), float(np.dot(wide, wide))

    def widen_f16(self, x: Array, out: Wide | None = None) -> Wide:
        out = np.empty(x.size, np.float32) if out is None else out
        np.copyto(out, x)
        return out

    def widen_bf16(self, x: Array, out: Wide | None = None) -> Wide:
        out = np.empty(x.size, np.float32) if out is None else out
        bits = out.view(np.uint32)
        np.copyto(bits, x)
        np.left_shift(bits, 16, out=bits)
        return out


class NumKongBackend(NumPyBackend):
    """Inherits what NumPy does as well."""

    name = "numkong"
    #: Types for which NumKong's sums are exact or accumulated in float64. Squares of int16 wrap (7.8.6), and sums of
    #: wider integers would.
    _SUMS = frozenset("f8 f4 i1 u1 u2".split())

    def __init__(self, module: Any) -> None:
        self._nk = module

    def moments(self, x: Array) -> tuple[float, float]:
        if x.dtype.str[1:] not in self._SUMS or not x.flags.aligned:
            return super().moments(x)
        total, squares = self._nk.moments(x)
        return float(total), float(squares)

    def widen_f16(self, x: Array, out: Wide | None = None) -> Wide:
        return self._widen(x, "float16", out)

    def widen_bf16(self, x: Array, out: Wide | None = None) -> Wide:
        return self._widen(x, "bfloat16", out)

    def _widen(self, x: Array, name: str, out: Wide | None) -> Wide:
        out = np.empty(x.size, np.float32) if out is None else out
        # A pointer, since NumPy knows no bfloat16; `owner` keeps the buffer alive.
        self._nk.astype(self._nk.from_pointer(x.ctypes.data, (x.size,), name, owner=x), "float32", out=out)
        return out


@lru_cache(maxsize=1)
def backend() -> Backend:
    """NumKong if it can be imported, else NumPy."""
    try:
        import numkong
    except ImportError:
        return NumPyBackend()
    return NumKongBackend(numkong)


# -- small float types: a table of all their values ---------------------------------------------------------


def _small_float(bits: int, exponent: int, mantissa: int, bias: int, nan: str) -> npt.NDArray[np.float64]:
    """Every value of a sign-exponent-mantissa type, by code.

    `nan`: `ieee` (top exponent is inf/NaN), `fn` (all ones is NaN, no inf), `fnuz` (negative zero is the NaN),
    `none`.
    """
    codes = np.arange(1 << bits)
    sign = np.where(codes >> (bits - 1), -1.0, 1.0)
    e = (codes >> mantissa) & ((1 << exponent) - 1)
    m = codes & ((1 << mantissa) - 1)
    fraction = m / (1 << mantissa)
    value = sign * np.where(e == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, e - bias))
    if nan == "ieee":
        top = e == (1 << exponent) - 1
        value = np.where(top, np.where(m == 0, sign * np.inf, np.nan), value)
    elif nan == "fn":
        value = np.where((codes & ((1 << (bits - 1)) - 1)) == (1 << (bits - 1)) - 1, np.nan, value)
    elif nan == "fnuz":
        value = np.where(codes == 1 << (bits - 1), np.nan, value)
    return value


@cache
def code_table(name: str) -> npt.NDArray[np.float64]:
    """Value of each code of an 8-, 6- or 4-bit float type.

    OCP Microscaling v1.0 (e4m3, e5m2, e8m0, e2m3, e3m2, e2m1); the fnuz types as in torch 2.13.
    """
    if name == "f8_e8m0":
        table = np.ldexp(1.0, np.arange(256) - 127)
        table[255] = np.nan
        return table
    shape = {
        "f8_e4m3": (8, 4, 3, 7, "fn"),
        "f8_e5m2": (8, 5, 2, 15, "ieee"),
        "f8_e4m3fnuz": (8, 4, 3, 8, "fnuz"),
        "f8_e5m2fnuz": (8, 5, 2, 16, "fnuz"),
        "f6_e2m3": (6, 2, 3, 1, "none"),
        "f6_e3m2": (6, 3, 2, 3, "none"),
        "f4": (4, 2, 1, 1, "none"),
        "f4_x2": (4, 2, 1, 1, "none"),
    }[name]
    return _small_float(*shape)


def unpack_codes(raw: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """One code a byte, from packed bytes, lowest bits first."""
    if bits == 8:
        return raw
    if bits == 4:
        return np.stack((raw & 15, raw >> 4), axis=1).ravel()
    spread = np.unpackbits(raw, bitorder="little")
    whole = spread[: spread.size // bits * bits].reshape(-1, bits)
    return np.packbits(whole, axis=1, bitorder="little").ravel()


def count_codes(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How often each of 256 codes occurs: two at a time, as one table of 65,536 is filled twice as fast."""
    even = codes[: codes.size & ~1]
    pairs = np.bincount(np.ascontiguousarray(even).view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts: npt.NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    if codes.size & 1:
        counts[codes[-1]] += 1
    return counts


# -- bit patterns of floats ---------------------------------------------------------------------------------

#: The smallest normal value: below it lie zero and the subnormals.
_NORMAL = {"f8": 1 << 52, "f4": 1 << 23, "f2": 1 << 10, "bf16": 1 << 7}
_UNSIGNED = {8: np.uint64, 4: np.uint32, 2: np.uint16}
_SIGNED = {8: np.int64, 4: np.int32, 2: np.int16}


_scratch = threading.local()


def room(n: int) -> Wide:
    """Room for n float32 numbers, the thread's own until its next call: memory that is new each time costs more."""
    if getattr(_scratch, "room", np.empty(0, np.float32)).size < n:
        _scratch.room = np.empty(n, np.float32)
    held: Wide = _scratch.room[:n]
    return held


class Patterns(NamedTuple):
    """What the bit patterns of floats say of their values.

    Attributes:
        low, high: patterns of the smallest and of the largest value, if none is NaN.
        least: pattern of the smallest magnitude.
    """

    low: int
    high: int
    least: int


def magnitudes(x: Array, kind: str) -> tuple[Array, int]:
    """Patterns without the sign of an array of f8, f4, f2, or (as u2) bf16; and that of the smallest normal value."""
    bits = x.view(_UNSIGNED[x.dtype.itemsize])
    return bits & bits.dtype.type((1 << (8 * bits.itemsize - 1)) - 1), _NORMAL[kind]


def patterns(x: Array) -> Patterns:
    """Bounds of a non-empty array of f8, f4, f2, or (as u2) bf16, from its patterns: no copy, four quick passes.

    Patterns of values above zero grow with the value, as numbers with and without a sign. Those below zero have the
    highest bit: without a sign they lie above all others and grow with the magnitude, with a sign below all others.
    """
    unsigned, signed = x.view(_UNSIGNED[x.dtype.itemsize]), x.view(_SIGNED[x.dtype.itemsize])
    top = 1 << (8 * x.dtype.itemsize - 1)
    highest, largest = int(signed.max()), int(unsigned.max())
    if highest < 0:  # all are below zero, or -0
        nearest = int(unsigned.min())
        return Patterns(largest, nearest, nearest - top)
    smallest = int(unsigned.min())
    if largest < top:  # none is
        return Patterns(smallest, highest, smallest)
    return Patterns(largest, highest, min(smallest, int(signed.min()) + top))


def zeros_and_subnormals(x: Array, kind: str, least: int) -> tuple[int, int]:
    """Counts of +-0 and of subnormal values in an array of f8, f4, f2, or (as u2) bf16.

    Args:
        x: the values.
        kind: a key of the table above.
        least: pattern of their smallest magnitude: most arrays have neither.
    """
    if least >= _NORMAL[kind]:
        return 0, 0
    bits = x.view(_UNSIGNED[x.dtype.itemsize])
    doubled = np.add(bits, bits, out=room((bits.nbytes + 3) // 4).view(bits.dtype)[: bits.size])  # without the sign
    small = int(np.count_nonzero(doubled < 2 * _NORMAL[kind]))
    zeros = doubled.size - int(np.count_nonzero(doubled)) if least == 0 else 0
    return zeros, small - zeros


def least_magnitudes(x: Array, name: str, has_zeros: bool, suspect: float) -> tuple[float, float]:
    """The smallest magnitude that is not 0 of finite f64, f32 or (as u2) bf16 values, not all 0; and the next one.

    The next one is infinite if the first is not below `suspect`, or is alone.
    """
    bits = x.view(_UNSIGNED[x.dtype.itemsize])
    magnitudes = bits & bits.dtype.type((1 << (8 * bits.itemsize - 1)) - 1)
    if has_zeros:
        magnitudes -= 1  # 0 becomes the largest of all
    add = bits.dtype.type(has_zeros)
    first = _of_bits(magnitudes.min() + add, name)
    if first >= suspect or magnitudes.size < 2:
        return first, math.inf
    second = np.partition(magnitudes, 1)[1]
    is_zero = has_zeros and second == np.iinfo(bits.dtype).max
    return first, math.inf if is_zero else _of_bits(second + add, name)


def _of_bits(bits: np.unsignedinteger[Any], name: str) -> float:
    """The value of a bit pattern."""
    if name == "bf16":
        return float(np.uint32(int(bits) << 16).view(np.float32))
    return float(bits.view({"f64": np.float64, "f32": np.float32}[name]))
