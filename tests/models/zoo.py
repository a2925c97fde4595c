"""New models as libraries make them: seeded, small, each with what was drawn into its weights.

`ARCHITECTURES` maps a name to its library and builder; `write` saves the model as its users would and returns the file
with the truth, by the name of the tensor. The builders are in the modules beside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch
from models import (
    zoo_custom,  # noqa: F401  they add themselves to ARCHITECTURES
    zoo_keras,  # noqa: F401
    zoo_torch,  # noqa: F401
    zoo_transformers,  # noqa: F401
)
from models.drawn import Drawn, fingerprint, watch_keras, watch_torch
from models.zoo_register import ARCHITECTURES, Builder
from safetensors.torch import save_model

from inspectcli.formats import open_checkpoint
from inspectcli.tensors.values import read_array

DTYPES = ("f32", "bf16")
#: Small layers are slower with threads that wait for each other on a busy machine.
torch.set_num_threads(1)


class Fresh(NamedTuple):
    """A file of a new model, and what was drawn into its tensors; a tensor that was computed is left out."""

    path: Path
    drawn: Mapping[str, Drawn]


def write(name: str, dtype: str, folder: Path) -> Fresh:
    """Build with a seed of its own and save: torch as .pt (f32) or .safetensors (bf16), Keras as .h5 or .keras.

    What was drawn is found again by its values, because writers rename tensors.
    """
    library, builder = ARCHITECTURES[name]
    folder.mkdir(parents=True, exist_ok=True)
    path, by_value = (_write_keras if library == "keras" else _write_torch)(
        library, builder, sum(map(ord, name)), dtype, folder
    )
    tensors = open_checkpoint(str(path)).tensors
    drawn = {t.name: d for t in tensors if t.numel and (d := by_value.get(fingerprint(read_array(t)))) is not None}
    return Fresh(path, drawn)


def _write_torch(
    library: str, builder: Builder, seed: int, dtype: str, folder: Path
) -> tuple[Path, Mapping[bytes, Drawn]]:
    torch.manual_seed(seed)
    with watch_torch() as seen:
        model = builder()
    drawn = [seen.of(tensor) for tensor in model.state_dict().values()]
    model = model.to(torch.bfloat16) if dtype == "bf16" else model
    values = [fingerprint(tensor.double().numpy()) for tensor in model.state_dict().values()]
    if library == "transformers":
        model.save_pretrained(folder)
        path = folder / "model.safetensors"
    elif dtype == "bf16":
        path = folder / "model.safetensors"
        save_model(model, str(path))
    else:
        path = folder / "model.pt"
        torch.save(model.state_dict(), path)
    return path, {value: d for value, d in zip(values, drawn, strict=True) if d is not None}


def _write_keras(
    library: str, builder: Builder, seed: int, dtype: str, folder: Path
) -> tuple[Path, Mapping[bytes, Drawn]]:
    import keras

    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    keras.config.set_dtype_policy("bfloat16" if dtype == "bf16" else "float32")
    try:
        with watch_keras() as seen:
            model = builder()
    finally:
        keras.config.set_dtype_policy("float32")
    path = folder / ("model.keras" if dtype == "bf16" else "model.h5")  # in .h5, Keras loses the type bfloat16
    model.save(path)
    return path, seen
