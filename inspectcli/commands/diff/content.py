"""Matching tensors of A and B by their values: renames and layouts.

Figures that do not depend on the order of elements (bounds, zeros, deviation) find candidates. A match is concluded
only from comparing the values themselves.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from operator import itemgetter

from inspectcli.commands.diff import names
from inspectcli.commands.diff.compare import Tools, agrees, compare
from inspectcli.commands.diff.layout import layouts
from inspectcli.commands.diff.match import How, Match, Matching
from inspectcli.errors import PinspectError
from inspectcli.measure.base import is_averaged
from inspectcli.measure.scan import stats_of
from inspectcli.measure.stats import Stats
from inspectcli.tensors.layout import Layout
from inspectcli.tensors.model import TRAINING_STATE, Kind, TensorRef
from inspectcli.tensors.names import is_index, parts

#: Least cosine of the values under a layout that no framework uses.
LIKELY_CORRELATION = 0.5
#: How far a cast to 8 bits may move bounds, relative to the largest value.
_CAST_MOVES = 0.07
#: Most layouts that are tried on one pair whose values were changed.
_MOST_GUESSES = 3
#: Most tensors of equal figures whose values are compared with those of one tensor.
_MOST_TRIED = 64


def resolve_layouts(made: Matching, tools: Tools) -> None:
    """Find the layouts of pairs whose names agree, and whose shapes are permutations of each other."""
    channels = _channels(made)
    made.pairs = [_settled(match, channels, tools) for match in made.pairs]
    if any(m.layout is not None and m.how is not How.CONVENTION for m in made.pairs):
        # One kernel is transposed: square ones may be too, though their shapes do not show it.
        made.pairs = [_square(match, tools) for match in made.pairs]


def _settled(match: Match, channels: Sequence[int], tools: Tools) -> Match:
    a, b = match.a, match.b
    if a is None or b is None or match.layout is not None or not (is_averaged(a) and is_averaged(b)):
        return match
    expected = _crosses(match) and len(a.shape) > 1
    if a.shape == b.shape and not expected:
        return match
    candidates = list(layouts(a, b, channels))
    try:
        for permutation in candidates:
            if agrees(a, b, permutation, tools):
                return match._replace(layout=permutation)
        if a.shape == b.shape and agrees(a, b, None, tools):
            return match
        if expected and candidates:
            return match._replace(layout=candidates[0])
        return _likeliest(match, candidates[:_MOST_GUESSES], tools)
    except PinspectError:
        return match  # the comparison reports it


def _crosses(match: Match) -> bool:
    """Return whether one side is a Keras kernel and the other a torch weight."""
    assert match.a is not None
    assert match.b is not None
    return match.how is How.CONVENTION and names.is_kernel(match.a.name) != names.is_kernel(match.b.name)


def _likeliest(match: Match, candidates: Sequence[Layout], tools: Tools) -> Match:
    """Return the match with the layout under which the values resemble each other most, if any do."""
    assert match.a is not None
    assert match.b is not None
    for permutation in candidates:
        figures = compare(match.a, match.b, permutation, tools=tools).figures
        if figures is not None and (figures.correlation or 0.0) >= LIKELY_CORRELATION:
            return match._replace(layout=permutation)
    return match


def _square(match: Match, tools: Tools) -> Match:
    a, b = match.a, match.b
    if a is None or b is None or match.layout or len(a.shape) != 2 or a.shape != b.shape or a.shape[0] != a.shape[1]:
        return match
    try:
        permutation = next((x for x in layouts(a, b) if not agrees(a, b, None, tools) and agrees(a, b, x, tools)), None)
    except PinspectError:
        return match
    return match if permutation is None else match._replace(layout=permutation)


def _channels(made: Matching) -> list[int]:
    """Return the sizes of dimensions of convolution kernels, among them the numbers of channels."""
    refs = [ref for m in made.pairs for ref in (m.a, m.b) if ref is not None] + made.left + made.right
    return sorted({n for ref in refs if len(ref.shape) > 2 for n in ref.shape})


# -- renames --------------------------------------------------------------------------------------------


def by_content(made: Matching, tools: Tools) -> None:
    """Match the remaining tensors by equal values. Constant tensors prove nothing and are left alone."""
    channels = _channels(made)
    known: dict[int, Stats | None] = {}
    found = []
    sizes = {ref.numel for ref in made.left if can_tell(ref)}
    right = _ByFigures(
        ((i, r) for i, r in enumerate(made.right) if r.numel in sizes and can_tell(r)),
        lambda r: _figures(r, known, tools),
    )
    for i, a in enumerate(made.left):
        if not can_tell(a):
            continue
        for place, b in islice(right.like(a, i, _figures(a, known, tools)), _MOST_TRIED):
            match = _verified(a, b, channels, known, tools)
            if match is not None:
                right.take(place, b)
                found.append(match)
                break
    made.take(found)


class _Free:
    """Sorted places, some of which are taken: the next free one to either side is found without walking over those."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self._right: list[int] = []
        self._left: list[int] = []

    def take(self, place: int) -> None:
        at = bisect_left(self.places, place)
        self._link()
        self._right[at] = at + 1
        self._left[at + 1] = at

    def nearest(self, place: int) -> Iterator[int]:
        """The free places, the nearest first."""
        self._link()
        at = bisect_left(self.places, place)
        right, left = _end(self._right, at), _end(self._left, at) - 1
        while left >= 0 or right < len(self.places):
            ahead = self.places[right] - place if right < len(self.places) else None
            if left >= 0 and (ahead is None or place - self.places[left] <= ahead):
                yield self.places[left]
                left = _end(self._left, left) - 1
            else:
                yield self.places[right]
                right = _end(self._right, right + 1)

    def after(self, place: int) -> Iterator[int]:
        """The free places from this one on, in their order."""
        self._link()
        at = _end(self._right, bisect_left(self.places, place))
        while at < len(self.places):
            yield self.places[at]
            at = _end(self._right, at + 1)

    def _link(self) -> None:
        """Each place leads to itself, or on to where a free one may be; on the left they are counted from 1."""
        if not self._right:
            self._right = list(range(len(self.places) + 1))
            self._left = list(range(len(self.places) + 1))


