"""Names of Keras variables as users know them: the layer's name, then `kernel`, `bias`, `gamma`, ...

Keras 3 stores variables by number: `layers/dense_1/vars/0`. Since 3.15, the group `vars` carries the name of its
object; before, only the config has it. The order of creation is that of keras/src/layers in 3.15.1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from inspectcli.display.text import natural_key
from inspectcli.formats.hdf5.config import Layer, is_own, snake_case

Shape = tuple[int, ...]

_NORMS = ("gamma", "beta", "moving_mean", "moving_variance")
_DENSE = ("kernel", "bias")
_EMBEDDING = ("embeddings",)
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")
#: Of float8, which keeps a kernel and a bias as they were.
_FLOAT8 = (
    "inputs_scale", "inputs_amax_history", "kernel_scale", "kernel_amax_history", "outputs_grad_scale",
    "outputs_grad_amax_history",
)  # fmt: skip

#: Class in snake case -> its variables in order of creation. The last ones may be missing.
VARIABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("dense einsum_dense depthwise_conv1d depthwise_conv2d".split(), _DENSE),
    **{f"conv{n}d": _DENSE for n in (1, 2, 3)},
    **{f"conv{n}d_transpose": _DENSE for n in (1, 2, 3)},
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), _SEPARABLE),
    **dict.fromkeys("lstm_cell gru_cell simple_rnn_cell conv_lstm_cell".split(), _RECURRENT),
    "embedding": _EMBEDDING,
    "reversible_embedding": _EMBEDDING,
    "batch_normalization": _NORMS,
    "layer_normalization": _NORMS[:2],
    "group_normalization": _NORMS[:2],
    "rms_normalization": ("scale",),
    "p_re_lu": ("alpha",),
    "normalization": ("mean", "variance", "count"),
    "attention": ("scale", "concat_score_weight"),
    "additive_attention": ("scale",),
    "seed_generator": ("seed_generator_state",),
}
#: Attribute under which a layer of attention keeps a part -> its name.
_PART_NAMES = {
    f"{start}{part}_dense": "attention_output" if part == "output" else part
    for part in ("query", "key", "value", "output")
    for start in ("", "_")
}
#: Attribute under which a layer keeps a part -> class of the part.
_PARTS = {
    **dict.fromkeys("query_dense key_dense value_dense output_dense".split(), "einsum_dense"),
    **dict.fromkeys("_query_dense _key_dense _value_dense _output_dense".split(), "einsum_dense"),
    "seed_generator": "seed_generator",
}
#: Parts of MultiHeadAttention in order of creation; a file lists them alphabetically.
_ATTENTION_ORDER = {name: i // 2 for i, name in enumerate(_PART_NAMES)}
_DIRECTIONS = ("forward_layer", "backward_layer")

#: Leaves without a gradient.
BUFFERS = frozenset("moving_mean moving_variance mean variance count vector_u".split())
#: What a quantized layer keeps beside its codes.
QUANTIZATION = frozenset(
    {*_FLOAT8, "kernel_zero", "embeddings_scale", "embeddings_zero", "awq_scales", "g_idx"}
    | {f"reverse_embeddings_{part}" for part in ("scale", "zero")}
)

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

    def is_positional(self, path: str) -> bool:
        """Return whether only its place tells the object at a path from others of its class: `layers/dense_1`."""
        return (
            path not in self._labels
            and "layers" in path.split("/")[:-1]
            and path.partition("/vars")[0] not in self._layers
            and not any(path.startswith(f"{known}/") for known in self._layers)
        )

    def group(self, path: str) -> str | None:
        """Return the outermost object around a path whose parts were made in an order that nothing tells.

        None for the layers of Keras. The parts of a class of the user's are listed by the alphabet.
        """
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            layer = self._layers.get("/".join(parts[:n]))
            if layer is not None and not is_own(layer.class_name):
                return layer.path
        return None if any("/".join(parts[:n]) in self._layers for n in range(1, len(parts) + 1)) else ""

    def paths(self) -> dict[str, str]:
        """Return the name of each object that the config tells of, and of the parts of Keras's own, with its path."""
        made: dict[str, str] = {}
        for path in self._layers:
            parts = ("cell", *_PART_NAMES, *(f"{direction}/cell" for direction in _DIRECTIONS))
            for at in (path, *(f"{path}/{part}" for part in parts)):
                made.setdefault(self.owner(at), at)
        return made

    def wraps_kernel(self, path: str) -> bool:
        """Return whether the object at a path holds the kernel of the layer inside it."""
        return self._snake_class(path) == "spectral_normalization"

    def is_frozen(self, path: str) -> bool:
        """Return whether the config says that the object, or one around it, is not trained."""
        parts = path.split("/")
        around = (self._layers.get("/".join(parts[:n])) for n in range(1, len(parts) + 1))
        return any(layer is not None and layer.config.get("trainable") is False for layer in around)

    def order(self, owner: str) -> tuple[Any, ...]:
        """Return the sort key of an object: its position in the config, or else its name in natural order."""
        parts = owner.split("/")
        # The config tells of one direction of Bidirectional, or of both: they come in their own order.
        deep = next((i for i, part in enumerate(parts) if part in _DIRECTIONS), len(parts))
        known = [i for n in range(1, deep + 1) if (i := self._position.get("/".join(parts[:n]))) is not None]
        holder, _, part = owner.rpartition("/")
        if part in _ATTENTION_ORDER:
            owner = f"{holder}/{_ATTENTION_ORDER[part]}"
        for i, direction in enumerate(_DIRECTIONS):
            owner = owner.replace(f"/{direction}", f"/{i}")
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
            label = self._labels.get(prefix) or (layer.name if layer and part not in _DIRECTIONS else "")
            # A list of layers is not a layer: it has no name, and no component in a variable's name.
            if label or not self._labels or prefix == path:
                shown.append(label or self._part_name(prefix, part))
        return ".".join(shown)

    def _part_name(self, path: str, part: str) -> str:
        """Return the name that Keras gives a part of its own layers; else the attribute that keeps it."""
        holder = path.rpartition("/")[0]
        if part == "cell" and (kind := self._snake_class(path)) in VARIABLES:
            return kind
        if part in _DIRECTIONS and (layer := self._layers.get(path) or self._layers.get(f"{holder}/forward_layer")):
            plain = layer.name.removeprefix("forward_").removeprefix("backward_")
            return f"{part.partition('_')[0]}_{plain}"
        return _PART_NAMES.get(part, part)

    def class_of(self, path: str) -> str:
        """Return the class of the object at a path, as the config spells it; empty if that is unknown."""
        layer = self._layers.get(path)
        return layer.class_name if layer else ""

    def variables(self, path: str, shapes: Sequence[Shape], types: Sequence[str] = ()) -> list[str]:
        """Return the names of the variables of the object at `path`; `vars.0`, `vars.1`, ... if they are unknown."""
        numbered = [f"vars.{i}" for i in range(len(shapes))]
        kind = self._snake_class(path)
        names = VARIABLES.get(kind)
        layer = self._layers.get(path)
        if kind == "spectral_normalization" and len(shapes) == 2:
            return ["kernel", "vector_u"]
        if kind == "attention" and layer is not None and not layer.config.get("use_scale"):
            names = names and names[1:]
        if names in (_DENSE, _EMBEDDING) and (quantized := _quantized(names, shapes, types)):
            return quantized
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
            kind = self._rnn_class(holder)
            return label if label in VARIABLES else f"{re.sub(r'_lstm[123]d', '_lstm', kind)}_cell"
        if holder.endswith("layers") or without_number(part) in VARIABLES:
            return without_number(part)
        return without_number(self._labels.get(path, ""))

    def _rnn_class(self, path: str) -> str:
        holder, _, part = path.rpartition("/")
        layer = self._layers.get(path)
        if layer is None and part in _DIRECTIONS:  # the config of Bidirectional names one direction
            layer = self._layers.get(f"{holder}/forward_layer")
        if layer:
            return snake_case(layer.class_name)
        label = without_number(self._labels.get(path, "").removeprefix("forward_").removeprefix("backward_"))
        return without_number(part) if f"{without_number(part)}_cell" in VARIABLES else label or without_number(part)


