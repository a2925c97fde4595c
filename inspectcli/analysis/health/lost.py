"""Blocks of one shape (PI210): what one of them has lost, and its siblings have."""

from __future__ import annotations

from collections.abc import Iterable

from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Part

#: Siblings that must have what one has lost.
_SIBLINGS = 2


@rule("PI210", "zeros-among-siblings", Severity.WARNING)
def zeros_among_siblings(subject: RuleContext) -> Iterable[RuleHit]:
    """The scale of a normalization, or a bias, is all zeros, and those of its siblings in other blocks are not.

    Why it matters: a normalization with a scale of 0 gives nothing, and its block is cut out of the network. A bias
    that is 0 alone was never trained, or was lost.

    What it rests on: two siblings at least, of which none is zeros. A bias is a note: it begins at 0, and may have got
    no gradient. A new model whose blocks begin with scales of 0 has them in all blocks, or in none that was trained.

    What to do: compare with an earlier checkpoint, or with the model that it was converted from.
    """
    seen: set[str] = set()
    for tensor in subject.unique:
        if tensor.role.kind not in _JUDGED or tensor.name in seen or tensor.ref.numel < 2:
            continue
        group = subject.siblings[tensor.name]
        seen.update(other.name for other in group)
        zero = [other for other in group if other.constant == 0]
        if len(zero) == 1 and len(group) > _SIBLINGS and subject.trained:
            kind = zero[0].role.kind
            message = f"all {zero[0].ref.numel:,} values are 0, those of its {len(group) - 1:,} siblings are not"
            severity = Severity.WARNING if kind is Part.NORM_SCALE else Severity.NOTE
            figures = {"count": zero[0].ref.numel, "siblings": len(group) - 1}
            yield RuleHit(zero[0].name, message, figures, severity=severity)


_JUDGED = frozenset({Part.NORM_SCALE, Part.NORM_SHIFT, Part.BIAS, Part.RNN_BIAS})
