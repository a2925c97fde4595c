"""Checkpoints in the layouts of timm, ultralytics, kohya, GGUF and ONNX, as their writers make them."""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from inspectcli.commands.hparams.run import read_hparams
from inspectcli.errors import PinspectError
from inspectcli.hparams import read
from inspectcli.hparams.base import Kind


def test_timm(tmp_path: Path) -> None:
    args = argparse.Namespace(
        model="vit_tiny", opt="adamw", opt_eps=1e-8, opt_betas=[0.9, 0.95], momentum=0.9, weight_decay=0.05,
        clip_grad=1.0, lr=5e-4, sched="cosine", min_lr=1e-5, warmup_lr=1e-6, epochs=300, warmup_epochs=5,
        smoothing=0.1, mixup=0.8, drop=0.1, drop_path=0.2, batch_size=128, img_size=32, seed=42, hflip=0.5,
        data_dir="/data/imagenet",
    )  # fmt: skip
    torch.save({"epoch": 3, "arch": "vit_tiny", "state_dict": {"w": torch.zeros(1)}, "args": args, "version": 2},
               tmp_path / "last.pth.tar")  # fmt: skip
    found = read_hparams(tmp_path / "last.pth.tar")
    assert (found["learning_rate"], found["batch_size"], found["epochs"], found["seed"]) == (5e-4, 128, 300, 42)
    assert (found["optimizer"], found["lr_scheduler"], found["betas"]) == ("adamw", "cosine", [0.9, 0.95])
    assert (found["dropout"], found["drop_path"], found["label_smoothing"], found["mixup"]) == (0.1, 0.2, 0.1, 0.8)
    assert (found["gradient_clip"], found["lr_min"], found["image_size"]) == (1.0, 1e-5, 32)
    assert {r.kind for r in found.rows if r.raw_key == "hflip"} == {Kind.AUGMENTATION}
    assert {r.source.tool for r in found.rows} == {"timm"}


def test_ultralytics(tmp_path: Path) -> None:
    arguments = {"epochs": 2, "batch": 8, "imgsz": 32, "optimizer": "auto", "lr0": 0.02, "lrf": 0.05, "momentum": 0.9,
                 "cos_lr": True, "hsv_h": 0.015, "data": "/root/data.yaml", "nbs": 64}  # fmt: skip
    whole = {"epoch": -1, "model": None, "optimizer": None, "train_args": arguments,
             "train_results": {"epoch": [1, 2], "lr/pg0": [0.02, 0.01]}, "version": "8.4"}  # fmt: skip
    torch.save({**whole, "w": torch.zeros(1)}, tmp_path / "last.pt")
    found = read_hparams(tmp_path / "last.pt")
    assert (found["learning_rate"], found.current("learning_rate")) == (0.02, 0.01)
    assert (found["batch_size"], found["epochs"], found["image_size"], found["lr_final_factor"]) == (8, 2, 32, 0.05)
    assert "epoch" not in found  # stripped
    assert "optimizer" in found.runs[0].not_recorded or found.provenance("optimizer")[0].unresolved


def test_kohya(tmp_path: Path) -> None:
    metadata = {
        "ss_learning_rate": "0.0001", "ss_unet_lr": "5e-05", "ss_network_dim": "8", "ss_network_alpha": "4.0",
        "ss_network_dropout": "None", "ss_seed": "42", "ss_num_epochs": "10", "ss_epoch": "5", "ss_steps": "500",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
        "ss_datasets": json.dumps([{"batch_size_per_device": 4, "tag_frequency": {"me": {"my secret caption": 3}}}]),
        "ss_tag_frequency": json.dumps({"1_me": {"my secret caption": 3}}), "ss_output_name": "me",
    }  # fmt: skip
    save_file({"x.lora_down.weight": torch.zeros(8, 16)}, tmp_path / "lora.safetensors", metadata=metadata)
    found = read_hparams(tmp_path / "lora.safetensors")
    assert (found["learning_rate"], found["lr_unet"], found["lora_rank"], found["lora_alpha"]) == (1e-4, 5e-5, 8, 4.0)
    assert (found["batch_size"], found["epochs"], found["seed"]) == (4, 10, 42)
    assert (found["weight_decay"], found["betas"]) == (0.1, [0.9, 0.99])
    assert (found.current("epoch"), found.current("step")) == (5, 500)
    assert found.findings == ()
    captions = [r for r in found.rows if "secret" in f"{r.raw_key}{r.value}"]
    assert captions
    assert all(r.private and r.kind is Kind.SETTING for r in captions)


