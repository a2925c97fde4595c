"""Matching tensors of A and B by names, shapes and order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inspectcli.commands.diff import names
from inspectcli.display.text import natural_key
from inspectcli.errors import UsageError
from inspectcli.tensors.layout import Layout
from inspectcli.tensors.model import TRAINING_STATE, Kind, TensorRef
from inspectcli.tensors.names import Parts, counted, parts
from inspectcli.words import Word


class How(Word):
    """By what two tensors were matched."""

    NAME = "name"
    PLACE = "place"  # where the library counts it, as one side has no name for it
    SEPARATOR = "separator"  # `a.b` and `a/b`
    PREFIX = "prefix"
    WRAPPER = "wrapper"  # a wrapper's part inside the name
    CONVENTION = "convention"  # Keras's and torch's words
    CONTENT = "content"  # equal values
    MODULE = "module"  # its module was renamed
    POSITION = "position"  # among numbered siblings
    ORDER = "order"  # the same shapes in the same order
    SLICE = "slice"  # a part of a larger tensor
    MAP = "map"  # the user's
    ALONE = ""  # on one side only


class Match(NamedTuple):
    """One tensor of each side, or one alone.

    Attributes:
        how: by what they were matched.
        layout: how A's elements lie in B, if not in the same order.
        part: which part of a larger tensor one side is.
    """

    a: TensorRef | None
    b: TensorRef | None
    how: How = How.ALONE
    layout: Layout | None = None
    part: str = ""


@dataclass(slots=True)
class Matching:
    """Pairs found so far, and what is left, in file order.

    Attributes:
        prefixes: the changes of prefix that were used: said once.
    """

    left: list[TensorRef]
    right: list[TensorRef]
    pairs: list[Match] = field(default_factory=list)
    prefixes: list[names.Rewrite] = field(default_factory=list)

    def take(self, found: Iterable[Match]) -> int:
        """Add pairs, and remove their tensors from what is left. Returns the number of pairs."""
        made = list(found)
        self.pairs.extend(made)
        gone_a, gone_b = {id(m.a) for m in made}, {id(m.b) for m in made}
        self.left = [ref for ref in self.left if id(ref) not in gone_a]
        self.right = [ref for ref in self.right if id(ref) not in gone_b]
        return len(made)

    def take_parts(self, found: Iterable[Match], wholes: Iterable[TensorRef]) -> None:
        """Add pairs of tensors with parts of larger ones, which are then no longer left."""
        self.take(found)
        gone = set(map(id, wholes))
        self.left = [ref for ref in self.left if id(ref) not in gone]
        self.right = [ref for ref in self.right if id(ref) not in gone]

    def release(self, which: Callable[[Match], bool]) -> None:
        """Take pairs apart again: their tensors are left, behind the others."""
        freed = [m for m in self.pairs if which(m)]
        self.pairs = [m for m in self.pairs if not which(m)] if freed else self.pairs
        self.left += [m.a for m in freed if m.a is not None]
        self.right += [m.b for m in freed if m.b is not None]

    def by_key(self, key_a: Callable[[TensorRef], Hashable], key_b: Callable[[TensorRef], Hashable], how: How) -> int:
        """Pair tensors with equal keys; several with one key are paired in order. A key of None matches nothing."""
        waiting: defaultdict[Hashable, list[TensorRef]] = defaultdict(list)
        for ref in reversed(self.right):
            waiting[key_b(ref)].append(ref)
        found = []
        for ref in self.left:
            key = key_a(ref)
            if key is not None and waiting.get(key):
                found.append(Match(ref, waiting[key].pop(), how))
        return self.take(found)


def by_names(a: Sequence[TensorRef], b: Sequence[TensorRef], mapped: Mapping[str, str]) -> Matching:
    """Match by the user's map, by name, separator, wrapper and prefix, and by the naming of the other framework.

    Raises:
        UsageError: the map names a tensor that does not exist.
    """
    made = Matching(_comparable(a, b), _comparable(b, a))
    _by_map(made, mapped)
    _by_place(made)
    apart = _set_aside(made)
    made.by_key(lambda r: (r.name, _is_state(r)), lambda r: (r.name, _is_state(r)), How.NAME)
    for words, how, prefixed in _NAMINGS:
        made.by_key(lambda r: (words(r.name), _is_state(r)), lambda r: (words(r.name), _is_state(r)), how)  # noqa: B023
        for state in (False, True) if prefixed else ():
            _by_prefix(made, words, state, prefixed)
    made.left += apart[0]
    made.right += apart[1]
    return made


def _comparable(refs: Sequence[TensorRef], others: Sequence[TensorRef]) -> list[TensorRef]:
    """Leave out the state of metrics if the other side keeps none: it is of the epoch, and most formats drop it."""
    both = any(ref.kind is Kind.METRIC for ref in others)
    return [ref for ref in refs if both or ref.kind is not Kind.METRIC]


def _by_place(made: Matching) -> None:
    """Match tensors without a name of their own by the place at which their library counts them."""
    nameless = {ref.position for ref in (*made.left, *made.right) if ref.positional}

    def place(ref: TensorRef) -> Hashable:
        return (ref.position, ref.shape) if ref.position in nameless else None

    if nameless:
        made.by_key(place, place, How.PLACE)


def _set_aside(made: Matching) -> tuple[list[TensorRef], list[TensorRef]]:
    """Take those out whose names say a position, and return them: a tensor of that name is another one."""
    apart = [r for r in made.left if r.positional], [r for r in made.right if r.positional]
    made.left = [r for r in made.left if not r.positional]
    made.right = [r for r in made.right if not r.positional]
    return apart


def _is_state(ref: TensorRef) -> bool:
    return ref.kind in TRAINING_STATE


def _unwrapped(name: str) -> Parts:
    return names.unwrapped(parts(name))


def _torch_parts(name: str) -> Parts:
    return names.in_torch_words(_unwrapped(name))


#: How names are read, by what tensors are then matched, and by what if a prefix was changed besides.
_NAMINGS: tuple[tuple[Callable[[str], Parts], How, How], ...] = (
    (parts, How.SEPARATOR, How.ALONE),
    (_unwrapped, How.WRAPPER, How.PREFIX),
    (_torch_parts, How.CONVENTION, How.CONVENTION),
)


def _by_map(made: Matching, mapped: Mapping[str, str]) -> None:
    left, right = {r.name: r for r in made.left}, {r.name: r for r in made.right}
    for name_a, name_b in mapped.items():
        for side, name, known in (("A", name_a, left), ("B", name_b, right)):
            if name not in known:
                raise UsageError(f"--map: {side} has no tensor {name!r}", "list its tensors with `pinspect FILE --all`")
    made.take([Match(left[x], right[y], How.MAP) for x, y in mapped.items()])


def _by_prefix(made: Matching, words: Callable[[str], Parts], state: bool, how: How) -> None:
    left = [words(r.name) for r in made.left if _is_state(r) is state]
    right = [words(r.name) for r in made.right if _is_state(r) is state]
    for rewrite in names.rewrites(left, right):
        moved = {r.name: names.applied(rewrite, words(r.name)) for r in made.left if _is_state(r) is state}
        # Another number of dimensions and of elements: `layers.0.w` is no `layers.w` that holds all layers.
        found = 0
        for size in (lambda r: len(r.shape), lambda r: (r.numel,)):
            found += made.by_key(
                lambda r: (path, size(r)) if (path := moved.get(r.name)) else None,  # noqa: B023
                lambda r: (words(r.name) if _is_state(r) is state else (), size(r)),  # noqa: B023
                how,
            )
        if found and rewrite not in made.prefixes:
            made.prefixes.append(rewrite)


def by_module(made: Matching) -> None:
    """Match the rest of modules of which a tensor was matched: `ln_f.bias` goes where `ln_f.weight` went."""
    moved = {
        (parts(m.a.name)[:-1], _is_state(m.a)): parts(m.b.name)[:-1]
        for m in made.pairs
        if m.a is not None and m.b is not None and m.how in (How.CONTENT, How.MAP)
    }

    def in_b(ref: TensorRef) -> Hashable:
        path = _torch_parts(ref.name)
        module = moved.get((parts(ref.name)[:-1], _is_state(ref)))
        return None if module is None else (module, path[-1], _dimensions(ref), _is_state(ref))

    def there(ref: TensorRef) -> Hashable:
        return (parts(ref.name)[:-1], _torch_parts(ref.name)[-1], _dimensions(ref), _is_state(ref))

    if moved:
        made.by_key(in_b, there, How.MODULE)


def _dimensions(ref: TensorRef) -> tuple[int, ...]:
    return tuple(sorted(ref.shape))


def by_position(made: Matching) -> None:
    """Match numbered siblings in order: `net.0, net.2` with `net.1, net.3`.

    Only if both sides have equally many of one shape, and none of them was matched by its name: otherwise, those that
    are left were added and removed.
    """
    settled = {_family(ref) for match in made.pairs for ref in (match.a, match.b) if ref is not None}
    sides: list[defaultdict[Hashable, list[TensorRef]]] = [defaultdict(list), defaultdict(list)]
    for side, refs in zip(sides, (made.left, made.right), strict=True):
        for ref in sorted(refs, key=lambda r: natural_key(r.name)):
            side[_family(ref)].append(ref)
    found = [
        Match(x, y, How.POSITION)
        for family, members in sides[0].items()
        if family not in settled and "#" in str(family) and len(members) == len(sides[1].get(family, ()))
        for x, y in zip(members, sides[1][family], strict=True)
    ]
    made.take(found)


def by_order(made: Matching) -> None:
    """Match what is left of the model if one side's shapes follow each other on the other side too, at one place only.

    One matrix and a bias are in any model: at least `_LEAST_ORDERED` shapes in a row are asked for.
    """
    a, b = ([r for r in side if not _is_state(r)] for side in (made.left, made.right))
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    if len(short) < _LEAST_ORDERED:
        return
    places = _places([r.shape for r in short], [r.shape for r in long])
    if len(places) == 1:
        run = long[places[0] : places[0] + len(short)]
        pairs = zip(short, run, strict=True) if short is a else zip(run, short, strict=True)
        made.take([Match(x, y, How.ORDER) for x, y in pairs])


#: Least number of shapes whose order is evidence.
_LEAST_ORDERED = 4


def _places(what: Sequence[Hashable], where: Sequence[Hashable]) -> list[int]:
    """Return where a sequence stands in a longer one (Knuth, Morris and Pratt: each element is looked at twice)."""
    back, k = [0] * len(what), 0
    for i in range(1, len(what)):
        while k and what[i] != what[k]:
            k = back[k - 1]
        k += what[i] == what[k]
        back[i] = k
    found, k = [], 0
    for i, value in enumerate(where):
        while k and value != what[k]:
            k = back[k - 1]
        k += value == what[k]
        if k == len(what):
            found.append(i - k + 1)
            k = back[k - 1]
    return found


def _family(ref: TensorRef) -> Hashable:
    return counted(ref.name), ref.shape, _is_state(ref)
