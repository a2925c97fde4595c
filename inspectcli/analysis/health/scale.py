"""Scale (PI2xx): values of the wrong size, by the role of the tensor and by its siblings in other blocks."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Part
from inspectcli.display.text import listed, significant
from inspectcli.measure.rows import ZeroSlices

#: Times its initial scale, or that of its siblings: fresh and trained weights stay below a few hundred.
_EXPLODED = 1e3
_VANISHED = 1e-4
#: Usual sizes of scales of normalizations and of biases: trained ones reach some hundreds.
_NEAR_ONE = 1e4
#: Initial scales of embeddings.
_TABLES = (0.01, 1.0)
_COLLAPSED = 1e-20
#: Share of the sum of squares that no healthy tensor has in one value.
_DOMINATES = 0.9
#: Times the 99 % quantile of the magnitudes.
_FAR_OUT = 30.0
_LEAST = 16
_LEAST_OUTLIER = 64
#: Tokens, tables and state matrices, which may begin with zeros (log 1 in Mamba's `A_log`).
_OF_LAYER = re.compile("weight|kernel", re.IGNORECASE)
#: Share of zeros outside dead rows from which a weight counts as pruned.
_PRUNED = 0.25
_VECTORS = frozenset({Part.NORM_SCALE, Part.NORM_SHIFT, Part.BIAS, Part.RNN_BIAS})


def _weights(subject: RuleContext) -> Iterator[TensorFacts]:
    for tensor in subject.unique:
        if (
            tensor.role.is_weight
            and tensor.stats is not None
            and not tensor.stats.nonfinite
            and tensor.ref.numel >= _LEAST
        ):
            yield tensor


def _outlier(tensor: TensorFacts) -> tuple[float, float] | None:
    """Return (largest magnitude, usual magnitude) if one value dominates; else None."""
    s, sampled = tensor.stats, tensor.sampled
    if s is None or sampled is None or not s.l2 or s.finite < _LEAST_OUTLIER or s.abs_max is None:
        return None
    if sampled.size < _LEAST_OUTLIER:  # one stored value, expanded, is every value
        return None
    # Of a few tens of values, the 99 % quantile depends on the outlier itself.
    next_ones = max(abs(float(sampled.knots[1])), abs(float(sampled.knots[-2])))
    usual = min(max(abs(sampled.q01), abs(sampled.q99)), next_ones)
    largest = float(s.abs_max)
    share = (largest / s.l2) ** 2
    return (largest, usual) if share >= _DOMINATES and largest > _FAR_OUT * usual and usual > 0 else None


def _against_siblings(subject: RuleContext, tensor: TensorFacts) -> tuple[float, int] | None:
    """Return (root mean square over the median of those of its siblings, their number); None below two siblings.

    Siblings that have collapsed do not count. Of an even number, the two in the middle are a range: within it, 1.
    """
    own, sizes = tensor.rms, subject.sibling_sizes.get(tensor.name, ())
    first = bisect_left(sizes, _COLLAPSED)
    itself = bisect_left(sizes, own) if own > _COLLAPSED else len(sizes)
    others = len(sizes) - first - (own > _COLLAPSED)
    if others < 2:
        return None
    low, high = (sizes[at + (at >= itself)] for at in (first + (others - 1) // 2, first + others // 2))
    return _from_range(own, low, high), others


def _from_range(x: float, low: float, high: float) -> float:
    """Return x over the nearer end of a range; 1 within it."""
    return x / high if x > high else x / low if x < low else 1.0


def _against_start(tensor: TensorFacts) -> float | None:
    """Return the ratio to the initial scale; for a table without a default, to the range of usual scales."""
    if tensor.verdict is not None and tensor.verdict.ratio is not None:
        return None if _is_token(tensor) else tensor.verdict.ratio
    return _from_range(tensor.rms, *_TABLES) if tensor.role.kind is Part.EMBEDDING else None


def _is_token(tensor: TensorFacts) -> bool:
    """Return whether this is a class token, (1, 1, d), or a layer scale, (d, 1, 1): both may begin at 1e-6."""
    return sum(n > 1 for n in tensor.ref.shape) <= 1 and not _OF_LAYER.search(tensor.role.leaf)


class _Scale(NamedTuple):
    """How large a tensor is: its ratio to the siblings, or without siblings to its initial scale."""

    ratio: float
    siblings: int

    def __str__(self) -> str:
        of = f"the median of its {self.siblings} siblings" if self.siblings else "its initial scale"
        return f"{_times(self.ratio)} {of}"


def _scale(subject: RuleContext, tensor: TensorFacts) -> _Scale | None:
    """None without siblings or a default."""
    siblings = _against_siblings(subject, tensor)
    if siblings is not None:
        return _Scale(*siblings)
    start = _against_start(tensor)
    return _Scale(start, 0) if start is not None else None


def _times(ratio: float) -> str:
    return f"{significant(ratio, 3 if 0.01 <= ratio < 1e4 else 2)} times"


@rule("PI201", "exploding-scale", Severity.ERROR)
def exploding_scale(subject: RuleContext) -> Iterable[RuleHit]:
    """A tensor is more than a thousand times larger than its siblings or than at its initialization.

    Why it matters: its layer drowns all others or overflows in half precision. Training has diverged in this layer,
    or it was scaled or edited by hand.

    What to do: compare it with an earlier checkpoint (`pinspect diff`), and train on from before it grew.
    """
    for tensor in _weights(subject):
        found = _scale(subject, tensor)
        if found is not None and found.ratio > _EXPLODED and _outlier(tensor) is None:
            yield RuleHit(
                tensor.name,
                f"root mean square {significant(tensor.rms, 3)}: {found}",
                {"rms": tensor.rms, "ratio": found.ratio},
            )
    for tensor in subject.unique:
        if (
            tensor.role.kind not in _VECTORS
            or tensor.stats is None
            or tensor.stats.nonfinite
            or _outlier(tensor) is not None
        ):
            continue
        siblings = _against_siblings(subject, tensor)
        if tensor.rms > _NEAR_ONE and (siblings is None or siblings[0] > _EXPLODED):
            size = significant(tensor.rms, 3)
            message = f"root mean square {size}: of a {tensor.role.kind.value}, values near 1 are expected"
            yield RuleHit(tensor.name, message, {"rms": tensor.rms, "ratio": tensor.rms})


@rule("PI202", "vanishing-scale", Severity.WARNING)
def vanishing_scale(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight is more than ten thousand times smaller than its siblings or than at its initialization.

    Why it matters: its layer contributes next to nothing. Weight decay without a gradient does this, and so does a
    wrong scale in a conversion.

    What to do: see whether the layer gets gradients at all; if it is not used, remove it from the model.
    """
    for tensor in _weights(subject):
        found = _scale(subject, tensor)
        if found is not None and found.ratio < _VANISHED and tensor.rms >= _COLLAPSED:
            yield RuleHit(
                tensor.name,
                f"root mean square {significant(tensor.rms, 3)}: {found}",
                {"rms": tensor.rms, "ratio": found.ratio},
            )


