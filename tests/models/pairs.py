"""Writing the same weights in every format, with the libraries people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import torch
from safetensors.torch import save_file

State = Mapping[str, torch.Tensor]


def write_pt(state: State, path: Path) -> None:
    torch.save(dict(state), path)


def write_safetensors(state: State, path: Path) -> None:
    # The library refuses tied tensors: each becomes a copy of its own.
    save_file({name: value.clone().contiguous() for name, value in state.items()}, str(path))


def write_h5(state: State, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, value in state.items():
            file.create_dataset(name, data=value.numpy())


WRITERS: dict[str, Callable[[State, Path], None]] = {
    "pt": write_pt,
    "safetensors": write_safetensors,
    "h5": write_h5,
}


def write(state: State, folder: Path, name: str, suffix: str) -> str:
    """Write a state dict; the path of the file."""
    path = folder / f"{name}.{suffix}"
    WRITERS[suffix](state, path)
    return str(path)


def gpt(layers: int = 4, width: int = 16, seed: int = 0) -> dict[str, torch.Tensor]:
    """A small transformer's names and shapes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state = {"wte.weight": normal(40, width)}
    for i in range(layers):
        state[f"h.{i}.ln.weight"] = 1 + normal(width)
        state[f"h.{i}.ln.bias"] = normal(width)
        state[f"h.{i}.attn.weight"] = normal(3 * width, width)
        state[f"h.{i}.attn.bias"] = normal(3 * width)
        state[f"h.{i}.mlp.weight"] = normal(4 * width, width)
        state[f"h.{i}.mlp.bias"] = normal(4 * width)
    state["ln_f.weight"] = 1 + normal(width)
    state["ln_f.bias"] = normal(width)
    return state
