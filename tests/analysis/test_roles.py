"""What a tensor is for: names and shapes as the libraries write them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inspectcli.analysis.roles import Part, Role, Roles, is_position_table
from inspectcli.formats import open_checkpoint
from inspectcli.formats.live import from_live

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")


def parts(target: Any) -> dict[str, str]:
    checkpoint = from_live(target)
    roles = Roles(checkpoint)
    return {ref.name: roles.of(ref).kind.value for ref in checkpoint.tensors}


def of_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    return parts({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


class Net(nn.Module):
    """A layer of each kind, as people name them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.downsample = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.ln = nn.LayerNorm(8)
        self.gn = nn.GroupNorm(2, 8)
        self.act = nn.PReLU()
        self.lstm = nn.LSTM(8, 8, 2, bidirectional=True, proj_size=4)
        self.gru = nn.GRU(8, 8)
        self.attn = nn.MultiheadAttention(8, 2)
        self.fc = nn.Linear(8, 2)
        self.pair = nn.Bilinear(4, 5, 6)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.logit_scale = nn.Parameter(torch.tensor(2.6))
        self.register_buffer("mask", torch.full((5, 5), -torch.inf).triu(1))


@pytest.mark.parametrize("target", [Net(), Net().state_dict()], ids=["module", "state dict"])
def test_a_torch_model(target: Any) -> None:
    assert parts(target) == {
        "cls_token": "weight",
        "pos_embed": "weight",
        "logit_scale": "other",
        "mask": "constant",
        "embed.weight": "embedding",
        "conv1.weight": "weight",
        "conv1.bias": "bias",
        "bn1.weight": "norm scale",
        "bn1.bias": "norm shift",
        "bn1.running_mean": "running mean",
        "bn1.running_var": "running variance",
        "bn1.num_batches_tracked": "counter",
        "downsample.0.weight": "weight",
        "downsample.1.weight": "norm scale",
        "downsample.1.bias": "norm shift",
        "downsample.1.running_mean": "running mean",
        "downsample.1.running_var": "running variance",
        "downsample.1.num_batches_tracked": "counter",
        "ln.weight": "norm scale",
        "ln.bias": "norm shift",
        "gn.weight": "norm scale",
        "gn.bias": "norm shift",
        "act.weight": "norm scale",
        **{
            f"lstm.{kind}_{which}_{layer}": f"recurrent {kind}"
            for layer in ("l0", "l0_reverse", "l1", "l1_reverse")
            for kind, whiches in (("weight", ("ih", "hh", "hr")), ("bias", ("ih", "hh")))
            for which in whiches
        },
        "gru.weight_ih_l0": "recurrent weight",
        "gru.weight_hh_l0": "recurrent weight",
        "gru.bias_ih_l0": "recurrent bias",
        "gru.bias_hh_l0": "recurrent bias",
        "attn.in_proj_weight": "weight",
        "attn.in_proj_bias": "bias",
        "attn.out_proj.weight": "weight",
        "attn.out_proj.bias": "bias",
        "fc.weight": "weight",
        "fc.bias": "bias",
        "pair.weight": "weight",
        "pair.bias": "bias",
    }  # fmt: skip