@rule("PI203", "all-zero-weight", Severity.WARNING)
def all_zero_weight(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight of a trained model is all zeros.

    Why it matters: the layer's output does not depend on its input. A fresh model may begin like this on purpose (zero
    convolutions, LoRA B); a trained one does not end like this.

    What to do: check that the layer was in the optimizer, and that saving or converting did not lose it.
    """
    if not subject.trained:
        return
    for tensor in _weights(subject):
        s = tensor.stats
        if s is not None and s.low == s.high == 0 and tensor.role.kind is not Part.LORA_B:
            yield RuleHit(tensor.name, f"all {s.count:,} values are 0", {"count": s.count})


@rule("PI204", "constant-weight", Severity.WARNING)
def constant_weight(subject: RuleContext) -> Iterable[RuleHit]:
    """All values of a weight of a trained model are one number, not 0.

    Why it matters: all units of the layer compute the same, and always will: their gradients are the same too.

    What to do: check how the layer was initialized, and whether the file was written completely.
    """
    if not subject.trained:
        return
    for tensor in _weights(subject):
        s = tensor.stats
        if s is not None and s.low == s.high and s.low:
            yield RuleHit(
                tensor.name, f"all {s.count:,} values are {significant(s.low, 4)}", {"value": s.low, "count": s.count}
            )


@rule("PI205", "collapsed-weight", Severity.WARNING)
def collapsed_weight(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight is not zero, but has decayed to almost nothing (root mean square below 1e-20).

    Why it matters: weight decay without a gradient shrinks a layer forever: it was never used in training.

    What to do: remove the layer from the model, or find out why no gradient reaches it.
    """
    for tensor in _weights(subject):
        if 0 < tensor.rms < _COLLAPSED:
            yield RuleHit(
                tensor.name,
                f"root mean square {significant(tensor.rms, 2)}: expected above {significant(_COLLAPSED, 2)}",
                {"rms": tensor.rms},
            )


