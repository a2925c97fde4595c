"""Draws of which nobody named the scale, against draws of torch; and what is no draw."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from inspectcli.analysis.initializers import free, numbers
from inspectcli.analysis.initializers.families import CUT, TRUNCATED, truncated_at

DRAWS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, float]] = {
    "uniform": (lambda w: w.uniform_(-0.287, 0.287), r"uniform, U\(±([\d.]+)\)", 0.287),
    "off center": (lambda w: w.uniform_(3, 8), r"uniform, U\(([\d.]+), 8\)|uniform, U\((3[\d.]*),", 3.0),
    "normal": (lambda w: w.normal_(0, 0.031), r"normal, N\(0, ([\d.]+)\)", 0.031),
    "cut at 2": (
        lambda w: torch.nn.init.trunc_normal_(w, std=0.04, a=-0.08, b=0.08),
        r"truncated normal, N\(0, ([\d.]+)\) cut at ±0\.0[78]",
        0.04,
    ),
}


def said(w: torch.Tensor) -> str:
    x = w.numpy()
    found = free.shape_of(numbers.of_array(x, 0.0))
    rows = x.reshape(len(x), -1)
    return found.formula if found is not None and free.is_draw(numbers.of_array(x, 0.0), found, lambda: rows) else ""


@pytest.mark.parametrize("shape", [(64, 32), (96, 72), (48, 16, 3, 3)], ids=str)
@pytest.mark.parametrize("name", list(DRAWS))
def test_shape_and_scale(name: str, shape: tuple[int, ...]) -> None:
    draw, words, scale = DRAWS[name]
    torch.manual_seed(0)
    texts = [said(draw(torch.empty(shape))) for _ in range(20)]
    found = [m for text in texts if (m := re.match(words, text))]
    assert len(found) >= 18  # the tests are strict: one in a hundred draws is refused
    for match in found:
        number = float(next(group for group in match.groups() if group))
        assert number == pytest.approx(scale, rel=0.06)


def test_what_is_no_draw() -> None:
    torch.manual_seed(0)
    w = torch.randn(96, 64)
    for moved in (w * (0.5 + torch.rand(96, 1)), w + 0.3 * torch.randn(96, 1) * torch.randn(1, 64), w**3, w.abs() * w):
        assert said(moved) == ""


def test_a_cut_normal_distribution_is_the_known_one() -> None:
    made, left = truncated_at(2.0)
    assert left == pytest.approx(CUT, rel=1e-12)
    assert (made.kurtosis, made.bound) == pytest.approx((TRUNCATED.kurtosis, TRUNCATED.bound), rel=1e-4)
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1)).double()
    x = x[x.abs() < 3].numpy()
    three, left = truncated_at(3.0)
    assert x.std() == pytest.approx(left, rel=3e-3)
    assert ((x / x.std()) ** 4).mean() == pytest.approx(three.kurtosis, rel=1e-2)
    assert np.mean(x / left <= 1) == pytest.approx(three.cdf(1.0), abs=2e-3)
