"""Tensors that one side holds as parts of a larger one: fused projections, stacked layers, stacked experts.

In C order, a part of the first dimension is a run of consecutive elements. A tensor is such a run if the other
dimensions agree (fused: `(24, 64)` in `(72, 64)`), or if the first one counts tensors of its shape (stacked: `(24, 64)`
in `(3, 24, 64)`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import NamedTuple

from inspectcli.commands.diff.compare import Tools, agrees
from inspectcli.commands.diff.content import can_tell
from inspectcli.commands.diff.match import How, Match, Matching
from inspectcli.display.text import natural_key
from inspectcli.errors import PinspectError
from inspectcli.measure.base import is_averaged
from inspectcli.tensors.layout import box, is_sliceable, plain
from inspectcli.tensors.model import TRAINING_STATE, TensorRef
from inspectcli.tensors.names import Parts, is_index, parts

#: Order of the parts of fused projections: that of their names would put k before q.
_ORDER = {"q": 0, "query": 0, "k": 1, "key": 1, "v": 2, "value": 2, "gate": 0, "up": 1, "w1": 0, "w3": 1}


class Run(NamedTuple):
    """Consecutive rows of a larger tensor.

    Attributes:
        part: the small tensor.
        start, stop: the rows of the larger one, or the index of a stacked one.
    """

    part: TensorRef
    start: int
    stop: int


def by_slices(made: Matching, tools: Tools) -> None:
    """Match tensors that the other side holds as parts of one: by name and shape, in the order of their values."""
    for small, large, whole_is_b in ((made.left, made.right, True), (made.right, made.left, False)):
        groups = _groups(small)
        used: set[int] = set()
        found, wholes = [], []
        for whole in large:
            for candidates in _candidates(whole, groups) if _can_be_cut(whole) else ():
                runs = _laid(whole, [m for m in candidates if id(m) not in used], tools)
                if runs:
                    used.update(id(run.part) for run in runs)
                    found += [_match(run, whole, whole_is_b) for run in runs]
                    wholes.append(whole)
                    break
        made.take_parts(found, wholes)


_Groups = dict[tuple[str, Parts, tuple[int, ...]], list[TensorRef]]


def _groups(refs: Sequence[TensorRef]) -> _Groups:
    """Return tensors that could be parts of one: siblings by one number of their names, and by one module."""
    made: defaultdict[tuple[str, Parts, tuple[int, ...]], list[TensorRef]] = defaultdict(list)
    for ref in refs:
        if not _can_be_cut(ref):
            continue
        path = parts(ref.name)
        for i, part in enumerate(path):
            if is_index(part):
                made["stacked", (*path[:i], *path[i + 1 :]), ref.shape].append(ref)
        if len(path) > 1:
            made["fused", (*path[:-2], path[-1]), ref.shape[1:]].append(ref)
    return made


def _can_be_cut(ref: TensorRef) -> bool:
    seen = plain(ref)
    whole = seen.strides is None and seen.held == seen.numel
    return bool(ref.shape) and whole and is_averaged(ref) and is_sliceable(seen) and ref.kind not in TRAINING_STATE


def _candidates(whole: TensorRef, groups: _Groups) -> Iterator[list[TensorRef]]:
    path = parts(whole.name)
    for name in (path, (*path, "weight")):  # a stack is often a parameter of the module itself
        stacked = groups.get(("stacked", name, whole.shape[1:]), [])
        if len(stacked) == whole.shape[0] > 1:
            yield sorted(stacked, key=lambda r: natural_key(r.name))
    # `qkv_proj.weight` stands beside `q_proj.weight`; torch's `in_proj_weight` above it.
    for key in {(*path[:-2], path[-1]): None, (*path[:-1], path[-1].rpartition("_")[2]): None}:
        fused = groups.get(("fused", key, whole.shape[1:]), [])
        if 1 < len(fused) <= _MOST_FUSED:
            yield sorted(fused, key=_fused_order)


def _fused_order(ref: TensorRef) -> tuple[int, tuple[object, ...]]:
    path = parts(ref.name)
    word = path[-2].split("_")[0]
    return _ORDER.get(word, len(_ORDER)), tuple(natural_key(ref.name))


def _laid(whole: TensorRef, members: Sequence[TensorRef], tools: Tools) -> list[Run]:
    """Return where in the larger tensor each member stands: where its values are, else in order if the rows agree."""
    rows = [_rows(whole, m) for m in members]
    found, start = [], 0
    remaining = list(zip(members, rows, strict=True))
    # At each place the member whose values stand there; without one, the first in order.
    while remaining and start < whole.shape[0]:
        here = next((i for i, (m, n) in enumerate(remaining[:_MOST_TRIED]) if _stands(whole, m, start, n, tools)), None)
        member, n = remaining.pop(here or 0)
        if start + n > whole.shape[0]:
            return []
        found.append(Run(member, start, start + n))
        start += n
    return found if start == whole.shape[0] and len(found) > 1 else []


#: Most tensors that are fused into one, and most that are tried at one place: stacks of many layers take linear time.
_MOST_FUSED = 8
_MOST_TRIED = 4


def _rows(whole: TensorRef, member: TensorRef) -> int:
    return max(member.numel // max(prod(whole.shape[1:]), 1), 1)


def _stands(whole: TensorRef, member: TensorRef, start: int, n: int, tools: Tools) -> bool:
    if start + n > whole.shape[0] or not can_tell(member):
        return False
    with suppress(PinspectError):  # the comparison reports it
        return agrees(member, _cut(whole, Run(member, start, start + n)), None, tools)
    return False


def _cut(whole: TensorRef, run: Run) -> TensorRef:
    """Return the rows of the larger tensor under the shape of the part."""
    start = [run.start] + [0] * (len(whole.shape) - 1)
    cut = plain(box(plain(whole), start, (run.stop - run.start, *whole.shape[1:])))
    return replace(cut, shape=run.part.shape, strides=None)


def _match(run: Run, whole: TensorRef, whole_is_b: bool) -> Match:
    cut = _cut(whole, run)
    stacked = len(whole.shape) > len(run.part.shape)
    words = f"slice {run.start:,}" if stacked else f"rows {run.start:,} to {run.stop - 1:,}"
    part = f"{words} of {whole.name}"
    return Match(run.part, cut, How.SLICE, part=part) if whole_is_b else Match(cut, run.part, How.SLICE, part=part)
