"""Names of Keras variables as users know them: the layer's name, then `kernel`, `bias`, `gamma`, ...

Keras 3 stores variables by number: `layers/dense_1/vars/0`. Since 3.15, the group `vars` carries the name of its
object; before, only the config has it. The order of creation is that of keras/src/layers in 3.15.1.
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

#: Class in snake case -> its variables in order of creation. The last ones may be missing.
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
#: Attribute under which a layer keeps a part -> class of the part.
_PARTS = {
    **dict.fromkeys("query_dense key_dense value_dense output_dense".split(), "einsum_dense"),
    **dict.fromkeys("_query_dense _key_dense _value_dense _output_dense".split(), "einsum_dense"),
    "seed_generator": "seed_generator",
}
#: Parts of MultiHeadAttention in order of creation; a file lists them alphabetically.
_ATTENTION_ORDER = {name: i for i, name in enumerate(("query_dense", "key_dense", "value_dense", "output_dense"))}

#: Leaves without a gradient.
BUFFERS = frozenset("moving_mean moving_variance mean variance count seed_generator_state".split())

#: Optimizer -> the slots it keeps for each trained variable, in order.
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
    """Names the variables of one weights file.

    Args:
        labels: path of an object -> attribute `name` of its group `vars`.
        layers: of the config; empty without one.
    """

    def __init__(self, labels: Mapping[str, str], layers: Sequence[Layer]) -> None:
        self._labels = labels
        self._layers = {layer.path: layer for layer in layers}
        self._position = {layer.path: i for i, layer in enumerate(layers)}

    def order(self, owner: str) -> tuple[Any, ...]:
        """Return the sort key of an object: its position in the config, or else its name in natural order."""
        parts = owner.split("/")
        known = [i for n in range(1, len(parts) + 1) if (i := self._position.get("/".join(parts[:n]))) is not None]
        holder, _, part = owner.rpartition("/")
        if part in _ATTENTION_ORDER:
            owner = f"{holder}/{_ATTENTION_ORDER[part]}"
        # Layers of the config come in its order, the rest after them.
        return (known or [len(self._position)], natural_key(owner))

    def owner(self, path: str) -> str:
        """Return the dotted name of the object at a path: the names of the layers around it, then its own."""
        parts = [p for p in path.split("/") if p]
        shown = []
        for i, part in enumerate(parts):
            if part in ("layers", "_layer_checkpoint_dependencies"):
                continue
            prefix = "/".join(parts[: i + 1])
            layer = self._layers.get(prefix)
            label = self._labels.get(prefix) or (layer.name if layer else "")
            # A list of layers is not a layer: it has no name, and no component in a variable's name.
            if label or not self._labels:
                shown.append(label or part)
        return ".".join(shown)

    def class_of(self, path: str) -> str:
        """Return the class of the object at a path, as the config spells it; empty if that is unknown."""
        layer = self._layers.get(path)
        return layer.class_name if layer else ""

    def variables(self, path: str, shapes: Sequence[Shape]) -> list[str]:
        """Return the names of the variables of the object at `path`; `vars.0`, `vars.1`, ... if they are unknown."""
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
    """Return the first `n` variables of a normalization layer that has no scale or no center."""
    if n == len(names):
        return names
    if layer is not None:
        absent = {"gamma": layer.config.get("scale") is False, "beta": layer.config.get("center") is False}
        kept = tuple(name for name in names if not absent.get(name))
        return kept if len(kept) == n else ()
    if len(names) == 4 and n in (2, 3):  # moving averages always exist
        return (*(f"vars.{i}" for i in range(n - 2)), *names[2:])
    return ()


def _is_kernel_first(shapes: Sequence[Shape]) -> bool:
    return not shapes or len(shapes[0]) >= 2


def _is_dense(shapes: Sequence[Shape]) -> bool:
    """Return whether these are a kernel and a bias of its columns, as Dense and every convolution have."""
    return len(shapes) == 2 and len(shapes[0]) >= 2 and len(shapes[1]) == 1 and shapes[0][-1] == shapes[1][0]


def optimizer_variables(kind: str, shapes: Sequence[Shape], trained: Sequence[tuple[str, Shape]]) -> list[str] | None:
    """Return the names of an optimizer's variables: `iteration`, `learning_rate`, then slots of each trained variable.

    None if the shapes do not confirm this order.
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
    """Return the name of a weight of Keras 1 and 2: `dense_1` and `dense_1/kernel:0` -> `dense_1.kernel`.

    The scopes of a weight may repeat the layer with another number (`dense_1/dense_1_10/bias:0`), and Keras 3 puts the
    name of the model in front.
    """
    parts = [p for p in re.sub(r":\d+$", "", weight).split("/") if p] or [weight]
    scopes, leaf = parts[:-1], parts[-1]
    repeats = [i for i, scope in enumerate(scopes) if scope == layer or without_number(scope) == layer]
    inner = scopes[repeats[-1] + 1 :] if repeats else scopes
    if not scopes and leaf.startswith(f"{layer}_") and len(leaf) > len(layer) + 1:
        leaf = leaf[len(layer) + 1 :]  # Keras 1: dense_1_W
    return ".".join([layer, *inner, leaf])
