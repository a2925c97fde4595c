"""Values (PI1xx): NaN, infinities, and values that another element type cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.optimizer import learning_rate_remark
from inspectcli.analysis.roles import OF_LAYER, Part
from inspectcli.display.text import significant
from inspectcli.measure.again import whole
from inspectcli.tensors.arithmetic import unravel
from inspectcli.tensors.model import TRAINING_STATE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Values of a tensor with -inf that are looked at side by side.
_READ_FOR_PATTERN = 1 << 24
#: Element type -> its largest finite value (IEEE 754; bfloat16 as in torch 2.13).
_F16_MAX = 65504.0
_BF16_MAX = 3.3895313892515355e38
#: Share of subnormal values among those that are not 0.
_FLOOD = 0.25
_FLOOD_LEAST = 64


def _state(tensor: TensorFacts) -> bool:
    return tensor.ref.kind in TRAINING_STATE


def _nonfinite(tensor: TensorFacts, count: int, kind: str, remark: str = "") -> RuleHit:
    s = tensor.stats
    assert s is not None
    share = count / s.count
    first = None if s.first_nonfinite is None else list(unravel(s.first_nonfinite, tensor.ref.shape))
    percent = significant(100 * share, 2) if share < 0.1 else f"{100 * share:.0f}"
    where = f", the first NaN or Inf at {first}" if first else ""
    return RuleHit(
        tensor.name,
        f"{count:,} {kind} of {s.count:,} values ({percent} %){where}{remark}",
        {"count": count, "share": share, "first_index": first, "kind": kind},
    )


@rule("PI101", "nan-values", Severity.ERROR)
def nan_values(subject: RuleContext) -> Iterable[RuleHit]:
    """A tensor holds NaN.

    Why it matters: one NaN spreads to every output that depends on it. Training has diverged, or the file was damaged.
    Of a metric, which no output depends on, it is a note.

    What to do: go back to the last checkpoint without NaN, and train on with a lower learning rate or gradient
    clipping. Check the loss scale in mixed precision, and the data for empty batches and logarithms of 0.
    """
    for tensor in subject.unique:
        if tensor.stats is not None and tensor.stats.nan and not _state(tensor):
            hit = _nonfinite(tensor, tensor.stats.nan, "NaN", learning_rate_remark(subject.checkpoint))
            is_record = tensor.role.kind is Part.RECORD or _is_outside(subject, tensor)
            yield hit._replace(severity=Severity.NOTE) if is_record else hit


@rule("PI102", "infinite-values", Severity.ERROR)
def infinite_values(subject: RuleContext) -> Iterable[RuleHit]:
    """A tensor holds +Inf or -Inf.

    Why it matters: infinity minus infinity is NaN. Masks of -inf are healthy and are left alone: beside one other
    value, and by their names. A table whose -inf fill a triangle, a band, or whole rows and columns outside of layers
    is a note, and so is the logarithm of a probability of 0, the best score of a training that has none yet, and an
    observer that has seen nothing.

    What to do: find the step at which the values overflowed, and train on from before it. A model that was converted
    to float16 can be converted again, to bfloat16.
    """
    for tensor in subject.unique:
        s = tensor.stats
        if s is None or not s.posinf + s.neginf or _state(tensor) or _is_mask(tensor):
            continue
        kind = "+Inf" if not s.neginf else "-Inf" if not s.posinf else "+Inf and -Inf"
        hit = _nonfinite(tensor, s.posinf + s.neginf, kind)
        if tensor.role.kind is Part.RECORD or _is_outside(subject, tensor):
            yield hit._replace(severity=Severity.NOTE, message=f"{hit.message}: a record, and no weight")
        elif tensor.role.kind is Part.SCORE and not s.posinf:
            yield hit._replace(severity=Severity.NOTE, message=f"{hit.message}: of log-probabilities, never")
        elif _is_patterned(tensor):
            yield hit._replace(severity=Severity.NOTE, message=f"{hit.message}: in the pattern of a mask")
        else:
            yield hit


def _is_mask(tensor: TensorFacts) -> bool:
    """Return whether this is a mask: infinities of one sign beside one other value, or a constant of the model."""
    s = tensor.stats
    if s is None or (s.posinf and s.neginf):
        return False
    return tensor.role.kind is Part.CONSTANT or (s.neginf > 0 and s.low == s.high and not s.nan and s.finite > 0)


def _is_outside(subject: RuleContext, tensor: TensorFacts) -> bool:
    """Return whether this is a number in a part of the file that holds no layer: of the training script."""
    first, separator, _ = tensor.name.partition(".")
    return tensor.ref.numel == 1 and bool(separator) and first not in subject.sections


def _is_patterned(tensor: TensorFacts) -> bool:
    """Return whether -inf stands in a pattern that says "never": a triangle, a band, or, outside of layers, more.

    Outside of layers, whole rows and columns, and the same places in every slice, are such patterns too: transitions
    that are forbidden. In a weight, a row of -inf is a unit that has overflowed.
    """
    import numpy as np

    s, shape = tensor.stats, tensor.ref.shape
    if s is None or s.nan or s.posinf or len(shape) < 2 or min(shape[-2:]) < 2:
        return False
    values = whole(tensor.ref, _READ_FOR_PATTERN)
    if values is None:
        return False
    bad = np.isneginf(values).reshape(-1, *shape[-2:])
    first = bad[0]
    if not (bad == first).all():
        return False
    if _is_band(first):
        return True
    if tensor.role.kind in (Part.WEIGHT, Part.EMBEDDING) and OF_LAYER.search(tensor.role.leaf):
        return False
    return len(bad) > 1 or bool((first == first.all(axis=1, keepdims=True) | first.all(axis=0)).all())


def _is_band(bad: npt.NDArray[np.bool_]) -> bool:
    """Return whether what is left of each row is one run, which moves from row to row: a triangle, a sliding window."""
    import numpy as np

    edges = np.diff(~bad, axis=1, prepend=False, append=False)
    if (edges.sum(axis=1) > 2).any():
        return False
    ends = np.stack([edges.argmax(axis=1), edges.shape[1] - edges[:, ::-1].argmax(axis=1)], axis=1)
    return 2 * len(np.unique(ends, axis=0)) > len(bad)


@rule("PI103", "overflow-in-half", Severity.NOTE)
def overflow_in_half(subject: RuleContext) -> Iterable[RuleHit]:
    """A tensor holds values that a cast to float16 (or, from float64, to bfloat16) would make infinite.

    Why it matters: `model.half()` for serving would put Inf into the weights without a warning.

    What to do: serve this model in bfloat16 or float32. Otherwise, scale the layer before the cast.
    """
    for tensor in subject.unique:
        largest = tensor.stats.abs_max if tensor.stats is not None else None
        if largest is None or _state(tensor) or tensor.role.kind is Part.CONSTANT:
            continue
        if tensor.ref.dtype.name not in ("f32", "f64", "bf16") or largest <= _F16_MAX:
            continue
        wide = largest > _BF16_MAX
        beyond = "bfloat16 and float16" if wide else "float16"
        yield RuleHit(
            tensor.name,
            f"largest magnitude {significant(largest, 3)}: beyond {beyond}, at most {_F16_MAX:,.0f}",
            {"abs_max": largest, "limit": _BF16_MAX if wide else _F16_MAX},
        )


@rule("PI104", "subnormal-flood", Severity.WARNING)
def subnormal_flood(subject: RuleContext) -> Iterable[RuleHit]:
    """A large share of a weight's values is subnormal: too small for the full precision of its type.

    Why it matters: such values have few significant bits left, are slow on many processors, and are flushed to zero
    on others, where the model gives other results.

    What to do: store the tensor in float32 or bfloat16. If it is float32 already, the layer has decayed away.
    """
    for tensor in subject.unique:
        s = tensor.stats
        if s is None or not tensor.role.is_weight:
            continue
        # Where weights are small, half of a float16 tensor may well be below 6.1e-5.
        dtype = tensor.ref.dtype.name
        limit = 2 * _FLOOD if dtype == "f16" else _FLOOD
        nonzero = s.finite - s.zeros
        if s.subnormals >= _FLOOD_LEAST and s.subnormals > limit * nonzero:
            share = s.subnormals / nonzero
            yield RuleHit(
                tensor.name,
                f"{s.subnormals:,} of {nonzero:,} non-zero values are subnormal in {dtype} ({share:.0%})",
                {"subnormals": s.subnormals, "share": share},
            )


@rule("PI105", "non-finite-optimizer-state", Severity.ERROR)
def nonfinite_optimizer_state(subject: RuleContext) -> Iterable[RuleHit]:
    """The optimizer's state holds NaN or infinities.

    Why it matters: the weights may still be fine, but the first step after resuming makes them NaN.

    What to do: resume from an earlier checkpoint, or keep the weights and start with a new optimizer state.
    """
    for tensor in subject.unique:
        if tensor.stats is not None and tensor.stats.nonfinite and _state(tensor):
            yield _nonfinite(tensor, tensor.stats.nonfinite, "non-finite")


@rule("PI106", "negative-variance", Severity.ERROR)
def negative_variance(subject: RuleContext) -> Iterable[RuleHit]:
    """A running variance of a batch normalization is negative.

    Why it matters: its square root is NaN in evaluation, however well training went. No training makes a variance
    negative: the file was damaged, or weights were averaged or edited by hand.

    What to do: get the file again, or recompute the running statistics by a pass over training data.
    """
    for tensor in _of_part(subject, Part.RUNNING_VAR):
        low = tensor.stats.low if tensor.stats is not None else None
        if low is not None and low < 0:
            yield RuleHit(
                tensor.name, f"the smallest running variance is {significant(low, 4)}: expected 0 or more", {"min": low}
            )


def _of_part(subject: RuleContext, part: Part) -> Iterator[TensorFacts]:
    return (tensor for tensor in subject.unique if tensor.role.kind is part)
