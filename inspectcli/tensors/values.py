"""The values of a tensor: from segments to arrays, a block at a time. Memory is that of one block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.tensors import kernels
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES, DType, NumberClass
from inspectcli.tensors.stored import (
    Stored,
    codec_of,
    decoded_dtype,
    is_dense,
    reading_order,
    shape_as_stored,
    shape_once,
)

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

#: Bytes read at a time: Python's part is nothing, and the intermediates stay in the shared cache.
BLOCK = 1 << 21
#: A strided view is read in stretches of this many bytes.
SPAN_BLOCK = 8 << 20
#: Overlapping views can have more elements than any storage: beyond this they are not read.
MAX_OVERLAP = 1 << 28

_F64 = DTYPES["f64"]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive elements as stored: a one-dimensional native-endian array of `dtype.numpy` elements.

    `stored` is the bytes they take in the file. Valid until the next block is asked for.
    """

    values: Array
    dtype: DType
    stored: int = 0

    @property
    def count(self) -> int:
        """Number of values; the last byte of an odd number of 4-bit values holds one more than the tensor."""
        return self.values.nbytes * 8 // self.dtype.bits * self.dtype.per_element


def _read_segment(segment: Segment, block: int, buffer: Bytes) -> Iterator[Bytes]:
    """Decoded bytes of a segment, in pieces of `block` bytes and a last, smaller one."""
    yield from _regroup(segment.codec.decode(segment, buffer.data[:block]), block, segment.nbytes)


def _regroup(pieces: Iterator[bytes | memoryview], block: int, total: int) -> Iterator[Bytes]:
    """The same bytes in pieces of `block`, exactly `total` of them; those that are as they should be are not copied."""
    held = bytearray()
    left = total
    for piece in pieces:
        size = len(piece)
        if not held and 0 < size <= left and size in (block, left) and size <= block:
            yield np.frombuffer(piece, np.uint8)
            left -= size
            continue
        held += piece[: left - len(held)] if len(held) + size > left else piece
        while len(held) >= block:
            yield np.frombuffer(bytes(held[:block]), np.uint8)
            del held[:block]
            left -= block
    if held:
        yield np.frombuffer(bytes(held), np.uint8)


def new_buffer() -> Bytes:
    """A buffer for `blocks`, to be used again for the next tensor."""
    return np.empty(BLOCK, np.uint8)