def _quantized(names: tuple[str, ...], shapes: Sequence[Shape], types: Sequence[str]) -> list[str]:
    """Return the names of a quantized layer's variables; empty if it is not quantized.

    int8, int4: the codes, a bias, their scale, and in blocks a zero point and the block of each row. float8: the
    weights as they were, and six figures of their range. `variable_serialization_spec` in keras/src/layers/core.
    """
    n, main = len(shapes), names[0]
    if not types or not shapes:
        return []
    if types[0] in ("i8", "u8"):
        blocks = ["kernel_zero" if main == "kernel" else f"{main}_zero", "g_idx"] if n >= 4 else []
        start = [main, *(["bias"] if main == "kernel" and n - len(blocks) == 3 else []), f"{main}_scale"]
        return start + blocks if len(start) + len(blocks) == n else []
    if main == "kernel" and n in (7, 8) and len(shapes[n - 1]) == 1:
        return [*names[: n - 6], *_FLOAT8]
    return []


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


# -- Keras 1, 2 and legacy .h5: weight_names ------------------------------------------------------------


def legacy_name(layer: str, weight: str, inner: Collection[str] = ()) -> str:
    """Return the name of a weight of Keras 1 and 2: `dense_1` and `dense_1/kernel:0` -> `dense_1.kernel`.

    The scopes of a weight may repeat the layer with another number (`dense_1/dense_1_10/bias:0`), and Keras 3 puts the
    name of the model in front. The name of a layer may have slashes, and those of the layers in a model may be its own
    with a number; `inner` are these.
    """
    parts = [p for p in re.sub(r":\d+$", "", weight).split("/") if p] or [weight]
    scopes, leaf = parts[:-1], parts[-1]
    own = layer.split("/")
    repeats = [i + len(own) for i in range(len(scopes) - len(own) + 1) if scopes[i : i + len(own)] == own]
    repeats += [
        i + 1
        for i, scope in enumerate(scopes)
        if scope not in inner and "/" not in layer and without_number(scope) == layer
    ]
    below = scopes[max(repeats) :] if repeats else scopes
    if not scopes and leaf.startswith(f"{layer}_") and len(leaf) > len(layer) + 1:
        leaf = leaf[len(layer) + 1 :]  # Keras 1: dense_1_W
    return ".".join([layer, *below, leaf])
