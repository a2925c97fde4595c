"""Roles of tensors in their layers (weight, bias, scale of a normalization, table, ...), by names, shapes, siblings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import TRAINING_STATE, Checkpoint, Kind, TensorRef
from inspectcli.tensors.names import split_name
from inspectcli.words import Word


class Part(Word):
    """What a tensor is in its layer."""

    WEIGHT = "weight"  # of a linear or convolutional layer, two dimensions or more
    BIAS = "bias"
    NORM_SCALE = "norm scale"  # gamma
    NORM_SHIFT = "norm shift"  # beta
    RUNNING_MEAN = "running mean"
    RUNNING_VAR = "running variance"
    COUNTER = "counter"
    EMBEDDING = "embedding"
    RNN_WEIGHT = "recurrent weight"
    RNN_BIAS = "recurrent bias"
    LORA_A = "LoRA A"
    LORA_B = "LoRA B"
    CONSTANT = "constant"  # masks, position tables, rotary frequencies: not trained, by design
    QUANTIZATION = "quantization"  # packed words, scales, zero points
    STATE = "training state"  # optimizer, random numbers, callbacks
    MEMORY = "memory"  # caches of keys and values, first hidden states, queues
    RECORD = "record"  # metrics, the best score so far, what an observer of quantization has seen
    DATA = "data statistics"  # in the units of the data: means, scales, reference energies, weights of classes
    SCORE = "score"  # log-probabilities and transitions, of which -inf and -10000 mean "never"
    FIXED = "fixed matrix"  # drawn or constructed once and used as it is: random features, permutations
    OTHER = "other"


#: What no training changes by its gradient, or what has no initial scale to be compared with.
UNJUDGED = frozenset(
    {Part.CONSTANT, Part.QUANTIZATION, Part.STATE, Part.MEMORY, Part.RECORD, Part.DATA, Part.SCORE, Part.FIXED}
)


class Role(NamedTuple):
    """The role of one tensor.

    Attributes:
        kind: what it is in its layer.
        module: name of the layer: the name of the tensor without its last component.
        leaf: the last component of the name.
    """

    kind: Part
    module: str
    leaf: str

    @property
    def is_weight(self) -> bool:
        return self.kind in (Part.WEIGHT, Part.EMBEDDING, Part.RNN_WEIGHT, Part.LORA_A, Part.LORA_B)


_NUMBER = re.compile(r"\d+")


def _words(words: str, flags: int = 0) -> Callable[[str], bool]:
    """Whether a name holds one of some words. Which number a block has does not matter: it is looked up once."""
    search = re.compile(words, flags).search
    holds = lru_cache(maxsize=1 << 14)(lambda name: search(name) is not None)
    return lambda name: holds(_NUMBER.sub("0", name))


#: Whole components of a name: `mask_head` is a layer.
_CONSTANT = _words(
    r"(^|[._/])(masked_bias|attn_mask|attention_mask|causal_mask|mask|position_ids|positions?_table|pos_table|inv_freq|"
    r"freqs(_cis)?|cos_cached|sin_cached|cos|sin|rotary_emb|relative_position_index|relative_coords_table|"
    r"anchors?|anchor_grid|"
    r"strides?|token_type_ids|window|mel_filters|filters?_bank|kernel_size|zigzag|sobel|dft|"
    r"\w*stft\w*|\w*fbank\w*|mel_basis|hann|buffer)([./]|$)",
    re.IGNORECASE,
)
_RNN = _words(r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?$|recurrent_kernel$")
_EMBEDDING = _words(
    r"(^|[._/])(\w*embed\w*|\w*embds?|\w*codebooks?|wte|wpe|emb|tok_emb|pos_emb|\w*_emb|relative_attention_bias)([._/]|$)",
    re.IGNORECASE,
)
_NORM_NAME = _words(
    r"(^|[._/])(\w*norm\w*|bn\w*|ln\w*|gn\w*|\w*_ln|\w*_bn|batchnorm\w*|layernorm\w*)([._/]|$)", re.IGNORECASE
)
_NORM_CLASS = re.compile(r"Norm|BatchNormalization|PReLU")
_POSITION = re.compile(
    r"(^|[._/])(pos_embed\w*|position_embedding\w*|positional\w*|pos_encod\w*|pe|wpe)([._/]|$)", re.IGNORECASE
)

#: Which of its own components say what a tensor beside the layers is for.
_BESIDE = (
    (
        Part.RECORD,
        r"activation_post_process|\w*observer\w*|\w*fake_quant\w*|early_?stop\w*|metrics?|\w+_metrics?|history|monitor|"
        r"best|best_\w+|(val|valid|test|train|eval)_(loss|acc\w*|score|metric|error|f1|auc)|lowest_\w+|highest_\w+",
    ),
    (
        Part.MEMORY,
        r"(\w+_)?(k|v|kv|key|value|keys|values)_?cache|cache_(k|v|kv|keys?|values?)|past_key_values?|past_keys?|"
        r"past_values?|mems|[hc]_?0|(init|initial|first|prev|last)_(hidden|state|cell|h|c)(_state)?|hidden_states?|"
        r"cell_state|conv_state|ssm_state",
    ),
    (
        Part.DATA,
        r"(\w+_)?(normali[sz]er|standardi[sz]er|standardi[sz]ation|scaler|denormali[sz]er)(_\w+)?|(obs|ret|reward|state)_rms|"
        r"running_mean_std|(data|input|output|target|feature|label|obs|action|reward|state|pixel|image|x|y)_"
        r"(mean|std|var|scale|offset|shift|min|max|range|stats)|atom_?refs?|e0s?|atomic_energ\w+|scale_shift|"
        r"criterion|loss_fn|loss_func\w*|class_weights?|pos_weight",
    ),
    (
        Part.SCORE,
        r"transitions?|(start|end|trans)_transitions?|transition_(matrix|scores?|params?|kernel)|trans_(m|mat\w*|scores?)|"
        r"(log_?)(probs?|probabilit\w+|priors?|pi|a|b|transitions?|emissions?|alphas?|startprobs?|transmat)|"
        r"startprob|transmat|chain_kernel|\w*alibi\w*",
    ),
    (
        Part.FIXED,
        r"projection_matrix|random_(matrix|weights?|vectors?|signs?)|rand_\w+|\w*fourier\w*|(lsh|simhash)(_\w+)?|"
        r"hash_(planes?|vectors?|functions?|seeds?)|hyperplanes?|hadamard|perm|perms|permutations?|perm_\w+|"
        r"gaussian_matrix|omegas?",
    ),
)
_PLACES = tuple((part, re.compile(rf"(?:{names})$", re.IGNORECASE)) for part, names in _BESIDE)
#: Names of what a trained layer holds: in a module `memory`, they are parameters all the same.
_TRAINED = re.compile(r"weight\w*|kernel|bias\w*|embeddings|w\d*|b\d*|gamma|beta")
#: Modules whose very weights are drawn once: random features, the target of random network distillation, a reservoir.
_NEVER_TRAINED = re.compile(
    r"random_(proj\w*|features?|net\w*|target\w*|layer)|rff\w*|rnd_target\w*|reservoir\w*|\w*best_?rq\w*", re.IGNORECASE
)
#: In the last component of the names of weights. Tokens, tables and state matrices, which may begin with zeros (log 1
#: in Mamba's `A_log`), are named otherwise.
OF_LAYER = re.compile("weight|kernel", re.IGNORECASE)
#: Such a table is bound to begin and may end with zeros.
_RELATIVE = re.compile(r"relative_?(position|attention|pos)\w*|rel_?pos\w*", re.IGNORECASE)

#: Last components of names that are enough to tell the role.
_LEAVES = {
    "gamma": Part.NORM_SCALE,
    "beta": Part.NORM_SHIFT,
    "moving_mean": Part.RUNNING_MEAN,
    "moving_variance": Part.RUNNING_VAR,
    "running_mean": Part.RUNNING_MEAN,
    "running_var": Part.RUNNING_VAR,
    "num_batches_tracked": Part.COUNTER,
    "embeddings": Part.EMBEDDING,
    "lora_A": Part.LORA_A,
    "lora_B": Part.LORA_B,
    "lora_down": Part.LORA_A,
    "lora_up": Part.LORA_B,
    "lora_embedding_A": Part.LORA_A,
    "lora_embedding_B": Part.LORA_B,
}


@dataclass(frozen=True)
class Roles:
    """The roles of the tensors of a checkpoint. The tensors of a layer help to tell each other's role."""

    checkpoint: Checkpoint

    @cached_property
    def modules(self) -> Mapping[str, Mapping[str, TensorRef]]:
        """Layer -> last component of the name -> tensor."""
        found: dict[str, dict[str, TensorRef]] = {}
        for ref in self.checkpoint.tensors:
            module, leaf = split_name(ref.name)
            found.setdefault(module, {})[leaf] = ref
        return found

    @property
    def keras(self) -> bool:
        """Whether weights have the shape (in, out), as in Keras."""
        return self.checkpoint.format.startswith("keras")

    def of(self, ref: TensorRef) -> Role:
        module, leaf = split_name(ref.name)
        return Role(self._part(ref, module, leaf), module, leaf)

    def _part(self, ref: TensorRef, module: str, leaf: str) -> Part:
        if ref.kind in TRAINING_STATE:
            return Part.STATE
        if ref.packed or ref.kind is Kind.QUANTIZATION or ref.affine is not None:
            return Part.QUANTIZATION
        if leaf in _LEAVES:
            return _LEAVES[leaf]
        for component in module.split(".")[-2:]:  # lora_A.weight, lora_A.default.weight
            if component.startswith("lora_") and component in _LEAVES:
                return _LEAVES[component]
        if (
            ref.kind is Kind.CONSTANT
            or ref.dtype.family not in (NumberClass.FLOAT, NumberClass.COMPLEX)
            or _CONSTANT(ref.name)
        ):
            return Part.CONSTANT
        beside = _beside(ref, module, leaf)
        if beside is not None:
            return beside
        if _RNN(leaf):
            return Part.RNN_BIAS if leaf.startswith("bias") else Part.RNN_WEIGHT
        own = self.modules.get(module, {})
        if leaf == "bias" and "recurrent_kernel" in own:
            return Part.RNN_BIAS
        if len([d for d in ref.shape if d > 1]) <= 1 and len(ref.shape) <= 1:
            return self._vector(ref, module, leaf, own)
        if "Embedding" in ref.layer or (_EMBEDDING(ref.name) and len(ref.shape) == 2 and "bias" not in leaf):
            # A projection in an embedding module has a bias, a table has none.
            return Part.WEIGHT if "bias" in own else Part.EMBEDDING
        if leaf.startswith("bias") or leaf.endswith("bias"):
            # GPT-2 names its causal mask of shape (1, 1, n, n) `bias`.
            return Part.CONSTANT if ref.shape[:-2] == (1, 1) and ref.shape[-1] == ref.shape[-2] else Part.BIAS
        return Part.CONSTANT if ref.kind is Kind.BUFFER else Part.WEIGHT

    def _vector(self, ref: TensorRef, module: str, leaf: str, own: Mapping[str, TensorRef]) -> Part:
        normal = (
            "running_mean" in own or "moving_mean" in own or bool(_NORM_CLASS.search(ref.layer)) or _NORM_NAME(module)
        )
        if ref.kind is Kind.BUFFER:
            return Part.CONSTANT
        if leaf == "weight" or leaf in ("scale", "g"):
            return Part.NORM_SCALE
        if leaf.startswith("bias") or leaf.endswith("bias") or leaf == "b":
            first = own.get("weight")
            if normal or (leaf == "bias" and first is not None and len(first.shape) <= 1):
                return Part.NORM_SHIFT
            return Part.BIAS
        return Part.OTHER


def _beside(ref: TensorRef, module: str, leaf: str) -> Part | None:
    """What a tensor beside the layers is for; None if it is a parameter of a layer, as far as the names tell."""
    components = re.split(r"[./]", module)
    if any(_NEVER_TRAINED.fullmatch(c) for c in components):
        return Part.FIXED
    is_parameter = bool(_TRAINED.fullmatch(leaf))
    for part, names in _PLACES:
        if names.match(leaf):
            return part
        if any(names.match(c) for c in components[-2:]) and (not is_parameter or _is_of_data(part, ref)):
            return part
    return None


def _is_of_data(part: Part, ref: TensorRef) -> bool:
    """Return whether this is a value for each class, feature or element, and no layer."""
    return part is Part.DATA and sum(n > 1 for n in ref.shape) <= 1


def is_relative_table(name: str) -> bool:
    """Return whether this is a table of relative positions: new ones are zeros, and stay so where they are not used."""
    return any(_RELATIVE.fullmatch(c) for c in re.split(r"[./]", name))


def is_position_table(name: str) -> bool:
    return bool(_POSITION.search(name))
