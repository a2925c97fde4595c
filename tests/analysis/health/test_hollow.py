"""Hollow files: first what must be left alone, then what must be found."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models.judged import Tensors, codes, findings, write
from torch import nn

from inspectcli.analysis.findings import Severity

CODES = ("PI12", "PI320", "PI321", "PI420", "PI421")


def moved(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values that no initializer draws."""
    g = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(shape, generator=g) * (0.2 + 2 * torch.rand(shape, generator=g) ** 3)


def model(blocks: int = 3, width: int = 32) -> dict[str, torch.Tensor]:
    made = {"embed.weight": moved(64, width, seed=99)}
    for i in range(blocks):
        made[f"layers.{i}.attn.weight"] = moved(width, width, seed=4 * i)
        made[f"layers.{i}.attn.bias"] = moved(width, seed=4 * i + 1)
        made[f"layers.{i}.mlp.weight"] = moved(2 * width, width, seed=4 * i + 2)
        made[f"layers.{i}.norm.weight"] = 1 + moved(width, seed=4 * i + 3)
    return made


# -- left alone -------------------------------------------------------------------------------------------


def zero_heads() -> Tensors:
    return {**model(), "value_head.weight": torch.zeros(8, 32), "head.bias": torch.zeros(8)}


def zero_biases_at_the_end() -> Tensors:
    return {**model(), **{f"z.{i}.bias": torch.zeros(64) for i in range(20)}}


def kv_caches() -> Tensors:
    return {**model(), "layers.0.cache_k": torch.zeros(1, 4, 8, 8), "layers.0.cache_v": torch.zeros(1, 4, 8, 8)}


def masks_and_tables() -> Tensors:
    return {
        **model(),
        "layers.0.attn.mask": torch.tril(torch.ones(64, 64)),
        "position_ids": torch.arange(64)[None],
        "layers.0.A_log": torch.zeros(32),
        "identity.weight": torch.eye(64),
        "tall.weight": torch.eye(128, 16),
        "triangle.weight": torch.tril(moved(64, 64, seed=5)),
    }


def padding_rows() -> Tensors:
    made = model()
    made["embed.weight"][40:] = 0
    made["embed.weight"][0] = 0
    return made


def pruned() -> Tensors:
    made = model()
    for value in made.values():
        value[value.abs() < value.abs().median()] = 0
    return made


def pruned_blocks() -> Tensors:
    made = model()
    made["layers.1.attn.weight"][:, :16] = 0
    made["layers.1.mlp.weight"][16:] = 0
    return made


def one_residual_scale() -> Tensors:
    made = model()
    made["layers.2.norm.weight"][:] = 0
    return made


def lora_as_created() -> Tensors:
    torch.manual_seed(0)
    return {
        **{f"m.{i}.lora_A.weight": nn.Linear(32, 4).weight.data for i in range(3)},
        **{f"m.{i}.lora_B.weight": torch.zeros(32, 4) for i in range(3)},
    }


def one_vector() -> Tensors:
    return {"direction": torch.zeros(64), "scale": torch.ones(1)}


HEALTHY: tuple[Callable[[], Tensors], ...] = (
    model, zero_heads, zero_biases_at_the_end, kv_caches, masks_and_tables, padding_rows, pruned, pruned_blocks,
    one_residual_scale, lora_as_created, one_vector,
)  # fmt: skip


@pytest.mark.parametrize("build", HEALTHY, ids=lambda build: build.__name__)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_healthy(build: Callable[[], Tensors], suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"m{suffix}", {name: value.clone() for name, value in build().items()})
    assert findings(path, *CODES) == ()


def scheduler() -> object:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    return torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scheduler.pt", scheduler()),
        ("last.pt", scheduler()),
        ("training_args.bin", {"lr": 0.1}),
        ("args.pt", argparse.Namespace(lr=0.1)),
        ("rng_state.pth", {"python": (3, (1, 2), None)}),
        ("scaler.pt", {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0}),
    ],
)
def test_state_of_something_else_holds_no_tensors(name: str, value: object, tmp_path: Path) -> None:
    assert findings(write(tmp_path / name, value), "PI420") == ()