def _end(links: list[int], at: int) -> int:
    """Where a chain of links ends; the chain is halved on the way."""
    while links[at] != at:
        links[at] = links[links[at]]
        at = links[at]
    return at


class _ByFigures:
    """Index of tensors by figures: equal ones within an element type, a smallest value nearby across types."""

    def __init__(self, placed: Iterable[tuple[int, TensorRef]], figures: Callable[[TensorRef], Stats | None]) -> None:
        self._refs: dict[int, TensorRef] = {}
        self._hints: dict[int, Sequence[tuple[object, ...]]] = {}
        self._equal: defaultdict[tuple[object, ...], _Free] = defaultdict(_Free)
        self._near: defaultdict[int, dict[str, list[tuple[float, int]]]] = defaultdict(dict)
        self._ranks: dict[int, int] = {}
        self._free: dict[tuple[int, str], _Free] = {}
        for place, ref in placed:
            stats = figures(ref)
            if stats is None or stats.low is None:
                continue
            self._refs[place] = ref
            self._hints[place] = _hints(ref, stats)
            for hint in self._hints[place]:
                self._equal[hint].places.append(place)
            self._near[ref.numel].setdefault(ref.dtype.name, []).append((float(stats.low), place))
        for numel, types in self._near.items():
            for name, rows in types.items():
                rows.sort()
                self._ranks.update((place, rank) for rank, (_, place) in enumerate(rows))
                self._free[numel, name] = _Free()
                self._free[numel, name].places = list(range(len(rows)))

    def take(self, place: int, ref: TensorRef) -> None:
        """It is another one's, and no candidate any more."""
        for hint in self._hints[place]:
            self._equal[hint].take(place)
        self._free[ref.numel, ref.dtype.name].take(self._ranks[place])

    def like(self, a: TensorRef, place: int, stats: Stats | None) -> Iterator[tuple[int, TensorRef]]:
        """Yield the tensors that may hold the values of `a`: of its type first, then by checksum, name and place."""
        if stats is None or stats.low is None or stats.high is None:
            return
        seen: set[int] = set()
        for hint in _hints(a, stats):
            if hint not in self._equal:
                continue
            for candidate in self._equal[hint].nearest(place):
                if candidate not in seen:
                    seen.add(candidate)
                    yield candidate, self._refs[candidate]
        low, workspace = float(stats.low), _CAST_MOVES * max(abs(stats.low), abs(stats.high))
        others: list[int] = []
        for dtype, rows in self._near.get(a.numel, {}).items():
            if dtype != a.dtype.name:
                first = bisect_left(rows, low - workspace, key=itemgetter(0))
                last = bisect_right(rows, low + workspace, key=itemgetter(0))
                free = takewhile(lambda rank: rank < last, self._free[a.numel, dtype].after(first))  # noqa: B023
                others += (rows[rank][1] for rank in islice(free, _MOST_TRIED))
        others.sort(
            key=lambda b: (not _same_checksum(a, self._refs[b]), _leaf(a) != _leaf(self._refs[b]), abs(b - place))
        )
        yield from ((other, self._refs[other]) for other in others)


def _hints(ref: TensorRef, stats: Stats) -> Sequence[tuple[object, ...]]:
    """What tensors of equal figures may share besides, the most telling first."""
    key, leaf = _key(ref, stats), _leaf(ref)
    crc = ref.segments[0].crc if ref.segments else 0
    told = ((key, crc, leaf), (key, crc)) if crc else ()
    return (*told, (key, "", leaf), (key,))


_Key = tuple[int, str, int, float | int | None, float | int | None, int]


def _key(ref: TensorRef, stats: Stats) -> _Key:
    return (ref.numel, ref.dtype.name, stats.nan, stats.low, stats.high, stats.zeros)


