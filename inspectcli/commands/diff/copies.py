"""Tensors of B that hold the values of another tensor of A: layers that changed places, or were copied."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from inspectcli.commands.diff.compare import Status, Tools, agrees
from inspectcli.commands.diff.content import can_tell
from inspectcli.commands.diff.match import Match
from inspectcli.commands.diff.result import TensorDiff
from inspectcli.errors import PinspectError
from inspectcli.tensors.layout import box, is_sliceable, plain
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.names import parts
from inspectcli.tensors.values import Array, in_order, read_array

#: Correlation from which a tensor is its counterpart's descendant, and no other tensor's copy.
_DESCENDANT = 0.3
#: Values that are read at each of three places of a tensor, to find those that may be equal.
_SAMPLE = 32
#: Most tensors of one sample that are compared in full.
_MOST_TRIED = 4

_Key = tuple[tuple[int, ...], str, bytes]


def sources(matches: Sequence[Match], rows: Sequence[TensorDiff], a: Iterable[TensorRef], tools: Tools) -> list[str]:
    """Return for each row the tensor of A whose values its B side holds; empty if that is its own counterpart, or none.

    Only tensors that do not resemble their counterparts are looked at, and whole tensors are read only where a sample
    of their values is equal.
    """
    asked = [i for i, (match, row) in enumerate(zip(matches, rows, strict=True)) if _may_be_a_copy(match, row)]
    wanted = {_shaped(ref) for i in asked if (ref := matches[i].b) is not None}
    known: defaultdict[_Key, list[TensorRef]] = defaultdict(list)
    for ref in a:
        if _shaped(ref) in wanted and can_tell(ref) and (key := _key(ref)) and len(known[key]) < _MOST_TRIED:
            known[key].append(ref)
    found = [""] * len(rows)
    for i in asked:
        b = matches[i].b
        key = None if b is None else _key(b)
        if b is None or key is None:
            continue
        with suppress(PinspectError):  # an unreadable tensor is no copy
            found[i] = next((x.name for x in known.get(key, ()) if agrees(x, b, None, tools)), "")
    return found


def _may_be_a_copy(match: Match, row: TensorDiff) -> bool:
    if match.b is None or not can_tell(match.b) or row.problem:
        return False
    if row.status is Status.CHANGED:
        return row.correlation is None or row.correlation < _DESCENDANT
    return row.status is Status.ADDED


def _shaped(ref: TensorRef) -> tuple[tuple[int, ...], str]:
    return ref.shape, ref.dtype.name


def _key(ref: TensorRef) -> _Key | None:
    """Return what tensors of equal values share; None if the sample is constant, which proves nothing."""
    try:
        sample = _sample(plain(ref))
    except PinspectError:
        return None
    return None if (sample == sample[:1]).all() else (*_shaped(ref), sample.tobytes())


def _sample(ref: TensorRef) -> Array:
    n = ref.numel
    if ref.strides is not None or not is_sliceable(ref):
        first: Array = next(iter(in_order(ref))).values[: 3 * _SAMPLE].copy()
        return first
    # Consecutive elements may be looked at as one row, whatever the shape.
    row = replace(ref, shape=(n,), stored_shape=None)
    size = min(n, _SAMPLE)
    starts = (0, (n - size) // 2, n - size)
    return np.concatenate([np.asarray(read_array(box(row, (start,), (size,)))) for start in starts])


# -- in words -------------------------------------------------------------------------------------------


class Move(NamedTuple):
    """Where the tensors of a module went.

    Attributes:
        source: module or tensor of A.
        target: module or tensor of B that holds its values.
        tensors: how many of them.
    """

    source: str
    target: str
    tensors: int


def moves(origin: Mapping[str, str]) -> list[Move]:
    """Return what moved where, of name in B -> name in A, each module once."""
    counts: Counter[tuple[str, str]] = Counter()
    for target, source in origin.items():
        x, y = parts(source), parts(target)
        shared = 0
        while shared < min(len(x), len(y)) - 1 and x[-1 - shared] == y[-1 - shared]:
            shared += 1
        counts[".".join(x[: len(x) - shared]), ".".join(y[: len(y) - shared])] += 1
    return [Move(source, target, n) for (source, target), n in counts.items()]


def in_words(found: Sequence[Move]) -> list[str]:
    """Return a phrase for each move; two modules that changed places share one."""
    pairs = {(m.source, m.target) for m in found}
    told = []
    for m in found:
        exchanged = (m.target, m.source) in pairs
        if exchanged and m.target < m.source:
            continue
        told.append(
            f"{m.source} and {m.target} changed places"
            if exchanged
            else f"{m.target} of B is a copy of {m.source} of A"
        )
    return told