def test_an_unnamed_norm_of_a_module_is_known_by_its_class() -> None:
    """In a state dict, the vector beside a vector of the same name says so."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(5, 4), nn.BatchNorm1d(4, affine=False))
    expected = {
        "0.weight": "weight", "0.bias": "bias", "1.weight": "norm scale", "1.bias": "norm shift",
        "3.running_mean": "running mean", "3.running_var": "running variance", "3.num_batches_tracked": "counter",
    }  # fmt: skip
    assert parts(model) == expected | {"2.weight": "embedding"}
    assert parts(model.state_dict()) == expected | {"2.weight": "weight"}


def test_names_of_transformers() -> None:
    assert of_names({
        "transformer.wte.weight": (50, 8),
        "transformer.wpe.weight": (20, 8),
        "transformer.h.0.ln_1.weight": (8,),
        "transformer.h.0.ln_1.bias": (8,),
        "transformer.h.0.attn.bias": (1, 1, 20, 20),
        "transformer.h.0.attn.masked_bias": (),
        "transformer.h.0.attn.c_attn.weight": (8, 24),
        "transformer.h.0.attn.c_attn.bias": (24,),
        "bert.embeddings.word_embeddings.weight": (50, 8),
        "bert.embeddings.position_ids": (1, 20),
        "bert.embeddings.LayerNorm.gamma": (8,),
        "bert.embeddings.LayerNorm.beta": (8,),
        "bert.encoder.layer.0.attention.self.query.weight": (8, 8),
        "model.layers.0.self_attn.rotary_emb.inv_freq": (4,),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.mlp.gate_proj.weight": (16, 8),
        "model.norm.weight": (8,),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 4),
        "lm_head.weight": (50, 8),
        "logit_scale": (),
    }) == {
        "transformer.wte.weight": "embedding",
        "transformer.wpe.weight": "embedding",
        "transformer.h.0.ln_1.weight": "norm scale",
        "transformer.h.0.ln_1.bias": "norm shift",
        "transformer.h.0.attn.bias": "constant",
        "transformer.h.0.attn.masked_bias": "constant",
        "transformer.h.0.attn.c_attn.weight": "weight",
        "transformer.h.0.attn.c_attn.bias": "bias",
        "bert.embeddings.word_embeddings.weight": "embedding",
        "bert.embeddings.position_ids": "constant",
        "bert.embeddings.LayerNorm.gamma": "norm scale",
        "bert.embeddings.LayerNorm.beta": "norm shift",
        "bert.encoder.layer.0.attention.self.query.weight": "weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq": "constant",
        "model.layers.0.input_layernorm.weight": "norm scale",
        "model.layers.0.mlp.gate_proj.weight": "weight",
        "model.norm.weight": "norm scale",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "embedding",
        "lm_head.weight": "weight",
        "logit_scale": "other",
    }  # fmt: skip


def test_names_of_vision_models() -> None:
    assert of_names({
        "patch_embed.proj.weight": (8, 3, 4, 4),
        "patch_embed.proj.bias": (8,),
        "time_embed.0.weight": (16, 8),
        "time_embed.0.bias": (16,),
        "pos_embed": (1, 17, 8),
        "cls_token": (1, 1, 8),
        "blocks.0.norm1.weight": (8,),
        "blocks.0.norm1.bias": (8,),
        "blocks.0.ls1.gamma": (8,),
        "blocks.0.attn.qkv.weight": (24, 8),
        "blocks.0.attn.relative_position_bias_table": (49, 4),
        "blocks.0.attn.relative_position_index": (9, 9),
        "layer1.0.bn1.weight": (8,),
        "layer1.0.bn1.running_mean": (8,),
        "head.weight": (10, 8),
        "model.22.dfl.conv.weight": (1, 16, 1, 1),
        "model.22.anchors": (3, 2),
        "roi_heads.mask_head.mask_fcn1.weight": (8, 8, 3, 3),
        "mask_decoder.transformer.layers.0.mlp.lin1.weight": (8, 8),
        "mask_token": (1, 1, 8),
        "layers.0.attn_mask": (4, 9, 9),
        "conv.weight_mask": (8, 8),
        "conv.weight_orig": (8, 8),
    }) == {
        "patch_embed.proj.weight": "weight",
        "patch_embed.proj.bias": "bias",
        "time_embed.0.weight": "weight",
        "time_embed.0.bias": "bias",
        "pos_embed": "weight",
        "cls_token": "weight",
        "blocks.0.norm1.weight": "norm scale",
        "blocks.0.norm1.bias": "norm shift",
        "blocks.0.ls1.gamma": "norm scale",
        "blocks.0.attn.qkv.weight": "weight",
        "blocks.0.attn.relative_position_bias_table": "weight",
        "blocks.0.attn.relative_position_index": "constant",
        "layer1.0.bn1.weight": "norm scale",
        "layer1.0.bn1.running_mean": "running mean",
        "head.weight": "weight",
        "model.22.dfl.conv.weight": "weight",
        "model.22.anchors": "constant",
        "roi_heads.mask_head.mask_fcn1.weight": "weight",
        "mask_decoder.transformer.layers.0.mlp.lin1.weight": "weight",
        "mask_token": "weight",
        "layers.0.attn_mask": "constant",
        "conv.weight_mask": "constant",
        "conv.weight_orig": "weight",
    }  # fmt: skip


def test_names_of_peft_and_of_others() -> None:
    q = "base_model.model.model.layers.0.self_attn.q_proj"
    assert of_names({
        f"{q}.lora_A.weight": (4, 8),
        f"{q}.lora_B.weight": (8, 4),
        f"{q}.lora_A.default.weight": (4, 8),
        f"{q}.lora_B.default.weight": (8, 4),
        "base_model.model.wte.lora_embedding_A": (4, 50),
        "base_model.model.wte.lora_embedding_B": (8, 4),
        "lora_unet_down_blocks_0_proj_in.lora_down.weight": (4, 8, 1, 1),
        "lora_unet_down_blocks_0_proj_in.lora_up.weight": (8, 4, 1, 1),
    }) == {
        f"{q}.lora_A.weight": "LoRA A",
        f"{q}.lora_B.weight": "LoRA B",
        f"{q}.lora_A.default.weight": "LoRA A",
        f"{q}.lora_B.default.weight": "LoRA B",
        "base_model.model.wte.lora_embedding_A": "LoRA A",
        "base_model.model.wte.lora_embedding_B": "LoRA B",
        "lora_unet_down_blocks_0_proj_in.lora_down.weight": "LoRA A",
        "lora_unet_down_blocks_0_proj_in.lora_up.weight": "LoRA B",
    }  # fmt: skip


def test_names_of_flax() -> None:
    assert of_names({
        "params/Dense_0/kernel": (8, 4),
        "params/Dense_0/bias": (4,),
        "params/LayerNorm_0/scale": (8,),
        "params/LayerNorm_0/bias": (8,),
        "params/Embed_0/embedding": (50, 8),
        "params/Conv_0/kernel": (3, 3, 4, 8),
    }) == {
        "params/Dense_0/kernel": "weight",
        "params/Dense_0/bias": "bias",
        "params/LayerNorm_0/scale": "norm scale",
        "params/LayerNorm_0/bias": "norm shift",
        "params/Embed_0/embedding": "embedding",
        "params/Conv_0/kernel": "weight",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_layers_of_keras(tmp_path: Path, suffix: str) -> None:
    inputs = keras.Input((12,), dtype="int32")
    x = keras.layers.Embedding(20, 8)(inputs)
    x = keras.layers.LSTM(8, return_sequences=True)(x)
    x = keras.layers.GRU(8, return_sequences=True)(x)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.SeparableConv1D(6, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    path = str(tmp_path / f"model{suffix}")
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    checkpoint = open_checkpoint(path)
    roles = Roles(checkpoint)
    found = sorted((roles.of(r).kind.value, len(r.shape), r.shape[0]) for r in checkpoint.tensors if r.shape)
    expected = sorted([
        ("embedding", 2, 20),
        *[("weight", 2, 8), ("recurrent weight", 2, 8), ("recurrent bias", 1, 32)],  # LSTM: a kernel of its inputs
        *[("weight", 2, 8), ("recurrent weight", 2, 8), ("recurrent bias", 2, 2)],  # GRU, reset_after: two biases
        *[("weight", 3, 8)] * 3, *[("bias", 2, 2)] * 3, ("weight", 3, 2), ("bias", 1, 8),  # attention
        ("weight", 3, 3), ("weight", 3, 1), ("bias", 1, 6),
        ("norm scale", 1, 6), ("norm shift", 1, 6), ("running mean", 1, 6), ("running variance", 1, 6),
        ("norm scale", 1, 6), ("norm shift", 1, 6),
        ("weight", 2, 60), ("bias", 1, 4),
    ])  # fmt: skip
    assert [f for f in found if f[0] not in ("training state", "constant")] == expected


def test_training_state_and_quantization(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(str(tmp_path / "a.pt"))
    roles = Roles(checkpoint)
    state = [ref for ref in checkpoint.tensors if "state" in ref.name]
    assert len(state) == 6
    assert {roles.of(ref).kind for ref in state} == {Part.STATE}


@pytest.mark.parametrize(
    "name", ["gptq.safetensors", "quantized.pt", "gpt2_tiny.safetensors", "lightning.ckpt", "zoo.keras", "dtypes.pt"]
)
def test_every_tensor_has_a_part(fixtures: Path, name: str) -> None:
    checkpoint = open_checkpoint(str(fixtures / name))
    roles = Roles(checkpoint)
    for ref in checkpoint.tensors:
        role = roles.of(ref)
        assert role.module + role.leaf in ref.name.replace("/", "").replace(".", "") or role.leaf in ref.name
        if ref.packed or ref.affine is not None:
            assert role.kind is Part.QUANTIZATION
        if role.is_weight:
            assert len(ref.shape) >= 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.wpe", True), ("embeddings.position_embeddings", True), ("pos_embed", True),
        ("decoder.embed_positions", False), ("positional_embedding", True), ("wte", False), ("tokenizer.type", False),
    ],
)  # fmt: skip
def test_position_tables(name: str, expected: bool) -> None:
    assert is_position_table(name) is expected


def test_only_drawn_matrices_are_weights() -> None:
    assert {part for part in Part if Role(part, "", "").is_weight} == {
        Part.WEIGHT, Part.EMBEDDING, Part.RNN_WEIGHT, Part.LORA_A, Part.LORA_B,
    }  # fmt: skip
