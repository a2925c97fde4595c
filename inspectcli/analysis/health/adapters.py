"""Adapters (PI411): pairs of LoRA matrices whose product does not exist. The header is enough."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Part
from inspectcli.words import Word

_LETTER = re.compile(r"lora_(embedding_)?(A|B|down|up)(?=[./]|$)")
#: Parts of a fused layer that loralib adapts in one matrix, each by its own B.
_FUSED = (2, 3)


class _Way(Word):
    """How A and B are multiplied: torch keeps (rank, in) and (out, rank), others (in, rank) and (rank, out)."""

    TORCH = "B times A"
    TRANSPOSED = "A times B"


class _Pair(NamedTuple):
    layer: str
    a_name: str
    b_name: str
    a: tuple[int, ...]
    b: tuple[int, ...]

    @property
    def ranks(self) -> Mapping[_Way, int]:
        """The ways in which the product exists, with the rank that it has then."""
        ways = {_Way.TORCH: (self.a[0], self.b[1]), _Way.TRANSPOSED: (self.a[1], self.b[0])}
        return {way: rank for way, (rank, other) in ways.items() if rank == other}

    @property
    def likely(self) -> _Way | None:
        """The way of the smaller rank; None if there is none, or both are equal: a square layer of full rank."""
        least = min(self.ranks.values(), default=0)
        found = [way for way, rank in self.ranks.items() if rank == least]
        return found[0] if len(found) == 1 else None

    @property
    def is_bare(self) -> bool:
        """Whether A is no module of its own, as in loralib, where one A serves several B of a fused layer."""
        return bool(_LETTER.search(self.a_name.rpartition(".")[2])) and any(self.a[0] == n * self.b[1] for n in _FUSED)


@rule("PI411", "adapter-mismatch", Severity.ERROR, reads=False)
def adapter_mismatch(subject: RuleContext) -> Iterator[RuleHit]:
    """The A and B of a LoRA adapter do not fit: their ranks disagree, or they are exchanged.

    Why it matters: their product does not exist, or has the shape of the transposed layer: a loader stops there.

    What it rests on: the shapes. A has as many rows as B has columns (or the other way round, in all pairs of a file
    that is written so). Other ranks in other layers are PEFT's `rank_pattern`, and are left alone, as are the fused
    layers of loralib.

    What to do: save the adapter again from the training, or convert it again.
    """
    pairs = _pairs(subject)
    ways = Counter(pair.likely for pair in pairs if pair.likely is not None)
    usual = max(ways, key=lambda way: (ways[way], way is _Way.TORCH), default=_Way.TORCH)
    ranks = Counter(pair.ranks[usual] for pair in pairs if usual in pair.ranks)
    for pair in pairs:
        exchanged = _is_exchanged(pair, usual, ranks)
        if (usual in pair.ranks and not exchanged) or pair.is_bare:
            continue
        shapes = f"A is {list(pair.a)}, B is {list(pair.b)}"
        what = f"A and B of {pair.layer} are exchanged" if exchanged else f"the ranks of {pair.layer} disagree"
        yield RuleHit(pair.b_name, f"{what}: {shapes}", {"a": list(pair.a), "b": list(pair.b)})


def _is_exchanged(pair: _Pair, usual: _Way, ranks: Mapping[int, int]) -> bool:
    """Return whether the other way gives the rank of other layers, and the usual one none, or one of its own."""
    rank = next((rank for way, rank in pair.ranks.items() if way is not usual), None)
    own = pair.ranks.get(usual)
    return rank is not None and rank in ranks and (own is None or (rank < own and ranks[own] == 1))


def _pairs(subject: RuleContext) -> list[_Pair]:
    sides: dict[str, dict[Part, tuple[str, tuple[int, ...]]]] = {}
    for tensor in subject.tensors:
        if tensor.role.kind in (Part.LORA_A, Part.LORA_B) and len(tensor.ref.shape) >= 2:
            place = _LETTER.sub("lora", tensor.name)
            sides.setdefault(place, {})[tensor.role.kind] = tensor.name, tensor.ref.shape
    return [
        _Pair(re.split(r"[./]?lora(?=[./]|$)", place)[0], made[Part.LORA_A][0], made[Part.LORA_B][0],
              made[Part.LORA_A][1], made[Part.LORA_B][1])
        for place, made in sides.items() if len(made) == 2
    ]  # fmt: skip
