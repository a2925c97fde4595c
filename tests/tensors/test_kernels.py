"""Both backends against exact sums, and code tables and bit tricks against ml_dtypes, NumPy and torch."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import ml_dtypes
import numkong
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspectcli.tensors import kernels

NUMPY = kernels.NumPyBackend()
NUMKONG = kernels.NumKongBackend(numkong)

INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
FLOATS = ("f2", "f4", "f8")
#: Types whose sums and sums of squares float64 holds exactly, for as many values as one block has.
NARROW = ("i1", "u1", "i2", "u2")

CODE_TYPES: dict[str, tuple[Any, int]] = {
    "f8_e4m3": (ml_dtypes.float8_e4m3fn, 8),
    "f8_e5m2": (ml_dtypes.float8_e5m2, 8),
    "f8_e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 8),
    "f8_e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, 8),
    "f8_e8m0": (ml_dtypes.float8_e8m0fnu, 8),
    "f6_e2m3": (ml_dtypes.float6_e2m3fn, 6),
    "f6_e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "f4": (ml_dtypes.float4_e2m1fn, 4),
    "f4_x2": (ml_dtypes.float4_e2m1fn, 4),
}
TORCH_TYPES = {
    "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2,
    "f8_e4m3fnuz": torch.float8_e4m3fnuz,
    "f8_e5m2fnuz": torch.float8_e5m2fnuz,
    "f8_e8m0": torch.float8_e8m0fnu,
}

ALL_16_BITS = np.arange(1 << 16, dtype=np.uint16)


def bounded(dtype: str) -> st.SearchStrategy[npt.NDArray[Any]]:
    """Finite arrays whose squares do not overflow float64."""
    limit = {"f8": 1e150, "f4": 2.0**127, "f2": 65504.0}.get(dtype)
    elements = hnp.from_dtype(np.dtype(dtype)) if limit is None else None
    if limit is not None:
        width = 8 * np.dtype(dtype).itemsize
        elements = st.floats(-limit, limit, width=width)  # type: ignore[arg-type]
    return hnp.arrays(dtype, st.integers(1, 200), elements=elements)


def assert_close(got: tuple[float, float], expected: tuple[float, float], x: npt.NDArray[Any]) -> None:
    wide = np.abs(x.astype(np.float64))
    assert abs(got[0] - expected[0]) <= 1e-12 * wide.sum()
    assert abs(got[1] - expected[1]) <= 1e-12 * np.dot(wide, wide)


# -- the backends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_moments_of_both_backends_are_those_of_exact_sums(dtype: str, data: st.DataObject) -> None:
    x = data.draw(bounded(dtype))
    exact = [Fraction(value) for value in x.tolist()]
    expected = float(sum(exact)), float(sum(value * value for value in exact))
    for engine in (NUMPY, NUMKONG):
        assert_close(engine.moments(x), expected, x)


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_sums_of_a_block_of_extreme_integers_do_not_wrap(engine: kernels.Backend, dtype: str, extreme: str) -> None:
    value = int(getattr(np.iinfo(dtype), extreme))
    n = 1 << 20
    assert engine.moments(np.full(n, value, dtype)) == (n * value, n * value * value)


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_sums_of_wide_integers_do_not_wrap(engine: kernels.Backend, dtype: str, extreme: str) -> None:
    value = int(getattr(np.iinfo(dtype), extreme))
    total, squares = engine.moments(np.full(1000, value, dtype))
    assert total == pytest.approx(1000 * value, rel=1e-12)
    assert squares == pytest.approx(1000 * value * value, rel=1e-12)


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_block_of_floats_is_summed_in_float64(engine: kernels.Backend, dtype: str) -> None:
    x = (np.random.default_rng(0).standard_normal(1 << 18) + 1000).astype(dtype)
    wide = x.astype(np.longdouble)
    total, squares = engine.moments(x)
    assert total == pytest.approx(float(wide.sum()), rel=1e-13)
    assert squares == pytest.approx(float((wide * wide).sum()), rel=1e-13)


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
def test_the_largest_float32_values_do_not_overflow(engine: kernels.Backend) -> None:
    top = float(np.finfo(np.float32).max)
    total, squares = engine.moments(np.full(1000, top, np.float32))
    assert (total, squares) == (pytest.approx(1000 * top, rel=1e-13), pytest.approx(1000 * top * top, rel=1e-13))


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_subnormal_values_are_not_flushed_to_zero(engine: kernels.Backend, dtype: str) -> None:
    tiny = float(np.finfo(dtype).smallest_subnormal)
    x = np.array([tiny, 3 * tiny, -2 * tiny, tiny, tiny], dtype)
    assert engine.moments(x)[0] == 4 * tiny


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 300), data=st.data())
def test_one_nonfinite_value_makes_the_sums_nonfinite(
    engine: kernels.Backend, dtype: str, bad: float, n: int, data: st.DataObject
) -> None:
    x = np.ones(n, dtype)
    x[data.draw(st.integers(0, n - 1))] = bad
    assert not np.isfinite(engine.moments(x)).any()


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_a_read_only_array_is_accepted(dtype: str) -> None:
    x = np.frombuffer(np.arange(1, 100, dtype=dtype).tobytes(), dtype)
    assert NUMKONG.moments(x) == NUMPY.moments(x) == (4950, 328350)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i8"])
def test_an_unaligned_array_is_accepted(dtype: str) -> None:
    x = np.frombuffer(b"\0" + np.arange(1, 100, dtype=dtype).tobytes(), dtype, offset=1)
    assert not x.flags.aligned
    assert NUMKONG.moments(x) == (4950, 328350)


def test_without_numkong_numpy_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.backend.cache_clear()
    monkeypatch.setitem(sys.modules, "numkong", None)
    try:
        assert kernels.backend().name == "numpy"
    finally:
        kernels.backend.cache_clear()


def test_with_numkong_it_is_used() -> None:
    kernels.backend.cache_clear()
    assert kernels.backend().name == "numkong"


# -- 16-bit floats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
def test_every_bfloat16_widens_bit_by_bit(engine: kernels.Backend) -> None:
    expected = ALL_16_BITS.view(ml_dtypes.bfloat16).astype(np.float32)
    by_torch = torch.from_numpy(ALL_16_BITS.view(np.int16)).view(torch.bfloat16).float().numpy()
    got = engine.widen_bf16(ALL_16_BITS)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(got.view(np.uint32), by_torch.view(np.uint32))


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
def test_every_float16_widens_to_the_same_value(engine: kernels.Backend) -> None:
    expected = torch.from_numpy(ALL_16_BITS.view(np.int16)).view(torch.float16).float().numpy()
    got = engine.widen_f16(ALL_16_BITS.view(np.float16))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("engine", [NUMPY, NUMKONG], ids=lambda e: e.name)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33])
def test_widening_returns_every_element_and_no_more(engine: kernels.Backend, n: int) -> None:
    halves = np.arange(n, dtype=np.float16)
    brains = np.arange(n).astype(ml_dtypes.bfloat16).view(np.uint16)
    assert engine.widen_f16(halves).tolist() == list(range(n))
    assert engine.widen_bf16(brains).tolist() == list(range(n))


# -- small floats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODE_TYPES)
def test_a_code_table_equals_ml_dtypes(name: str) -> None:
    scalar, bits = CODE_TYPES[name]
    expected = np.arange(1 << bits, dtype=np.uint8).view(scalar).astype(np.float64)
    got = kernels.code_table(name)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_a_code_table_equals_torch(name: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    expected = codes.view(TORCH_TYPES[name]).float().numpy()
    np.testing.assert_array_equal(kernels.code_table(name).astype(np.float32), expected)


@pytest.mark.parametrize(
    ("name", "nan", "inf"),
    [
        ("f8_e4m3", [0x7F, 0xFF], []),
        ("f8_e5m2", [0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF], [0x7C, 0xFC]),
        ("f8_e4m3fnuz", [0x80], []),
        ("f8_e5m2fnuz", [0x80], []),
        ("f8_e8m0", [0xFF], []),
        ("f6_e2m3", [], []),
        ("f6_e3m2", [], []),
        ("f4", [], []),
    ],
)
def test_the_nonfinite_codes_are_those_of_the_standard(name: str, nan: list[int], inf: list[int]) -> None:
    table = kernels.code_table(name)
    assert np.flatnonzero(np.isnan(table)).tolist() == nan
    assert np.flatnonzero(np.isinf(table)).tolist() == inf


@settings(max_examples=60, deadline=None)
@given(codes=hnp.arrays(np.uint8, st.integers(0, 500)))
def test_codes_are_counted_as_bincount_counts_them(codes: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(kernels.count_codes(codes), np.bincount(codes, minlength=256))


@pytest.mark.parametrize("n", [(1 << 20) - 1, 1 << 20])
def test_a_block_of_codes_is_counted_completely(n: int) -> None:
    codes = np.random.default_rng(1).integers(0, 256, n, np.uint8)
    np.testing.assert_array_equal(kernels.count_codes(codes), np.bincount(codes, minlength=256))


@pytest.mark.parametrize("bits", [4, 6, 8])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_packed_codes_come_apart_lowest_bits_first(bits: int, data: st.DataObject) -> None:
    raw = data.draw(st.integers(0, 40).flatmap(lambda n: st.binary(min_size=3 * n, max_size=3 * n)))
    number = int.from_bytes(raw, "little")
    expected = [number >> (bits * i) & ((1 << bits) - 1) for i in range(8 * len(raw) // bits)]
    assert kernels.unpack_codes(np.frombuffer(raw, np.uint8), bits).tolist() == expected


# -- bounds and least magnitudes by patterns ------------------------------------------------------------


def finite(bits: npt.NDArray[Any], scalar: Any) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore"):
        wide = bits.view(scalar).astype(np.float64)
    return bits[np.isfinite(wide)]


@pytest.mark.parametrize(
    ("stored", "scalar", "bits"),
    [
        (np.uint16, ml_dtypes.bfloat16, np.uint16),
        (np.float16, np.float16, np.uint16),
        (np.float32, np.float32, np.uint32),
        (np.float64, np.float64, np.uint64),
    ],
)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_bounds_of_patterns_are_those_of_the_values(
    stored: Any, scalar: Any, bits: Any, data: st.DataObject
) -> None:
    top = 1 << (8 * np.dtype(bits).itemsize - 1)
    ends = st.sampled_from([(0, top - 1), (top, 2 * top - 1), (0, 2 * top - 1)])
    codes = st.integers(*data.draw(ends)) | st.sampled_from([0, 1, top, top + 1])
    x = finite(data.draw(hnp.arrays(bits, st.integers(1, 20), elements=codes)), scalar)
    if not x.size:
        return
    values = x.view(scalar).astype(np.float64)
    found = kernels.patterns(x.view(stored))
    low, high, least = np.array(found, bits).view(scalar).astype(np.float64)
    assert (low, high, least) == (values.min(), values.max(), np.abs(values).min())


# -- zeros and subnormals -------------------------------------------------------------------------------


def expected_small(values: npt.NDArray[Any], smallest_normal: float) -> tuple[int, int]:
    with np.errstate(invalid="ignore"):
        wide = np.abs(values.astype(np.float64))
    return int((wide == 0).sum()), int(((wide > 0) & (wide < smallest_normal)).sum())


@pytest.mark.parametrize(
    ("kind", "stored", "scalar"),
    [("bf16", np.uint16, ml_dtypes.bfloat16), ("f2", np.float16, np.float16)],
)
def test_zeros_and_subnormals_of_every_16_bit_code(kind: str, stored: Any, scalar: Any) -> None:
    expected = expected_small(ALL_16_BITS.view(scalar), float(ml_dtypes.finfo(scalar).smallest_normal))
    assert expected[0] == 2
    assert kernels.zeros_and_subnormals(ALL_16_BITS.view(stored), kind, 0) == expected


@pytest.mark.parametrize(("kind", "bits"), [("f4", np.uint32), ("f8", np.uint64)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_zeros_and_subnormals_of_any_bit_pattern(kind: str, bits: Any, data: st.DataObject) -> None:
    info = np.finfo(kind)
    edges = np.array([0.0, -0.0, info.smallest_subnormal, -info.smallest_normal, info.smallest_normal, np.nan], kind)
    below = np.nextafter(edges[4:5], edges[:1])
    special = np.concatenate([edges, below, -below]).view(bits)
    elements = st.one_of(hnp.from_dtype(np.dtype(bits)), st.sampled_from(special.tolist()))
    x = data.draw(hnp.arrays(bits, st.integers(0, 60), elements=elements)).view(kind)
    least = kernels.patterns(x).least if x.size else 0
    assert kernels.zeros_and_subnormals(x, kind, least) == expected_small(x, float(info.smallest_normal))
