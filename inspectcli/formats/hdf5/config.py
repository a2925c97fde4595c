"""JSON configs of Keras models: their layers, and what an unrestricted loader would run for them. Nothing is built.

A layer is {"class_name": "Dense", "config": {"name": "dense_1", ...}}, since Keras 3 with "module" and
"registered_name". https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/serialization_lib.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from inspectcli.pickles.globals import GlobalRisk, classify
from inspectcli.pickles.nodes import Global
from inspectcli.tensors.model import Hazard

Json = Any

#: Modules of Keras's own classes.
_KERAS = re.compile(r"(tf_)?keras(\.\w+)*|tensorflow\.(python\.)?keras(\.\w+)*|keras_(core|hub|nlp|cv)(\.\w+)*")
#: Functions of Keras and TensorFlow that reach outside the model.
_REACHING = frozenset(
    "get_file enable_unsafe_deserialization load_model load_weights save_model save_weights load_img save_img "
    "load_data export extract_archive run_function eval exec open compile __import__ getattr setattr".split()
)
#: Layers of Keras; other classes are the user's own.
_OWN = frozenset(
    """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D
    Convolution1D Convolution2D Convolution3D Cropping1D Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Dense
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
    FlaxLayer Functional GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    GroupQueryAttention GroupedQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup JaxLayer LSTM
    LSTMCell Lambda Layer LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxNumBoundingBoxes
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp Model MultiHeadAttention Multiply
    Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomContrast RandomCrop
    RandomFlip RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
    RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D Sequential SimpleRNN
    SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization
    StackedRNNCells StringLookup Subtract TFSMLayer TextVectorization ThresholdedReLU TimeDistributed
    TorchModuleWrapper UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
    ZeroPadding3D
    """.split()
)
#: Classes whose config is code, or names a file that is loaded as a model.
_CODE_LAYERS = {
    "Lambda": "a Lambda layer is Python code, which a loader would run",
    "__lambda__": "a lambda is stored as marshalled Python code, which a loader would run",
    "TorchModuleWrapper": "a TorchModuleWrapper is a pickled module, which a loader would run",
    "TFSMLayer": "a TFSMLayer loads another model from a path",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as the config describes it.

    Attributes:
        path: its group in a weights file of Keras 3: `layers/dense_1`, `layers/sequential/layers/dense`.
        name: as the user gave it, or as Keras numbered it.
        class_name: `Dense`.
        config: arguments of the class.
    """

    path: str
    name: str
    class_name: str
    config: Mapping[str, Json]


def is_own(class_name: str) -> bool:
    """Return whether this is a class of Keras, whose parts are made in an order that is known."""
    return class_name in _OWN


def snake_case(name: str) -> str:
    """Return a class name in snake case, as Keras does: `Conv1D` -> `conv1d`, `ReLU` -> `re_lu`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def layers(config: Json) -> Iterator[Layer]:
    """Yield all layers of a model config in order, each before the layers that are nested in it."""
    yield from _model_layers(config, "")


def _model_layers(model: Json, prefix: str) -> Iterator[Layer]:
    inner = model.get("config") if isinstance(model, dict) else None
    # Sequential models of Keras 2.2 and before: the config is the list itself.
    yield from _listed(
        inner if isinstance(inner, list) else inner.get("layers") if isinstance(inner, dict) else None,
        f"{prefix}layers",
    )
    if isinstance(inner, dict):
        yield from _listed(inner.get("cells"), f"{prefix}cells")


#: Name in a config -> name of the class, where Keras exports it under another.
_CLASS_NAMES = {"GroupQueryAttention": "GroupedQueryAttention"}


def _listed(listed: Json, holder: str) -> Iterator[Layer]:
    used: dict[str, int] = {}
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list):
            continue
        class_name = str(entry.get("class_name", ""))
        base = snake_case(_CLASS_NAMES.get(class_name, class_name))
        number = used[base] = used.get(base, -1) + 1
        yield from _one_layer(entry, f"{holder}/{base}_{number}" if number else f"{holder}/{base}")


def _one_layer(entry: Mapping[str, Json], path: str) -> Iterator[Layer]:
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    name = config.get("name") or entry.get("name") or path.rpartition("/")[2]
    yield Layer(path, str(name), str(entry.get("class_name", "")), config)
    yield from _model_layers(entry, f"{path}/")
    for attribute in ("layer", "forward_layer", "backward_layer", "cell"):
        wrapped = config.get(attribute)
        if isinstance(wrapped, dict) and isinstance(wrapped.get("config"), dict):
            where = (
                "forward_layer" if entry.get("class_name") == "Bidirectional" and attribute == "layer" else attribute
            )
            yield from _one_layer(wrapped, f"{path}/{where}")


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer as a config describes it.

    Attributes:
        class_name: `Adam`; without TF-Keras's `Custom>`; empty if unknown.
        config: its arguments; empty if unknown.
        inner: the one that a LossScaleOptimizer wraps.
    """

    class_name: str = ""
    config: Mapping[str, Json] = field(default_factory=dict)
    inner: Optimizer | None = None

    @property
    def trains(self) -> str:
        """The class of the optimizer that changes the weights."""
        return self.inner.trains if self.inner else self.class_name


