"""Comparison of two tensors: equal bits, equal values, a rounded copy, or how far apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from inspectcli.commands.diff import rounding
from inspectcli.commands.diff.difference import Difference, Tolerance, Workspace, difference
from inspectcli.measure import pairing
from inspectcli.measure.base import is_averaged
from inspectcli.tensors.dtypes import DType, NumberClass
from inspectcli.tensors.layout import Layout
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.values import Array, Bytes, natural, new_buffer
from inspectcli.words import Word

#: Number of values that are tested for a cast before whole pieces are.
_HEAD = 64
#: Share of the values that a cast must have changed if the element types do not show one: that a few values are
#: shorter than their counterparts proves nothing.
_CAST_CHANGES = 0.5


class Status(Word):
    """Result of comparing a tensor of A with its counterpart in B."""

    IDENTICAL = "identical"
    EQUAL_VALUES = "equal-values"
    EQUAL_ROUNDED = "equal-rounded"
    WITHIN_TOLERANCE = "within-tolerance"
    CHANGED = "changed"
    RESHAPED = "reshaped"
    ADDED = "added"
    REMOVED = "removed"


#: The values are the same numbers.
SAME = (Status.IDENTICAL, Status.EQUAL_VALUES)


class Rounded(NamedTuple):
    """A cast that leads from one side to the other, or two casts from values that neither side holds.

    Attributes:
        side: the one that was rounded: `a`, `b` or `both`.
        dtype: the type to which it was rounded last.
        via: the type to which it was rounded before that; empty if to none.
    """

    side: str
    dtype: str
    via: str = ""


@dataclass(slots=True)
class Tools:
    """Buffers of one thread, and what is told the bytes that it read."""

    buffers: tuple[Bytes, Bytes] = field(default_factory=lambda: (new_buffer(), new_buffer()))
    workspace: Workspace = field(default_factory=lambda: Workspace(pairing.PIECE))
    progress: Callable[[int], None] = lambda _: None


class Comparison(NamedTuple):
    """Result of comparing two tensors.

    Attributes:
        figures: None if the bits are equal, or have no values.
        max_at, nonfinite_at: positions in A, in C order, of the largest difference and of the first non-finite one.
        nan: number of NaN, of tensors that are equal.
        varied: whether tensors of equal bits hold more than one value.
        zero_signs: number of zeros that have the other sign, of equal values.
    """

    status: Status
    figures: Difference | None = None
    rounded: Rounded | None = None
    max_at: int | None = None
    nonfinite_at: int | None = None
    nan: int = 0
    varied: bool = False
    zero_signs: int = 0


def compare(
    a: TensorRef,
    b: TensorRef,
    permutation: Layout | None = None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008  (immutable)
    tools: Tools | None = None,
) -> Comparison:
    """Compare two tensors with the same number of elements, in C order or under a layout. Both must have values.

    Raises:
        PinspectError: the bytes of one cannot be read.
    """
    tools = tools or Tools()
    if not (is_averaged(a) and is_averaged(b)):
        return _words(a, b, tools)
    if permutation is None and a.shape != b.shape:
        b = replace(b, shape=a.shape, strides=None) if b.strides is None else b
    p = pairing.pair(a, b, permutation)
    # libhdf5 decodes whole datasets only: it is not asked twice just to learn that the first block differs.
    if pairing.are_plain(p) and not _is_decoded(a) and not _is_decoded(b):
        equal, nan, varied = _equal_bits(p, tools)
        if equal:
            return Comparison(Status.EQUAL_VALUES if permutation else Status.IDENTICAL, nan=nan, varied=varied)
    found = _measured(p, tolerance, tools)
    if found.status is Status.EQUAL_VALUES and permutation is None and _same_encoding(p, tools):
        if _equal_bits(p, tools)[0]:
            return found._replace(status=Status.IDENTICAL)
        return found._replace(zero_signs=_zero_signs(p, tools))
    return found


def _zero_signs(p: pairing.Pair, tools: Tools) -> int:
    """Return at how many places one side holds +0 and the other -0."""
    if not p.a.dtype.family is p.b.dtype.family is NumberClass.FLOAT:
        return 0
    return sum(
        int(np.count_nonzero((piece.a == 0) & (piece.b == 0) & (np.signbit(piece.a) != np.signbit(piece.b))))
        for piece in pairing.pieces(p, tools.buffers)
    )


def _same_encoding(p: pairing.Pair, tools: Tools) -> bool:
    """Return whether equal bits mean equal values, of tensors whose values were compared first."""
    a, b = p.a.affine, p.b.affine
    if a is None or b is None:
        return pairing.are_plain(p)
    if p.a.dtype != p.b.dtype or p.a.strides != p.b.strides or a[:3] != b[:3]:
        return False
    refs = ((a.scales, b.scales), (a.zero_points, b.zero_points))
    return all(x is y or (x is not None and y is not None and _equal_values(x, y, tools)) for x, y in refs)


def _equal_values(a: TensorRef, b: TensorRef, tools: Tools) -> bool:
    pieces = pairing.pieces(pairing.pair(a, b), tools.buffers)
    return a.shape == b.shape and all(np.array_equal(piece.a, piece.b) for piece in pieces)


def _is_decoded(ref: TensorRef) -> bool:
    return any(segment.codec.is_serial for segment in ref.segments)


def _words(a: TensorRef, b: TensorRef, tools: Tools) -> Comparison:
    """Compare packed words, and bits without a numeric meaning: equal or not."""
    if a.dtype != b.dtype or a.held != b.held:
        return Comparison(Status.CHANGED)
    equal = _equal_bits(pairing.pair(a, b), tools)[0]
    return Comparison(Status.IDENTICAL if equal else Status.CHANGED)


# -- bits -----------------------------------------------------------------------------------------------


def _equal_bits(p: pairing.Pair, tools: Tools) -> tuple[bool, int, bool]:
    """Return (whether all bits are equal, number of NaN, whether there is more than one value); stops at a difference.

    Checksums are not checked here: equal copies are equal, and tensors that differ are read again.
    """
    a, b = _unchecked(p.a), _unchecked(p.b)
    nan, varied = 0, False
    first: Array | None = None
    for piece in pairing.raw_pieces(p._replace(a=a, b=b), tools.buffers):
        if not _same_bytes(piece.a, piece.b):
            return False, 0, False
        nan += _count_nan(piece.a, p.a)
        if not varied:
            first = piece.a[:1].copy() if first is None else first
            varied = bool((piece.a != first).any())
        tools.progress(piece.a.nbytes + piece.b.nbytes)
    return True, nan, varied


def _unchecked(ref: TensorRef) -> TensorRef:
    return replace(ref, affine=None, segments=tuple(replace(s, crc=0) for s in ref.segments))


def _same_bytes(a: Array, b: Array) -> bool:
    x, y = np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8)
    whole = x.size & ~7
    words = np.array_equal(x[:whole].view(np.uint64), y[:whole].view(np.uint64))
    return words and np.array_equal(x[whole:], y[whole:])


#: All bits of the exponent: a larger magnitude is a NaN.
_TOP = {"f64": 0x7FF << 52, "f32": 0xFF << 23, "f16": 0x1F << 10, "bf16": 0xFF << 7}


def _count_nan(raw: Array, ref: TensorRef) -> int:
    if ref.dtype.family is not NumberClass.FLOAT:
        return 0
    top = _TOP.get(ref.dtype.name)
    if top is None:
        return int(np.count_nonzero(np.isnan(natural(raw, ref.dtype))))
    bits = raw.view(f"u{raw.itemsize}")
    one = bits.dtype.type
    # As signed integers, positive NaN are above infinity; as unsigned ones, negative NaN are above everything.
    if bits.view(f"i{raw.itemsize}").max() <= top and bits.max() <= top | 1 << (8 * raw.itemsize - 1):
        return 0
    return int(np.count_nonzero(bits & one((1 << (8 * raw.itemsize - 1)) - 1) > one(top)))


# -- values ---------------------------------------------------------------------------------------------


def _measured(p: pairing.Pair, tolerance: Tolerance, tools: Tools) -> Comparison:
    total = Difference()
    casts = _possible_casts(p.a, p.b)
    one_origin = not (p.a.affine or p.b.affine) and rounding.can_have_one_origin(p.a.dtype.name, p.b.dtype.name)
    for piece in pairing.pieces(p, tools.buffers):
        found = difference(piece.a, piece.b, piece.start, tolerance, tools.workspace, total.max_abs)
        if found.changed and casts:
            casts = [r for r in casts if _holds(r, piece)]
        if found.changed and one_origin and not casts:
            one_origin = _is_of_one_origin(p, piece)
        if piece.places is not None:
            found = _placed(found, piece.places)
        total = total.merge(found)
        tools.progress(piece.a.nbytes + piece.b.nbytes)
    if not total.changed:
        return Comparison(Status.EQUAL_VALUES, total, nan=total.nan_a)
    if p.a.dtype == p.b.dtype and total.changed < _CAST_CHANGES * total.count:
        casts = []
    elif one_origin:
        casts = casts or [Rounded("both", p.b.dtype.name)]
    # A cast beyond the largest value of its type is no rounding: it made infinities or NaN of finite values.
    status = Status.EQUAL_ROUNDED if casts and not total.nonfinite else Status.CHANGED
    if not casts and tolerance and not total.beyond:
        status = Status.WITHIN_TOLERANCE
    places = {
        name: p.flat_in_a(at) for name in ("max_at", "first_nonfinite") if (at := getattr(total, name)) is not None
    }
    return Comparison(status, total, casts[0] if casts else None, places.get("max_at"), places.get("first_nonfinite"))


def agrees(a: TensorRef, b: TensorRef, permutation: Layout | None, tools: Tools) -> bool:
    """Return whether the values are equal, or equal after a cast; stops at the first difference."""
    p = pairing.pair(a, b, permutation)
    casts = _possible_casts(p.a, p.b) if a.dtype != b.dtype else []
    for piece in pairing.pieces(p, tools.buffers):
        head = pairing.Piece(piece.a[:_HEAD], piece.b[:_HEAD], 0)
        for part in (head, piece):
            if difference(part.a, part.b, workspace=tools.workspace).changed:
                casts = [r for r in casts if _holds(r, part)]
                if not casts:
                    return False
    return True


def _placed(found: Difference, places: Array) -> Difference:
    """Return the difference with positions in the order of reading: the elements of a box are not consecutive."""
    return replace(
        found,
        max_at=None if found.max_at is None else int(places[found.max_at]),
        first_nonfinite=None if found.first_nonfinite is None else int(places[found.first_nonfinite]),
    )


def _possible_casts(a: TensorRef, b: TensorRef) -> list[Rounded]:
    """Return the casts that could lead from one side to the other, by their element types."""
    families = {a.dtype.family, b.dtype.family}
    if families != {NumberClass.FLOAT} or a.affine or b.affine:
        return []
    if a.dtype == b.dtype:
        wide = [Rounded(side, "f32") for side in ("b", "a") if a.dtype.bits == 64]
        return wide + [r for through in _twice(a.dtype) for side in ("b", "a") for r in [Rounded(side, *through)]]
    sides = [Rounded("b", b.dtype.name), Rounded("a", a.dtype.name)]
    sides += [Rounded(side, *through) for side, ref in (("b", b), ("a", a)) for through in _twice(ref.dtype)]
    return [r for r in dict.fromkeys(sides) if r.dtype in rounding.ROUNDED_TO]


def _twice(stored: DType) -> list[tuple[str, str]]:
    """Return (last type, the one before) of values rounded to another type than the one that holds them."""
    names = rounding.WIDENED_FROM
    if stored.bits > 16:
        return [(n, "") for n in names] + [("f16", "bf16"), ("bf16", "f16")]
    return [(stored.name, n) for n in names if n != stored.name] if stored.bits == 16 else []


def _is_of_one_origin(p: pairing.Pair, piece: pairing.Piece) -> bool:
    types = p.a.dtype.name, p.b.dtype.name
    head = rounding.have_one_origin(piece.a[:_HEAD], piece.b[:_HEAD], *types)
    return head and rounding.have_one_origin(piece.a, piece.b, *types)


def _holds(rounded: Rounded, piece: pairing.Piece) -> bool:
    x, y = (piece.a, piece.b) if rounded.side == "b" else (piece.b, piece.a)
    head = y[:_HEAD]
    return rounding.is_short(head) and _leads(rounded, x[:_HEAD], head) and _leads(rounded, x, y)


def _leads(rounded: Rounded, x: Array, y: Array) -> bool:
    return rounding.is_cast(rounding.cast(x, rounded.via) if rounded.via else x, y, rounded.dtype)