def blocks(ref: Stored, buffer: Bytes | None = None) -> Iterator[Block]:
    """All held elements, in the order in which they are stored if that is quicker; each once.

    Expanded dimensions are left out (`expansion` says how often all repeats); for order see `in_order`.
    """
    buffer = new_buffer() if buffer is None else buffer
    if ref.affine is not None:
        yield from _dequantized(ref)
    elif ref.strides is None or is_dense(ref):
        # Four 6-bit values take three bytes: a block must not end inside of them.
        whole = lcm(decoded_dtype(ref).bits, 8) // 8
        for segment in ref.segments:
            for raw in _read_segment(segment, BLOCK // whole * whole, buffer):
                yield _finish(_typed(raw, ref), ref)
    else:
        for part in _strided(ref, sort=True):
            yield _finish(part, ref)


def in_order(ref: Stored) -> Iterator[Block]:
    """All held elements in C order of the shape, expanded dimensions taken once."""
    if ref.affine is not None or ref.strides is None:
        yield from blocks(ref)
    else:
        for part in _strided(ref, sort=False):
            yield _finish(part, ref)


def _typed(raw: Bytes, ref: Stored) -> Array:
    dtype = decoded_dtype(ref)
    if dtype.bits < 8:
        return raw
    if ref.big_endian and dtype.itemsize > 1:
        return raw.view(">" + dtype.numpy[1:]).astype(dtype.numpy)
    return raw.view(dtype.numpy)


def _finish(values: Array, ref: Stored) -> Block:
    """torch's lazy negation; conjugation changes no figure of a magnitude."""
    dtype = decoded_dtype(ref)
    if ref.negated:
        values = _negative(values, dtype)
    codec = codec_of(ref)
    return Block(values, dtype, codec.size(dtype, values.nbytes * 8 // dtype.bits) if codec.nbytes else values.nbytes)


def _negative(values: Array, dtype: DType) -> Array:
    """Return -x. For bf16 and fp8, which NumPy lacks, flip the sign bit; zeros of fp8 stay, as `fnuz` has no -0."""
    if dtype.name == "bf16":
        return values ^ np.uint16(0x8000)
    if dtype.family is NumberClass.FLOAT and dtype.bits == 8:
        return np.where(values & 0x7F, values ^ np.uint8(0x80), values)
    return np.negative(values)


# -- strided views --------------------------------------------------------------------------------------


def _strided(ref: Stored, sort: bool) -> Iterator[Array]:
    """Elements of a view with gaps or overlaps, flat, dimensions of stride 0 taken once."""
    assert ref.strides is not None
    dims = [(d, s) for d, s in zip(shape_as_stored(ref), ref.strides, strict=True) if d != 1 and s != 0]
    if sort:
        dims.sort(key=lambda pair: -pair[1])
    count = prod(d for d, _ in dims)
    if count > MAX_OVERLAP and count > 2 * sum((d - 1) * s for d, s in dims):
        raise LimitError(f"an overlapping view of {count:,} elements: at most {MAX_OVERLAP:,} are read")
    if not count or not ref.segments:
        return
    (segment,) = ref.segments
    width = 2 if ref.dtype.family is NumberClass.COMPLEX else 1  # complex elements arrive as pairs
    if segment.codec.is_plain:
        yield from _windows(ref, segment, 0, [d for d, _ in dims], [s for _, s in dims], width)
    else:
        whole = np.concatenate(list(_read_segment(segment, BLOCK, new_buffer())))
        yield _gather(_typed(whole, ref), [d for d, _ in dims], [s for _, s in dims], width)


def _windows(
    ref: Stored, segment: Segment, start: int, shape: list[int], strides: list[int], width: int
) -> Iterator[Array]:
    """Split along the first dimension until the span fits SPAN_BLOCK; read it; pick the elements."""
    itemsize = ref.dtype.itemsize
    span = 1 + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if span * itemsize <= SPAN_BLOCK or not shape:
        raw = np.empty(span * itemsize, np.uint8)
        segment.source.read_into(segment.offset + start * itemsize, raw.data)
        yield _gather(_typed(raw, ref), shape, strides, width)
        return
    row = 1 + sum((d - 1) * s for d, s in zip(shape[1:], strides[1:], strict=True))
    rows = max((SPAN_BLOCK // itemsize - row) // max(strides[0], 1) + 1, 1)
    for first in range(0, shape[0], rows):
        n = min(rows, shape[0] - first)
        at = start + first * strides[0]
        if n == 1:
            yield from _windows(ref, segment, at, shape[1:], strides[1:], width)
        else:
            yield from _windows(ref, segment, at, [n, *shape[1:]], strides, width)


def _gather(values: Array, shape: list[int], strides: list[int], width: int) -> Array:
    step = values.itemsize * width
    tail_shape, tail_strides = ([2], [values.itemsize]) if width == 2 else ([], [])
    picked = np.lib.stride_tricks.as_strided(
        values, [*shape, *tail_shape], [*(s * step for s in strides), *tail_strides], writeable=False
    )
    return np.ascontiguousarray(picked).reshape(-1)


# -- quantized tensors ----------------------------------------------------------------------------------


def _dequantized(ref: Stored) -> Iterator[Block]:
    """scale * (code - zero_point), as float64, in C order."""
    affine = ref.affine
    assert affine is not None
    codes = _integer_codes(ref)
    if affine.axis is None or affine.scales is None or affine.zero_points is None:
        for part in codes:
            yield Block((part.astype(np.float64) - affine.zero_point) * affine.scale, _F64, ref.dtype.nbytes(part.size))
        return
    scales, zeros = (
        _per_channel(values, shape_as_stored(ref)[affine.axis]) for values in (affine.scales, affine.zero_points)
    )
    shape = shape_once(ref)
    if shape[affine.axis] != scales.size:
        raise LimitError("a quantized tensor that is expanded along its channels")
    inner, channels = prod(shape[affine.axis + 1 :]), shape[affine.axis]
    start = 0
    for part in codes:
        channel = np.arange(start, start + part.size) // inner % channels
        yield Block((part.astype(np.float64) - zeros[channel]) * scales[channel], _F64, ref.dtype.nbytes(part.size))
        start += part.size


def _per_channel(ref: Stored, channels: int) -> npt.NDArray[np.float64]:
    """Scales or zero points, one a channel."""
    if ref.problem or ref.numel != channels:
        raise DamagedFileError(ref.problem or f"{ref.numel:,} scales or zero points for {channels:,} channels")
    return np.asarray(read_array(ref), np.float64).ravel()


def _integer_codes(ref: Stored) -> Iterator[Array]:
    if ref.strides is not None:
        yield from _strided(ref, sort=False)
        return
    left = ref.held
    for segment in ref.segments:
        for raw in _read_segment(segment, BLOCK, new_buffer()):
            part = _unpacked(raw, ref.dtype) if ref.dtype.bits < 8 else _typed(raw, ref)
            yield part[:left]
            left -= part.size


def _unpacked(raw: Bytes, dtype: DType) -> Array:
    """Codes of quint4x2 and quint2x4, lowest bits first."""
    return np.stack([raw >> shift & ((1 << dtype.bits) - 1) for shift in range(0, 8, dtype.bits)], axis=1).ravel()


# -- a whole tensor -------------------------------------------------------------------------------------


def read_array(ref: Stored) -> Array:
    """The values as an array of the tensor's shape, native-endian, in the nearest NumPy type.

    bf16 and the 8-, 6- and 4-bit floats come as float32, quantized tensors as float32 of their real values, a
    float4 pair type with its last dimension doubled. Of a sparse tensor or one rank's part of a DTensor: the
    values in this file.

    Raises:
        PinspectError: the bytes cannot be read.
        ValueError: there are no values.
    """
    if ref.problem:
        raise ValueError(f"{ref.name}: {ref.problem}")
    if ref.packed or ref.dtype.family is NumberClass.OPAQUE or not ref.has_values:
        raise ValueError(f"{ref.name} has no values to read: {ref.note or ref.dtype.name}")
    shape = shape_as_stored(ref)
    if ref.strides is not None and ref.affine is None and is_dense(ref):
        # In storage order, then turned: row by row would read a transposed matrix many times over.
        order = reading_order(ref)
        turned = _flat(blocks(ref), ref).reshape([shape[i] for i in order])
        flat = turned.transpose(np.argsort(order)).reshape(-1)
    else:
        flat = _flat(in_order(ref), ref)
    if ref.affine is not None:
        flat = flat.astype(np.float32)
    if ref.conjugated:
        flat = np.conj(flat)
    if ref.strides is not None:
        return np.broadcast_to(flat.reshape(shape_once(ref)), shape).copy()
    if ref.dtype.per_element > 1:
        shape = (*shape[:-1], shape[-1] * ref.dtype.per_element) if shape else shape
    return flat[: prod(shape)].reshape(shape)


def _flat(parts: Iterator[Block], ref: Stored) -> Array:
    made = [natural(block.values, block.dtype).copy() for block in parts]
    return np.concatenate(made) if made else natural(np.empty(0, ref.dtype.numpy), ref.dtype)


def natural(values: Array, dtype: DType) -> Array:
    """Elements as stored, in the type that a user expects."""
    if dtype.family is NumberClass.COMPLEX:
        wide = np.complex128 if dtype.name == "c128" else np.complex64
        real = values.astype(np.float64 if dtype.name == "c128" else np.float32)
        return real.view(wide)
    if dtype.name == "bf16":
        return kernels.backend().widen_bf16(values)
    if dtype.family is NumberClass.FLOAT and dtype.bits <= 8:
        codes = kernels.unpack_codes(values.view(np.uint8), dtype.bits // dtype.per_element)
        return kernels.code_table(dtype.name)[codes].astype(np.float32)
    return values.astype(np.bool_) if dtype.family is NumberClass.BOOL else values
