"""Tests without a scale: whether values are independent draws of one distribution whose scale nobody named.

Uniform (about 0 or not), normal, normal cut at two or three standard deviations. The scale is fitted, so the tests of
the shape are stricter than those of a known initializer: Lilliefors' bound for the distance, and rows and columns that
are alike. Of 281 draws of 1,024 values and more that no table named, 274 pass; of 88 trained ones 2 do, both tables of
which a third of the rows was never used, but of 400 trained ones of 2,048 values 25.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.analysis.facts import UNNAMED
from inspectcli.analysis.initializers import matching
from inspectcli.analysis.initializers.families import CUT, NORMAL, TRUNCATED, UNIFORM, Candidate, truncated_at
from inspectcli.analysis.initializers.numbers import Numbers
from inspectcli.display.text import significant

#: Fewest values of which a flat distribution can be told; small trained weights are often all but normal.
LEAST_UNIFORM = 1024
_KS_FITTED = 1.6
_KS_BOUNDED = 2.23
_Z = 4.0
#: Normal distributions cut at this many standard deviations: (distribution, the deviation of the uncut one).
_CUTS = ((TRUNCATED, CUT), truncated_at(3.0))

#: Rows of a tensor for tests of independence; None if they cannot be had.
Rows = Callable[[], "npt.NDArray[Any] | None"]


def is_symmetric(x: Numbers) -> bool:
    return abs(x.mean) <= _Z * x.rms / math.sqrt(x.n) + x.rounding * x.rms


def shape_of(x: Numbers) -> Candidate | None:
    """Return the distribution whose shape the values have, its scale fitted to them; None if they have none.

    The label says that the initializer is not known. Rows are not looked at.
    """
    if x.rms <= 0 or x.kurtosis is None:
        return None
    if not is_symmetric(x):
        return _off_center(x)
    if _is_uniform(x):
        bound = x.largest * (1 + 1 / x.n)
        return Candidate(UNIFORM, bound, f"uniform, U(±{significant(bound, 4)}): {UNNAMED}", label="free uniform")
    bell = normal(x)
    if _has_shape(x, bell, _KS_FITTED) and matching.extreme_fits(x, bell):
        return bell
    for family, uncut in _CUTS:
        std = x.rms / uncut
        drawn = f"N(0, {significant(std, 4)}) cut at ±{significant(x.rms * family.bound, 4)}"
        formula = f"truncated normal, {drawn}: {UNNAMED}"
        cut = Candidate(family, x.rms, formula, label=f"free {family.name}")
        if _has_shape(x, cut, _KS_FITTED) and _reaches(x, cut):
            return cut
    return None


def normal(x: Numbers) -> Candidate:
    """N(0, the spread of the values)."""
    return Candidate(NORMAL, x.rms, f"normal, N(0, {significant(x.rms, 4)}): {UNNAMED}", label="free normal")


def is_of_one_scale(x: Numbers, rows: Rows) -> bool:
    """Return whether numbers on the grid of a normal draw have one deviation: all rows, and so all values."""
    if x.kurtosis is None or abs(x.kurtosis - 3) > 1.5 * _Z * math.sqrt(24 / x.sample):
        return False
    return is_draw(x, normal(x), rows)


def may_be_normal(x: Numbers) -> bool:
    """Return whether it is worth while to look for a proof: about 0, and neither flat nor with heavy tails."""
    return x.kurtosis is not None and is_symmetric(x) and abs(x.kurtosis - 3) < 1.5 * _Z * math.sqrt(24 / x.sample) + 1


def is_draw(x: Numbers, candidate: Candidate, rows: Rows) -> bool:
    """Return whether rows and columns are alike, as in independent draws."""
    matrix = rows()
    if matrix is None:
        return True
    center = (x.low + x.high) / 2 if candidate.label == _OFFSET else 0.0
    return matching.is_independent(np.asarray(matrix, np.float64) - center, candidate)


_OFFSET = "free offset uniform"


def _off_center(x: Numbers) -> Candidate | None:
    """U(low, high) that is not about 0."""
    center, half = (x.low + x.high) / 2, (x.high - x.low) / 2
    square = x.rms * x.rms - 2 * center * x.mean + center * center
    if half <= 0 or square <= 0:
        return None
    about = replace(x, mean=x.mean - center, rms=math.sqrt(square), low=-half, high=half, knots=x.knots - center)
    if not _is_uniform(about) or not is_symmetric(about):
        return None
    formula = f"uniform, U({significant(x.low, 4)}, {significant(x.high, 4)}): {UNNAMED}"
    return Candidate(UNIFORM, half, formula, label=_OFFSET)


def _is_uniform(x: Numbers) -> bool:
    flat = Candidate(UNIFORM, x.largest, "")
    spread = x.rms * math.sqrt(3) / x.largest - 1
    return (
        abs(spread) < _Z * math.sqrt(0.2 / x.n) + 10 / x.n + x.rounding
        and x.kurtosis is not None
        and abs(x.kurtosis - UNIFORM.kurtosis) < _Z * 2.2 / math.sqrt(x.sample) + 4 * x.rounding
        and matching.distance_fits(x, flat, _KS_BOUNDED)
    )


def _has_shape(x: Numbers, candidate: Candidate, limit: float) -> bool:
    kurtosis = candidate.family.kurtosis
    return (
        x.kurtosis is not None
        and abs(x.kurtosis - kurtosis) < _Z * math.sqrt(24 / x.sample) + 4 * x.rounding
        and matching.distance_fits(x, candidate, limit)
    )


def _reaches(x: Numbers, candidate: Candidate) -> bool:
    """Whether the largest value is at the bound of a cut distribution, as far as the fitted scale tells."""
    error = _Z * math.sqrt((candidate.family.kurtosis - 1) / (4 * x.n)) + x.rounding
    return 1 - error - 40 / x.n < x.largest / candidate.bound < 1 + error