# -- GGUF and ONNX: made by hand, as the formats say ----------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(values: dict[str, tuple[int, bytes]]) -> bytes:
    pairs = b"".join(text(key) + struct.pack("<I", kind) + data for key, (kind, data) in values.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + pairs


LLAMA = {
    "general.architecture": (8, text("llama")),
    "llama.block_count": (4, struct.pack("<I", 3)),
    "llama.embedding_length": (4, struct.pack("<I", 32)),
    "llama.attention.layer_norm_rms_epsilon": (6, struct.pack("<f", 1e-5)),
    "llama.attention.head_count_kv": (9, struct.pack("<IQ3I", 4, 3, 2, 2, 2)),
    "llama.feed_forward_length": (9, struct.pack("<IQ3I", 4, 3, 64, 64, 96)),
    "tokenizer.ggml.tokens": (9, struct.pack("<IQ", 8, 2) + text("a") + text("b")),
    "general.file_type": (4, struct.pack("<I", 1)),
}


def test_gguf(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf(LLAMA))
    found = read_hparams(tmp_path / "m.gguf")
    assert (found["num_layers"], found["hidden_size"], found["norm_eps"]) == (3, 32, 1e-5)
    assert found["num_kv_heads"] == 2  # the same in all layers
    assert found["intermediate_size"] == [64, 64, 96]
    assert found.provenance("precision")[0].note == "F16"


@pytest.mark.parametrize("cut", range(4, len(gguf(LLAMA)) - 1, 7))
def test_gguf_cut_short_is_a_clear_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf(LLAMA)[:cut])
    with pytest.raises(PinspectError):
        read(str(tmp_path / "m.gguf"))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(4, 300), data=st.binary(min_size=1, max_size=9))
def test_gguf_damage_never_ends_in_a_traceback(at: int, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = bytearray(gguf(LLAMA))
    whole[at : at + len(data)] = data
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    path.write_bytes(whole)
    with contextlib.suppress(PinspectError):
        read(str(path))


def varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])


def field(number: int, value: int | bytes | float) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx() -> bytes:
    momentum = field(1, b"momentum") + field(2, 0.97)
    kernel = field(1, b"kernel_shape") + field(8, 3) + field(8, 5)
    nodes = [
        field(4, b"Conv") + field(5, kernel),
        field(4, b"BatchNormalization") + field(5, momentum),
        field(1, b"x") + field(1, b"ratio") + field(4, b"Dropout"),
    ]
    ratio = field(2, 1) + field(8, b"ratio") + field(9, struct.pack("<f", 0.25))
    weights = field(1, 1000) + field(2, 1) + field(8, b"w") + field(9, b"\0" * 4000)
    graph = b"".join(field(1, n) for n in nodes) + field(2, b"g") + field(5, ratio) + field(5, weights)
    prop = field(1, b"lr") + field(2, b"0.01")
    return field(1, 8) + field(2, b"pytorch") + field(7, graph) + field(14, prop)


def test_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx())
    found = read_hparams(tmp_path / "m.onnx")
    assert (found["learning_rate"], found["dropout"], found["kernel_size"]) == (0.01, 0.25, [3, 5])
    assert (found["bn_momentum"], found.provenance("bn_momentum")[0].note) == (
        0.97,
        "BatchNormalization node; weight of the old value",
    )


@settings(max_examples=150, deadline=None)
@given(at=st.integers(2, 4400), data=st.binary(min_size=1, max_size=6))
def test_onnx_damage_never_ends_in_a_traceback(at: int, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = bytearray(onnx())
    whole[at : at + len(data)] = data
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(whole)
    with contextlib.suppress(PinspectError):
        read(str(path))
