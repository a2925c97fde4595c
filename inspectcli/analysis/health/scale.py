"""Scale (PI2xx): values of the wrong size, by the role of the tensor and by its siblings in other blocks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import OF_LAYER, Part, is_relative_table
from inspectcli.display.text import listed, significant
from inspectcli.measure.rows import Slices, ZeroSlices

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
#: Share of zeros outside dead rows from which a weight counts as pruned.
_PRUNED = 0.25
#: Times the 99 % quantile: no dimension of a trained normalization or bias stands out like this.
_IMPOSSIBLE = 1e6
#: Layers in one tensor.
_MOST_STACKED = 1024
#: Weights of which most must be too large before the whole model is.
_MODEL = 3
#: Values of a normalization; of three, or so, one for each quantity of the data.
_FEW = 4
_OF_NORM = frozenset({Part.NORM_SCALE, Part.NORM_SHIFT, Part.RUNNING_MEAN, Part.RUNNING_VAR})
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


def outlier(tensor: TensorFacts) -> tuple[float, float] | None:
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
    return sum(n > 1 for n in tensor.ref.shape) <= 1 and not OF_LAYER.search(tensor.role.leaf)


class _Scale(NamedTuple):
    """What a tensor's size is compared with: with its siblings it is measured, with an initial scale it is assumed."""

    ratio: float
    words: str
    is_assumed: bool


def _scale(subject: RuleContext, tensor: TensorFacts) -> _Scale | None:
    """Against the siblings, or without siblings against the usual initial scale; None without either."""
    siblings, start = _against_siblings(subject, tensor), _against_start(tensor)
    if siblings is not None:
        ratio, n = siblings
        return _Scale(ratio, f"{_times(ratio)} the median of its {n} siblings", is_assumed=False)
    if start is not None:
        return _Scale(start, f"{_times(start)} the usual initial scale", is_assumed=True)
    return None


def _times(ratio: float) -> str:
    return f"{significant(ratio, 3 if 0.01 <= ratio < 1e4 else 2)} times"


def _size(tensor: TensorFacts, found: _Scale) -> tuple[str, Mapping[str, object]]:
    """A message and its figures."""
    message = f"root mean square {significant(tensor.rms, 3)}: {found.words}"
    return message, {"rms": tensor.rms, "ratio": found.ratio}


@rule("PI201", "exploding-scale", Severity.ERROR)
def exploding_scale(subject: RuleContext) -> Iterable[RuleHit]:
    """A tensor is more than a thousand times larger than its siblings, or than such tensors usually begin.

    Why it matters: its layer drowns all others or overflows in half precision. Training has diverged in this layer,
    or it was scaled or edited by hand.

    What it rests on: the siblings of the tensor in other blocks, two at least; or that a normalization has values near
    1. Without siblings, the initial scale of the library is assumed: as networks with an equalized learning rate begin
    at a hundred times of it, that is a note; a warning if most weights of a trained model are so. The bias of an output
    may have the size of what it predicts, and a scale of the data that of its unit: a note too.

    What to do: compare it with an earlier checkpoint (`pinspect diff`), and train on from before it grew.
    """
    sizes = [(tensor, found) for tensor in _weights(subject) if (found := _scale(subject, tensor)) is not None]
    large = [(tensor, found) for tensor, found in sizes if found.ratio > _EXPLODED and outlier(tensor) is None]
    is_whole = subject.trained and len(sizes) >= _MODEL and 2 * len(large) > len(sizes)
    for tensor, found in large:
        severity = Severity.ERROR if not found.is_assumed else Severity.WARNING if is_whole else Severity.NOTE
        yield RuleHit(tensor.name, *_size(tensor, found), severity=severity)
    for tensor in subject.unique:
        if (
            tensor.role.kind not in _VECTORS
            or tensor.stats is None
            or tensor.stats.nonfinite
            or outlier(tensor) is not None
        ):
            continue
        siblings = _against_siblings(subject, tensor)
        if tensor.rms > _NEAR_ONE and (siblings is None or siblings[0] > _EXPLODED):
            size = significant(tensor.rms, 3)
            message = f"root mean square {size}: of a {tensor.role.kind.value}, values near 1 are usual"
            severity = Severity.ERROR if siblings is not None or _is_of_norm(subject, tensor) else Severity.NOTE
            yield RuleHit(tensor.name, message, {"rms": tensor.rms, "ratio": tensor.rms}, severity=severity)


def _is_of_norm(subject: RuleContext, tensor: TensorFacts) -> bool:
    """Return whether this is scale or shift of a normalization that has both, or running statistics.

    A lone scale or bias may be in the units of the data.
    """
    if tensor.role.kind not in (Part.NORM_SCALE, Part.NORM_SHIFT) or tensor.ref.numel < _FEW:
        return False
    module = subject.modules.get(tensor.role.module, {})
    return any(other.role.kind in _OF_NORM for other in module.values() if other is not tensor)


