"""The sample: one value from each stretch of a tensor, and its figures against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.encoded import FLOATS, INTEGERS, PACKED, encode, normal, pack, unit_of, with_nonfinite

from inspectcli.measure.sample import HISTOGRAM_BINS, SAMPLE_SIZE, Sampled, sample_of, sampled
from inspectcli.tensors.dtypes import DTYPES

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]


def whole_sample(raw: Array, name: str) -> Array:
    n = raw.size // 2 if name == "c64" else raw.size
    return sample_of(raw, DTYPES[name], 0, n, n)


def figures(raw: Array, name: str = "f64") -> Sampled:
    x = whole_sample(raw, name)
    made = sampled(x, x.size == raw.size)
    assert made is not None
    return made


@pytest.mark.parametrize("n", [1, 2, 99, SAMPLE_SIZE - 1, SAMPLE_SIZE])
def test_a_small_tensor_is_its_own_sample(n: int) -> None:
    x = normal(n)
    np.testing.assert_array_equal(whole_sample(x, "f64"), x)
    assert (figures(x).size, figures(x).exact) == (n, True)


@pytest.mark.parametrize("n", [SAMPLE_SIZE + 1, 100_000, 1_000_003])
def test_the_sample_of_a_large_tensor_has_one_value_from_each_stretch(n: int) -> None:
    positions = whole_sample(np.arange(n, dtype=np.float64), "f64")
    stretch = np.arange(SAMPLE_SIZE) * (n / SAMPLE_SIZE)
    assert positions.size == SAMPLE_SIZE
    assert (positions > stretch - 1).all()
    assert (positions <= np.minimum(stretch + n / SAMPLE_SIZE, n - 1)).all()
    assert not figures(np.arange(n, dtype=np.float64)).exact


@pytest.mark.parametrize("name", ["f64", "f32", "bf16", "f8_e4m3", "i32", "bool", "c64"])
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(0, 50_000), max_size=5))
def test_the_sample_does_not_depend_on_the_chunks(name: str, cuts: list[int]) -> None:
    width = 2 if name == "c64" else 1
    raw = np.random.default_rng(11).integers(0, 127, 100_000 * width).astype(DTYPES[name].numpy)
    edges = [0, *sorted(2 * c for c in cuts), 100_000]
    parts = [sample_of(raw[a * width : b * width], DTYPES[name], a, b - a, 100_000) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole_sample(raw, name))


def test_the_sample_is_always_the_same() -> None:
    x = normal(200_000)
    np.testing.assert_array_equal(whole_sample(x, "f64"), whole_sample(x.copy(), "f64"))


@pytest.mark.parametrize("name", [*FLOATS, "i16", "u64"])
@pytest.mark.parametrize("n", [1, 2, 3, 100, 4999])
def test_quantiles_are_numpy_s(name: str, n: int) -> None:
    x = 40 * np.abs(normal(n))
    raw, values = encode(x, name) if name in FLOATS else (x.astype(INTEGERS[name]), np.trunc(x))
    values = values[np.isfinite(values)]
    got = figures(raw, name)
    expected = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    np.testing.assert_allclose([got.q01, got.q25, got.median, got.q75, got.q99], expected, rtol=1e-12)


def test_quantiles_leave_nonfinite_values_out() -> None:
    values = with_nonfinite()
    finite = values[np.isfinite(values)]
    got = figures(values)
    assert (got.size, got.exact) == (finite.size, True)
    assert got.median == pytest.approx(np.median(finite), rel=1e-12)


def test_quantiles_of_a_large_tensor_are_near_those_of_all_values() -> None:
    x = normal(1_000_000)
    got = figures(x)
    expected = np.quantile(x, [0.01, 0.25, 0.5, 0.75, 0.99])
    np.testing.assert_allclose([got.q01, got.q25, got.median, got.q75, got.q99], expected, atol=0.05)


@pytest.mark.parametrize("make", [normal, lambda: np.random.default_rng(2).random(100_000), with_nonfinite])
def test_the_histogram_counts_the_sample_between_its_edges(make: Callable[[], Wide]) -> None:
    got = figures(make())
    x = whole_sample(make(), "f64")
    x = x[np.isfinite(x)]
    assert got.edges == (got.q01, got.q99)
    assert sum(got.histogram) == ((x >= got.q01) & (x <= got.q99)).sum()
    assert list(got.histogram) == np.histogram(x, HISTOGRAM_BINS, got.edges)[0].tolist()


@pytest.mark.parametrize("values", [[5.0], [5.0] * 70, [0.0, -0.0]])
def test_the_histogram_of_equal_values_has_one_bar(values: list[float]) -> None:
    got = figures(np.array(values))
    assert got.edges == (values[0], values[0])
    assert sorted(got.histogram) == [0] * (HISTOGRAM_BINS - 1) + [len(values)]
    assert got.kurtosis is None


@pytest.mark.parametrize(
    "make",
    [
        normal,
        lambda: 1000 + 1e-3 * normal(),
        lambda: 1e300 * normal(),
        lambda: 1e-300 * normal(),
        lambda: np.array([1.0, 2.0]),
        lambda: np.random.default_rng(1).standard_t(5, 70_000),
    ],
)
def test_kurtosis_is_the_fourth_moment_over_the_squared_variance(make: Callable[[], Wide]) -> None:
    values = make()
    x = whole_sample(values, "f64")
    x = x / unit_of(x)
    d = x - x.mean()
    assert figures(values).kurtosis == pytest.approx(np.mean(d**4) / np.mean(d**2) ** 2, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "expected"),
    [(lambda: normal(60_000), 3.0), (lambda: np.random.default_rng(1).random(60_000), 1.8)],
)
def test_kurtosis_of_known_distributions(make: Callable[[], Wide], expected: float) -> None:
    assert figures(make()).kurtosis == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("values", [[math.nan] * 3, [math.inf, -math.inf]])
def test_without_a_finite_value_there_is_nothing_to_sample(values: list[float]) -> None:
    assert sampled(np.array(values), exact=True) is None


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("n", [1, 3, 4, 101, SAMPLE_SIZE, SAMPLE_SIZE + 1, 100_003])
@pytest.mark.parametrize("start", [0, 4 * 5_000])
def test_packed_values_are_picked_out_of_their_bytes(name: str, n: int, start: int) -> None:
    bits = DTYPES[name].bits // DTYPES[name].per_element
    codes = np.random.default_rng(3).integers(0, 1 << bits, n).astype(np.uint8)
    values = codes.view(PACKED[name]).astype(np.float64)
    place = sample_of(np.arange(n, dtype=np.float64), DTYPES["f64"], start, n, start + n).astype(int)
    got = sample_of(pack(codes, bits), DTYPES[name], start, n, start + n)
    np.testing.assert_array_equal(got, values[place])


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [-1.7e308, 0.0, 1.0, 1.7e308] * 40])
@pytest.mark.filterwarnings("error")
def test_values_further_apart_than_any_number_is_large(values: list[float]) -> None:
    made = figures(np.array(values))
    assert sum(made.histogram) == len(values)
    assert made.histogram[0] == made.histogram[-1] == len(values) // (2 if len(values) == 2 else 4)
    halves = np.quantile(np.array(values) / 4, [0.01, 0.25, 0.5, 0.75, 0.99]) * 4
    assert np.allclose([made.q01, made.q25, made.median, made.q75, made.q99], halves, rtol=1e-12)
