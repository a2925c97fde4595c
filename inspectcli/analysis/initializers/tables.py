"""Tables by rows: those that were never used, and those that a resize added, are as drawn beside trained ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.analysis.initializers import matching, numbers
from inspectcli.analysis.initializers.families import Candidate

#: Fewest rows and values that tell.
_ROWS, _VALUES = 8, 256
#: Standard errors by which the mean square of a row of draws may be off.
_Z = 4.0

Matrix = npt.NDArray[Any]


class AsDrawn(NamedTuple):
    """Rows of a table that are as drawn.

    Attributes:
        rows: how many.
        first: the lowest of them.
        is_end: whether they are the last rows, without a gap.
    """

    rows: int
    first: int
    is_end: bool
    candidate: Candidate


def rows_as_drawn(table: Matrix, tried: Iterable[Candidate], rounding: float) -> AsDrawn | None:
    """Return which rows look as one of the initializers drew them; None if those are not enough to tell.

    Args:
        table: rows and columns.
        tried: initializers with a scale that something names.
        rounding: relative rounding error of the stored type.
    """
    x = np.asarray(table, np.float64)
    rows, columns = x.shape
    if columns < 8 or not np.isfinite(x).all():
        return None
    square, mean, largest = (x * x).mean(axis=1), x.mean(axis=1), np.abs(x).max(axis=1)
    for candidate in tried:
        error = _Z * math.sqrt((candidate.family.kurtosis - 1) / columns) + 2 * rounding
        fits = (
            (np.abs(square / candidate.std**2 - 1) < error)
            & (np.abs(mean) < _Z * candidate.std / math.sqrt(columns))
            & (largest <= candidate.bound * (1 + rounding + 1e-6))
        )
        others = np.flatnonzero(~fits)
        end = int(others[-1]) + 1 if others.size else 0
        for chosen in (np.flatnonzero(fits), np.arange(end, rows)):
            if chosen.size < max(_ROWS, rows // 50) or chosen.size * columns < _VALUES or chosen.size == rows:
                continue
            part = x[chosen]
            if matching.fits(numbers.of_array(part, rounding), candidate) and matching.is_independent(part, candidate):
                first = int(chosen[0])
                return AsDrawn(int(chosen.size), first, first + chosen.size == rows, candidate)
    return None
