"""Tensors of equal content, found by their figures and confirmed by their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Part, is_position_table
from inspectcli.measure.again import again
from inspectcli.measure.content import ContentHash, RoundedHash, rounded_to_bf16
from inspectcli.tensors.model import Kind
from inspectcli.tensors.names import pattern

#: Least number of values: smaller tensors are equal by chance or by design.
LEAST = 256
#: Names of deliberate copies: averages, targets of reinforcement learning, teachers.
_COPY = re.compile(
    r"(^|[._/])(\w*_)?(ema|target|teacher|shadow|averaged?|momentum|ref|reference|frozen|initial|previous|old)"
    r"(_\w*)?([._/]|$)",
    re.IGNORECASE,
)
_FIXED = re.compile(r"embed_positions|sinusoid|fourier|wavelet|w3j|basis", re.IGNORECASE)
_JUDGED = frozenset(
    {Part.WEIGHT, Part.EMBEDDING, Part.RNN_WEIGHT, Part.BIAS, Part.NORM_SCALE, Part.NORM_SHIFT, Part.OTHER}
)


class Rounded(NamedTuple):
    """A tensor, and another one that is equal to it once both are rounded to bfloat16."""

    original: TensorFacts
    copy: TensorFacts


class Copies(NamedTuple):
    """Modules with equal tensors.

    Attributes:
        modules: their names, `h.3`, `h.4`.
        groups: sets of equal tensors, each with one tensor of each module, in this order.
    """

    modules: tuple[str, ...]
    groups: tuple[tuple[TensorFacts, ...], ...]

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the modules; of the tensors if only one in each module is equal."""
        return self.modules if len(self.groups) > 1 else tuple(tensor.name for tensor in self.groups[0])


def copies(subject: RuleContext) -> Iterator[Copies]:
    """Yield equal tensors that are not tied, grouped by their modules."""
    found: dict[tuple[str, ...], list[tuple[TensorFacts, ...]]] = {}
    for group in _equal(subject):
        found.setdefault(_modules([tensor.name for tensor in group]), []).append(group)
    for modules, groups in found.items():
        yield Copies(modules, tuple(groups))


def _equal(subject: RuleContext) -> Iterator[tuple[TensorFacts, ...]]:
    """Groups of equal tensors. Only those whose exact figures agree are read again."""
    alike: dict[tuple[object, ...], list[TensorFacts]] = {}
    for tensor in subject.unique:
        if _is_judged(tensor):
            s = tensor.stats
            assert s is not None
            key = (tensor.ref.dtype.name, s.count, s.zeros, s.nan, s.low, s.high, f"{s.l2:.9g}")
            alike.setdefault(key, []).append(tensor)
    for suspects in alike.values():
        if len(suspects) < 2:
            continue
        same: dict[str, list[TensorFacts]] = {}
        for tensor in suspects:
            digest = again(tensor.ref, ContentHash)
            if digest:
                same.setdefault(digest, []).append(tensor)
        yield from (tuple(group) for group in same.values() if len(group) > 1)


def rounded_copies(subject: RuleContext) -> Iterator[Rounded]:
    """Yield siblings that differ, and are equal when rounded to bfloat16: one is a copy in a smaller type."""
    alike: dict[tuple[object, ...], list[TensorFacts]] = {}
    for tensor in subject.unique:
        s = tensor.stats
        if _is_judged(tensor) and s is not None and s.low is not None and s.high is not None and not s.nonfinite:
            key = pattern(tensor.name), tensor.ref.shape, _to_bf16(s.low), _to_bf16(s.high)
            alike.setdefault(key, []).append(tensor)
    for suspects in alike.values():
        if len(suspects) < 2 or len({(t.ref.dtype.name, t.rms) for t in suspects}) < 2:
            continue
        same: dict[str, TensorFacts] = {}
        for tensor in suspects:
            digest = again(tensor.ref, RoundedHash)
            other = same.setdefault(digest, tensor) if digest else tensor
            if other is not tensor and other.rms != tensor.rms:
                yield Rounded(other, tensor)


def _to_bf16(x: float) -> int:
    """The bits of the nearest bfloat16: a larger number has no smaller one, so bounds are rounded like all values."""
    import numpy as np

    return int(rounded_to_bf16(np.array([x], np.float32))[0])


def _is_judged(tensor: TensorFacts) -> bool:
    s = tensor.stats
    return (
        s is not None
        and tensor.ref.kind is Kind.PARAMETER
        and tensor.role.kind in _JUDGED
        and s.count >= LEAST
        and s.low != s.high  # constants need not be read again
        and not is_position_table(tensor.name)
        and not _COPY.search(tensor.name)
        and not _FIXED.search(tensor.name)
    )


def _modules(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without the last components they share: `h.3.attn.weight`, `h.4.attn.weight` -> `h.3`, `h.4`."""
    parts = [re.split(r"[./]", name) for name in names]
    least = min(len(p) for p in parts) - 1
    cut = 0
    while cut < least and len({p[-1 - cut] for p in parts}) == 1:
        cut += 1
    return tuple(".".join(p[: len(p) - cut]) for p in parts)