@rule("PI202", "vanishing-scale", Severity.WARNING)
def vanishing_scale(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight is more than ten thousand times smaller than its siblings, or than such weights usually begin.

    Why it matters: its layer contributes next to nothing. Weight decay without a gradient does this, and so does a
    wrong scale in a conversion.

    What it rests on: the siblings of the tensor in other blocks, two at least. Without siblings it is a note: heads of
    offsets, embeddings of RWKV and others begin as small as that on purpose.

    What to do: see whether the layer gets gradients at all; if it is not used, remove it from the model.
    """
    for tensor in _weights(subject):
        found = _scale(subject, tensor)
        if found is not None and tensor.rms >= _COLLAPSED and found.ratio < _VANISHED:
            severity = Severity.NOTE if found.is_assumed else Severity.WARNING
            yield RuleHit(tensor.name, *_size(tensor, found), severity=severity)


@rule("PI203", "all-zero-weight", Severity.WARNING)
def all_zero_weight(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight of a trained model is all zeros.

    Why it matters: the layer's output does not depend on its input. A fresh model may begin like this on purpose (zero
    convolutions, LoRA B); a layer that was trained does not end like this.

    What it rests on: a name with `weight` or `kernel`, or siblings in other blocks that are not zeros. What is named
    otherwise (a cache, a state), and tables of relative positions, which begin with zeros and keep them where they are
    not used, are a note.

    What to do: check that the layer was in the optimizer, and that saving or converting did not lose it.
    """
    if not subject.trained:
        return
    for tensor in _weights(subject):
        s = tensor.stats
        if s is not None and s.low == s.high == 0 and tensor.role.kind is not Part.LORA_B:
            sizes = subject.sibling_sizes.get(tensor.name, ())
            is_layer = bool(OF_LAYER.search(tensor.role.leaf)) and not is_relative_table(tensor.name)
            severity = Severity.WARNING if is_layer or (sizes and sizes[-1] > 0) else Severity.NOTE
            yield RuleHit(tensor.name, f"all {s.count:,} values are 0", {"count": s.count}, severity=severity)


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

    What it rests on: one value holds nine tenths of the sum of squares, and is thirty times the 99 % quantile. One
    dimension of a normalization or a bias may be a hundred times the others in a healthy model: below a million
    times, it is a note.

    What to do: compare the file's checksum with its origin, and fetch it again.
    """
    for tensor in subject.unique:
        if not tensor.role.is_weight and tensor.role.kind not in _VECTORS:
            continue
        found = outlier(tensor)
        if found is not None:
            largest, usual = found
            is_mild = tensor.role.kind in _VECTORS and largest < _IMPOSSIBLE * usual
            yield RuleHit(
                tensor.name,
                f"the largest magnitude is {significant(largest, 3)}, 99 % are within {significant(usual, 3)}",
                {"abs_max": largest, "q99": usual},
                severity=Severity.NOTE if is_mild else Severity.ERROR,
            )


@rule("PI207", "dead-rows", Severity.WARNING, needs=(ZeroSlices,))
def dead_rows(subject: RuleContext) -> Iterable[RuleHit]:
    """Whole rows or columns of a weight are zeros: units without output, or inputs that are ignored.

    Why it matters: the units are dead weight in every forward pass, and stay dead in training.

    What it rests on: weights of layers, and slices of layers that are stacked in one tensor (experts). Left alone are
    tables, and the one row at an end of a matrix without bias and siblings, which is for padding whatever the table is
    called; pruned weights, in which a quarter of the other values are zeros; and masks.

    What to do: if the model was not pruned on purpose, look for units that died (ReLU with a high learning rate), or
    for rows that a conversion lost.
    """
    for tensor in _weights(subject):
        s, shape = tensor.stats, tensor.ref.shape
        if s is None or tensor.role.kind not in (Part.WEIGHT, Part.RNN_WEIGHT) or len(shape) < 2:
            continue
        is_stack = not OF_LAYER.search(tensor.role.leaf)
        if is_stack and not _is_stack(subject, tensor):
            continue
        if tensor.ref.stored_shape is not None:  # sparse tensors have them by design
            continue
        least = tensor.ref.numel // max(shape)
        if s.zeros < least or s.zeros == s.count or min(shape[0], least) < 2:
            continue
        slices = tensor.get(ZeroSlices) or {}
        units = [(0, "slices")] if is_stack else zip(_units(tensor), ("rows", "columns"), strict=True)
        for axis, word in units:
            if axis not in slices:
                continue
            dead = slices[axis]
            gone = dead.count * (tensor.ref.numel // shape[axis])
            if s.zeros - gone > _PRUNED * (s.count - gone):
                continue
            if dead.count and _is_padding(subject, tensor, axis, dead):
                continue
            if dead.count and 2 * dead.count < shape[axis]:
                yield RuleHit(
                    tensor.name,
                    f"{dead.count:,} of {shape[axis]:,} {word} are all zeros: {listed(dead.first, 5, of=dead.count)}",
                    {"axis": axis, "count": dead.count, "indices": list(dead.first)},
                )
                break


def _is_stack(subject: RuleContext, tensor: TensorFacts) -> bool:
    """Return whether layers of a trained model are stacked in one tensor, whatever its name: experts, for instance."""
    shape = tensor.ref.shape
    return subject.trained and len(shape) == 3 and 1 < shape[0] <= _MOST_STACKED and min(shape[1:]) >= _LEAST


def _is_padding(subject: RuleContext, tensor: TensorFacts, axis: int, dead: Slices) -> bool:
    """Return whether this is the padding row of a table, whatever it is called: one row at an end of it.

    A table has no bias, and no siblings in other blocks that are without such a row.
    """
    rows = tensor.ref.shape[0]
    if axis != 0 or dead.count != 1 or dead.first[0] not in (0, 1, rows - 1) or len(tensor.ref.shape) != 2:
        return False
    return "bias" not in subject.modules.get(tensor.role.module, {}) and len(_siblings(subject, tensor)) < 2


def _siblings(subject: RuleContext, tensor: TensorFacts) -> list[TensorFacts]:
    return [other for other in subject.siblings.get(tensor.name, ()) if other is not tensor]


def _units(tensor: TensorFacts) -> tuple[int, int]:
    """The two axes of units: Keras has them last."""
    dims = len(tensor.ref.shape)
    return (dims - 2, dims - 1) if "kernel" in tensor.role.leaf else (0, 1)
