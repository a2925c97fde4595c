"""Names as a Keras user knows them: the layer's name, then `kernel`, `bias`, `gamma`, ...; never a number if the
layer is known.

Keras 3 keeps variables by number: `layers/dense_1/vars/0`. The group `vars` carries the object's name since 3.15;
before, only the config knows it. Order of creation: keras/src/layers of 3.15.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inspectcli.display.text import natural_key
from inspectcli.formats.hdf5.config import Layer, snake_case

Shape = tuple[int, ...]

_NORMS = ("gamma", "beta", "moving_mean", "moving_variance")
_DENSE = ("kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")

#: Class in snake case -> its variables in order of creation; the last ones may be missing.
VARIABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("dense einsum_dense depthwise_conv1d depthwise_conv2d".split(), _DENSE),
    **{f"conv{n}d": _DENSE for n in (1, 2, 3)},
    **{f"conv{n}d_transpose": _DENSE for n in (1, 2, 3)},
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), _SEPARABLE),
    **dict.fromkeys("lstm_cell gru_cell simple_rnn_cell conv_lstm_cell".split(), _RECURRENT),
    "embedding": ("embeddings",),
    "batch_normalization": _NORMS,
    "layer_normalization": _NORMS[:2],
    "group_normalization": _NORMS[:2],
    "rms_normalization": ("scale",),
    "p_re_lu": ("alpha",),
    "normalization": ("mean", "variance", "count"),
    "seed_generator": ("seed_generator_state",),
}
#: Parts of a layer that it keeps under an attribute -> their class.
_PARTS = {
    **dict.fromkeys("query_dense key_dense value_dense output_dense".split(), "einsum_dense"),
    **dict.fromkeys("_query_dense _key_dense _value_dense _output_dense".split(), "einsum_dense"),
    "seed_generator": "seed_generator",
}
#: Order of creation of the parts of MultiHeadAttention; a file lists them by the alphabet.
_ATTENTION_ORDER = {name: i for i, name in enumerate(("query_dense", "key_dense", "value_dense", "output_dense"))}

#: Leaves that training does not move by gradient.
BUFFERS = frozenset("moving_mean moving_variance mean variance count seed_generator_state".split())

#: Optimizer -> what it keeps for each trained variable, in order.
SLOTS: dict[str, tuple[str, ...]] = {
    "adam": ("momentum", "velocity"),
    "adamw": ("momentum", "velocity"),
    "adamax": ("momentum", "norm"),
    "sgd": ("momentum",),
    "lion": ("momentum",),
    "rmsprop": ("velocity",),
    "adagrad": ("accumulator",),
    "adadelta": ("accumulated_grad", "accumulated_delta_var"),
}
_NUMBERED = re.compile(r"(.*)_(\d+)")


def without_number(name: str) -> str:
    """`dense_12` -> `dense`."""
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else name


# -- Keras 3: layers/dense_1/vars/0 ---------------------------------------------------------------------


class Keras3Names:
    """Names of the variables of one weights file.

    Args:
        labels: the attribute `name` of each group `<object>/vars`, by object.
        layers: those of the config, if there is one.
    """

    def __init__(self, labels: Mapping[str, str], layers: Sequence[Layer]) -> None:
        self._labels = labels
        self._layers = {layer.path: layer for layer in layers}
        self._position = {layer.path: i for i, layer in enumerate(layers)}

    def order(self, owner: str) -> tuple[Any, ...]:
        """Sort key of an object: as in the model where the config tells, else natural."""
        parts = owner.split("/")
        known = [i for n in range(1, len(parts) + 1) if (i := self._position.get("/".join(parts[:n]))) is not None]
        holder, _, part = owner.rpartition("/")
        if part in _ATTENTION_ORDER:
            owner = f"{holder}/{_ATTENTION_ORDER[part]}"
        # What is in the config comes in its order, the rest after it.
        return (known or [len(self._position)], natural_key(owner))

    def owner(self, path: str) -> str:
        """`layers/dense` -> the name of the layer, with those that hold it in front, dotted."""
        parts = [p for p in path.split("/") if p]
        shown = []
        for i, part in enumerate(parts):
            if part in ("layers", "_layer_checkpoint_dependencies"):
                continue
            prefix = "/".join(parts[: i + 1])
            layer = self._layers.get(prefix)
            label = self._labels.get(prefix) or (layer.name if layer else "")
            # A list of layers is no layer: it has no name of its own, and no part in a variable's path.
            if label or not self._labels:
                shown.append(label or part)
        return ".".join(shown)

    def class_of(self, path: str) -> str:
        """The class as the user spelled it, where the config tells."""
        layer = self._layers.get(path)
        return layer.class_name if layer else ""

    def variables(self, path: str, shapes: Sequence[Shape]) -> list[str]:
        """Names of the variables of the object at `path`; `vars.0`, ... where it is not sure."""
        numbered = [f"vars.{i}" for i in range(len(shapes))]
        kind = self._snake_class(path)
        names = VARIABLES.get(kind)
        layer = self._layers.get(path)
        if names is None:
            return list(_DENSE) if not layer and _is_dense(shapes) else numbered
        if names is _NORMS or names == _NORMS[:2]:
            names = _norm_variables(names, len(shapes), layer)
        if len(shapes) > len(names) or (names[:1] == ("kernel",) and not _is_kernel_first(shapes)):
            return numbered
        return list(names[: len(shapes)])

    def _snake_class(self, path: str) -> str:
        layer = self._layers.get(path)
        if layer:
            return snake_case(layer.class_name)
        holder, _, part = path.rpartition("/")
        if part in _PARTS:
            return _PARTS[part]
        if part == "cell":
            label = without_number(self._labels.get(path, ""))
            return label if label in VARIABLES else f"{self._rnn_class(holder)}_cell"
        if holder.endswith("layers") or without_number(part) in VARIABLES:
            return without_number(part)
        return without_number(self._labels.get(path, ""))

    def _rnn_class(self, path: str) -> str:
        layer = self._layers.get(path)
        return snake_case(layer.class_name) if layer else without_number(path.rpartition("/")[2])


def _norm_variables(names: tuple[str, ...], n: int, layer: Layer | None) -> tuple[str, ...]:
    """Without scale or center, the ones behind move up."""
    if n == len(names):
        return names
    if layer is not None:
        absent = {"gamma": layer.config.get("scale") is False, "beta": layer.config.get("center") is False}
        kept = tuple(name for name in names if not absent.get(name))
        return kept if len(kept) == n else ()
    if len(names) == 4 and n in (2, 3):  # the moving ones are always there
        return (*(f"vars.{i}" for i in range(n - 2)), *names[2:])
    return ()


def _is_kernel_first(shapes: Sequence[Shape]) -> bool:
    return not shapes or len(shapes[0]) >= 2


def _is_dense(shapes: Sequence[Shape]) -> bool:
    """A matrix and a vector for its columns: what Dense and every convolution keep."""
    return len(shapes) == 2 and len(shapes[0]) >= 2 and len(shapes[1]) == 1 and shapes[0][-1] == shapes[1][0]


def optimizer_variables(kind: str, shapes: Sequence[Shape], trained: Sequence[tuple[str, Shape]]) -> list[str] | None:
    """Names of an optimizer's variables: `iteration`, `learning_rate`, then its slots of each trained variable.

    None where the shapes do not say so themselves.
    """
    slots = SLOTS.get(kind.lower())
    if slots is None or shapes[:2] != [(), ()]:
        return None
    wanted = [(f"{name}.{slot}", shape) for name, shape in trained for slot in slots]
    if [shape for _, shape in wanted] != list(shapes[2:]):
        return None
    return ["iteration", "learning_rate", *(name for name, _ in wanted)]


# -- Keras 1, 2 and legacy .h5: weight_names ------------------------------------------------------------


def legacy_name(layer: str, weight: str) -> str:
    """`dense_1` and `dense_1/kernel:0` -> `dense_1.kernel`.

    The weight's scopes may repeat the layer, with a number of their own (`dense_1/dense_1_10/bias:0`), and Keras 3
    puts the model's name in front.
    """
    parts = [p for p in re.sub(r":\d+$", "", weight).split("/") if p] or [weight]
    scopes, leaf = parts[:-1], parts[-1]
    repeats = [i for i, scope in enumerate(scopes) if scope == layer or without_number(scope) == layer]
    inner = scopes[repeats[-1] + 1 :] if repeats else scopes
    if not scopes and leaf.startswith(f"{layer}_") and len(leaf) > len(layer) + 1:
        leaf = leaf[len(layer) + 1 :]  # Keras 1: dense_1_W
    return ".".join([layer, *inner, leaf])
