"""Counts, bounds and moments of small tensors of one type and shape: each is a row, and every row is worked out alike.

A row's figures do not depend on the rows beside it. Rows that are not as usual go the way of a block (`stats.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.measure.moments import LEAST, MOST, scale_of
from inspectcli.measure.stats import Stats, is_coded
from inspectcli.tensors import kernels
from inspectcli.tensors.dtypes import DType, NumberClass

Array = npt.NDArray[Any]


def stats_of_rows(values: Array, dtype: DType) -> Sequence[Stats]:
    """One for each row of elements as stored; none of them is empty or packed."""
    if is_coded(dtype) or dtype.family not in (NumberClass.FLOAT, NumberClass.INT):
        return [Stats.of(row, dtype) for row in values]
    return _of_floats(values, dtype) if dtype.family is NumberClass.FLOAT else _of_integers(values)


def widened(values: Array, dtype: DType) -> Array:
    """Two-dimensional 16-bit floats as float32, and others as they are."""
    engine = kernels.backend()
    widen = {"bf16": engine.widen_bf16, "f16": engine.widen_f16}.get(dtype.name)
    return values if widen is None else widen(values.reshape(-1)).reshape(values.shape)


def _of_floats(values: Array, dtype: DType) -> Sequence[Stats]:
    x = widened(values, dtype)
    with np.errstate(all="ignore"):
        low, high = x.min(axis=1).astype(np.float64), x.max(axis=1).astype(np.float64)  # NaN if there is one
        largest = np.maximum(np.abs(low), np.abs(high))
        usual = (largest >= LEAST) & (largest <= MOST) | (largest == 0)
        mean, m2 = _moments(x.astype(np.float64), low, high)
    zeros, subnormals = _zeros_and_subnormals(values, dtype)
    scale = np.where(largest == 0, scale_of(0.0), 1.0)
    made = _listed(x.shape[1], zeros, subnormals, mean, m2, scale, low + 0, high + 0)  # no sign on a zero
    for odd in np.flatnonzero(~usual).tolist():
        made[odd] = Stats.of(values[odd], dtype)
    return made


def _of_integers(x: Array) -> Sequence[Stats]:
    low, high = x.min(axis=1), x.max(axis=1)
    mean, m2 = _moments(x.astype(np.float64), low, high)
    zeros = x.shape[1] - np.count_nonzero(x, axis=1)
    scale = np.where((low == 0) & (high == 0), scale_of(0.0), 1.0)
    return _listed(x.shape[1], zeros, np.zeros_like(zeros), mean, m2, scale, low, high)


def _moments(x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Mean and sum of squared deviations of each row of finite numbers, by two passes."""
    n = x.shape[1]
    mean = x.sum(axis=1) / n
    deviations = x - mean[:, None]
    shift = deviations.sum(axis=1) / n
    deviations *= deviations
    m2 = np.maximum(deviations.sum(axis=1) - n * shift * shift, 0.0)
    same = low == high
    return np.where(same, low.astype(np.float64), mean + shift), np.where(same, 0.0, m2)


def _zeros_and_subnormals(values: Array, dtype: DType) -> tuple[Array, Array]:
    magnitudes, normal = kernels.magnitudes(values, "bf16" if dtype.name == "bf16" else values.dtype.str[1:])
    if magnitudes.min() >= normal:
        none = np.zeros(len(values), np.int64)
        return none, none
    zeros = values.shape[1] - np.count_nonzero(magnitudes, axis=1)
    return zeros, np.count_nonzero(magnitudes < normal, axis=1) - zeros


def _listed(
    n: int, zeros: Array, subnormals: Array, mean: Array, m2: Array, scale: Array, low: Array, high: Array
) -> list[Stats]:
    figures = zip(*(column.tolist() for column in (zeros, subnormals, mean, m2, scale, low, high)), strict=True)
    return [Stats(n, 0, 0, 0, *row) for row in figures]
