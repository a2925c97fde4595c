"""Settings of initialization in the config.json beside a checkpoint: `initializer_range` and the like."""

from __future__ import annotations

import re
from typing import NamedTuple

from inspectcli.encodings.files import object_beside
from inspectcli.tensors.model import Checkpoint

#: Keys whose value is the standard deviation of a normal initializer.
_STD_KEYS = (
    "initializer_range",
    "init_std",
    "init_method_std",
    "embedding_init_std",
    "embed_init_std",
    "initializer_std",
    "classifier_initializer_range",
)
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "depth")
_BLOCK = re.compile(r"(?:^|\.)(?:h|layers?|blocks?|layer)\.([0-9]{1,6})\.")


class ModelConfig(NamedTuple):
    """Settings that initializers depend on.

    Attributes:
        stds: (key, standard deviation) of each normal initializer in the config.
        layers: number of blocks, from the config or counted in the names; 0 if unknown.
    """

    stds: tuple[tuple[str, float], ...] = ()
    layers: int = 0


def read_config(checkpoint: Checkpoint) -> ModelConfig:
    """Read `config.json` in the folder of the checkpoint. A file that is missing or cannot be read counts as empty."""
    found = object_beside(checkpoint.location, "config.json")
    text = found.get("text_config")
    sections = [found, *([text] if isinstance(text, dict) else [])]
    stds = {key: float(s[key]) for s in sections for key in _STD_KEYS if _is_std(s.get(key))}
    head = found.get("d_kv"), found.get("d_model")
    if all(isinstance(n, int) and 0 < n < 1 << 24 for n in head):
        stds["(d_model*d_kv)^-1/2"] = float(head[0] * head[1]) ** -0.5  # type: ignore[operator]
    counts = (s[key] for s in sections for key in _LAYER_KEYS if type(s.get(key)) is int)
    layers = next((n for n in counts if isinstance(n, int) and 0 < n < 1 << 16), 0)
    if not layers:
        numbers = (int(m[1]) for ref in checkpoint.tensors if (m := _BLOCK.search(ref.name)))
        layers = max(numbers, default=-1) + 1
    return ModelConfig(tuple(stds.items()), layers)


def _is_std(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100
