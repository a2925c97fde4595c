"""Training (PI3xx): weights that training did not touch, and what the optimizer's state tells of gradients."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.optimizer import State, states
from inspectcli.analysis.roles import OF_LAYER, Part
from inspectcli.display.text import setting, significant
from inspectcli.measure.again import again
from inspectcli.measure.first_values import FirstValues
from inspectcli.tensors.arithmetic import median
from inspectcli.tensors.model import Kind

_HEAD = re.compile(
    r"(^|[._/])(head|heads|classifier|cls|score|lm_head|fc_out|output|out|logits|predictions?|predictor|readout|final\w*|"
    r"fc|qa_outputs|classification_head|last_linear|decoder)([._/]|$)",
    re.IGNORECASE,
)
#: Values from which "cannot be told from a normal initializer" says something.
_SURE = 1024
#: An initializer that a configuration beside the file names.
_CONFIGURED = re.compile(r"config|initializer_range|init\w*_std")
#: Of a batch normalization.
_CHANNELS = 2
#: Updates of Adam over weights outside of which one is odd; about a thousandth is usual.
_UPDATE = (1e-7, 1e-1)
_GRADIENT = 1e4


def _is_untouched(tensor: TensorFacts) -> bool:
    """Return whether drawn values are untouched. Constants do not count: any trained model may have some."""
    verdict = tensor.verdict
    return verdict is not None and verdict.strength == "untouched" and verdict.family != "constant"


def _is_drawn(tensor: TensorFacts) -> bool:
    """Return whether values are untouched, or cannot be told from an initializer's."""
    verdict = tensor.verdict
    is_like = verdict is not None and verdict.strength == "init-like" and tensor.ref.numel >= _SURE
    return is_like or _is_untouched(tensor)


def _drawn_weights(subject: RuleContext) -> list[TensorFacts]:
    """Weights of a trained model that are as an initializer drew them."""
    if not subject.trained:
        return []
    return [
        tensor
        for tensor in subject.unique
        if tensor.role.is_weight
        and tensor.role.kind is not Part.LORA_A
        and _is_drawn(tensor)
        and tensor.ref.kind is not Kind.EMA
    ]


def _as_drawn(subject: RuleContext, tensor: TensorFacts) -> RuleHit:
    """A warning where it is exact, or where its siblings or the file itself bear it out; else a note."""
    verdict = tensor.verdict
    assert verdict is not None
    siblings = [other for other in subject.siblings.get(tensor.name, ()) if other is not tensor]
    moved = sum(other.verdict is not None and other.verdict.strength == "moved" for other in siblings)
    is_alone = verdict.is_named and len(siblings) > 1 and 2 * moved > len(siblings)
    is_exact = OF_LAYER.search(tensor.role.leaf) and (_is_untouched(tensor) or _CONFIGURED.search(verdict.formula))
    severity = Severity.WARNING if is_exact or is_alone else Severity.NOTE
    message = verdict.sentence
    figures: dict[str, object] = {"formula": verdict.formula, "siblings_moved": moved}
    if _is_untouched(tensor):
        del figures["siblings_moved"]
    elif moved:
        noun = "sibling in another block has" if moved == 1 else "siblings in other blocks have"
        message += f"; {moved:,} {noun} moved"
    return RuleHit(tensor.name, message, figures, severity=severity)


def _is_head(subject: RuleContext, tensor: TensorFacts) -> bool:
    is_named = _HEAD.search(tensor.role.module) and len(subject.siblings[tensor.name]) < 3  # blocks have `fc`, too
    return bool(is_named) or subject.last_weights.get(tensor.ref.kind) is tensor


@rule("PI301", "untouched-layer", Severity.WARNING)
def untouched_layer(subject: RuleContext) -> Iterable[RuleHit]:
    """A layer of a trained model is as an initializer drew it.

    Why it matters: nothing was learned in this layer. It was left out of the optimizer, gets no gradient, or was
    missing in the checkpoint that training began with. Random features are used as drawn on purpose.

    What it rests on: bounds of a uniform initializer that no value crosses, or rows that are orthogonal: exact to about
    one part in the number of values. Or values that cannot be told from a normal initializer, of a thousand and more: a
    warning where the siblings in other blocks have moved and the initializer is a known one, or a configuration names
    it; else a note, for a small change would not show. So is what has no `weight` or `kernel` in its name.
    Permutations, identities and matrices of +-c are left alone.

    What to do: see whether it is frozen on purpose; else check that it is used in `forward` and given to the optimizer.
    """
    yield from (_as_drawn(subject, t) for t in _drawn_weights(subject) if not _is_head(subject, t))