@rule("PI206", "dominant-outlier", Severity.ERROR)
def dominant_outlier(subject: RuleContext) -> Iterable[RuleHit]:
    """One value of a tensor outweighs all others together.

    Why it matters: a flipped bit in an exponent looks like this, from failing memory or a damaged file. Every output
    that depends on the value is wrong.

    What to do: compare the file's checksum with its origin, and fetch it again.
    """
    for tensor in subject.unique:
        if not tensor.role.is_weight and tensor.role.kind not in _VECTORS:
            continue
        found = _outlier(tensor)
        if found is not None:
            largest, usual = found
            yield RuleHit(
                tensor.name,
                f"the largest magnitude is {significant(largest, 3)}, 99 % are within {significant(usual, 3)}",
                {"abs_max": largest, "q99": usual},
            )


@rule("PI207", "dead-rows", Severity.WARNING, needs=(ZeroSlices,))
def dead_rows(subject: RuleContext) -> Iterable[RuleHit]:
    """Whole rows or columns of a weight are zeros: units without output, or inputs that are ignored.

    Why it matters: the units are dead weight in every forward pass, and stay dead in training. Padding rows of
    embeddings are left alone, and so are pruned models.

    What to do: if the model was not pruned on purpose, look for units that died (ReLU with a high learning rate), or
    for rows that a conversion lost.
    """
    for tensor in _weights(subject):
        s, shape = tensor.stats, tensor.ref.shape
        if s is None or tensor.role.kind not in (Part.WEIGHT, Part.RNN_WEIGHT) or len(shape) < 2:
            continue
        if not _OF_LAYER.search(tensor.role.leaf):
            continue
        if tensor.ref.stored_shape is not None:  # sparse tensors have them by design
            continue
        least = tensor.ref.numel // max(shape)
        if s.zeros < least or s.zeros == s.count or min(shape[0], least) < 2:
            continue
        slices = tensor.get(ZeroSlices) or {}
        for axis, word in zip(_units(tensor), ("rows", "columns"), strict=True):
            if axis not in slices:
                continue
            dead = slices[axis]
            gone = dead.count * (tensor.ref.numel // shape[axis])
            if s.zeros - gone > _PRUNED * (s.count - gone):
                continue
            if dead.count and 2 * dead.count < shape[axis]:
                yield RuleHit(
                    tensor.name,
                    f"{dead.count:,} of {shape[axis]:,} {word} are all zeros: {listed(dead.first, 5, of=dead.count)}",
                    {"axis": axis, "count": dead.count, "indices": list(dead.first)},
                )
                break


def _units(tensor: TensorFacts) -> tuple[int, int]:
    """The two axes of units: Keras has them last."""
    dims = len(tensor.ref.shape)
    return (dims - 2, dims - 1) if "kernel" in tensor.role.leaf else (0, 1)
