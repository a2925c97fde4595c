"""Changes of prefix, and what Keras and torch call the same weight."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from inspectcli.tensors.names import Parts

#: Prefixes that wrappers and trainers put before every name. Others are found too; these need no majority.
WRAPPERS = frozenset(
    "module _orig_mod model net network state_dict model_state_dict _model base_model transformer".split()
)

#: Parts that torch.compile, FSDP, activation checkpointing and data parallelism put before the names of one block.
_INNER = frozenset("_orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module module".split())

#: Name of a weight in Keras -> in torch.
_CONVENTIONS = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
#: Recurrent layers: (components of the cell in Keras, in torch).
_CELLS: dict[Parts, Parts] = {
    ("lstm_cell", "kernel"): ("weight_ih_l0",),
    ("lstm_cell", "recurrent_kernel"): ("weight_hh_l0",),
    ("lstm_cell", "bias"): ("bias_ih_l0",),
}
#: Most changes of prefix: EMA copies and sub-models have prefixes of their own.
_MAX_ROUNDS = 4
#: Most endings of each name that are tried.
_MAX_DEPTH = 12


class Rewrite(NamedTuple):
    """A change of prefix: `before` in A is `after` in B."""

    before: Parts
    after: Parts

    @property
    def is_wrapper(self) -> bool:
        """Whether it only adds or removes a prefix."""
        return not (self.before and self.after)


def in_torch_words(path: Parts) -> Parts:
    """Return the components of a Keras name as torch would name the weight."""
    cell = _CELLS.get(path[-2:])
    return (*path[:-2], *cell) if cell else (*path[:-1], _CONVENTIONS.get(path[-1], path[-1]))


def unwrapped(path: Parts) -> Parts:
    """Return the components without those of wrappers inside the name; what stands before the whole name stays.

    >>> unwrapped(("module", "layers", "0", "_orig_mod", "weight"))
    ('module', 'layers', '0', 'weight')
    """
    start = next((i for i, part in enumerate(path) if part not in WRAPPERS and part not in _INNER), len(path))
    if _INNER.isdisjoint(path[start:-1]):
        return path
    return (*path[:start], *(part for part in path[start:-1] if part not in _INNER), path[-1])


def is_kernel(name: str) -> bool:
    """Return whether this is a kernel, for which Keras puts inputs first, and torch outputs."""
    return name.endswith("kernel") or name.endswith("kernel:0")


def rewrites(a: Sequence[Parts], b: Sequence[Parts]) -> list[Rewrite]:
    """Return changes of prefix, each of which explains most of the names that no earlier one explains."""
    # Dictionaries keep the order of the names: a tie is decided by it, not by the hashes of strings.
    left, right, found = list(a), dict.fromkeys(b), []
    for _ in range(_MAX_ROUNDS):
        best = _best(left, right)
        if best is None:
            break
        found.append(best)
        made = {path: moved for path in left if (moved := applied(best, path)) in right}
        left = [path for path in left if path not in made]
        used = set(made.values())
        right = {path: None for path in right if path not in used}
    return found


def applied(rewrite: Rewrite, path: Parts) -> Parts | None:
    """Return the name in B; None if the name does not have the prefix."""
    n = len(rewrite.before)
    return (*rewrite.after, *path[n:]) if path[:n] == rewrite.before else None


def _best(left: Sequence[Parts], right: Mapping[Parts, None]) -> Rewrite | None:
    if not left or not right:
        return None
    votes: Counter[Rewrite] = Counter()
    deep: Counter[Rewrite] = Counter()
    for path, prefixes in _shared(left, right).items():
        for rewrite in prefixes:
            votes[rewrite] += 1
            deep[rewrite] += len(path) - len(rewrite.before) > 1
    smaller = min(len(left), len(right))
    ranked = sorted(votes.items(), key=lambda item: (-item[1], len(item[0].before) + len(item[0].after), item[0]))
    for rewrite, n in ranked:
        known = rewrite.is_wrapper and set(rewrite.before + rewrite.after) <= WRAPPERS
        # That `weight` of one layer is `weight` of another is no evidence: module names must agree below the prefix.
        if n * 2 > smaller and (rewrite.is_wrapper or deep[rewrite] * 2 > smaller):
            return rewrite
        if known and n >= 2:
            return rewrite
    return None


def _shared(left: Sequence[Parts], right: Mapping[Parts, None]) -> Mapping[Parts, set[Rewrite]]:
    """For each name of A the changes of prefix that lead to a name of B with the longest common ending."""
    endings: defaultdict[Parts, list[Parts]] = defaultdict(list)
    for path in right:
        for cut in range(max(0, len(path) - _MAX_DEPTH), len(path)):
            endings[path[cut:]].append(path[:cut])
    shared: dict[Parts, set[Rewrite]] = {}
    for path in left:
        found: set[Rewrite] = set()
        for cut in range(max(0, len(path) - _MAX_DEPTH), len(path)):
            ending = path[cut:]
            prefixes = endings.get(ending, [])
            # An ending that many names have says nothing; the prefix that adds or takes away all is always looked at.
            if cut and len(prefixes) > 4:
                prefixes = [()] if ending in right else []
            found.update(Rewrite(path[:cut], after) for after in prefixes)
            if len(found) and any(len(r.before) == cut for r in found):
                break
        shared[path] = found
    return shared
