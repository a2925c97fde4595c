"""Axis permutations that may turn A's order of elements into B's: those that frameworks use, then all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations

from inspectcli.tensors.layout import Layout, plain
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


def can_be_viewed(ref: TensorRef) -> bool:
    """Return whether elements can be addressed one by one: whole bytes, one segment, each element once."""
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
    """Yield the layouts that could turn A into B, the usual ones first.

    Args:
        a, b: tensors with the same number of elements.
        channels: numbers of channels of the model's convolutions, for the kernel after a Flatten.
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
    """Return whether this is a depthwise kernel: torch merges input channel and multiplier, then adds a 1."""
    return len(turned) == 4 == len(shape) and shape == (turned[0] * turned[1], 1, *turned[2:])


def _behind_flatten(a: tuple[int, ...], b: tuple[int, ...], channels: Iterable[int]) -> Iterator[Layout]:
    """Yield layouts of the kernel after a Flatten: Keras flattens (height, width, channel), torch (channel, ...)."""
    if len(a) != 2 or b != (a[1], a[0]):
        return
    for channel in sorted(set(channels)):
        if 1 < channel < a[0] and a[0] % channel == 0:
            yield Layout((a[0] // channel, channel, a[1]), (2, 1, 0))
        if 1 < channel < a[1] and a[1] % channel == 0:
            yield Layout((a[0], channel, a[1] // channel), (2, 1, 0))
