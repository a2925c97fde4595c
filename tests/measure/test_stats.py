"""Stats as a monoid, and every figure against NumPy in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.encoded import FLOATS, INTEGERS, PACKED, encode, normal, pack, unit_of, with_nonfinite

from inspectcli.measure.stats import Stats
from inspectcli.tensors.dtypes import DTYPES

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]

EXACT = ("f64", "f32", *INTEGERS)

#: Two steps of float64 at its lower end: no error can be held below.
SMALLEST_STEPS = 1e-323


def of(raw: Array, name: str) -> Stats:
    return Stats.of(raw, DTYPES[name])


def chunked(raw: Array, name: str, cuts: list[int]) -> Stats:
    """As `of`, but piece by piece; `cuts` are positions in the array."""
    edges = [0, *sorted(cuts), raw.size]
    made = Stats.empty()
    for a, b in pairwise(edges):
        made = made.merge(Stats.of(raw[a:b], DTYPES[name]))
    return made


# -- the oracle -----------------------------------------------------------------------------------------


def numpy_figures(values: Wide) -> tuple[float, float, float, float]:
    """Mean, standard deviation, norm and root mean square of the finite values."""
    finite = values[np.isfinite(values)]
    unit = unit_of(finite)
    x = finite / unit
    std = 0.0 if x.min() == x.max() else float(x.std())
    l2 = float(np.sqrt(np.dot(x, x)))
    return float(x.mean()) * unit, std * unit, l2 * unit, l2 / math.sqrt(x.size) * unit


def close(got: float, expected: float, error: float, terms: int = 1) -> bool:
    """`terms`: of a norm, the number of values that its own smallest steps add up from."""
    return got == expected or abs(got - expected) <= max(error, SMALLEST_STEPS * math.sqrt(terms))


def assert_counts(stats: Stats, values: Wide) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    finite = values[np.isfinite(values)]
    assert stats.count == values.size
    assert stats.nan == np.isnan(values).sum()
    assert stats.posinf == (values == np.inf).sum()
    assert stats.neginf == (values == -np.inf).sum()
    assert stats.zeros == (values == 0).sum()
    assert stats.first_nonfinite == (int(bad[0]) if bad.size else None)
    assert stats.finite == finite.size
    assert stats.nonfinite == bad.size
    assert stats.low == (finite.min() if finite.size else None)
    assert stats.high == (finite.max() if finite.size else None)
    assert stats.abs_max == (np.abs(finite).max() if finite.size else None)


def assert_figures(stats: Stats, values: Wide, tolerance: float) -> None:
    """Every figure, with errors relative to its own size; a mean of values that cancel, to their spread."""
    assert_counts(stats, values)
    if not np.isfinite(values).any():
        assert (stats.mean, stats.l2) == (0.0, 0.0)
        assert math.isnan(stats.std)
        assert math.isnan(stats.rms)
        return
    mean, std, l2, rms = numpy_figures(values)
    assert close(stats.mean, mean, tolerance * max(abs(mean), 1e-3 * std))
    assert close(stats.std, std, tolerance * std)
    assert close(stats.l2, l2, tolerance * l2, stats.count)
    assert close(stats.rms, rms, tolerance * rms)


def assert_same(a: Stats, b: Stats) -> None:
    """Counts and bounds exactly, moments to 1e-12 of the largest value."""
    exact = "count nan posinf neginf zeros subnormals low high first_nonfinite".split()
    assert {k: getattr(a, k) for k in exact} == {k: getattr(b, k) for k in exact}
    scale = 1e-12 * float(a.abs_max or 0.0)
    assert close(a.mean, b.mean, scale)
    assert close(a.l2, b.l2, 1e-12 * a.l2, a.count)
    if a.finite:
        assert close(a.std, b.std, scale)


# -- against NumPy --------------------------------------------------------------------------------------


CASES: dict[str, Callable[[], Wide]] = {
    "normal": normal,
    "more than a sample": lambda: normal(70_001),
    "mean 1000, std 0.001": lambda: 1000 + 1e-3 * normal(),
    "mean 1, std just where sums cancel": lambda: 1 + 0.0101 * normal(),
    "mean -3e7, std 1": lambda: -3e7 + normal(),
    "one outlier": lambda: np.concatenate([normal(), [1e4]]),
    "none": lambda: np.empty(0),
    "one": lambda: np.array([0.7]),
    "two": lambda: np.array([0.5, -1.5]),
    "all equal": lambda: np.full(1000, 0.3),
    "only NaN": lambda: np.full(9, np.nan),
    "only infinities": lambda: np.array([np.inf, -np.inf, np.inf]),
    "one finite value among NaN": lambda: np.array([np.nan, 3.0, np.nan]),
    "some not finite": with_nonfinite,
    "zeros of both signs": lambda: np.array([0.0, -0.0, -0.0]),
    "zeros among others": lambda: np.array([0.0, -0.0, 1.0, -2.0, 0.0]),
    "float16 subnormals": lambda: 2.0**-24 * np.arange(-50, 50),
    "float32 subnormals": lambda: 2.0**-149 * np.arange(-50, 50),
    "small codes": lambda: 2.0**-9 * np.arange(-50, 50),
}
#: Only float64 reaches these.
EXTREMES: dict[str, Callable[[], Wide]] = {
    "near 1e300": lambda: 1e300 * (1 + 0.1 * normal()),
    "near 1e300, of both signs": lambda: 1e300 * normal(),
    "near the largest": lambda: 1.7e308 * np.tanh(normal()),
    "near 1e-300": lambda: 1e-300 * (1 + 0.1 * normal()),
    "near 1e-300, of both signs": lambda: 1e-300 * normal(),
    "float64 subnormals": lambda: 5e-324 * np.arange(-50, 50),
    "1e300 and 1e-300": lambda: np.array([1e300, 1e-300, -1e300, 1e-300]),
    "1e300 and infinity": lambda: np.array([1e300, np.inf, -2e300, np.nan]),
    "1e-300 and NaN": lambda: np.array([1e-300, np.nan, 3e-300]),
    "just below where squares overflow": lambda: 1e149 * normal(),
    "just above where squares vanish": lambda: 1e-149 * normal(),
    "zeros before 1e-200": lambda: np.array([0.0, 0.0, 1e-200, -3e-200, 0.0, 0.0]),
    "zeros before 1e200": lambda: np.array([0.0, 0.0, 1e200, -3e200, 0.0, 0.0]),
    "one huge": lambda: np.array([1e300]),
    "one tiny": lambda: np.array([1e-300]),
    "all equal and huge": lambda: np.full(100, -1e300),
    "all equal and tiny": lambda: np.full(100, 3e-300),
}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_float_figures_are_numpy_s(name: str, case: str) -> None:
    raw, values = encode(CASES[case](), name)
    assert_figures(of(raw, name), values, 1e-9 if name in EXACT else 1e-6)


@pytest.mark.parametrize("case", EXTREMES)
def test_figures_of_extreme_float64_values_are_numpy_s(case: str) -> None:
    values = EXTREMES[case]()
    assert_figures(of(values, "f64"), values, 1e-9)


@pytest.mark.parametrize("case", [*CASES, *EXTREMES])
def test_pieces_give_numpy_s_figures_too(case: str) -> None:
    values = (CASES | EXTREMES)[case]()
    assert_figures(chunked(values, "f64", [values.size // 3, values.size // 2]), values, 1e-9)


INTEGER_CASES: dict[str, list[int]] = {
    "extremes": [-(1 << 63), (1 << 63) - 1, (1 << 64) - 1, 0, 1],
    "only the smallest": [-(1 << 63)] * 70,
    "only the largest": [(1 << 64) - 1] * 70,
    "smallest beside zero": [-(1 << 63)] * 40 + [0] * 30,
    "neighbors": [100, 101, 100, 100, 101],
    "small": [*range(128)],
    "zero": [0, 0, 0],
    "one": [42],
}


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("case", INTEGER_CASES)
def test_integer_figures_are_numpy_s(name: str, case: str) -> None:
    info = np.iinfo(INTEGERS[name])
    whole = [min(max(v, int(info.min)), int(info.max)) for v in INTEGER_CASES[case]]
    raw = np.array(whole, INTEGERS[name])
    stats = of(raw, name)
    mean, std, l2, _ = numpy_figures(raw.astype(np.float64))
    assert (stats.count, stats.zeros, stats.nonfinite) == (len(whole), whole.count(0), 0)
    assert (stats.low, stats.high, stats.abs_max) == (min(whole), max(whole), max(map(abs, whole)))
    assert isinstance(stats.low, int)
    assert isinstance(stats.high, int)
    assert close(stats.mean, mean, 1e-9 * max(abs(mean), 1e-3 * std))
    assert close(stats.std, std, 1e-9 * std)
    assert close(stats.l2, l2, 1e-9 * l2)


@pytest.mark.parametrize("values", [[0], [1], [0, 0, 0], [1, 1], [0, 1, 1, 0, 1], [0, 7, 255]])
def test_a_bool_is_one_or_zero(values: list[int]) -> None:
    stats = of(np.array(values, np.uint8), "bool")
    x = np.array(values, bool).astype(np.float64)
    assert_figures(stats, x, 1e-12)
    assert type(stats.low) is int


@pytest.mark.parametrize(("name", "pair"), [("c128", "f8"), ("c64", "f4"), ("c32", "f2")])
def test_complex_figures_are_those_of_the_magnitudes(name: str, pair: str) -> None:
    parts = np.random.default_rng(3).standard_normal((500, 2)).astype(pair)
    parts[7] = 0
    values = np.hypot(parts[:, 0].astype(np.float64), parts[:, 1].astype(np.float64))
    assert_figures(of(parts.ravel(), name), values, 1e-9)


@pytest.mark.parametrize(
    ("z", "counts"),
    [
        (complex(math.nan, 1), (1, 0)),
        (complex(1, math.nan), (1, 0)),
        (complex(math.inf, 1), (0, 1)),
        (complex(-math.inf, 1), (0, 1)),
        (complex(math.inf, math.nan), (1, 0)),
    ],
)
def test_a_complex_value_with_a_nonfinite_part_is_counted(z: complex, counts: tuple[int, int]) -> None:
    stats = of(np.array([3 + 4j, 0, z]).view(np.float64), "c128")
    assert (stats.nan, stats.posinf) == counts
    assert (stats.low, stats.high, stats.first_nonfinite) == (0.0, 5.0, 2)


@pytest.mark.parametrize("name", PACKED)
def test_figures_of_packed_floats_are_ml_dtypes(name: str) -> None:
    bits = DTYPES[name].bits // DTYPES[name].per_element
    codes = np.random.default_rng(5).integers(0, 1 << bits, 4000, np.uint8)
    values = codes.view(PACKED[name]).astype(np.float64)
    assert_figures(of(pack(codes, bits), name), values, 1e-12)


@pytest.mark.parametrize("name", [*FLOATS, *PACKED])
def test_subnormals_are_counted_as_the_type_defines_them(name: str) -> None:
    scalar = (FLOATS | PACKED)[name]
    smallest = float(ml_dtypes.finfo(scalar).smallest_normal)
    values = np.array([smallest, smallest / 2, -smallest / 2, 0.0, smallest, 1.0, 1.5, smallest * 2])
    if name == "f8_e8m0":
        values = np.array([smallest, 1.0, 2.0, 4.0])
    rounded = values.astype(scalar)
    wide = np.abs(rounded.astype(np.float64))
    expected = int(((wide > 0) & (wide < smallest)).sum())
    assert expected == (0 if name == "f8_e8m0" else 2)
    raw = pack(rounded.view(np.uint8), 6 if "f6" in name else 4) if name in PACKED else rounded.view(DTYPES[name].numpy)
    assert of(raw, name).subnormals == expected


def test_an_empty_tensor_has_no_mean() -> None:
    stats = Stats.empty()
    assert math.isnan(stats.std)
    assert math.isnan(stats.rms)
    assert (stats.count, stats.l2, stats.low, stats.high, stats.abs_max) == (0, 0.0, None, None, None)


@pytest.mark.parametrize("name", ["f64", "f32", "f16", "bf16", "f8_e5m2"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 300), data=st.data())
def test_nonfinite_values_are_counted_wherever_they_stand(name: str, n: int, data: st.DataObject) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    spots = data.draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from([math.nan, math.inf, -math.inf])))
    for position, bad in spots.items():
        x[position] = bad
    raw, values = encode(x, name)
    stats = of(raw, name)
    assert_figures(stats, values, 1e-6)
    assert stats.first_nonfinite == (min(spots) if spots else None)
    assert_counts(chunked(raw, name, data.draw(st.lists(st.integers(0, n), max_size=4))), values)


# -- a monoid -------------------------------------------------------------------------------------------

ordinary = st.one_of(
    st.just(0.0),
    st.just(-0.0),
    st.floats(1e-100, 1e100),
    st.floats(-1e100, -1e-100),
    st.floats(-2, 2).filter(lambda v: v == 0 or abs(v) > 1e-100),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
arrays = st.lists(ordinary, max_size=60)
#: Up to where the norm of a few of them is still a float64.
anything = st.one_of(st.floats(-1e307, 1e307), st.sampled_from([math.nan, math.inf, -math.inf]))


@pytest.mark.parametrize("name", FLOATS)
@settings(max_examples=40, deadline=None)
@given(values=arrays, data=st.data())
def test_any_chunking_gives_numpy_s_figures(name: str, values: list[float], data: st.DataObject) -> None:
    raw, wide = encode(np.array(values, np.float64), name)
    cuts = data.draw(st.lists(st.integers(0, raw.size), max_size=6))
    found = chunked(raw, name, cuts)
    assert_counts(found, wide)
    assert_same(of(raw, name), found)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(anything, max_size=30), data=st.data())
def test_any_chunking_of_any_float64_values_gives_the_same_stats(values: list[float], data: st.DataObject) -> None:
    raw = np.array(values, np.float64)
    cuts = data.draw(st.lists(st.integers(0, raw.size), max_size=4))
    found = chunked(raw, "f64", cuts)
    assert_counts(found, raw)
    assert_same(of(raw, "f64"), found)


@pytest.mark.parametrize("name", INTEGERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_chunking_of_integers_gives_the_same_stats(name: str, data: st.DataObject) -> None:
    info = np.iinfo(INTEGERS[name])
    values = data.draw(st.lists(st.integers(int(info.min), int(info.max)), max_size=60))
    raw = np.array(values, INTEGERS[name])
    cuts = data.draw(st.lists(st.integers(0, raw.size), max_size=6))
    found = chunked(raw, name, cuts)
    bounds = (min(values), max(values)) if values else (None, None)
    assert (found.count, found.zeros, found.low, found.high) == (len(values), values.count(0), *bounds)
    assert_same(of(raw, name), found)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.booleans(), max_size=60), data=st.data())
def test_any_chunking_of_bools_gives_the_same_stats(values: list[bool], data: st.DataObject) -> None:
    raw = np.array(values, np.uint8)
    cuts = data.draw(st.lists(st.integers(0, raw.size), max_size=6))
    assert_figures(chunked(raw, "bool", cuts), np.array(values, np.float64), 1e-12)


@pytest.mark.parametrize("name", PACKED)
@settings(max_examples=40, deadline=None)
@given(groups=st.binary(max_size=20), data=st.data())
def test_any_chunking_of_packed_floats_gives_the_same_stats(name: str, groups: bytes, data: st.DataObject) -> None:
    raw = np.frombuffer(groups * 3, np.uint8)
    cuts = [3 * c for c in data.draw(st.lists(st.integers(0, len(groups)), max_size=6))]
    assert_same(of(raw, name), chunked(raw, name, cuts))


@settings(max_examples=150, deadline=None)
@given(a=arrays, b=arrays, c=arrays)
def test_merging_is_associative(a: list[float], b: list[float], c: list[float]) -> None:
    x, y, z = (of(np.array(v, np.float64), "f64") for v in (a, b, c))
    assert_same(x.merge(y).merge(z), x.merge(y.merge(z)))


@settings(max_examples=60, deadline=None)
@given(values=arrays)
def test_the_empty_stats_change_nothing(values: list[float]) -> None:
    x = of(np.array(values, np.float64), "f64")
    for merged in (x.merge(Stats.empty()), Stats.empty().merge(x)):
        assert_same(merged, x)


def test_many_small_pieces_lose_no_accuracy() -> None:
    values = 1000 + 1e-3 * normal(20_000)
    pieces = (of(part, "f64") for part in np.split(values, 2000))
    assert_figures(reduce(Stats.merge, pieces, Stats.empty()), values, 1e-9)


@pytest.mark.parametrize("case", ["normal", "some not finite", "one", "near 1e-300", "near 1e300", "one tiny"])
def test_repeating_is_tiling(case: str) -> None:
    values = (CASES | EXTREMES)[case]()
    assert_figures(of(values, "f64").repeat(3), np.tile(values, 3), 1e-9)


@pytest.mark.parametrize(
    "case", ["normal", "some not finite", "only NaN", "near 1e300", "near 1e-300", "one huge", "one tiny"]
)
def test_implicit_zeros_count_as_zeros(case: str) -> None:
    values = (CASES | EXTREMES)[case]()
    stats = of(values, "f64").with_zeros(50)
    assert_figures(stats, np.concatenate([values, np.zeros(50)]), 1e-9)