@rule("PI302", "untrained-head", Severity.WARNING)
def untrained_head(subject: RuleContext) -> Iterable[RuleHit]:
    """The last layer of a trained model is as an initializer drew it.

    Why it matters: a new head on a pretrained body gives random answers until it is trained. Loading one prints the
    warning `some weights were newly initialized`, which is easy to miss.

    What it rests on: as PI301. Where `config.json` beside the file names the initializer, as Hugging Face models do,
    a thousand values that cannot be told from it are a warning; of a smaller head nothing is said.

    What to do: fine-tune the model before using its head, or load the checkpoint that has one.
    """
    yield from (_as_drawn(subject, t) for t in _drawn_weights(subject) if _is_head(subject, t))


@rule("PI303", "lora-b-zero", Severity.WARNING)
def lora_b_zero(subject: RuleContext) -> Iterable[RuleHit]:
    """A LoRA adapter's B matrix is all zeros.

    Why it matters: B times A is zero: the adapter changes nothing. B begins at zero, so it was never trained.

    What to do: check that the adapter's parameters require gradients and are given to the optimizer.
    """
    tensors = [tensor for tensor in subject.unique if tensor.role.kind is Part.LORA_B and tensor.ref.numel]
    zero = [tensor for tensor in tensors if tensor.stats is not None and tensor.stats.low == tensor.stats.high == 0]
    if zero and len(zero) == len(tensors):
        message = f"all {len(zero):,} B matrices are zeros: the adapter is as it was created"
        yield RuleHit(None, message, {"count": len(zero), "first": zero[0].name})
        return
    for tensor in zero:
        yield RuleHit(tensor.name, f"all {tensor.ref.numel:,} values are 0", {"count": tensor.ref.numel})


@rule("PI304", "unused-batchnorm", Severity.WARNING)
def unused_batchnorm(subject: RuleContext) -> Iterable[RuleHit]:
    """A batch normalization of a trained model has statistics that no batch has made.

    Why it matters: in evaluation it divides by a variance of 1 that nobody measured, or by one of 0.

    What it rests on: means of exactly 0 beside variances of exactly 1, in all channels: with a momentum above 0, one
    batch changes them. Where the counter says that batches were seen, that is a contradiction in any file; else the
    model must be trained. Variances of exactly 0 are told where the other batch normalizations have none.

    What to do: run training data through the model in training mode, or remove the layer.
    """
    means = [tensor for tensor in subject.tensors if tensor.role.kind is Part.RUNNING_MEAN]
    measured = any(variance.constant != 0 for mean in means if (variance := _variance(subject, mean)) is not None)
    for mean in means:
        counter = subject.modules[mean.role.module].get("num_batches_tracked")
        variance, batches = _variance(subject, mean), _batches(counter)
        if mean.ref.kind is Kind.EMA or mean.ref.numel < _CHANNELS:
            continue
        is_new = mean.constant == 0 and (variance is None or variance.constant == 1)
        if is_new and batches == 0 and counter is not None and subject.trained:
            yield RuleHit(counter.name, "num_batches_tracked is 0, the running mean is 0", {"batches": 0})
        elif is_new and variance is not None and (batches or (batches is None and subject.trained)):
            seen = f"after {batches:,} batches" if batches else "in a trained model"
            message = f"the running mean is 0 and the variance is 1 in all {mean.ref.numel:,} channels, {seen}"
            yield RuleHit(mean.name, message, {"batches": batches, "channels": mean.ref.numel})
        elif variance is not None and variance.constant == 0 and measured and subject.trained:
            message = f"the variance is 0 in all {mean.ref.numel:,} channels"
            yield RuleHit(variance.name, message, {"batches": batches, "channels": mean.ref.numel})


def _variance(subject: RuleContext, mean: TensorFacts) -> TensorFacts | None:
    module = subject.modules[mean.role.module].values()
    return next((tensor for tensor in module if tensor.role.kind is Part.RUNNING_VAR), None)


def _batches(counter: TensorFacts | None) -> int | None:
    s = counter.stats if counter is not None else None
    return int(s.high) if s is not None and s.high is not None else None


