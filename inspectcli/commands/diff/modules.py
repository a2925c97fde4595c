"""Changes by module: which were trained, and which frozen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from inspectcli.commands.diff.compare import Status
from inspectcli.commands.diff.result import TensorDiff
from inspectcli.tensors.names import common_prefix, module_of


class Module(NamedTuple):
    """The tensors below one name.

    Attributes:
        untouched: number of tensors with equal values.
        rel_l2: ||a - b|| / ||a|| over the tensors that changed; None if none did, or if all were zero.
    """

    name: str
    tensors: int
    parameters: int
    untouched: int
    changed: int
    added: int
    removed: int
    rel_l2: float | None
    l2: float

    @property
    def is_frozen(self) -> bool:
        return self.untouched == self.tensors


def by_module(tensors: Iterable[TensorDiff]) -> list[Module]:
    """Return the modules in the order of their first tensors; each numbered block is one of its own."""
    rows = list(tensors)
    prefix = common_prefix([t.name for t in rows])
    groups: dict[str, list[TensorDiff]] = {}
    for t in rows:
        groups.setdefault(module_of(t.name, prefix), []).append(t)
    return [_module(name, members) for name, members in groups.items()]


def _module(name: str, members: list[TensorDiff]) -> Module:
    squares = sum(t.l2 * t.l2 for t in members if t.l2)
    before = sum(t.norm_a * t.norm_a for t in members if t.l2 and t.norm_a)
    return Module(
        name=name,
        tensors=len(members),
        parameters=sum(t.numel for t in members),
        untouched=sum(t.is_same for t in members),
        changed=sum(not t.is_same and t.status not in (Status.ADDED, Status.REMOVED) for t in members),
        added=sum(t.status is Status.ADDED for t in members),
        removed=sum(t.status is Status.REMOVED for t in members),
        rel_l2=math.sqrt(squares / before) if squares and before else None,
        l2=math.sqrt(squares),
    )
