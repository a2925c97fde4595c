"""From a fresh or a trained layer of a real library to what is said of each tensor."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inspectcli.commands.inspect.run import inspect

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")


def sentences(target: Any) -> dict[str, str | None]:
    return {row.name: row.init.sentence if row.init else None for row in inspect(target).files[0].tensors}


def strengths(target: Any) -> dict[str, str | None]:
    return {row.name: str(row.init.strength) if row.init else None for row in inspect(target).files[0].tensors}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)


UNTOUCHED = "untouched since initialization: "
_WORDS = re.compile(r"^(untouched|cannot be told)( to within [\d.]+ % of its bound)?( since initialization:| from) ")
DEFAULT = UNTOUCHED + "PyTorch default, U(±1/sqrt(fan_in)) = "


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nn.Linear(64, 100), {"weight": DEFAULT + "U(±0.125)", "bias": DEFAULT + "U(±0.125)"}),
        (lambda: nn.Conv2d(16, 64, 3, groups=4), {"weight": DEFAULT + "U(±0.1667)", "bias": DEFAULT + "U(±0.1667)"}),
        (lambda: nn.ConvTranspose2d(16, 32, 3), {"weight": DEFAULT + "U(±0.05893)", "bias": None}),
        (
            lambda: nn.Bilinear(16, 32, 20),
            {"weight": UNTOUCHED + "PyTorch default of Bilinear, U(±1/sqrt(in1)) = U(±0.25)", "bias": None},
        ),
        (
            lambda: nn.GRU(16, 32),
            dict.fromkeys(
                ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
                UNTOUCHED + "PyTorch default, U(±1/sqrt(hidden)) = U(±0.1768)",
            ),
        ),
        (
            lambda: nn.LSTM(32, 64, proj_size=16),
            dict.fromkeys(
                ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"),
                UNTOUCHED + "PyTorch default, U(±1/sqrt(hidden)) = U(±0.125)",
            ),
        ),
        (
            lambda: nn.MultiheadAttention(64, 4),
            {
                "in_proj_weight": UNTOUCHED + "PyTorch default of MultiheadAttention, Xavier uniform, "
                "U(±sqrt(6/(fan_in+fan_out))) = U(±0.1531)",
                "in_proj_bias": UNTOUCHED + "zeros",
                "out_proj.weight": DEFAULT + "U(±0.125)",
                "out_proj.bias": UNTOUCHED + "zeros",
            },
        ),
        (
            lambda: nn.BatchNorm1d(8),
            {
                "weight": UNTOUCHED + "ones, as every new normalization",
                "bias": UNTOUCHED + "zeros, as every new normalization",
                "running_mean": UNTOUCHED + "zeros, as every new BatchNorm",
                "running_var": UNTOUCHED + "ones, as every new BatchNorm",
                "num_batches_tracked": UNTOUCHED + "zero batches",
            },
        ),
        (lambda: nn.PReLU(8), {"weight": UNTOUCHED + "0.25, PReLU's default"}),
        (lambda: nn.Embedding(300, 32, padding_idx=0), {"weight": UNTOUCHED + "PyTorch default, N(0, 1)"}),
        (lambda: nn.Linear(5, 3), {"weight": None, "bias": None}),
    ],
    ids=["Linear", "Conv2d", "ConvTranspose2d", "Bilinear", "GRU", "LSTM", "MultiheadAttention", "BatchNorm", "PReLU",
         "Embedding", "too small"],
)  # fmt: skip
def test_fresh_layers_of_torch(make: Any, expected: dict[str, str], dtype: torch.dtype) -> None:
    """A half has no grid: how sure it is depends on the number of values."""
    said = sentences(make().to(dtype))
    if dtype is not torch.float32:
        expected = {name: text and text.removeprefix(UNTOUCHED) for name, text in expected.items()}
        said = {name: text and _WORDS.sub("", text) for name, text in said.items()}
    assert said == expected


def initialized(init: Any, *shape: int) -> dict[str, torch.Tensor]:
    return {"fc.weight": init(torch.empty(shape or (128, 96)))}


@pytest.mark.parametrize(
    ("init", "formula"),
    [
        (nn.init.xavier_uniform_, "Xavier (Glorot) uniform, U(±sqrt(6/(fan_in+fan_out))) = U(±0.1637)"),
        (
            lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
            "Kaiming (He) uniform, U(±sqrt(6/fan_in)) = U(±0.25)",
        ),
        (
            lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
            "Kaiming (He) uniform, U(±sqrt(6/fan_out)) = U(±0.2165)",
        ),
        (lambda w: nn.init.uniform_(w, -0.05, 0.05), "U(±0.05) = U(±0.05)"),
        (nn.init.orthogonal_, "orthogonal"),
        (lambda w: nn.init.orthogonal_(w, math.sqrt(2)), "orthogonal, gain sqrt(2)"),
        (nn.init.zeros_, "zeros"),
        (lambda w: nn.init.constant_(w, 0.5), "all 0.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_people_call_instead(init: Any, formula: str) -> None:
    assert sentences(initialized(init)) == {"fc.weight": UNTOUCHED + formula}


NORMALS = [
    (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), "Kaiming (He) normal"),
    (nn.init.xavier_normal_, "Xavier (Glorot) normal"),
    (lambda w: nn.init.normal_(w, 0, 0.02), "N(0, 0.02)"),
]


def on_gpu(w: torch.Tensor) -> torch.Tensor:
    """As another generator draws: on no grid."""
    return torch.from_numpy(np.random.default_rng(3).normal(0, 1, tuple(w.shape))).float() * w.std()


@pytest.mark.parametrize(("init", "words"), NORMALS, ids=[words for _, words in NORMALS])
def test_a_normal_draw_of_torch_is_proved_by_its_angles(init: Any, words: str) -> None:
    siblings = {f"h.{i}.fc.weight": init(torch.empty(200, 96)) for i in range(4)}
    for said in sentences(siblings).values():
        assert said is not None
        assert said.startswith(UNTOUCHED + words)


@pytest.mark.parametrize(("init", "words"), NORMALS, ids=[words for _, words in NORMALS])
def test_siblings_name_the_normal_family_of_other_generators(init: Any, words: str) -> None:
    siblings = {f"h.{i}.fc.weight": on_gpu(init(torch.empty(200, 96))) for i in range(4)}
    for said in sentences(siblings).values():
        assert said is not None
        assert said.startswith(f"cannot be told from {words}")


def test_small_normal_weights_are_unknown_if_nothing_proves_them() -> None:
    small = {f"h.{i}.fc.weight": torch.empty(20, 20).normal_(0, 0.02) for i in range(4)}
    assert set(strengths(small).values()) == {"untouched"}
    other = {name: on_gpu(w) for name, w in small.items()}
    assert set(strengths(other).values()) == {"unknown"}


def test_a_config_beside_the_file(tmp_path: Path) -> None:
    weight = torch.empty(128, 96).normal_(0, 0.033)
    save_file({"model.layers.0.mlp.up_proj.weight": weight}, tmp_path / "model.safetensors")
    path = str(tmp_path / "model.safetensors")
    (said,) = sentences(path).values()
    assert said is not None
    assert re.fullmatch(UNTOUCHED + r"normal, N\(0, 0\.033\d*\): no known initializer", said)
    (tmp_path / "config.json").write_text(json.dumps({"initializer_range": 0.033}))
    expected = UNTOUCHED + "initializer_range, N(0, 0.033)"
    assert sentences(path) == {"model.layers.0.mlp.up_proj.weight": expected}


def test_gpt2_draws_its_residual_projections_smaller(tmp_path: Path) -> None:
    names = ["h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight"]
    stds = [0.02, 0.02 / math.sqrt(2 * 12)]
    tensors = {n: torch.empty(96, 192).normal_(0, s) for n, s in zip(names, stds, strict=True)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"initializer_range": 0.02, "n_layer": 12}))
    assert sentences(str(tmp_path / "model.safetensors")) == {
        "h.0.mlp.c_fc.weight": UNTOUCHED + "initializer_range, N(0, 0.02)",
        "h.0.mlp.c_proj.weight": UNTOUCHED + "initializer_range/sqrt(2*layers) = N(0, 0.004082)",
    }


GLOROT = UNTOUCHED + "GlorotUniform of the layer's config = "


def of_keras(path: Path, *layers: Any, shape: tuple[int, ...]) -> list[str | None]:
    model = keras.Sequential([keras.Input(shape, dtype="int32" if len(shape) == 1 else None), *layers])
    model.save(path / "model.keras")
    return list(sentences(str(path / "model.keras")).values())


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: keras.layers.Dense(32), (5, 64), [GLOROT + "U(±0.25)", UNTOUCHED + "zeros"]),
        (lambda: keras.layers.Conv2D(16, 3), (9, 9, 8), [GLOROT + "U(±0.1667)", UNTOUCHED + "zeros"]),
        (lambda: keras.layers.Embedding(50, 16), (7,), [UNTOUCHED + "RandomUniform of the layer's config = U(±0.05)"]),
        (
            lambda: keras.layers.LSTM(32),
            (7, 16),
            [
                GLOROT + "U(±0.2041)",
                UNTOUCHED + "orthogonal",
                UNTOUCHED + "zeros, and ones for the forget gate (unit_forget_bias)",
            ],
        ),
        (lambda: keras.layers.GRU(32), (7, 16), [GLOROT + "U(±0.2315)", UNTOUCHED + "orthogonal", UNTOUCHED + "zeros"]),
        (
            lambda: keras.layers.LayerNormalization(),
            (7, 16),
            [UNTOUCHED + "ones, as every new normalization", UNTOUCHED + "zeros, as every new normalization"],
        ),
    ],
    ids=["Dense", "Conv2D", "Embedding", "LSTM", "GRU", "LayerNormalization"],
)  # fmt: skip
def test_fresh_layers_of_keras(tmp_path: Path, make: Any, shape: tuple[int, ...], expected: list[str]) -> None:
    assert of_keras(tmp_path, make(), shape=shape) == expected


@pytest.mark.parametrize("gates", [3, 4])
def test_orthogonal_per_gate(gates: int) -> None:
    whole = torch.cat([nn.init.orthogonal_(torch.empty(48, 48)) for _ in range(gates)])
    state = nn.GRU(48, 48).state_dict() if gates == 3 else nn.LSTM(48, 48).state_dict()
    said = sentences(state | {"weight_hh_l0": whole})
    assert said["weight_hh_l0"] == UNTOUCHED + f"orthogonal, each of {gates} gates"


def test_parts_of_a_fused_matrix() -> None:
    parts = [nn.Linear(64, 64).weight.detach() for _ in range(3)]
    parts[1] = parts[1] * 1.7
    assert sentences({"attn.qkv.weight": torch.cat(parts)}) == {
        "attn.qkv.weight": UNTOUCHED + "part 1, 3 of 3 parts: PyTorch default, U(±1/sqrt(fan_in)) = U(±0.125)",
    }


# -- slightly trained -----------------------------------------------------------------------------------


def steps(module: nn.Module, n: int, lr: float = 1e-3) -> nn.Module:
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr)
    for _ in range(n):
        optimizer.zero_grad()
        out = module(torch.randn(16, 8, 64))
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("make", [lambda: nn.Linear(64, 128), lambda: nn.LSTM(64, 64), lambda: nn.GRU(64, 64)])
def test_one_step_is_enough(make: Any) -> None:
    """It takes the numbers off their grid; a step towards 0 keeps them within their bound, and so like a draw."""
    fresh = make()
    assert set(strengths(fresh).values()) == {"untouched"}
    assert "untouched" not in strengths(steps(fresh, 1).state_dict()).values()


def test_what_is_beyond_its_bound_has_moved_if_it_is_not_alone() -> None:
    """A single weight that fits no initializer may have had another one: three show that they were trained."""
    one = nn.Linear(64, 128).weight.detach() * 1.01
    assert strengths({"0.weight": one}) == {"0.weight": "unknown"}
    three = {f"{i}.weight": nn.Linear(64, 128).weight.detach() * 1.01 for i in range(3)}
    assert set(strengths(three).values()) == {"moved"}


def test_how_far_a_layer_has_moved_is_the_ratio_of_its_spread() -> None:
    state = {f"{i}.weight": nn.Linear(64, 128).weight.detach() for i in range(3)}
    state = {name: w + 0.3 * torch.randn(128, 1) * torch.randn(1, 64) for name, w in state.items()}
    ratio = state["1.weight"].std(correction=0).item() / (0.125 / math.sqrt(3))
    assert sentences(state)["1.weight"] == (
        f"moved: {ratio:.2f} times the spread of PyTorch default, U(±1/sqrt(fan_in)) = U(±0.125)"
    )


@pytest.mark.parametrize("times", [0.3, 1.002, 2.5])
def test_a_uniform_draw_of_another_bound_is_told_with_the_bound(times: float) -> None:
    """Near its default it is that, moved, and as nothing else is there to tell, unknown."""
    layer = nn.Linear(64, 128)
    with torch.no_grad():
        layer.weight *= times
    said = sentences(layer)["weight"]
    assert said is not None
    if times == 1.002:
        assert said == "fits no known initializer"
    else:
        assert re.fullmatch(
            r"cannot be told to within 0\.3 % of its bound from uniform, U\(±[\d.]+\): no known.*", said
        )


def test_a_frozen_layer_among_trained_ones() -> None:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    model[1].requires_grad_(False)
    found = strengths(steps(model, 5).state_dict())
    assert {name for name, strength in found.items() if strength == "untouched"} == {"1.weight", "1.bias"}


def test_one_trained_in_keras(tmp_path: Path) -> None:
    layer = keras.layers.Dense(32)
    model = keras.Sequential([keras.Input((64,)), layer])
    layer.kernel.assign(np.asarray(layer.kernel.numpy()) * 1.01)
    model.save(tmp_path / "model.keras")
    (kernel, bias) = sentences(str(tmp_path / "model.keras")).values()
    assert kernel is not None
    assert kernel == "fits no known initializer"  # and no other sign of training
    assert bias == UNTOUCHED + "zeros"


# -- what nothing is said of ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [torch.zeros(0, 8), torch.full((8, 8), float("nan")), torch.arange(64).reshape(8, 8), torch.tensor(2.0)],
    ids=["empty", "nan", "integers", "scalar"],
)
@pytest.mark.parametrize("name", ["fc.weight", "embed.embeddings", "rnn.weight_hh_l0", "q.lora_A.weight", "fc.bias"])
def test_odd_tensors_do_no_harm(name: str, value: torch.Tensor) -> None:
    (said,) = sentences({name: value}).values()
    assert said in (None, "moved", "fits no known initializer")


def test_a_tied_tensor_has_the_verdict_of_the_first() -> None:
    weight = nn.Linear(64, 64).weight.detach()
    found = sentences({"a.weight": weight, "b.weight": weight})
    assert found["a.weight"] == found["b.weight"] == DEFAULT + "U(±0.125)"