@rule("PI305", "ema-at-start", Severity.WARNING)
def ema_at_start(subject: RuleContext) -> Iterable[RuleHit]:
    """The moving average of the weights is as initialized, though the weights have moved.

    Why it matters: evaluation usually uses the average, and would evaluate an untrained model.

    What to do: check that the average is updated in every step, and that its decay is not 1.
    """
    ema = [tensor for tensor in subject.unique if tensor.ref.kind is Kind.EMA and tensor.role.is_weight]
    still = [tensor for tensor in ema if _is_drawn(tensor)]
    if subject.trained and still and 2 * len(still) > len(ema):
        are = "are" if all(map(_is_untouched, still)) else "cannot be told from"
        state = "as initialized" if are == "are" else "their initialization"
        message = f"{len(still):,} of {len(ema):,} averaged weights {are} {state}, first {still[0].name}"
        yield RuleHit(None, message, {"count": len(still), "of": len(ema), "first": still[0].name})


@rule("PI306", "update-ratio", Severity.NOTE)
def update_ratio(subject: RuleContext) -> Iterable[RuleHit]:
    """The next step of Adam would change a weight by far more or far less than usual (about a thousandth).

    Why it matters: above a tenth the layer is rewritten at every step, below 1e-7 it is frozen in all but name.

    What to do: change the learning rate of this group; look at its gradients.
    """
    for state in _adam(subject):
        ratio = _ratio(state)
        if ratio is not None and ratio > 0 and not _UPDATE[0] <= ratio <= _UPDATE[1]:
            rate = state.group.lr if state.group else 0.0
            yield RuleHit(
                state.parameter.name,
                f"the next update is {significant(ratio, 2)} of the weights at learning rate {setting(rate)}: "
                "typically near 1e-3",
                {"ratio": ratio, "learning_rate": rate},
            )


@rule("PI307", "dead-parameter", Severity.WARNING)
def dead_parameter(subject: RuleContext) -> Iterable[RuleHit]:
    """The optimizer has never seen a gradient of this parameter, though it has of others.

    Why it matters: the parameter was given to the optimizer, but the loss does not depend on it.

    What to do: check that it is used in `forward`, and that nothing detaches it.
    """
    found = _adam(subject)
    dead = [state for state in found if _all_zero(state.figures["exp_avg_sq"])]
    if len(dead) < len(found):
        for state in dead:
            yield RuleHit(state.parameter.name, "the mean square of its gradients is 0", {"exp_avg_sq": 0.0})


@rule("PI308", "gradient-outlier", Severity.NOTE)
def gradient_outlier(subject: RuleContext) -> Iterable[RuleHit]:
    """The gradients of a parameter are ten thousand times those of the others.

    Why it matters: clipping by the norm of all gradients then all but stops the other layers.

    What to do: look at the scale of the layer's inputs and of its loss; clip it in a group of its own.
    """
    sizes = {}
    for state in _adam(subject):
        s = state.figures["exp_avg_sq"].stats
        if s is not None and s.finite and s.mean > 0 and state.parameter.ref.numel >= 16:
            sizes[state.parameter.name] = math.sqrt(s.mean)
    if len(sizes) < 4:
        return
    usual = median(list(sizes.values()))
    for name, size in sizes.items():
        if size > _GRADIENT * usual:
            times = f"{significant(size / usual, 2)} times the median of {len(sizes):,} parameters"
            message = f"root mean square gradient {significant(size, 2)}: {times}"
            yield RuleHit(name, message, {"rms": size, "ratio": size / usual})


def _adam(subject: RuleContext) -> list[State]:
    return [s for s in states(subject) if {"exp_avg", "exp_avg_sq"} <= s.figures.keys()]


def _all_zero(tensor: TensorFacts) -> bool:
    return tensor.stats is not None and tensor.stats.low == tensor.stats.high == 0


def _ratio(state: State) -> float | None:
    """Return lr * rms(m / (sqrt(v) + eps)) over rms(w) of the first values; None if something cannot be read."""
    import numpy as np

    if state.group is None or not state.group.lr or not state.parameter.rms or not state.parameter.role.is_weight:
        return None
    m, v = (again(state.figures[name].ref, FirstValues) for name in ("exp_avg", "exp_avg_sq"))
    if m is None or v is None or not m.size or m.size != v.size:
        return None
    if not np.isfinite(m).all() or not np.isfinite(v).all() or (v < 0).any():
        return None
    step = m / (np.sqrt(v) + state.group.eps)
    return state.group.lr * float(np.sqrt(np.mean(step * step))) / state.parameter.rms