def optimizer_of(training: Json) -> Optimizer:
    """Return the optimizer in a training_config (Keras 1, 2, legacy `.h5`) or compile_config (Keras 3)."""
    found = training.get("optimizer_config") or training.get("optimizer") if isinstance(training, dict) else None
    return _optimizer(found)


def _optimizer(found: Json) -> Optimizer:
    if isinstance(found, str):
        return Optimizer(built_in(found))
    if not isinstance(found, dict) or not isinstance(found.get("class_name"), str):
        return Optimizer()
    config = found["config"] if isinstance(found.get("config"), dict) else {}
    inner = _optimizer(config["inner_optimizer"]) if isinstance(config.get("inner_optimizer"), dict) else None
    return Optimizer(built_in(found["class_name"]), config, inner)


#: Optimizers of Keras and TF-Keras; the latter writes its newer ones as `Custom>Adam`.
OPTIMIZERS = frozenset(
    "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl LossScaleOptimizer LossScaleOptimizerV3 Lamb Lion Muon Nadam "
    "RMSprop SGD ScheduleFreeAdamW".split()
)


def built_in(class_name: str) -> str:
    """Return the name of an optimizer's class without `Custom>`, if it is one of Keras's own."""
    package, _, name = class_name.rpartition(">")
    return name if package in ("Custom", "") and (not package or name in OPTIMIZERS) else class_name


def dtype_names(config: Json) -> Iterator[str]:
    """Yield the element types and the policies that a config names: `bfloat16`, `int8_from_float32`."""
    for node in _objects(config):
        policy = node.get("dtype")
        if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
            policy = policy["config"].get("name")
        if isinstance(policy, str):
            yield policy


def labelled(label: str) -> str:
    """Return the class of an optimizer with the name that Keras gives it by itself: `adam_1`; empty for another."""
    return _LABELS.get(re.sub(r"_\d+$", "", label), "")


_LABELS = {snake_case(name): name for name in OPTIMIZERS}


# -- what it would do -----------------------------------------------------------------------------------


def risks(config: Json, where: str) -> tuple[tuple[Hazard, ...], tuple[str, ...]]:
    """Return (hazards, names of third-party classes) of a config, each once. `where` names the config in the report."""
    found: dict[str, Hazard] = {}
    foreign: set[str] = set()
    for node in _objects(config):
        for text in _acts(node):
            found.setdefault(text, Hazard(text, where, "layer"))
        foreign.update(_foreign(node))
    return tuple(found.values()), tuple(sorted(foreign))


def _objects(value: Json) -> Iterator[Mapping[str, Json]]:
    """Yield every object in the config, at any depth."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(reversed(node.values()))
        elif isinstance(node, list):
            stack.extend(reversed(node))


def _acts(node: Mapping[str, Json]) -> Iterator[str]:
    class_name, module = node.get("class_name"), node.get("module")
    if isinstance(class_name, str) and class_name in _CODE_LAYERS:
        inner = node.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        yield _CODE_LAYERS[class_name] + (f": {str(name)[:60]!r}" if name else "")
    if not isinstance(module, str) or class_name is None:
        return
    named = _function_name(node) if class_name == "function" else str(class_name)
    if _KERAS.fullmatch(module):
        if named in _REACHING:
            yield f"{module}.{named} would be called by a loader"
    elif classify(Global(module, named)) is GlobalRisk.DANGEROUS and not _is_plain_builtin(module, named):
        yield f"{module}.{named} would be imported and called by a loader"


def _function_name(node: Mapping[str, Json]) -> str:
    inner = node.get("config")
    return inner if isinstance(inner, str) else "function"


def _is_plain_builtin(module: str, name: str) -> bool:
    """Return whether this is a registered function of the user, for which Keras notes the module `builtins`."""
    return module == "builtins" and name not in _REACHING


def _foreign(node: Mapping[str, Json]) -> Iterator[str]:
    class_name, module, registered = (node.get(k) for k in ("class_name", "module", "registered_name"))
    if not isinstance(class_name, str) or "config" not in node:
        return
    if _is_own_optimizer(class_name, module, registered):
        return
    if isinstance(registered, str) and ">" in registered:
        yield registered[:200]
    elif ">" in class_name:
        yield class_name[:200]
    elif isinstance(module, str) and not _KERAS.fullmatch(module) and module != "builtins":
        yield f"{module}.{class_name}"[:200]
    elif "inbound_nodes" in node and class_name not in _OWN and not module and not _looks_like_operation(class_name):
        yield class_name[:200]


def _is_own_optimizer(class_name: str, module: object, registered: object) -> bool:
    own = built_in(class_name) in OPTIMIZERS and built_in(str(registered or "Adam")) in OPTIMIZERS
    return own and (not isinstance(module, str) or _KERAS.fullmatch(module) is not None)


def _looks_like_operation(class_name: str) -> bool:
    """Return whether this class stands for a TensorFlow operation, as Keras 2 stores those of a functional model."""
    return class_name in (
        "TFOpLambda",
        "SlicingOpLambda",
        "TensorFlowOpLayer",
        "ClassMethod",
        "Operation",
        "InstanceProperty",
    )
