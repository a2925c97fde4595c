"""Tensors of B that hold the values of another tensor of A: layers that changed places, or were copied."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from inspectcli.commands.diff.compare import Status, Tools, agrees
from inspectcli.commands.diff.content import can_tell
from inspectcli.commands.diff.match import Match
from inspectcli.commands.diff.result import TensorDiff
from inspectcli.errors import PinspectError
from inspectcli.measure.excerpt import excerpt
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.names import parts

#: Correlation from which a tensor is its counterpart's descendant, and no other tensor's copy.
_DESCENDANT = 0.3
#: Values that are read at each of three places of a tensor, to find those that may be equal.
_SAMPLE = 32
#: Most tensors of one sample that are compared in full.
_MOST_TRIED = 4

_Key = tuple[tuple[int, ...], str, bytes]


def sources(
    matches: Sequence[Match], rows: Sequence[TensorDiff], others: Iterable[TensorRef], tools: Tools, side: str
) -> list[str]:
    """Return for each row the tensor of `others` with the values of this side; empty for its counterpart, or none.

    Only tensors that do not resemble their counterparts are looked at, and whole tensors are read only where a sample
    of their values is equal.

    Args:
        matches: what was compared.
        rows: the results.
        others: all tensors of the other side.
        tools: buffers.
        side: `a` or `b`, the side of each row that is looked for.
    """
    here = [match.b if side == "b" else match.a for match in matches]
    asked = [i for i, (ref, row) in enumerate(zip(here, rows, strict=True)) if _may_be_a_copy(ref, row)]
    wanted = {_shaped(ref) for i in asked if (ref := here[i]) is not None}
    known: defaultdict[_Key, list[TensorRef]] = defaultdict(list)
    for ref in others:
        if _shaped(ref) in wanted and can_tell(ref) and (key := _key(ref)) and len(known[key]) < _MOST_TRIED:
            known[key].append(ref)
    found = [""] * len(rows)
    for i in asked:
        ref = here[i]
        key = None if ref is None else _key(ref)
        if ref is None or key is None:
            continue
        with suppress(PinspectError):  # an unreadable tensor is no copy
            found[i] = next((x.name for x in known.get(key, ()) if agrees(x, ref, None, tools)), "")
    return found


def _may_be_a_copy(ref: TensorRef | None, row: TensorDiff) -> bool:
    if ref is None or not can_tell(ref) or row.problem or row.tied:
        return False
    if row.status is Status.CHANGED:
        return row.correlation is None or row.correlation < _DESCENDANT
    return row.status in (Status.ADDED, Status.REMOVED)


def _shaped(ref: TensorRef) -> tuple[tuple[int, ...], str]:
    return ref.shape, ref.dtype.name


def _key(ref: TensorRef) -> _Key | None:
    """Return what tensors of equal values share; None if the sample is constant, which proves nothing."""
    try:
        sample = excerpt(ref, _SAMPLE)
    except PinspectError:
        return None
    return None if (sample == sample[:1]).all() else (*_shaped(ref), sample.tobytes())


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


def moves(rows: Collection[TensorDiff]) -> list[Move]:
    """Return what moved where, each module once."""
    counts: Counter[tuple[str, str]] = Counter()
    known = {(row.copy_of, row.b or ""): None for row in rows if row.copy_of}
    known |= {(row.a or "", row.kept_in): None for row in rows if row.kept_in}
    for source, target in known:
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
            f"{m.source} and {m.target} changed places" if exchanged else f"{m.target} of B equals {m.source} of A"
        )
    return told