def can_tell(ref: TensorRef) -> bool:
    """Return whether equal values are evidence. A buffer may be computed (a mask, a window) and equal in any model."""
    return is_averaged(ref) and ref.numel > 1 and ref.kind not in (*TRAINING_STATE, Kind.BUFFER)


def state_by_values(made: Matching, tools: Tools, *, positions: bool) -> None:
    """Match the remaining tensors of the training by equal values, and those that are the only ones of their shape.

    Formats number them in different orders. Constant ones count too: any of them is as good as another.

    Args:
        made: what is matched so far.
        tools: buffers.
        positions: whether names that only count are no names, as between two formats.
    """
    if positions:
        made.release(lambda m: _is_numbered_state(m.a) and _is_numbered_state(m.b))
    waiting: defaultdict[Hashable, list[TensorRef]] = defaultdict(list)
    shapes = {_of_state(ref) for ref in made.left if _is_state(ref)}
    for ref in reversed([r for r in made.right if _is_state(r) and _of_state(r) in shapes]):
        waiting[_state_key(ref, tools)].append(ref)
    found = []
    for a in made.left if waiting else ():
        rest = waiting.get(_state_key(a, tools)) if _is_state(a) else None
        with suppress(PinspectError):  # an unreadable tensor is matched by nothing
            if rest and agrees(a, rest[-1], None, tools):
                found.append(Match(a, rest.pop(), How.CONTENT))
    made.take(found)
    if positions:
        made.by_key(lambda r: r.name if _is_state(r) else None, lambda r: r.name, How.NAME)
    alone = [Counter(_of_state(r) for r in side if _is_state(r)) for side in (made.left, made.right)]
    single = {key for key, n in alone[0].items() if n == alone[1].get(key) == 1}
    made.by_key(
        lambda r: _of_state(r) if _is_state(r) and _of_state(r) in single else None,
        lambda r: _of_state(r) if _is_state(r) else None,
        How.POSITION,
    )


def _is_state(ref: TensorRef | None) -> bool:
    return ref is not None and ref.kind in TRAINING_STATE


def _is_numbered_state(ref: TensorRef | None) -> bool:
    return ref is not None and _is_state(ref) and is_index(parts(ref.name)[-1])


def _of_state(ref: TensorRef) -> tuple[tuple[int, ...], str]:
    return ref.shape, ref.dtype.name


def _state_key(ref: TensorRef, tools: Tools) -> Hashable:
    try:
        s = stats_of(ref, tools.buffers[0])
    except PinspectError:
        return id(ref)
    return (*_of_state(ref), s.nan, s.low, s.high, s.zeros)


def _leaf(ref: TensorRef) -> str:
    return names.in_torch_words(parts(ref.name))[-1]


def _same_checksum(a: TensorRef, b: TensorRef) -> bool:
    """Return whether the checksums are equal: a hint where to look first."""
    return bool(a.segments and b.segments and a.segments[0].crc and a.segments[0].crc == b.segments[0].crc)


def _verified(
    a: TensorRef, b: TensorRef, channels: Sequence[int], known: dict[int, Stats | None], tools: Tools
) -> Match | None:
    try:
        if not _could_be(a, b, known, tools):
            return None
        for permutation in _orders(a, b, channels):
            if agrees(a, b, permutation, tools):
                return Match(a, b, How.CONTENT, permutation)
    except PinspectError:
        pass  # an unreadable tensor is matched by nothing
    return None


def _orders(a: TensorRef, b: TensorRef, channels: Sequence[int]) -> Iterator[Layout | None]:
    if a.shape == b.shape:
        yield None
    yield from layouts(a, b, channels)


def _could_be(a: TensorRef, b: TensorRef, known: dict[int, Stats | None], tools: Tools) -> bool:
    x, y = _figures(a, known, tools), _figures(b, known, tools)
    if x is None or y is None or x.nan != y.nan:
        return False
    assert x.low is not None
    assert x.high is not None
    assert y.low is not None
    assert y.high is not None
    if a.dtype == b.dtype:
        return (x.low, x.high, x.zeros) == (y.low, y.high, y.zeros) and math.isclose(x.std, y.std, rel_tol=1e-9)
    workspace = _CAST_MOVES * max(abs(x.low), abs(x.high))
    return abs(x.low - y.low) <= workspace and abs(x.high - y.high) <= workspace and abs(x.std - y.std) <= workspace


def _figures(ref: TensorRef, known: dict[int, Stats | None], tools: Tools) -> Stats | None:
    """Return figures that do not depend on the order of elements; None for a constant tensor."""
    if id(ref) not in known:
        known[id(ref)] = None
        with suppress(PinspectError):  # an unreadable tensor is matched by nothing
            stats = stats_of(ref, tools.buffers[0])
            known[id(ref)] = stats if stats.low is not None and stats.low != stats.high else None
    return known[id(ref)]
