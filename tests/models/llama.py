"""A small Llama by names and shapes, and its Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_type": "llama", "architectures": ["L"], "transformers_version": "5.2", "hidden_size": 24,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 80,
}  # fmt: skip


def llama(layers: int = 2, hidden: int = 24, wide: int = 64, vocabulary: int = 80) -> dict[str, torch.Tensor]:
    tensors = {"model.embed_tokens.weight": torch.zeros(vocabulary, hidden)}
    for i in range(layers):
        tensors |= {
            f"model.layers.{i}.self_attn.q_proj.weight": torch.zeros(hidden, hidden),
            f"model.layers.{i}.self_attn.k_proj.weight": torch.zeros(hidden // 2, hidden),
            f"model.layers.{i}.mlp.up_proj.weight": torch.zeros(wide, hidden),
            f"model.layers.{i}.input_layernorm.weight": torch.ones(hidden),
        }
    return tensors


def model(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder
