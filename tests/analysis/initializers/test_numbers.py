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


def assert_of(found: Numbers, x: np.ndarray[Any, Any], levels: float = 1e-9) -> None:
    """The figures are those that NumPy gives for all values `x`; `levels`: how near the distribution function is."""
    assert (found.n, found.low, found.high, found.largest) == (x.size, x.min(), x.max(), np.abs(x).max())
    assert found.mean == pytest.approx(x.mean(), rel=1e-9, abs=1e-12)
    assert found.rms == pytest.approx(np.sqrt((x**2).mean()))
    kurtosis = ((x - x.mean()) ** 4).mean() / x.var() ** 2 if np.ptp(x) else None
    assert found.kurtosis == (None if kurtosis is None else pytest.approx(kurtosis, rel=1e-6))
    shares = [(x <= knot).mean() for knot in found.knots]
    np.testing.assert_allclose(found.levels, shares, atol=levels)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1,), (7,), (64, 3), (100, 100)])
def test_of_a_look_and_of_the_array(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    tensor = look_at(x)
    found = numbers.of_tensor(tensor)
    assert found is not None
    of_array = numbers.of_array(x.double().numpy(), ROUNDING[tensor.ref.dtype.name])
    for each in (found, of_array):
        assert each.sample == x.numel()
        # Of values that are equal, one is a knot and the others lie beside it.
        ties = max(np.unique(x.double().numpy(), return_counts=True)[1]) - 1
        assert_of(each, x.double().numpy(), 1e-9 + ties / x.numel())


def test_figures_are_those_of_numpy() -> None:
    x = np.random.default_rng(0).normal(0.5, 2, 5000)
    assert_of(numbers.of_array(x, 0), x)


def test_without_the_padding_row_of_a_table() -> None:
    torch.manual_seed(2)
    table = torch.nn.Embedding(500, 20, padding_idx=3).weight.detach()
    tensor = look_at(table, "embed.weight")
    found = numbers.of_tensor(tensor, without_zeros=True)
    assert found is not None
    drawn = table[torch.arange(500) != 3].double().numpy()
    assert (found.n, found.low, found.high) == (drawn.size, drawn.min(), drawn.max())
    assert found.mean == pytest.approx(drawn.mean())
    assert found.rms == pytest.approx(np.sqrt((drawn**2).mean()))
    kurtosis = ((drawn - drawn.mean()) ** 4).mean() / drawn.var() ** 2
    assert found.kurtosis == pytest.approx(kurtosis, rel=1e-3)
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
