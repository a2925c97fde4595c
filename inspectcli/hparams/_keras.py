"""What Keras stores with a model: its layers' arguments, and how it was compiled (.keras, .h5, .hdf5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from inspectcli.formats.hdf5.config import built_in
from inspectcli.hparams._pickled import ABSENT, one_number
from inspectcli.hparams._tree import leaves
from inspectcli.hparams.base import HParamRow, Kind, Origin, Reach
from inspectcli.hparams.names import hparam
from inspectcli.tensors.model import Checkpoint

TOOL = "keras"

Tree = Mapping[str, object]


class _Places(NamedTuple):
    """Where the two configs stand in a file, and what of it says how it was compiled."""

    model: str
    training: str


def keras_rows(checkpoint: Checkpoint) -> Iterator[HParamRow]:
    objects = checkpoint.objects if isinstance(checkpoint.objects, Mapping) else {}
    file = checkpoint.path
    if checkpoint.format == "keras":
        model, training = objects.get("config"), _get(objects.get("config"), "compile_config")
        places = _Places("config.json:", "config.json:compile_config")
        facts, about = objects.get("metadata"), "metadata.json"
    else:
        model, training = objects.get("model_config"), objects.get("training_config")
        places = _Places("attr:model_config.", "attr:training_config")
        facts, about = {k: v for k, v in checkpoint.metadata.items() if k in ("keras_version", "backend")}, "attr:"
    if isinstance(training, Mapping):
        yield from _training_rows(training, file, places.training, checkpoint.format == "keras")
    if isinstance(model, Mapping):
        yield from _model_rows(model, file, places.model)
    if isinstance(facts, Mapping):
        for key, value in facts.items():
            name = "writer.version" if key == "keras_version" else None
            kind = Kind.STATIC if name else Kind.SETTING
            yield HParamRow(name, key, value, None, kind, Origin(file, about.rstrip(":"), TOOL))
    yield from _variables(checkpoint)


def _get(node: object, key: str) -> object:
    return node.get(key) if isinstance(node, Mapping) else None


# -- how it was compiled --------------------------------------------------------------------------------


def _training_rows(training: Tree, file: str, place: str, archive: bool) -> Iterator[HParamRow]:
    for key, value in training.items():
        if key in ("optimizer_config", "optimizer") and isinstance(value, Mapping):
            yield from _optimizer_rows(value, file, f"{place}.{key}", archive)
        elif key == "loss":
            name = _get(value, "class_name") if isinstance(value, Mapping) else value
            yield HParamRow(
                "loss", key, name if name is not None else value, None, Kind.STATIC, Origin(file, place, TOOL)
            )
            if isinstance(value, Mapping):
                yield from _settings(value, file, f"{place}.{key}")
        elif isinstance(value, Mapping | list) and value:
            yield from _settings(value, file, f"{place}.{key}")
        else:
            yield HParamRow(None, key, value, None, Kind.SETTING, Origin(file, place, TOOL))


def _optimizer_rows(node: Tree, file: str, place: str, archive: bool) -> Iterator[HParamRow]:
    if isinstance(node.get("class_name"), str):
        # That a LossScaleOptimizer is around the optimizer says nothing of how the weights are changed.
        scope = "optimizer" if not isinstance(_get(node.get("config"), "inner_optimizer"), Mapping) else None
        name = built_in(str(node["class_name"]))
        origin = Origin(file, place, TOOL)
        yield hparam("class_name", name, origin, scope) if scope else _setting("class_name", name, origin)
    config = node.get("config")
    origin = Origin(file, f"{place}.config", TOOL)
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if key == "inner_optimizer" and isinstance(value, Mapping):
            yield from _optimizer_rows(value, file, f"{place}.config.{key}", archive)
        elif isinstance(_get(config, "inner_optimizer"), Mapping):
            yield _setting(key, value, origin)
        elif isinstance(value, Mapping) and value.get("class_name"):
            inner = value.get("config")
            schedule = "keras_schedule"
            yield hparam("class_name", value["class_name"], replace(origin, locator=f"{place}.config.{key}"), schedule)
            if isinstance(inner, Mapping):
                yield from _schedule_rows(inner, replace(origin, locator=f"{place}.config.{key}.config"))
        elif key in ("learning_rate", "lr"):
            yield _rate_row(key, value, origin, archive)
        elif key == "name":
            yield HParamRow(None, key, value, None, Kind.SETTING, origin)
        elif key == "decay":
            yield HParamRow(
                "lr_decay", key, value, None, Kind.STATIC, origin
            )  # Keras 2: of the rate, not of the weights
        else:
            yield hparam(key, value, origin, "optimizer")


def _setting(key: str, value: object, origin: Origin) -> HParamRow:
    return HParamRow(None, key, value, None, Kind.SETTING, origin)


def _schedule_rows(config: Tree, origin: Origin) -> Iterator[HParamRow]:
    """CosineDecay climbs from `initial_learning_rate` to `warmup_target`; PiecewiseConstantDecay lists its rates.

    https://keras.io/api/optimizers/learning_rate_schedules/
    """
    climbs = config.get("warmup_target") is not None
    for key, value in config.items():
        row = hparam(key, value, origin, "keras_schedule")
        if climbs and key in ("initial_learning_rate", "warmup_target"):
            name = "learning_rate" if key == "warmup_target" else "lr_warmup_start"
            yield replace(row, name=name, kind=Kind.STATIC)
        elif key == "values" and isinstance(value, list) and value and "boundaries" in config:
            yield replace(row, name="learning_rate", value=value[0], raw_key="values[0]", note="of the first steps")
            yield replace(row, name="lr_values", kind=Kind.STATIC)
        elif key == "boundaries":
            yield replace(row, name="lr_milestones", kind=Kind.STATIC)
        else:
            yield row


def _rate_row(key: str, value: object, origin: Origin, archive: bool) -> HParamRow:
    """The rate is kept as it was when the model was saved; a .keras archive does so after every callback."""
    row = hparam(key, value, origin, "optimizer", "as it was when the model was saved")
    if archive:
        return replace(row, name="learning_rate.current", kind=Kind.DYNAMIC, current=value)
    return row


def _settings(node: object, file: str, place: str) -> Iterator[HParamRow]:
    for leaf in leaves(node, place):
        yield HParamRow(None, leaf.key, leaf.value, None, Kind.SETTING, Origin(file, leaf.locator, TOOL))


# -- its layers -----------------------------------------------------------------------------------------

_DENSE = frozenset({"Dense", "LSTM", "GRU", "SimpleRNN", "EinsumDense"})


def _model_rows(model: Tree, file: str, place: str) -> Iterator[HParamRow]:
    if isinstance(model.get("class_name"), str):
        yield HParamRow(
            None, "class_name", model["class_name"], None, Kind.SETTING, Origin(file, place.rstrip(".:"), TOOL)
        )
    config = model.get("config")
    listed = config if isinstance(config, list) else _get(config, "layers")
    where = f"{place}config" if isinstance(config, list) else f"{place}config.layers"
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if key != "layers" and not isinstance(value, Mapping | list):
            yield HParamRow(None, key, value, None, Kind.SETTING, Origin(file, f"{place}config", TOOL))
    entries = [e for e in listed if isinstance(e, Mapping)] if isinstance(listed, list) else []
    units = [e for e in entries if "units" in _config(e)]
    acts = [e for e in entries if isinstance(_config(e).get("activation"), str)]
    for index, entry in enumerate(entries):
        numbers = {
            # The last one's width is the number of outputs, not a choice.
            "units": next((i for i, e in enumerate(units[:-1]) if e is entry), -1),
            "activation": next((i for i, e in enumerate(acts) if e is entry), -1),
        }
        for row in _layer_rows(entry, file, f"{where}[{index}].config", numbers):
            yield replace(row, reach=Reach.LAYER)


def _config(entry: Tree) -> Tree:
    config = entry.get("config")
    return config if isinstance(config, Mapping) else {}


def _layer_rows(entry: Tree, file: str, place: str, numbers: Mapping[str, int]) -> Iterator[HParamRow]:
    cls = str(entry.get("class_name", ""))
    origin = Origin(file, place, TOOL)
    note = f"{cls} layer" if cls else ""
    config = _config(entry)
    if isinstance(config.get("layers"), list):  # a model used as a layer
        yield from _model_rows(entry, file, f"{place.removesuffix('config')}")
        return
    for key, value in config.items():
        if key.endswith("_regularizer") and isinstance(value, Mapping):
            inner = value.get("config")
            for k, v in inner.items() if isinstance(inner, Mapping) else ():
                if v:
                    at = replace(origin, locator=f"{place}.{key}.config")
                    yield hparam(k, v, at, "keras_regularizer", f"{note}, {key}")
        elif key == "units":
            name = f"hidden_units[{numbers['units']}]" if numbers["units"] >= 0 else None
            yield HParamRow(name, key, value, None, Kind.STATIC, origin, note)
        elif key == "activation" and isinstance(value, str):
            yield HParamRow(f"activation[{numbers['activation']}]", key, value, None, Kind.STATIC, origin, note)
        elif isinstance(value, Mapping | list) and value:
            if key in ("kernel_size", "strides", "pool_size", "dilation_rate"):
                yield hparam(key, value, origin, "module", note)
            else:
                yield from _settings({key: value}, file, place)
        else:
            yield _layer_row(key, value, origin, cls, note)


_BY_CLASS = (("Dropout", "dropout"), ("Normalization", "norm"))
_LAYER_KEYS = frozenset("strides kernel_size pool_size dilation_rate dropout num_heads num_layers padding".split())


def _layer_row(key: str, value: object, origin: Origin, cls: str, note: str) -> HParamRow:
    scope = next((s for part, s in _BY_CLASS if part in cls), "module")
    row = hparam(key, value, origin, scope, note)
    known = row.name is not None and (scope != "module" or key in _LAYER_KEYS)
    if known and key not in ("name", "dtype", "seed"):
        return replace(row, note=f"{note}; weight of the old value") if row.name == "bn_momentum" else row
    return replace(row, name=None, kind=Kind.SETTING)


# -- what the optimizer's variables say -----------------------------------------------------------------


def _variables(checkpoint: Checkpoint) -> Iterator[HParamRow]:
    """The step that the optimizer has reached; Keras 3 numbers its variables and keeps it in the first."""
    prefix = "model.weights.h5:" if checkpoint.format == "keras" else ""
    for ref in checkpoint.tensors:
        owner, _, key = ref.name.rpartition(".")
        # Where the rate is a schedule the variables have no names but numbers.
        first = key == "0" and owner == "optimizer.vars" and ref.dtype.name.startswith("i")
        named = key in ("iteration", "iterations", "iteration:0", "iter") and not owner.endswith("loss_scale")
        is_step = first or named
        value = one_number(ref) if ref.numel == 1 and is_step else ABSENT
        if value is not ABSENT:
            numbered = checkpoint.format in ("keras", "keras-weights-h5")
            origin = Origin(checkpoint.path, f"{prefix}optimizer/vars" if numbered else owner, TOOL)
            yield HParamRow("step.current", "0" if numbered else key, value, value, Kind.DYNAMIC, origin)
            return
