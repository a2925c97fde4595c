"""A tensor seen with other strides: axes permuted, dimensions split, a box cut out, and nothing copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DType
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.stored import c_strides, is_contiguous, shape_as_stored


class Layout(NamedTuple):
    """`A.reshape(split).transpose(axes).reshape(B.shape) == B`."""

    split: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def words(self) -> str:
        """`transposed`, `axes (3, 2, 0, 1)`."""
        if self.axes == (1, 0):
            return "transposed"
        return f"axes {self.axes}"


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes an order."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


def seen_alike(a: TensorRef, b: TensorRef, layout: Layout) -> tuple[TensorRef, TensorRef]:
    """Both in A's order of elements, under one shape."""
    in_b = tuple(layout.split[axis] for axis in layout.axes)
    return split(a, layout.split), permuted(split(b, in_b), inverse(layout.axes))


def split(ref: TensorRef, shape: tuple[int, ...]) -> TensorRef:
    """The same tensor with some of its dimensions seen as several; those of one element come and go."""
    if ref.strides is None:
        return replace(ref, shape=shape)
    old = [(n, s) for n, s in zip(ref.shape, ref.strides, strict=True) if n != 1]
    strides: list[int] = []
    left, step = 1, 0
    for n in reversed(shape):
        if n == 1:
            strides.append(1)
            continue
        if left == 1:
            left, step = old.pop()
        strides.append(step)
        left, step = left // n, step * n
    return replace(ref, shape=shape, strides=tuple(reversed(strides)))


def permuted(ref: TensorRef, axes: Sequence[int]) -> TensorRef:
    """The same tensor with its dimensions in another order."""
    held = shape_as_stored(ref)
    strides = ref.strides or c_strides(held)
    shape = tuple(held[axis] for axis in axes)
    turned: tuple[int, ...] | None = tuple(strides[axis] for axis in axes)
    if is_contiguous(shape, turned or ()):
        turned = None
    return replace(ref, shape=shape, stored_shape=None, strides=turned)


def plain(ref: TensorRef) -> TensorRef:
    """Without strides where they say nothing: a dimension of one element has none."""
    held = shape_as_stored(ref)
    if ref.strides is None or not is_contiguous(held, ref.strides):
        return ref
    return replace(ref, strides=None)


def boxes(shape: Sequence[int], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(start, extent) of boxes of at most `most` elements that fill a shape: nearly cubes, so that both orders read
    runs that are not too short."""
    extent = list(shape)
    while prod(extent) > most:
        widest = max(range(len(extent)), key=lambda i: extent[i])
        extent[widest] = -(-extent[widest] // 2)
    yield from _boxes(shape, extent, 0, (), ())


def _boxes(
    shape: Sequence[int], extent: Sequence[int], axis: int, start: tuple[int, ...], size: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    if axis == len(shape):
        yield start, size
        return
    for first in range(0, shape[axis], extent[axis]):
        n = min(extent[axis], shape[axis] - first)
        yield from _boxes(shape, extent, axis + 1, (*start, first), (*size, n))


def box(ref: TensorRef, start: Sequence[int], extent: tuple[int, ...]) -> TensorRef:
    """A part of a tensor as a tensor of its own. Only for bytes stored as they are (`is_sliceable`)."""
    strides = ref.strides or c_strides(ref.shape)
    skipped = sum(s * step for s, step in zip(start, strides, strict=True))
    reach = 1 + sum((n - 1) * step for n, step in zip(extent, strides, strict=True))
    segments = (_part(ref.segments[0], ref.dtype, skipped, reach),) if ref.segments else ()
    return replace(ref, shape=extent, stored_shape=None, strides=strides, segments=segments)


def _part(segment: Segment, dtype: DType, first: int, count: int) -> Segment:
    # The checksum is of the whole: it says nothing about a part.
    return replace(segment, offset=segment.offset + first * dtype.itemsize, nbytes=count * dtype.itemsize, crc=0)


def is_sliceable(ref: TensorRef) -> bool:
    """Whether a part of it can be read without the rest."""
    return len(ref.segments) == 1 and ref.segments[0].codec.is_plain and ref.affine is None and ref.dtype.bits >= 8
