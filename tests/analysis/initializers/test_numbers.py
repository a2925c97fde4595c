"""Numbers of a scanned tensor are those of its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.initializers import numbers
from inspectcli.analysis.initializers.numbers import ROUNDING, Numbers
from inspectcli.analysis.roles import Roles
from inspectcli.formats.live import from_live
from inspectcli.measure.scan import scan


def look_at(value: Any, name: str = "fc.weight") -> TensorFacts:
    checkpoint = from_live({name: value})
    (scanned,) = scan(checkpoint)
    return TensorFacts(scanned.ref, Roles(checkpoint).of(scanned.ref), "", scanned.stats, scanned.sampled)


def assert_alike(a: Numbers, b: Numbers, rel: float = 1e-9) -> None:
    assert (a.n, a.low, a.high, a.sample, a.rounding) == (b.n, b.low, b.high, b.sample, b.rounding)
    assert a.mean == pytest.approx(b.mean, rel=rel, abs=1e-12)
    assert a.rms == pytest.approx(b.rms, rel=rel)
    assert a.kurtosis == pytest.approx(b.kurtosis, rel=1e-6)
    np.testing.assert_allclose(a.knots, b.knots, rtol=rel)
    np.testing.assert_allclose(a.levels, b.levels, rtol=rel)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1,), (7,), (64, 3), (100, 100)])
def test_of_a_look_and_of_the_array(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    tensor = look_at(x)
    found = numbers.of_tensor(tensor)
    assert found is not None
    expected = numbers.of_array(x.double().numpy(), ROUNDING[tensor.ref.dtype.name])
    if x.numel() == 1:
        assert found.kurtosis is expected.kurtosis is None
        assert (found.low, found.high, found.rms) == (x.item(), x.item(), pytest.approx(abs(x.item())))
        return
    assert_alike(found, expected)


def test_figures_are_those_of_numpy() -> None:
    x = np.random.default_rng(0).normal(0.5, 2, 5000)
    found = numbers.of_array(x, 0)
    assert (found.n, found.low, found.high, found.largest) == (5000, x.min(), x.max(), np.abs(x).max())
    assert found.mean == pytest.approx(x.mean())
    assert found.rms == pytest.approx(np.sqrt((x**2).mean()))
    assert found.kurtosis == pytest.approx(((x - x.mean()) ** 4).mean() / x.var() ** 2)
    expected = [(x <= knot).mean() for knot in found.knots]
    np.testing.assert_allclose(found.levels, expected)


def test_without_the_padding_row_of_a_table() -> None:
    torch.manual_seed(2)
    table = torch.nn.Embedding(500, 20, padding_idx=3).weight.detach()
    tensor = look_at(table, "embed.weight")
    found = numbers.of_tensor(tensor, without_zeros=True)
    assert found is not None
    drawn = table[torch.arange(500) != 3].double().numpy()
    expected = numbers.of_array(drawn, 0)
    assert (found.n, found.low, found.high) == (expected.n, expected.low, expected.high)
    assert found.mean == pytest.approx(expected.mean)
    assert found.rms == pytest.approx(expected.rms)
    assert found.kurtosis == pytest.approx(expected.kurtosis, rel=1e-3)
    at = np.searchsorted(np.sort(drawn.ravel()), found.knots, "right") / drawn.size
    np.testing.assert_allclose(found.levels[found.knots != 0], at[found.knots != 0], atol=1e-3)
    assert (np.diff(found.levels) >= -1e-12).all()


@pytest.mark.parametrize(
    "value",
    [torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("inf")]), torch.arange(9), torch.zeros(0)],
    ids=["nan", "inf", "integers", "empty"],
)
def test_nothing_is_said_of_what_was_not_drawn(value: torch.Tensor) -> None:
    assert numbers.of_tensor(look_at(value)) is None


def test_nothing_is_said_of_zeros_without_zeros() -> None:
    assert numbers.of_tensor(look_at(torch.zeros(9, 9)), without_zeros=True) is None


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_rounding_is_at_least_that_of_the_type(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(1, 2, 100_001, dtype=torch.float64)
    off = ((x.to(dtype).double() - x) / x).abs().max().item()
    assert off <= ROUNDING[name] <= 2.1 * off
