"""A model in memory: the same figures as torch, gradients as rows of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import inspectcli
from inspectcli.errors import UsageError
from inspectcli.tensors.model import Kind


def rows(target: object) -> dict[str, inspectcli.TensorRow]:
    return {row.name: row for row in inspectcli.inspect(target).files[0].tensors}


def test_a_module_gives_parameters_and_buffers() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    found = rows(module)
    assert list(found) == [*dict(module.named_parameters()), *dict(module.named_buffers())]
    assert {name: row.kind for name, row in found.items() if "running" in name} == {
        "1.running_mean": Kind.BUFFER,
        "1.running_var": Kind.BUFFER,
    }
    assert found["0.weight"].layer == "Linear"
    stats = found["0.weight"].stats
    assert stats is not None
    assert stats.std == pytest.approx(module[0].weight.double().std(unbiased=False).item(), rel=1e-9)


def test_gradients_are_rows_behind_their_parameter() -> None:
    module = nn.Linear(3, 2)
    module(torch.ones(5, 3)).sum().backward()
    found = rows(module)
    assert list(found) == ["weight", "weight.grad", "bias", "bias.grad"]
    assert found["bias.grad"].kind is Kind.GRADIENT
    stats = found["bias.grad"].stats
    assert stats is not None
    assert stats.mean == 5.0


def test_a_gradient_does_not_count_as_a_parameter_of_the_model() -> None:
    module = nn.Linear(3, 2)
    module(torch.ones(5, 3)).sum().backward()
    totals = inspectcli.inspect(module).files[0].totals
    assert totals is not None
    assert totals.model_parameters == 8


def test_tied_parameters_are_read_once() -> None:
    module = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    module["b"].weight = module["a"].weight
    assert rows(module)["b.weight"].alias_of == "a.weight"


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(4, 3).to(torch.bfloat16),
        torch.randn(4, 3).t(),
        torch.randn(4).to(torch.float8_e4m3fn),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.tensor([True, False]),
        torch.tensor(3.0),
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.randn(5), 0.1, 3, torch.quint8),
    ],
    ids=["bf16", "transposed", "fp8", "conj", "bool", "scalar", "sparse", "quantized"],
)
def test_every_kind_of_tensor_of_a_state_dict_has_its_mean(value: torch.Tensor) -> None:
    dense = value.dequantize() if value.is_quantized else value.to_dense() if value.is_sparse else value.resolve_conj()
    wide = dense.abs().double() if dense.is_complex() else dense.double()
    stats = rows({"x": value})["x"].stats
    assert stats is not None
    assert stats.mean == pytest.approx(wide.mean().item(), rel=1e-6, abs=1e-9)


def test_nested_dicts_and_numpy_arrays_are_read() -> None:
    found = rows({"model": {"w": np.arange(4.0)}, "note": "text"})
    assert list(found) == ["model.w"]
    stats = found["model.w"].stats
    assert stats is not None
    assert stats.max == 3.0


def test_a_meta_tensor_has_no_figures() -> None:
    row = rows({"w": torch.empty(3, device="meta")})["w"]
    assert row.stats is None
    assert row.numel == 3


def test_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="a int is neither a path"):
        inspectcli.inspect(5)
