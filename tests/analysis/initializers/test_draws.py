"""Draws of torch, Keras and NumPy are on the grid of their generator, and nothing else is."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

from inspectcli.analysis.initializers.draws import is_normal_draw, is_uniform_draw

os.environ["KERAS_BACKEND"] = "torch"
SHAPES = [(96, 64), (10, 96), (48, 16, 3, 3), (33, 40)]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bound", [0.125, 96**-0.5, 0.287, math.sqrt(6 / 160)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uniform_draws(shape: tuple[int, ...], bound: float) -> None:
    drawn = torch.empty(shape).uniform_(-bound, bound).numpy()
    assert is_uniform_draw(drawn, bound) is True
    b = np.float32(bound)
    assert is_uniform_draw(np.random.default_rng(0).random(shape, np.float32) * (2 * b) - b, bound) is True
    step = np.random.default_rng(1).normal(0, 1e-6, shape).astype("f4")
    for other in (drawn * np.float32(1 + 1e-6), drawn + step):
        assert is_uniform_draw(other, bound) is False
    assert is_uniform_draw(np.random.default_rng(0).uniform(-bound, bound, shape).astype("f4"), bound) is False


def test_uniform_draws_of_keras() -> None:
    keras = pytest.importorskip("keras")
    drawn = np.asarray(keras.initializers.GlorotUniform(3)((64, 96)).detach())
    assert is_uniform_draw(drawn, math.sqrt(6 / 160)) is True


@pytest.mark.parametrize("std", [0.02, 0.1543, 1.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normal_draws_of_any_scale(shape: tuple[int, ...], std: float) -> None:
    drawn = torch.empty(shape).normal_(0, std).numpy()
    assert is_normal_draw(drawn) is True
    assert is_normal_draw(drawn * np.float32(0.37)) is True  # the angle is the same
    assert is_normal_draw(drawn + np.float32(1e-5 * std)) is False
    other = np.random.default_rng(0).normal(0, std, shape).astype("f4")
    assert is_normal_draw(other) is False
    assert is_normal_draw(drawn.T.copy()) is False  # in another order


def test_a_twentieth_of_a_normal_draw_that_has_changed() -> None:
    drawn = torch.empty(800, 32).normal_().numpy()
    drawn[300:340] += np.float32(1e-3)
    assert is_normal_draw(drawn) is False


def test_a_few_values_tell_nothing() -> None:
    assert is_uniform_draw(np.full(40, 0.1, np.float32), 0.1) is None
    assert is_normal_draw(np.zeros(4096, np.float32)) is None
