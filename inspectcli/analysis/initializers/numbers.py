"""Figures of a tensor, or of one part of it, that the tests of initializers need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.analysis.facts import TensorFacts
from inspectcli.measure.sample import knot_ranks


@dataclass(frozen=True, slots=True)
class Numbers:
    """Figures of `n` values; the distribution function is that of a sample of them.

    Attributes:
        rms: root mean square.
        kurtosis: fourth central moment over squared variance; None for equal values.
        knots: values of the sorted sample, at evenly spaced ranks.
        levels: share of the sample that is at most each knot.
        sample: size of the sample.
        rounding: relative rounding error of the stored type.
    """

    n: int
    mean: float
    rms: float
    low: float
    high: float
    kurtosis: float | None
    knots: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float64]
    sample: int
    rounding: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


#: Relative rounding error of a stored type: half a unit in the last place, doubled for values that were rounded twice.
ROUNDING = {"f64": 0.0, "f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8}


def of_tensor(tensor: TensorFacts, without_zeros: bool = False) -> Numbers | None:
    """Return the figures of a scanned tensor; None if there is nothing to test.

    `without_zeros` leaves zeros out: the padding row of an embedding is not drawn.
    """
    s, sampled = tensor.stats, tensor.sampled
    if s is None or sampled is None or s.nonfinite or s.low is None or s.high is None:
        return None
    if tensor.ref.dtype.name not in ROUNDING:
        return None
    n = s.finite - (s.zeros if without_zeros else 0)
    if n <= 0:
        return None
    levels = _levels(sampled.size)
    kurtosis, size = sampled.kurtosis, sampled.size
    if without_zeros and s.zeros:
        gone = s.zeros / s.finite
        levels = np.where(sampled.knots < 0, levels, levels - gone) / (1 - gone)
        kurtosis = kurtosis * (1 - gone) if kurtosis is not None else None
        size = max(int(size * (1 - gone)), 1)
    return Numbers(
        n=n,
        mean=s.mean * s.finite / n,
        rms=s.l2 / math.sqrt(n),
        low=float(s.low),
        high=float(s.high),
        kurtosis=kurtosis,
        knots=sampled.knots,
        levels=levels,
        sample=size,
        rounding=ROUNDING[tensor.ref.dtype.name],
    )


@lru_cache(maxsize=1024)
def _levels(size: int) -> npt.NDArray[np.float64]:
    """Share of a sample of so many values that is at most each knot."""
    return (knot_ranks(size) + 1) / size


def of_array(x: npt.NDArray[Any], rounding: float) -> Numbers:
    """Return the figures of an array, of which every value is in the sample."""
    flat = np.sort(np.asarray(x, np.float64).ravel())
    ranks = knot_ranks(flat.size)
    mean, square = float(flat.mean()), float((flat * flat).mean())
    variance = square - mean * mean
    fourth = float(((flat - mean) ** 4).mean())
    return Numbers(
        n=flat.size,
        mean=mean,
        rms=math.sqrt(square),
        low=float(flat[0]),
        high=float(flat[-1]),
        kurtosis=fourth / variance**2 if variance > 0 else None,
        knots=flat[ranks],
        levels=(ranks + 1) / flat.size,
        sample=flat.size,
        rounding=rounding,
    )
