"""The one table of element types: name, width, family, and how NumPy sees the raw bytes.

Names are those of safetensors in lower case (`f32`, `bf16`, `f8_e4m3`); types that only torch has keep the name that
torch gives them (`qint8`, `quint4x2`), or are named alike (`c32`). NumPy is not imported here: a listing needs no
arithmetic.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class NumberClass(Enum):
    """What arithmetic an element type asks for."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    COMPLEX = "complex"
    QUANTIZED = "quantized"  # torch's affine types: value = scale * (q - zero_point)
    OPAQUE = "opaque"  # bits without an agreed meaning: listed, never averaged


class DType(NamedTuple):
    """One element type.

    `bits` is the stored width of one element as the writing library counts elements. `numpy` is the dtype
    string of a little-endian view that holds the raw bits: for types NumPy lacks, an unsigned integer.
    `per_element` is the number of values packed in one element (torch's float4_e2m1fn_x2 packs two).
    """

    name: str
    bits: int
    family: NumberClass
    numpy: str
    per_element: int = 1

    @property
    def itemsize(self) -> int:
        """Bytes of one element, rounded up; exact for everything but the 4- and 6-bit types."""
        return (self.bits + 7) // 8

    def nbytes(self, numel: int) -> int:
        """Bytes that `numel` elements take, packed."""
        return (numel * self.bits + 7) // 8


_F, _I, _B, _C, _Q, _O = (
    NumberClass.FLOAT,
    NumberClass.INT,
    NumberClass.BOOL,
    NumberClass.COMPLEX,
    NumberClass.QUANTIZED,
    NumberClass.OPAQUE,
)

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("f64", 64, _F, "<f8"),
        DType("f32", 32, _F, "<f4"),
        DType("f16", 16, _F, "<f2"),
        DType("bf16", 16, _F, "<u2"),
        DType("f8_e4m3", 8, _F, "u1"),
        DType("f8_e5m2", 8, _F, "u1"),
        DType("f8_e4m3fnuz", 8, _F, "u1"),
        DType("f8_e5m2fnuz", 8, _F, "u1"),
        DType("f8_e8m0", 8, _F, "u1"),
        DType("f6_e2m3", 6, _F, "u1"),
        DType("f6_e3m2", 6, _F, "u1"),
        DType("f4", 4, _F, "u1"),
        DType("f4_x2", 8, _F, "u1", per_element=2),
        DType("i64", 64, _I, "<i8"),
        DType("i32", 32, _I, "<i4"),
        DType("i16", 16, _I, "<i2"),
        DType("i8", 8, _I, "i1"),
        DType("u64", 64, _I, "<u8"),
        DType("u32", 32, _I, "<u4"),
        DType("u16", 16, _I, "<u2"),
        DType("u8", 8, _I, "u1"),
        DType("bool", 8, _B, "u1"),
        DType("c128", 128, _C, "<f8"),
        DType("c64", 64, _C, "<f4"),
        DType("c32", 32, _C, "<f2"),
        DType("qint8", 8, _Q, "i1"),
        DType("quint8", 8, _Q, "u1"),
        DType("qint32", 32, _Q, "<i4"),
        DType("quint4x2", 4, _Q, "u1"),
        DType("quint2x4", 2, _Q, "u1"),
        DType("bits8", 8, _O, "u1"),
        DType("bits16", 16, _O, "<u2"),
        DType("bits1x8", 8, _O, "u1"),
        DType("bits2x4", 8, _O, "u1"),
        DType("bits4x2", 8, _O, "u1"),
    )
}
