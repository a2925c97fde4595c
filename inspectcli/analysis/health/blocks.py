"""Blocks of a model by the numbers in names, and those that are missing between others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from inspectcli.tensors.model import TRAINING_STATE, TensorRef
from inspectcli.tensors.names import is_index

#: Contents of a block: (rest of the name, shape) of its tensors.
Made = frozenset[tuple[str, tuple[int, ...]]]

#: Siblings that must have what one has lost.
_SIBLINGS = 2
#: At most one in so many blocks is an exception; more are another kind of block.
_ONE_IN = 4
#: What a block may have lost alone: parameters beside a weight, and whole normalizations.
_LOST = re.compile(r"(^|[._])(bias|weight|scale|gamma|beta|running_mean|running_var|running_scale|g|b)$")
_NORM = re.compile(r"norm|(^|[._])(ln|bn)", re.IGNORECASE)


class Gap(NamedTuple):
    """Blocks that are missing in a list.

    Attributes:
        prefix: name of the list, `model.layers`; empty for the model itself.
        present: numbers of its blocks.
        missing: numbers without a block.
    """

    prefix: str
    present: tuple[int, ...]
    missing: tuple[int, ...]


def gaps(tensors: Iterable[TensorRef]) -> Iterator[Gap]:
    """Yield the lists of blocks in which one is missing.

    Numbers are skipped for many good reasons: layers without parameters, layers chosen for an adapter, keys of a
    dictionary. So a gap counts only in a list that is mostly complete, between two blocks of the same tensors, of
    several layers each, like at least one more block.
    """
    for prefix, blocks in block_lists(tensors).items():
        present = sorted(blocks)
        if 2 * (present[-1] + 1 - len(present)) >= len(present):
            continue
        missing = tuple(n for a, b in pairwise(present) for n in range(a + 1, b) if _alike(blocks, a, b))
        if missing:
            yield Gap(prefix, tuple(present), missing)


def block_lists(tensors: Iterable[TensorRef]) -> Mapping[str, Mapping[int, Made]]:
    """Return prefix of names -> number that follows it -> contents of that block."""
    found: dict[str, dict[int, set[tuple[str, tuple[int, ...]]]]] = {}
    for ref in tensors:
        if ref.kind in TRAINING_STATE:
            continue
        parts = ref.name.split(".")
        for i, component in enumerate(parts[:-1]):
            if is_index(component):
                blocks = found.setdefault(".".join(parts[:i]), {})
                blocks.setdefault(int(component), set()).add((".".join(parts[i + 1 :]), ref.shape))
    return {prefix: {n: frozenset(made) for n, made in blocks.items()} for prefix, blocks in found.items()}


def _alike(blocks: Mapping[int, Made], before: int, after: int) -> bool:
    """Return whether the blocks around a gap have the same contents, of several layers, and are not the only two."""
    made = blocks[before]
    layers = {rest.rpartition(".")[0] for rest, _ in made}
    return made == blocks[after] and len(layers) > 1 and sum(other == made for other in blocks.values()) > 2


def deficient(blocks: Mapping[int, Made]) -> Mapping[int, set[str]]:
    """Number of a block -> what it lacks of what its siblings have."""
    if len(blocks) <= _SIBLINGS:
        return {}
    usual, count = Counter(blocks.values()).most_common(1)[0]
    if count < _SIBLINGS or len(blocks) - count > max(1, len(blocks) // _ONE_IN):
        return {}
    if len({name.rpartition(".")[0] for name, _ in usual}) < 2:  # a sequence of layers
        return {}
    found = {}
    ends = {min(blocks), max(blocks)}
    for number, made in blocks.items():
        missing = {name for name, _ in usual - made}
        if made == usual or not made < usual or not all(map(_LOST.search, missing)):
            continue
        layers = {name.rpartition(".")[0] for name, _ in made}
        gone = {name for name in missing if name.rpartition(".")[0] not in layers}
        if all(_NORM.search(name) for name in gone) and not (gone and number in ends):
            found[number] = missing
    return found
