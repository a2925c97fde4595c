"""The initializers that a Keras model's own config names for each layer, with scale, mode and distribution.

https://github.com/keras-team/keras/blob/v3.15.1/keras/src/initializers/random_initializers.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from inspectcli.analysis.initializers.families import (
    ALMOST_CUT,
    CUT,
    NORMAL,
    UNIFORM,
    Candidate,
)
from inspectcli.analysis.initializers.fans import Framework, fans
from inspectcli.analysis.roles import Role
from inspectcli.display.text import significant
from inspectcli.tensors.model import Checkpoint

#: Layers of a config that are looked at, and depth of models within models.
_MOST, _DEPTH = 100_000, 16

Layer = Mapping[str, object]


class Scaling(NamedTuple):
    """Arguments of VarianceScaling."""

    scale: float
    mode: str
    distribution: str


#: Names of initializers that are VarianceScaling with fixed arguments.
_SCALINGS = {
    "glorotuniform": Scaling(1.0, "fan_avg", "uniform"),
    "glorotnormal": Scaling(1.0, "fan_avg", "truncated_normal"),
    "heuniform": Scaling(2.0, "fan_in", "uniform"),
    "henormal": Scaling(2.0, "fan_in", "truncated_normal"),
    "lecununiform": Scaling(1.0, "fan_in", "uniform"),
    "lecunnormal": Scaling(1.0, "fan_in", "truncated_normal"),
}
#: Last component of a name -> the argument of its layer; others are `<leaf>_initializer`.
_ARGUMENTS = {
    "recurrent_kernel": "recurrent_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
}


def layers_of(checkpoint: Checkpoint) -> Mapping[str, Layer]:
    """Return layer name -> its config, those of models within the model too; of equal names the first."""
    objects = checkpoint.objects
    if not isinstance(objects, Mapping) or not checkpoint.format.startswith(("keras", "hdf5")):
        return {}
    found: dict[str, Layer] = {}
    for key in ("config", "model_config"):
        for config in _configs(objects.get(key), _DEPTH):
            name = config.get("name")
            if isinstance(name, str) and len(found) < _MOST:
                found.setdefault(name, config)
    return found


def _configs(node: object, depth: int) -> Iterator[Layer]:
    """The `config` of a layer, and of those within it: a list of layers, or the layer of a wrapper."""
    if depth == 0 or not isinstance(node, Mapping):
        return
    config = node.get("config")
    if isinstance(config, list):  # Sequential of Keras 2.0
        for item in config:
            yield from _configs(item, depth - 1)
    if not isinstance(config, Mapping):
        return
    yield config
    listed = config.get("layers")
    for item in listed if isinstance(listed, list) else ():
        yield from _configs(item, depth - 1)
    for key in ("layer", "forward_layer", "backward_layer", "cell"):
        yield from _configs(config.get(key), depth - 1)


def named_for(role: Role, shape: tuple[int, ...], layers: Mapping[str, Layer]) -> Iterator[Candidate]:
    """Yield what a layer's config says drew one of its tensors: more than one where versions count fans differently."""
    for part in reversed(role.module.replace("/", ".").split(".")):
        if part in layers:
            argument = _ARGUMENTS.get(role.leaf, f"{role.leaf}_initializer")
            yield from _candidates(layers[part].get(argument), shape)
            return


def _candidates(told: object, shape: tuple[int, ...]) -> Iterator[Candidate]:
    name, config = told, {}  # type: object, Mapping[str, object]
    if isinstance(told, Mapping):
        name = told.get("class_name")
        inner = told.get("config")
        config = inner if isinstance(inner, Mapping) else {}
    if not isinstance(name, str):
        return
    plain = name.replace("_", "").lower()
    scaling = _SCALINGS.get(plain)
    if plain == "variancescaling":
        scaling = Scaling(
            _number(config, "scale", 1.0),
            str(config.get("mode", "fan_in")),
            str(config.get("distribution", "truncated_normal")),
        )
    if scaling is not None:
        yield from _scaled(name, scaling, shape)
    elif plain in _FIXED:
        yield from _FIXED[plain](name, config)


def _scaled(name: str, told: Scaling, shape: tuple[int, ...]) -> Iterator[Candidate]:
    for fan_in, fan_out in fans(shape, Framework.KERAS):
        fan = {"fan_in": fan_in, "fan_out": fan_out}.get(told.mode, (fan_in + fan_out) / 2)
        if not told.scale > 0 or not fan:
            continue
        std = math.sqrt(told.scale / fan)
        words = (
            name if name.replace("_", "").lower() in _SCALINGS else f"{name}({significant(told.scale, 6)}, {told.mode})"
        )
        if told.distribution == "uniform":
            yield _named(words, UNIFORM, math.sqrt(3) * std)
        elif told.distribution in ("normal", "truncated_normal"):
            yield _named(words, ALMOST_CUT, std)  # drawn wider, so that this is left after the cut
        else:
            yield _named(words, NORMAL, std)


def _named(words: str, family: object, scale: float) -> Candidate:
    label = f"{words} of the layer's config"
    if family is UNIFORM:
        return Candidate(UNIFORM, scale, f"{label} = U(±{significant(scale, 4)})", True, label)
    if family is NORMAL:
        return Candidate(NORMAL, scale, f"{label} = N(0, {significant(scale, 4)})", True, label)
    return Candidate(
        ALMOST_CUT,
        scale,
        f"{label} = N(0, {significant(scale, 4)}) cut at ±{significant(2 * scale / CUT, 4)}",
        True,
        label,
    )


def _uniform(name: str, config: Mapping[str, object]) -> Iterator[Candidate]:
    low, high = _number(config, "minval", -0.05), _number(config, "maxval", 0.05)
    if low == -high and high > 0:
        yield _named(name, UNIFORM, high)


def _normal(name: str, config: Mapping[str, object]) -> Iterator[Candidate]:
    std = _number(config, "stddev", 0.05)
    if _number(config, "mean", 0.0) == 0 and std > 0:
        yield _named(name, NORMAL, std)


def _truncated(name: str, config: Mapping[str, object]) -> Iterator[Candidate]:
    std = _number(config, "stddev", 0.05) * CUT  # the uncut deviation is named
    if _number(config, "mean", 0.0) == 0 and std > 0:
        yield _named(name, ALMOST_CUT, std)


_FIXED: dict[str, Callable[[str, Mapping[str, object]], Iterator[Candidate]]] = {
    "randomuniform": _uniform,
    "uniform": _uniform,
    "randomnormal": _normal,
    "normal": _normal,
    "truncatednormal": _truncated,
}


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key, default)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
