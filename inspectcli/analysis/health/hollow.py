"""Hollow files (PI12x, PI32x, PI42x): no tensors, no values, zeros or one constant in the place of what was learned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import prod

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Part
from inspectcli.analysis.training import Answer
from inspectcli.display.text import is_or_are, listed, plural, setting, size
from inspectcli.measure.runs import Run, ZeroRun
from inspectcli.pickles.nodes import Object, dict_of
from inspectcli.tensors.model import TRAINING_STATE

#: Files of a run that hold other things than a model, by name.
_NO_MODEL = re.compile(r"(^|[_.-])(scheduler|scaler|training_args|rng_state|random_states|optimizer|args|config)", re.I)
#: Keys of dicts that are the state of something else than a model: schedulers, scalers, optimizers.
_STATE_KEYS = frozenset({"base_lrs", "_step_count", "last_epoch", "growth_factor", "_growth_tracker"})
_NO_VALUES = frozenset({Part.CONSTANT, Part.COUNTER, Part.QUANTIZATION, Part.STATE})
#: Values of a run of zeros, in rows of its tensor, from which it is a hole.
_ROWS = 2
_LEAST = 64
#: Share of zeros outside the run, from which it may be chance.
_SPARSE = 0.01
#: Share of the bytes of a file that is missing where its last tensors are zeros.
_TAIL = 0.1


def _learned(subject: RuleContext) -> list[TensorFacts]:
    """Tensors whose values training would have set."""
    return [
        tensor
        for tensor in subject.unique
        if tensor.role.kind not in _NO_VALUES and tensor.ref.kind not in TRAINING_STATE and tensor.ref.numel
    ]


@rule("PI420", "no-tensors", Severity.WARNING, reads=False)
def no_tensors(subject: RuleContext) -> Iterator[RuleHit]:
    """The file holds no tensor.

    Why it matters: a loader that is not strict takes it without a word, and the model stays as it was initialized.
    State dicts are empty after `state_dict()` of a wrapped model, or of an adapter that was made twice. Schedulers,
    arguments and random states hold no tensors by nature, and are left alone.

    What to do: save the model again, and look at `len(state_dict)` before.
    """
    checkpoint = subject.checkpoint
    if checkpoint.tensors or checkpoint.hazards:
        return
    if checkpoint.format.startswith("torch") and _is_other_state(subject):
        return
    yield RuleHit(None, f"no tensor in {size(checkpoint.size)}", {"tensors": 0, "bytes": checkpoint.size})


def _is_other_state(subject: RuleContext) -> bool:
    """Whether this is the state of something that is no model."""
    location = subject.checkpoint.location
    if location is not None and _NO_MODEL.search(location.name):
        return True
    value = subject.checkpoint.objects
    if isinstance(value, Object) and value.entries is None:
        return True  # an object of some class
    table = dict_of(value)
    return table is not None and any(isinstance(key, str) and key in _STATE_KEYS for key in table.keys)


@rule("PI421", "no-values", Severity.WARNING, reads=False)
def no_values(subject: RuleContext) -> Iterator[RuleHit]:
    """Tensors have a shape, but no values in the file: they were on the meta device when it was saved.

    Why it matters: the model was built without memory and never filled, or its weights were offloaded when
    `state_dict()` was called. Whoever loads the file gets shapes and nothing else.

    What to do: load the weights before saving, and gather those that are offloaded.
    """
    tensors = [tensor for tensor in subject.tensors if not tensor.problem]
    empty = [t.name for t in tensors if not t.ref.has_values and t.ref.held and not t.alias_of]
    if empty:
        yield RuleHit(
            empty[0] if len(empty) == 1 else None,
            f"no values of {len(empty):,} of {plural(len(tensors), 'tensor')} are in the file: {listed(empty)}",
            {"empty": len(empty), "tensors": len(tensors)},
            severity=Severity.ERROR if len(empty) == len(tensors) else None if len(empty) > 1 else Severity.NOTE,
        )


@rule("PI120", "constant-model", Severity.WARNING)
def constant_model(subject: RuleContext) -> Iterator[RuleHit]:
    """All weights of the model hold one constant each.

    Why it matters: nothing was learned, and nothing that is computed with it depends on the input. A file that was
    never filled, or a conversion that copied no values, looks like this. Masks, tables of positions, biases and norms
    that are constant beside weights that are not are left alone, and so is an adapter as it was created.

    What to do: get the file again, or repeat the conversion and compare with its source.
    """
    learned = _learned(subject)
    weights = [tensor for tensor in learned if tensor.role.kind in (Part.WEIGHT, Part.RNN_WEIGHT, Part.EMBEDDING)]
    layers = [tensor for tensor in weights if tensor.role.kind is not Part.EMBEDDING] or weights
    few = sum(tensor.ref.numel for tensor in layers) < _LEAST
    if few or not all(tensor.constant is not None for tensor in layers) or _is_adapter(subject):
        return
    zero = all(tensor.constant == 0 for tensor in layers)
    everything = all(tensor.constant is not None for tensor in learned)
    if not everything and (not zero or len(layers) < 2):
        return
    values = {float(tensor.constant) for tensor in layers if tensor.constant is not None}
    value = setting(next(iter(values))) if len(values) == 1 else "a constant of its own"
    what = (
        f"every value of {plural(len(learned), 'tensor')}"
        if everything
        else (f"every value of all {len(layers):,} weights")
    )
    yield RuleHit(
        layers[0].name if len(learned) == 1 else None,
        f"{what} is {value}" if len(values) == 1 else f"each of {plural(len(layers), 'weight')} is one constant",
        {"weights": len(layers), "tensors": len(learned), "value": next(iter(values)) if len(values) == 1 else None},
        severity=Severity.ERROR if zero and len(layers) > 1 else Severity.WARNING,
    )


def _is_adapter(subject: RuleContext) -> bool:
    return any(_ADAPTER.search(ref.name) for ref in subject.checkpoint.tensors)


@rule("PI121", "norms-zero", Severity.WARNING)
def norms_zero(subject: RuleContext) -> Iterator[RuleHit]:
    """The scales of all normalizations of a trained model are 0.

    Why it matters: every output of theirs is 0, whatever comes in. Models that add 1 to the scale (Gemma) begin like
    this, but do not stay so in training. Single scales of 0, with which residual branches begin, are left alone.

    What to do: compare with the model that this one was made from.
    """
    scales = [tensor for tensor in _learned(subject) if tensor.role.kind is Part.NORM_SCALE]
    if len(scales) > 1 and subject.trained and all(tensor.constant == 0 for tensor in scales):
        yield RuleHit(
            None,
            f"all {len(scales):,} scales of normalizations are 0, first {scales[0].name}",
            {"count": len(scales), "first": scales[0].name},
        )


# -- holes ------------------------------------------------------------------------------------------------


@rule("PI122", "zero-hole", Severity.WARNING, needs=(ZeroRun,))
def zero_hole(subject: RuleContext) -> Iterator[RuleHit]:
    """A long run of zeros begins or ends in the middle of a row, in a weight that has hardly any other zeros.

    Why it matters: training and pruning make zeros by rows, blocks or single values. A run that ends anywhere is where
    a write or a download stopped, or a part of the file that was never filled. Masks, triangular and sparse matrices,
    and rows of padding are left alone.

    What to do: get the file again, and compare its checksum with the publisher's.
    """
    inside = {tensor.name for hole in _file_holes(subject) for tensor in hole}
    for tensor in subject.unique:
        run = _hole(tensor)
        if run is not None and tensor.name not in inside:
            yield RuleHit(
                tensor.name,
                f"{run.length:,} zeros follow each other from value {run.start:,} of {tensor.ref.numel:,} on, "
                "across the borders of rows",
                {"start": run.start, "zeros": run.length, "values": tensor.ref.numel},
            )


def _hole(tensor: TensorFacts) -> Run | None:
    """A run of zeros that no row explains."""
    run, s, ref = tensor.get(ZeroRun), tensor.stats, tensor.ref
    if run is None or s is None or not tensor.role.is_weight or ref.strides is not None or not run.length:
        return None
    row = prod(ref.shape[1:])
    others = s.count - run.length
    if run.length < max(_LEAST, _ROWS * row) or not others or s.zeros - run.length > _SPARSE * others:
        return None
    whole = run.start % row == 0 and (run.start + run.length) % row == 0
    return None if whole else run


@rule("PI123", "zero-filled", Severity.ERROR, needs=(ZeroRun,))
def zero_filled(subject: RuleContext) -> Iterator[RuleHit]:
    """A part of the file is zeros, across the borders of tensors.

    Why it matters: a download or a write that stopped leaves a file of full size with nothing in the rest. The tensors
    there look like any other, and are not what was trained.

    What to do: get the file again, and compare its checksum with the publisher's.
    """
    for hole in _file_holes(subject):
        zero = [tensor for tensor in hole if tensor.constant == 0]
        nbytes = sum(tensor.ref.nbytes for tensor in zero)
        torn = next((tensor.name for tensor in hole if tensor.constant != 0), "")
        within = f", from within {torn} on" if torn else ", up to the end of the file"
        names = [tensor.name for tensor in zero]
        yield RuleHit(
            None,
            f"{plural(len(zero), 'tensor')} that follow each other in the file {is_or_are(len(zero))} all zeros"
            f"{within}: {listed(names)}",
            {"tensors": len(zero), "bytes": nbytes, "first": names[0], "torn": torn},
        )


def _file_holes(subject: RuleContext) -> Iterator[Sequence[TensorFacts]]:
    """Neighbors in a file that are zeros, with the torn tensor at their border, if there is one."""
    for stored in _in_order(subject):
        whole = sum(tensor.ref.nbytes for tensor in stored)
        start = 0
        while start < len(stored):
            end = start
            while end < len(stored) and stored[end].constant == 0:
                end += 1
            zeros = stored[start:end]
            if len(zeros) > 1 and any(t.role.is_weight or t.role.kind is Part.NORM_SCALE for t in zeros):
                torn = [
                    tensor
                    for tensor in (*stored[max(start - 1, 0) : start], *stored[end : end + 1])
                    if _hole(tensor) is not None or _ends_in_zeros(tensor)
                ]
                nbytes = sum(tensor.ref.nbytes for tensor in zeros)
                kinds = {tensor.role.kind for tensor in zeros}
                # Biases of 0 at the end are as they should be; a scale of 0 beside them is not.
                last = start > 0 and end == len(stored) and nbytes >= _TAIL * whole
                to_the_end = last and len(kinds) > 1 and Part.NORM_SCALE in kinds
                if torn or to_the_end:
                    yield (*torn, *zeros)
            start = max(end, start + 1)


def _ends_in_zeros(tensor: TensorFacts) -> bool:
    """Whether its last values are zeros, from within a row on, or its first."""
    run, row = tensor.get(ZeroRun), prod(tensor.ref.shape[1:])
    if run is None or run.length < _LEAST or not row or tensor.ref.strides is not None:
        return False
    end = run.start + run.length
    return (end == tensor.ref.numel and run.start % row != 0) or (run.start == 0 and end % row != 0)


def _in_order(subject: RuleContext) -> Iterable[list[TensorFacts]]:
    """The learned tensors of each file, in the order of their bytes."""
    found: dict[object, list[tuple[int, TensorFacts]]] = {}
    for tensor in _learned(subject):
        if len(tensor.ref.segments) == 1:
            segment = tensor.ref.segments[0]
            found.setdefault(segment.source, []).append((segment.offset, tensor))
    for placed in found.values():
        placed.sort(key=lambda item: item[0])
        yield [tensor for _, tensor in placed]


# -- as created -------------------------------------------------------------------------------------------


@rule("PI320", "fresh-model", Severity.NOTE)
def fresh_model(subject: RuleContext) -> Iterator[RuleHit]:
    """All weights of the model are as an initializer drew them.

    Why it matters: it was saved before training, or what was trained was not what was saved. A fresh model is no fault:
    this is a note.

    What to do: if it should be trained, look for the checkpoint that was saved at the end.
    """
    judged = subject.training
    if judged.answer is not Answer.NOT_TRAINED or judged.weights < 2 or _is_adapter(subject):
        return
    formulas = [t.verdict.formula for t in subject.unique if t.verdict is not None and t.verdict.is_as_drawn]
    formula = next((text for text in formulas if text), "")
    yield RuleHit(
        None,
        f"{judged.as_drawn:,} of {judged.weights:,} weights are as an initializer drew them"
        f"{f': {formula}' if formula else ''}",
        {"weights": judged.weights, "as_drawn": judged.as_drawn, "formula": formula},
    )


#: Leaves of adapters whose product, or whose difference from 1, is the update.
_ADAPTER = re.compile(r"(^|[._])(lora_\w+|ia3_l|lokr_w[12](_[ab])?|hada_w[12]_[ab]|vera_lambda_[bd]|oft_\w+)([._]|$)")
_PRODUCT = re.compile(r"(^|[._])(lokr_w[12](_[ab])?|hada_w[12]_[ab]|vera_lambda_b)([._]|$)")
_FACTOR = re.compile(r"(^|[._])ia3_l([._]|$)")


@rule("PI321", "adapter-as-created", Severity.NOTE)
def adapter_as_created(subject: RuleContext) -> Iterator[RuleHit]:
    """An IA3, LoKr, LoHa or VeRA adapter changes nothing: a factor of each of its updates is 0, or each scale is 1.

    Why it matters: adapters begin so. This one was saved before its first step, or its parameters were not trained.

    What to do: check that the adapter's parameters require gradients and are given to the optimizer.
    """
    scales = [tensor for tensor in subject.unique if _FACTOR.search(tensor.name)]
    if scales and all(t.stats is not None and t.stats.low == t.stats.high == 1 for t in scales):
        yield RuleHit(None, f"all {len(scales):,} scales are 1: the adapter changes nothing", {"count": len(scales)})
    modules: dict[str, bool] = {}
    for tensor in subject.unique:
        found = _PRODUCT.search(tensor.name)
        if found is not None:
            module = tensor.name[: found.start()]
            modules[module] = modules.get(module, False) or tensor.constant == 0
    if modules and all(modules.values()):
        yield RuleHit(
            None,
            f"a factor of each of {plural(len(modules), 'update')} is 0: the adapter changes nothing",
            {"count": len(modules)},
        )