# -- found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{}, None, [], {"model": {}, "epoch": 3}, {"state_dict": {}}, {"a": 1}])
def test_no_tensors(value: object, tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "m.pt", value), *CODES)
    assert (found.code, found.severity) == ("PI420", Severity.WARNING)


def test_no_tensors_in_safetensors(tmp_path: Path) -> None:
    assert codes(findings(write(tmp_path / "adapter_model.safetensors", {}), *CODES)) == ["PI420"]


@pytest.mark.parametrize(
    ("meta", "severity"), [(3, Severity.ERROR), (2, Severity.WARNING), (1, Severity.NOTE)], ids=["all", "two", "one"]
)
def test_no_values(meta: int, severity: Severity, tmp_path: Path) -> None:
    tensors = {f"{i}.weight": torch.empty(4, 4, device="meta") if i < meta else moved(4, 4) for i in range(3)}
    (found,) = findings(write(tmp_path / "m.pt", tensors), "PI421")
    assert (found.severity, found.figures) == (severity, {"empty": meta, "tensors": 3})


@pytest.mark.parametrize(("value", "severity"), [(0.0, Severity.ERROR), (0.5, Severity.WARNING)])
def test_one_constant(value: float, severity: Severity, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {k: torch.full_like(v, value) for k, v in model().items()})
    (found,) = findings(path, "PI12")
    assert (found.code, found.severity, found.figures["value"]) == ("PI120", severity, value)


def test_matrices_of_zeros(tmp_path: Path) -> None:
    tensors = {k: torch.zeros_like(v) if v.ndim > 1 else v for k, v in model().items()}
    assert codes(findings(write(tmp_path / "m.safetensors", tensors), "PI12")) == ["PI120"]


def test_scales_of_zeros(tmp_path: Path) -> None:
    tensors = {k: torch.zeros_like(v) if "norm" in k else v for k, v in model().items()}
    assert codes(findings(write(tmp_path / "m.safetensors", tensors), "PI12")) == ["PI121"]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_file_that_was_not_filled_to_its_end(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", model(6))
    data = path.read_bytes()
    kept = int(share * len(data))
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    (found,) = findings(path, "PI12")
    assert (found.code, found.severity) == ("PI123", Severity.ERROR)


def test_a_hole_within_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", model(6))
    data = path.read_bytes()
    first, last = int(0.4 * len(data)), int(0.7 * len(data))
    path.write_bytes(data[:first] + bytes(last - first) + data[last:])
    assert codes(findings(path, "PI12")) == ["PI123"]


@pytest.mark.parametrize("part", [slice(500, None), slice(None, 701), slice(333, 733)], ids=["tail", "head", "middle"])
def test_a_torn_tensor(part: slice, tmp_path: Path) -> None:
    tensors = model()
    tensors["layers.1.mlp.weight"].view(-1)[part] = 0
    (found,) = findings(write(tmp_path / "m.safetensors", tensors), "PI12")
    assert (found.code, found.tensor) == ("PI122", "layers.1.mlp.weight")


def test_a_fresh_model_is_a_note(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 80)).state_dict()
    (found,) = findings(write(tmp_path / "m.pt", state), *CODES)
    assert (found.code, found.severity) == ("PI320", Severity.NOTE)


ADAPTERS: dict[str, Tensors] = {
    "IA3": {f"m.{i}.ia3_l": torch.ones(12, 1) for i in range(3)},
    "LoKr": {"m.lokr_w1": torch.zeros(4, 4), "m.lokr_w2": moved(8, 8)},
    "LoHa": {
        f"m.hada_w{i}_{x}": torch.zeros(8, 4) if (i, x) == (2, "b") else moved(8, 4) for i in (1, 2) for x in "ab"
    },
    "VeRA": {"m.vera_lambda_b": torch.zeros(16), "m.vera_lambda_d": torch.full((4,), 0.1)},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_as_created_is_a_note(kind: str, tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "adapter_model.safetensors", ADAPTERS[kind]), *CODES)
    assert (found.code, found.severity) == ("PI321", Severity.NOTE)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_that_was_trained_is_left_alone(kind: str, tmp_path: Path) -> None:
    trained = {name: value + moved(*value.shape, seed=8) for name, value in ADAPTERS[kind].items()}
    assert findings(write(tmp_path / "adapter_model.safetensors", trained), "PI321") == ()
