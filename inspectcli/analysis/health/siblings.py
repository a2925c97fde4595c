"""Blocks of one shape (PI210, PI412): what one of them has lost, and its siblings have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.blocks import Made, block_lists
from inspectcli.analysis.health.structure import is_partial
from inspectcli.analysis.roles import Part
from inspectcli.display.text import listed, runs

#: Siblings that must have what one has lost.
_SIBLINGS = 2
#: At most one in so many blocks is an exception; more are another kind of block.
_ONE_IN = 4
#: What a block may have lost alone: parameters beside a weight, and whole normalizations.
_LOST = re.compile(r"(^|[._])(bias|weight|scale|gamma|beta|running_mean|running_var|running_scale|g|b)$")
_NORM = re.compile(r"norm|(^|[._])(ln|bn)", re.IGNORECASE)


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
        zero = [other for other in group if _is_zero(other)]
        if len(zero) == 1 and len(group) > _SIBLINGS and subject.trained:
            kind = zero[0].role.kind
            message = f"all {zero[0].ref.numel:,} values are 0, those of its {len(group) - 1:,} siblings are not"
            severity = Severity.WARNING if kind is Part.NORM_SCALE else Severity.NOTE
            figures = {"count": zero[0].ref.numel, "siblings": len(group) - 1}
            yield RuleHit(zero[0].name, message, figures, severity=severity)


_JUDGED = frozenset({Part.NORM_SCALE, Part.NORM_SHIFT, Part.BIAS, Part.RNN_BIAS})


def _is_zero(tensor: TensorFacts) -> bool:
    s = tensor.stats
    return s is not None and not s.nonfinite and s.low == s.high == 0


@rule("PI412", "missing-sibling", Severity.WARNING, reads=False)
def missing_sibling(subject: RuleContext) -> Iterator[RuleHit]:
    """A block lacks a bias or a scale that its siblings have, and is like them in all else.

    Why it matters: a loader that is not strict leaves the parameter as it was initialized. A conversion that renames
    tensors loses one like this.

    What it rests on: the names and shapes of at least three blocks that are equal, and of one that is like them but
    for biases, scales or normalizations. Left alone are blocks that have something of their own, exceptions that are
    more than one in four, and a first or last block that lacks a whole normalization, as models have them that
    normalize elsewhere. Files with a part of a model, and adapters, are left alone too.

    What to do: look for the tensor in the model that this one was made from.
    """
    if is_partial(subject):
        return
    tensors = [ref for ref in subject.checkpoint.tensors if "lora_" not in ref.name]
    for prefix, blocks in block_lists(tensors).items():
        for number, missing in _deficient(blocks).items():
            where = f"{prefix}.{number}" if prefix else str(number)
            names = sorted(missing)
            lost = listed([f"{where}.{name}" for name in names])
            others = [n for n in blocks if n != number]
            yield RuleHit(
                None,
                f"block {number} lacks {lost}: found in {runs(sorted(others))} of {prefix or 'the model'}",
                {"prefix": prefix, "block": number, "missing": names[:10], "siblings": len(others)},
            )


def _deficient(blocks: Mapping[int, Made]) -> Mapping[int, set[str]]:
    """Number of a block -> what it lacks of what its siblings have."""
    if len(blocks) <= _SIBLINGS:
        return {}
    usual, count = Counter(blocks.values()).most_common(1)[0]
    if count < _SIBLINGS or len(blocks) - count > max(1, len(blocks) // _ONE_IN):
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
