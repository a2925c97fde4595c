"""Read the same elements of two tensors, piece by piece, with the memory of two blocks."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from inspectcli.errors import DamagedFileError
from inspectcli.tensors import layout
from inspectcli.tensors.arithmetic import unravel
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.stored import expansion, reading_order, shape_as_stored
from inspectcli.tensors.values import SPAN_BLOCK, Array, Block, Bytes, blocks, in_order, natural, read_array

#: Elements of a piece: intermediate results stay in the processor's cache.
PIECE = 1 << 18
#: Elements of a box of tensors that lie in different orders.
_BOX = 1 << 20
#: Views whose repeated elements differ from the other side's are read whole, up to this many.
_MOST_EXPANDED = 1 << 22


class Pair(NamedTuple):
    """Two tensors under one shape, and where that shape's indices lead.

    Attributes:
        a, b: as they are read: dimensions in A's order of storage.
        shape: of both, in the order of reading.
        axes: dimension of A (as split) for each dimension read.
        split: A's shape under the layout.
    """

    a: TensorRef
    b: TensorRef
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    split: tuple[int, ...]

    def flat_in_a(self, place: int) -> int:
        """Position in the order of reading -> C-order position in A."""
        index = unravel(place, self.shape)
        original = [index[self.axes.index(i)] for i in range(len(self.axes))]
        flat = 0
        for n, i in zip(self.split, original, strict=True):
            flat = flat * n + i
        return flat


class Piece(NamedTuple):
    """The same elements of both tensors. `places` are their positions in the order of reading; None if consecutive."""

    a: Array
    b: Array
    start: int
    places: Array | None = None


def pair(a: TensorRef, b: TensorRef, permutation: layout.Layout | None = None) -> Pair:
    """Two tensors of one shape (under a permutation), ready to be read in step."""
    if permutation is not None:
        a, b = layout.seen_alike(a, b, permutation)
    a, b = layout.plain(a), layout.plain(b)
    split = shape_as_stored(a)
    axes = tuple(range(len(split)))
    if a.strides is not None and b.strides is not None and _can_turn(a) and _can_turn(b):
        axes = reading_order(a)
        a, b = layout.permuted(a, axes), layout.permuted(b, axes)
    return Pair(a, b, tuple(split[i] for i in axes), axes, split)


def _can_turn(ref: TensorRef) -> bool:
    return ref.affine is None and 0 not in (ref.strides or ())


def raw_pieces(p: Pair, buffers: tuple[Bytes, Bytes]) -> Iterator[Piece]:
    """As stored. Both must be of one element type."""
    yield from _in_step(_stored(p.a, buffers[0]), _stored(p.b, buffers[1]))


def pieces(p: Pair, buffers: tuple[Bytes, Bytes]) -> Iterator[Piece]:
    """As numbers, in types that NumPy knows."""
    if p.a.strides is None and p.b.strides is None:
        yield from _in_step(_numbers(p.a, buffers[0]), _numbers(p.b, buffers[1]))
    elif expansion(p.a) != expansion(p.b):
        yield from _whole(p)
    elif prod(p.shape) > SPAN_BLOCK // 8 and layout.is_sliceable(p.a) and layout.is_sliceable(p.b):
        yield from _by_boxes(p)
    else:
        yield from _in_step((_natural(x) for x in in_order(p.a)), (_natural(x) for x in in_order(p.b)))


def are_plain(p: Pair) -> bool:
    """Whether equal bits are equal values."""
    a, b = p.a, p.b
    alike = a.dtype == b.dtype and a.negated == b.negated and a.conjugated == b.conjugated
    return alike and a.strides == b.strides and a.affine is None and b.affine is None


def _stored(ref: TensorRef, buffer: Bytes) -> Iterator[Array]:
    return (block.values for block in (blocks(ref, buffer) if ref.strides is None else in_order(ref)))


def _numbers(ref: TensorRef, buffer: Bytes) -> Iterator[Array]:
    return (_conjugate(_natural(block), ref) for block in blocks(ref, buffer))


def _natural(block: Block) -> Array:
    return natural(block.values, block.dtype)


def _conjugate(values: Array, ref: TensorRef) -> Array:
    return np.conj(values) if ref.conjugated else values


def _in_step(a: Iterator[Array], b: Iterator[Array]) -> Iterator[Piece]:
    """Cut both to equal lengths. A side is asked for its next block only when the last one is used up."""
    left, right, start = next(a, None), next(b, None), 0
    while left is not None and right is not None:
        n = min(left.size, right.size, PIECE)
        if n:
            yield Piece(left[:n], right[:n], start)
        start += n
        left = left[n:] if left.size > n else next(a, None)
        right = right[n:] if right.size > n else next(b, None)
    if left is not None or right is not None:
        raise DamagedFileError("one side has more values than the other: the file is not what its header says")


def whole(p: Pair) -> tuple[Array, Array]:
    """Both sides as arrays. The caller makes sure that they are small."""
    return read_array(p.a), read_array(p.b)


def _whole(p: Pair) -> Iterator[Piece]:
    if prod(p.shape) > _MOST_EXPANDED:
        raise DamagedFileError(f"an expanded view of {prod(p.shape):,} elements is not compared with a stored tensor")
    a, b = whole(p)
    yield from _in_step(iter([a.ravel()]), iter([b.ravel()]))


def _by_boxes(p: Pair) -> Iterator[Piece]:
    for start, extent in layout.boxes(p.shape, _BOX):
        sides = [_box(ref, start, extent) for ref in (p.a, p.b)]
        grid = np.ix_(*(np.arange(first, first + n) for first, n in zip(start, extent, strict=True)))
        places = np.ravel_multi_index(grid, p.shape).ravel()
        for first in range(0, places.size, PIECE):
            part = slice(first, first + PIECE)
            yield Piece(sides[0][part], sides[1][part], 0, places[part])


def _box(ref: TensorRef, start: tuple[int, ...], extent: tuple[int, ...]) -> Array:
    """The elements of a box in C order: read as they lie in the file, and turned in memory."""
    part = layout.box(ref, start, extent)
    axes = reading_order(part)
    lying = np.concatenate([_natural(block) for block in in_order(layout.permuted(part, axes))])
    turned: Array = lying.reshape([extent[i] for i in axes]).transpose(layout.inverse(axes)).ravel()
    return turned
