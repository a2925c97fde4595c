"""Numbers in every element type, encoded by ml_dtypes and NumPy: what figures are compared with."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from inspectcli.tensors.dtypes import DTYPES

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]

FLOATS: dict[str, Any] = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
    "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "f8_e8m0": ml_dtypes.float8_e8m0fnu,
}
PACKED: dict[str, Any] = {
    "f6_e2m3": ml_dtypes.float6_e2m3fn,
    "f6_e3m2": ml_dtypes.float6_e3m2fn,
    "f4": ml_dtypes.float4_e2m1fn,
    "f4_x2": ml_dtypes.float4_e2m1fn,
}
INTEGERS = {name: np.dtype(DTYPES[name].numpy) for name in "i8 i16 i32 i64 u8 u16 u32 u64".split()}


def encode(values: Wide, name: str) -> tuple[Array, Wide]:
    """The values rounded to a float type: as `Stats.of` gets them, and as float64."""
    with np.errstate(all="ignore"):
        rounded = values.astype(FLOATS[name])
        return rounded.view(DTYPES[name].numpy), rounded.astype(np.float64)


def pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    spread = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits]
    return np.packbits(spread.ravel(), bitorder="little")


def unit_of(finite: Wide) -> float:
    """A power of two near the largest value: in its units no square overflows or vanishes."""
    exponent = math.frexp(float(np.abs(finite).max()))[1] if finite.any() else 0
    return 2.0 ** min(max(exponent, -1021), 1023)


def normal(n: int = 5000) -> Wide:
    return np.random.default_rng(7).standard_normal(n)


def with_nonfinite() -> Wide:
    x = normal(1000)
    x[[17, 400]] = np.nan
    x[[30, 31, 999]] = np.inf
    x[[25]] = -np.inf
    return x
