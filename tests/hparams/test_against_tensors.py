"""Configs that the tensors deny beyond sizes, in the layouts of transformers and PEFT; sound ones are silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from inspectcli.commands.hparams.run import read_hparams

Tensors = dict[str, torch.Tensor]


def found(
    folder: Path, tensors: Tensors, config: dict[str, Any], names: tuple[str, str]
) -> list[tuple[str, str | None]]:
    save_file(tensors, folder / names[0])
    (folder / names[1]).write_text(json.dumps(config))
    return [(finding.code, finding.name) for finding in read_hparams(folder).findings]


MODEL = ("model.safetensors", "config.json")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
EMBEDDING = "model.embed_tokens.weight"
KNOWN = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "transformers_version": "5.0"}


@pytest.mark.parametrize(
    ("tied", "head", "expected"),
    [
        (True, None, []),
        (True, 0.0, []),  # both are stored, and are the same
        (True, 1.0, [("PI601", "tie_embeddings")]),
        (False, 1.0, []),
        (False, None, [("PI601", "tie_embeddings")]),
    ],
)
def test_tied_embeddings(tied: bool, head: float | None, expected: list[Any], tmp_path: Path) -> None:
    weight = torch.arange(60.0).reshape(10, 6)
    tensors = {EMBEDDING: weight} | ({} if head is None else {"lm_head.weight": weight + head})
    assert found(tmp_path, tensors, {**KNOWN, "tie_word_embeddings": tied}, MODEL) == expected


def test_a_model_without_a_head_needs_none(tmp_path: Path) -> None:
    config = {**KNOWN, "architectures": ["LlamaModel"], "tie_word_embeddings": False}
    assert found(tmp_path, {EMBEDDING: torch.zeros(10, 6)}, config, MODEL) == []


def vit() -> Tensors:
    return {
        "vit.embeddings.cls_token": torch.zeros(1, 1, 12), "vit.embeddings.position_embeddings": torch.zeros(1, 10, 12),
        "vit.embeddings.patch_embeddings.projection.weight": torch.zeros(12, 3, 4, 4),
    }  # fmt: skip


def experts() -> Tensors:
    prefix = "model.layers.0.block_sparse_moe.experts"
    return {EMBEDDING: torch.zeros(10, 6)} | {f"{prefix}.{i}.w1.weight": torch.zeros(8, 6) for i in range(3)}


def t5() -> Tensors:
    made = {"shared.weight": torch.zeros(10, 6)}
    for part, n in (("encoder", 3), ("decoder", 2)):
        for i in range(n):
            made[f"{part}.block.{i}.layer.1.DenseReluDense.wi.weight"] = torch.zeros(16, 6)
            made[f"{part}.block.{i}.layer.1.layer_norm.weight"] = torch.zeros(6)
    return made


@pytest.mark.parametrize(
    ("tensors", "sound", "wrong", "name"),
    [
        (vit(), {"image_size": 12, "patch_size": 4, "hidden_size": 12}, {"image_size": 24}, "image_size"),
        (vit(), {"image_size": 12, "patch_size": 4, "hidden_size": 12}, {"hidden_size": 24}, "hidden_size"),
        (experts(), {"num_local_experts": 3, "intermediate_size": 8}, {"num_local_experts": 4}, "num_experts"),
        (experts(), {"num_local_experts": 3, "intermediate_size": 8}, {"intermediate_size": 9}, "intermediate_size"),
        (t5(), {"num_layers": 3, "num_decoder_layers": 2, "d_ff": 16}, {"num_layers": 2}, "num_layers"),
        (t5(), {"num_layers": 3, "num_decoder_layers": 2, "d_ff": 16}, {"num_decoder_layers": 3}, "num_decoder_layers"),
        (t5(), {"num_layers": 3, "num_decoder_layers": 2, "d_ff": 16}, {"d_ff": 17}, "intermediate_size"),
        ({"e.word_embeddings.weight": torch.zeros(9, 4), "e.token_type_embeddings.weight": torch.zeros(3, 4)},
         {"embedding_size": 4, "hidden_size": 8, "type_vocab_size": 3}, {"type_vocab_size": 2}, "type_vocab_size"),
    ],
)  # fmt: skip
def test_sizes(tensors: Tensors, sound: dict[str, int], wrong: dict[str, int], name: str, tmp_path: Path) -> None:
    known = {"model_type": "any", "transformers_version": "5.0"}
    assert found(tmp_path, tensors, {**known, **sound}, MODEL) == []
    assert found(tmp_path, tensors, {**known, **sound, **wrong}, MODEL) == [("PI601", name)]


LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "use_dora": False}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"target_modules": ["q_proj", "v_proj", "c_attn"]}, []),  # a list for several models
        ({"target_modules": "all-linear"}, []),
        ({"target_modules": ["self_attn.q_proj", "v_proj"]}, []),
        ({"target_modules": ["q_proj", "k_proj"]}, [("PI601", "lora_target_modules")]),
        ({"use_dora": True}, [("PI601", "lora_dora")]),
    ],
)
def test_adapters(changed: dict[str, Any], expected: list[Any], tmp_path: Path) -> None:
    tensors = {}
    for module in ("q_proj", "v_proj"):
        tensors[f"base_model.model.layers.0.self_attn.{module}.lora_A.weight"] = torch.zeros(2, 6)
        tensors[f"base_model.model.layers.0.self_attn.{module}.lora_B.weight"] = torch.zeros(6, 2)
    assert found(tmp_path, tensors, {**LORA, **changed}, ADAPTER) == expected


@pytest.mark.parametrize(("stated", "n"), [("6.0", 0), ("12.0", 1)])
def test_alpha_of_the_modules(stated: str, n: int, tmp_path: Path) -> None:
    tensors = {"lora_unet_a.alpha": torch.tensor(6.0), "lora_unet_a.lora_down.weight": torch.zeros(4, 8)}
    save_file(tensors, tmp_path / "a.safetensors", {"ss_network_alpha": stated, "ss_network_dim": "4"})
    assert len(read_hparams(tmp_path / "a.safetensors").findings) == n
