"""Casts are those of torch, bit for bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from inspectcli.commands.diff import rounding

TORCH = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2,
    "f8_e4m3fnuz": torch.float8_e4m3fnuz,
    "f8_e5m2fnuz": torch.float8_e5m2fnuz,
}


def values() -> np.ndarray:  # type: ignore[type-arg]
    """Every 16-bit pattern as a float32, what lies between two of them, and random bit patterns."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    brains = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    between = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    any_bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
    return np.concatenate([halves, brains, between, any_bits])


ML_DTYPES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
    "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


@pytest.mark.parametrize("dtype", TORCH)
def test_a_cast_is_that_of_torch(dtype: str) -> None:
    x = values()
    expected = torch.from_numpy(x).to(TORCH[dtype]).float().numpy()
    made = rounding.saturated(x, dtype) if dtype == "f8_e4m3" else rounding.cast(x, dtype)
    np.testing.assert_array_equal(made, expected)
    assert rounding.is_cast(x, expected, dtype)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ML_DTYPES)
def test_a_cast_is_that_of_ml_dtypes(dtype: str) -> None:
    x = values()
    expected = x.astype(ML_DTYPES[dtype]).astype(np.float32)
    np.testing.assert_array_equal(rounding.cast(x, dtype), expected)
    assert rounding.is_cast(x, expected, dtype)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8_e4m3", "f8_e5m2"])
def test_a_double_is_cast_as_torch_and_numpy_cast_it(dtype: str) -> None:
    x = np.random.default_rng(0).normal(size=100_000)
    assert rounding.is_cast(x, torch.from_numpy(x).to(TORCH[dtype]).float().numpy(), dtype)
    if dtype == "f16":
        assert rounding.is_cast(x, x.astype(np.float16).astype(np.float32), dtype)


def test_a_saturating_cast_is_a_cast_too() -> None:
    x = np.array([1e6, -1e6, 0.3], np.float32)
    assert rounding.is_cast(x, np.array([448.0, -448.0, 0.3125], np.float32), "f8_e4m3")
    assert not rounding.is_cast(x, np.array([448.0, -448.0, 0.28125], np.float32), "f8_e4m3")


@pytest.mark.parametrize(("first", "second"), [("bf16", "f16"), ("f16", "f8_e4m3"), ("f8_e5m2", "f8_e4m3")])
def test_two_roundings_of_one_value_have_one_origin(first: str, second: str) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=100_000).astype(np.float32) * 0.1)
    a, b = (x.to(TORCH[dtype]).float().numpy() for dtype in (first, second))
    assert rounding.have_one_origin(a, b, first, second)


@pytest.mark.parametrize(("first", "second", "size"), [("bf16", "f16", 1e-3), ("bf16", "f8_e4m3", 1e-2)])
def test_values_that_moved_further_have_none(first: str, second: str, size: float) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=10_000).astype(np.float32)
    y = (x * (1 + size * random.normal(size=x.size))).astype(np.float32)
    a, b = torch.from_numpy(x).to(TORCH[first]).float().numpy(), torch.from_numpy(y).to(TORCH[second]).float().numpy()
    assert not rounding.have_one_origin(a, b, first, second)


def test_infinity_and_a_number_have_no_origin() -> None:
    a, b = np.array([1.0, np.inf], np.float32), np.array([1.0, 3.0e38], np.float32)
    assert not rounding.have_one_origin(a, b, "f16", "bf16")
