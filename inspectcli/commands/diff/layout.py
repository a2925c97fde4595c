"""How the elements of one tensor lie in another: transposed kernels, and tensors seen with other strides.

A layout is read without copying: a tensor seen in another order is the same `TensorRef` with other strides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from math import prod
from typing import NamedTuple

from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DType
from inspectcli.tensors.model import TensorRef

#: Beyond this many dimensions only the known orders are tried.
MAX_PERMUTED = 5

#: Orders that frameworks use, tried first: Dense and Conv1D, convolutions of one to three dimensions, depthwise.
_KNOWN_AXES: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((1, 0),),
    3: ((2, 1, 0), (1, 0, 2), (0, 2, 1)),
    4: ((3, 2, 0, 1), (2, 3, 1, 0), (2, 3, 0, 1)),
    5: ((4, 3, 0, 1, 2), (2, 3, 4, 1, 0)),
}


class Layout(NamedTuple):
    """`A.reshape(split).transpose(axes).reshape(B.shape) == B`."""

    split: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def words(self) -> str:
        """`transposed`, `axes (3, 2, 0, 1)`, `split 6×6×4×5, axes (3, 2, 0, 1)`."""
        if self.axes == (1, 0):
            return "transposed"
        return f"axes {self.axes}"


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes an order."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a C-contiguous tensor, in elements."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def can_be_viewed(ref: TensorRef) -> bool:
    """Whether its elements can be addressed one by one: whole bytes, one run, each element once."""
    return (
        0 not in (plain(ref).strides or ())
        and ref.stored_shape is None
        and ref.affine is None
        and not ref.packed
        and ref.dtype.bits >= 8
        and ref.dtype.per_element == 1
        and len(ref.segments) <= 1
    )


def layouts(a: TensorRef, b: TensorRef, channels: Iterable[int] = ()) -> Iterator[Layout]:
    """Orders in which A's elements could lie in B, the usual ones first.

    Args:
        a, b: tensors of equally many elements.
        channels: of the convolutions of the model, for the kernel behind a Flatten.
    """
    if a.numel != b.numel or not a.numel or not (can_be_viewed(a) and can_be_viewed(b)):
        return
    seen: set[tuple[int, ...]] = {tuple(range(len(a.shape)))}
    known = _KNOWN_AXES.get(len(a.shape), ())
    every = permutations(range(len(a.shape))) if len(a.shape) <= MAX_PERMUTED else ()
    for axes in (*known, *every):
        if axes in seen:
            continue
        seen.add(axes)
        turned = tuple(a.shape[axis] for axis in axes)
        if turned == b.shape or (axes in known and _merged(turned, b.shape)):
            yield Layout(a.shape, axes)
    yield from _behind_flatten(a.shape, b.shape, channels)


def _merged(turned: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """A depthwise kernel: input channel and multiplier are one dimension in torch, followed by a 1."""
    return len(turned) == 4 == len(shape) and shape == (turned[0] * turned[1], 1, *turned[2:])


def _behind_flatten(a: tuple[int, ...], b: tuple[int, ...], channels: Iterable[int]) -> Iterator[Layout]:
    """Keras flattens (height, width, channel), torch (channel, height, width): rows of the next kernel are permuted."""
    if len(a) != 2 or b != (a[1], a[0]):
        return
    for channel in sorted(set(channels)):
        if 1 < channel < a[0] and a[0] % channel == 0:
            yield Layout((a[0] // channel, channel, a[1]), (2, 1, 0))
        if 1 < channel < a[1] and a[1] % channel == 0:
            yield Layout((a[0], channel, a[1] // channel), (2, 1, 0))


# -- views ----------------------------------------------------------------------------------------------


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
    held = ref.shape if ref.stored_shape is None else ref.stored_shape
    strides = ref.strides or c_strides(held)
    shape = tuple(held[axis] for axis in axes)
    turned: tuple[int, ...] | None = tuple(strides[axis] for axis in axes)
    if _is_contiguous(shape, turned or ()):
        turned = None
    return replace(ref, shape=shape, stored_shape=None, strides=turned)


def _is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = c_strides(shape)
    return all(n == 1 or s == e for n, s, e in zip(shape, strides, expected, strict=True))


def plain(ref: TensorRef) -> TensorRef:
    """Without strides where they say nothing: a dimension of one element has none."""
    held = ref.shape if ref.stored_shape is None else ref.stored_shape
    if ref.strides is None or not _is_contiguous(held, ref.strides):
        return ref
    return replace(ref, strides=None)


def storage_order(ref: TensorRef) -> tuple[int, ...]:
    """Dimensions as they lie in the file, outermost first."""
    strides = ref.strides
    if strides is None:
        return tuple(range(len(ref.shape)))
    return tuple(sorted(range(len(strides)), key=lambda i: (-strides[i], i)))


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
