"""Adapters by their names: which weights of a base they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from inspectcli.commands.diff.names import WRAPPERS
from inspectcli.tensors.names import parts

#: What ends the name of an adapter's tensor, in PEFT, diffusers, kohya and LyCORIS.
_LEAF = re.compile(
    r"\.(?P<what>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|lora_down|lora_up|lora\.down"
    r"|lora\.up|lora_linear_layer\.down|lora_linear_layer\.up|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?|alpha|dora_scale"
    r"|ia3_l|vera_lambda_[bd]|oft_r|boft_R)(?:\.[^.]+)??(?:\.weight)?$"
)
#: The factor that has the rank as its first dimension.
DOWN = frozenset({"lora_A", "lora_down", "lora.down", "lora_linear_layer.down"})
#: Parts before a name that say nothing of the module; kohya joins them with `_`.
_BEFORE = WRAPPERS | {"base_model", "unet", "text_encoder"}
_KOHYA = re.compile(r"lora_(?:unet|te[12]?|transformer)_")


class AdapterName(NamedTuple):
    """An adapter's tensor.

    Attributes:
        target: the module it is for, comparable with `module_key`.
        what: which of the factors: `lora_A`.
    """

    target: str
    what: str


def adapter_name(name: str) -> AdapterName | None:
    """Return what a tensor's name says of an adapter; None for any other tensor.

    >>> adapter_name("base_model.model.model.layers.0.q_proj.lora_A.weight")
    AdapterName(target='layers_0_q_proj', what='lora_A')
    """
    found = _LEAF.search(name)
    return None if found is None else AdapterName(_key(name[: found.start()]), found["what"])


def module_key(name: str) -> str:
    """Return the key of the module to which a weight of the base belongs."""
    return _key(name.removesuffix(".weight"))


def _key(module: str) -> str:
    path = parts(_KOHYA.sub("", module, count=1) if module.startswith("lora_") else module)
    start = next((i for i, part in enumerate(path) if part not in _BEFORE), len(path) - 1)
    return "_".join(path[start:])


def is_adapter(names: Iterable[str]) -> bool:
    """Return whether most of these tensors are an adapter's: some keep whole layers besides."""
    known = [adapter_name(name) is not None for name in names]
    return 2 * sum(known) > len(known)
