"""Figures of small tensors, many at a time: each row against NumPy, and against the same row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.encoded import FLOATS, INTEGERS, encode, normal

from inspectcli.measure.base import Rows
from inspectcli.measure.sample import numbers_of_rows, sampled, sampled_rows
from inspectcli.measure.stats import Stats
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.values import natural

Array = npt.NDArray[Any]
SIZES = [1, 2, 7, 16, 129, 300, 1000]


def stored(name: str, rows: int, columns: int) -> Array:
    """Some rows of encoded numbers; the second is all zeros, and the third begins with one."""
    integers = np.random.default_rng(3).integers(0, 100, rows * columns)
    flat = encode(normal(rows * columns), name)[0] if name in FLOATS else integers.astype(INTEGERS[name])
    raw = flat.reshape(rows, -1).copy()
    raw[1], raw[2, 0] = 0, 0
    return raw


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS])
def test_the_figures_of_rows_are_numpys(name: str, columns: int) -> None:
    dtype = DTYPES[name]
    raw = stored(name, 9, columns)
    for row, stats in zip(raw, Rows(raw, dtype).stats, strict=True):
        x = natural(row, dtype).astype(np.float64)
        assert (stats.count, stats.zeros) == (columns, int((x == 0).sum()))
        x = x[np.isfinite(x)]
        assert stats.finite == x.size
        if not x.size:
            continue
        assert (stats.low, stats.high) == (x.min(), x.max())
        np.testing.assert_allclose(stats.mean, x.mean(), rtol=1e-12, atol=1e-14 * np.abs(x).max())
        np.testing.assert_allclose(stats.std, x.std(), rtol=1e-12, atol=1e-14 * np.abs(x).max())


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS, "f8_e4m3", "bool", "c64"])
def test_a_row_has_the_figures_of_a_block(name: str, columns: int) -> None:
    dtype = DTYPES[name]
    width = 2 if name == "c64" else 1
    raw = np.random.default_rng(5).integers(0, 120, (9, columns * width)).astype(dtype.numpy)
    if name == "bool":
        raw &= 1
    for row, stats in zip(raw, Rows(raw, dtype).stats, strict=True):
        block = Stats.of(row, dtype, columns)
        exact = ("count", "zeros", "subnormals", "nan", "posinf", "neginf", "low", "high", "first_nonfinite")
        assert [getattr(stats, field) for field in exact] == [getattr(block, field) for field in exact]
        assert stats.scale == block.scale
        np.testing.assert_allclose([stats.mean, stats.m2], [block.mean, block.m2], rtol=1e-12)
    numbers = numbers_of_rows(raw, dtype)
    assert list(sampled_rows(numbers, True)) == [sampled(row, True) for row in numbers]


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("name", ["f64", "f32", "bf16", "i32", "u8"])
def test_a_row_does_not_depend_on_those_beside_it(name: str, columns: int) -> None:
    dtype = DTYPES[name]
    raw = stored(name, 40, columns)
    together = Rows(raw, dtype).stats
    assert list(together) == [Rows(raw[i : i + 1], dtype).stats[0] for i in range(len(raw))]


@pytest.mark.parametrize("name", ["f64", "f32", "f16", "bf16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_spoils_no_other(name: str, bad: float) -> None:
    dtype = DTYPES[name]
    raw = stored(name, 5, 20)
    raw[3, 4] = encode(np.array([bad]), name)[0][0]
    stats = Rows(raw, dtype).stats
    assert stats[3] == Stats.of(raw[3], dtype)
    assert stats[3].first_nonfinite == 4
    assert [s.nonfinite for s in stats] == [0, 0, 0, 1, 0]
    assert [s.size if s else 0 for s in sampled_rows(numbers_of_rows(raw, dtype), True)] == [20, 20, 20, 19, 20]


def test_values_that_squares_cannot_hold_keep_their_spread() -> None:
    x = np.array([[1e200, -1e200, 3e200, 0.0], [1e-200, 2e-200, 0, 0], [1.0, 2.0, 3.0, 4.0]])
    for row, stats in zip(x, Rows(x, DTYPES["f64"]).stats, strict=True):
        assert stats == Stats.of(row, DTYPES["f64"]) or abs(stats.std / row.std() - 1) < 1e-12
        assert stats.std > 0
