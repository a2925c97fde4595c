"""Fans against the functions that the libraries themselves call."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.analysis.initializers.fans import Fans, Framework, fans

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")

SHAPES = st.lists(st.integers(1, 64), min_size=2, max_size=5).map(tuple)


@given(SHAPES)
def test_torch(shape: tuple[int, ...]) -> None:
    expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert list(fans(shape, Framework.TORCH)) == [expected]


@given(SHAPES)
def test_keras(shape: tuple[int, ...]) -> None:
    from keras.src.initializers.random_initializers import compute_fans

    assert tuple(next(fans(shape, Framework.KERAS))) == compute_fans(shape)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Linear(12, 5),
        torch.nn.Conv1d(6, 4, 3, groups=2),
        torch.nn.Conv2d(6, 4, (3, 5)),
        torch.nn.Conv3d(2, 4, 3),
        torch.nn.ConvTranspose2d(6, 4, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_bound_that_a_torch_layer_draws_from(layer: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high, generator=None: seen.append(high))
    layer.reset_parameters()  # type: ignore[operator]
    fan_in = next(fans(tuple(layer.weight.shape), Framework.TORCH)).fan_in  # type: ignore[arg-type]
    assert seen == pytest.approx([fan_in**-0.5] * 2)  # weight and bias


def test_attention_of_keras_is_counted_in_two_ways() -> None:
    """Its kernels are (d, heads, k) and (heads, k, d): d enter and heads*k leave, or the other way round."""
    assert Fans(32, 4 * 8) in fans((32, 4, 8), Framework.KERAS)
    assert Fans(4 * 8, 32) in fans((4, 8, 32), Framework.KERAS)


def test_flax_flattens_like_keras() -> None:
    assert list(fans((3, 3, 16, 32), Framework.FLAX)) == [Fans(144, 288)]


@pytest.mark.parametrize("shape", [(), (7,), (0, 4), (4, 0, 3)])
@pytest.mark.parametrize("framework", list(Framework))
def test_vectors_and_empty_tensors_have_none(shape: tuple[int, ...], framework: Framework) -> None:
    assert list(fans(shape, framework)) == []
