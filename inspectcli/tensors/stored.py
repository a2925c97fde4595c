"""What reading needs to know of a tensor, and the order in which its elements lie."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol

from inspectcli.tensors.codecs import RAW, Codec, Segment
from inspectcli.tensors.dtypes import DType


class StoredAffine(Protocol):
    """Integer codes that stand for real values: see `model.Affine`."""

    @property
    def scale(self) -> float: ...
    @property
    def zero_point(self) -> float: ...
    @property
    def axis(self) -> int | None: ...
    @property
    def scales(self) -> Stored | None: ...
    @property
    def zero_points(self) -> Stored | None: ...


class Stored(Protocol):
    """The part of a `model.TensorRef` that says how to read it; the attributes are explained there."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def segments(self) -> tuple[Segment, ...]: ...
    @property
    def stored_shape(self) -> tuple[int, ...] | None: ...
    @property
    def strides(self) -> tuple[int, ...] | None: ...
    @property
    def big_endian(self) -> bool: ...
    @property
    def negated(self) -> bool: ...
    @property
    def conjugated(self) -> bool: ...
    @property
    def affine(self) -> StoredAffine | None: ...
    @property
    def packed(self) -> bool: ...
    @property
    def note(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def numel(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def has_values(self) -> bool: ...


def codec_of(ref: Stored) -> Codec:
    """How its bytes are stored; all segments of a tensor are stored alike."""
    return ref.segments[0].codec if ref.segments else RAW


def decoded_dtype(ref: Stored) -> DType:
    """Element type of its decoded bytes."""
    return codec_of(ref).dtype or ref.dtype


def shape_as_stored(ref: Stored) -> tuple[int, ...]:
    """Shape of the values in this file."""
    return ref.shape if ref.stored_shape is None else ref.stored_shape


def elements(shape: Sequence[int], strides: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """Return which elements a view takes from its first one on, in whatever order: as (stride, number) of dimensions.

    Equal for a matrix, its transpose and its flat view; dimensions that follow each other are one.
    """
    steps = c_strides(tuple(shape)) if strides is None else strides
    found: list[tuple[int, int]] = []
    for step, n in sorted(zip(steps, shape, strict=True)):
        if found and step and found[-1][0] and step == found[-1][0] * found[-1][1]:
            found[-1] = (found[-1][0], found[-1][1] * n)
        elif n != 1:
            found.append((step, n))
    return tuple(found)


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a C-contiguous tensor, in elements."""
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= max(dim, 1)
    return tuple(reversed(strides))


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements with these strides lie in C order; a dimension of one element has no stride to speak of."""
    return all(n == 1 or s == e for n, s, e in zip(shape, strides, c_strides(shape), strict=True))


def expansion(ref: Stored) -> int:
    """How often every stored element occurs: the product of the dimensions of stride 0."""
    if ref.strides is None:
        return 1
    return prod(d for d, s in zip(shape_as_stored(ref), ref.strides, strict=True) if s == 0 and d > 1)


def shape_once(ref: Stored) -> tuple[int, ...]:
    """The stored shape with 1 for each expanded dimension."""
    shape = shape_as_stored(ref)
    return shape if ref.strides is None else tuple(1 if s == 0 else d for d, s in zip(shape, ref.strides, strict=True))


def values_held(ref: Stored) -> int:
    """Number of values that reading gives: those of expanded dimensions once, two of an element that packs a pair."""
    return ref.held // expansion(ref) * ref.dtype.per_element


def is_reordered(ref: Stored) -> bool:
    """Whether `values.blocks` yields another order than C order."""
    return ref.strides is not None and ref.affine is None


def is_dense(ref: Stored) -> bool:
    """Whether it is a permutation of a contiguous tensor: every element of the span belongs to it, once."""
    assert ref.strides is not None
    step = 1
    for dim, stride in sorted(zip(shape_as_stored(ref), ref.strides, strict=True), key=lambda pair: (pair[1], pair[0])):
        if dim == 1:
            continue
        if stride != step:
            return False
        step *= dim
    return True


def reading_order(ref: Stored) -> tuple[int, ...]:
    """Its dimensions in the order of `values.blocks`, the outermost first; those of one element stand anywhere."""
    strides = ref.strides
    if strides is None or not is_reordered(ref):
        return tuple(range(len(shape_as_stored(ref))))
    return tuple(sorted(range(len(strides)), key=lambda i: -strides[i]))
