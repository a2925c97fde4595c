"""Matrices that are computed and not drawn: identities, permutations, signs, equal rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectcli.display.text import significant

#: Rounding of a float32 that was computed twice.
_CLOSE = 1e-5


def constructed(x: npt.NDArray[Any]) -> str | None:
    """Return what a matrix is, or the matrices in it, if it is one of these; else None.

    Args:
        x: two dimensions or more: rows, and what belongs to each.
    """
    matrix = np.asarray(x).reshape(len(x), -1)
    sizes = np.abs(matrix)
    low, high = float(sizes.min()), float(sizes.max())
    if not math.isfinite(high) or not high:
        return None
    if high - low <= _CLOSE * high:
        return f"±{significant(high, 4)}"
    inside = (sizes > _CLOSE * high) & (high - sizes > _CLOSE * high)
    if not inside.any():
        return _selection(matrix, sizes > high / 2, high)
    if len(matrix) > 2 and float(np.ptp(matrix, axis=0).max()) <= _CLOSE * high:
        return "equal rows"
    return None


def _selection(matrix: npt.NDArray[Any], used: npt.NDArray[np.bool_], high: float) -> str:
    """A matrix of 0 and one other magnitude."""
    rows, columns = used.sum(axis=1), used.sum(axis=0)
    if matrix.shape[0] == matrix.shape[1] and (rows == 1).all() and (columns == 1).all():
        return "identity" if bool(np.diag(used).all()) else "permutation"
    if (rows <= 1).all() or (columns <= 1).all():
        return "one value in each row"  # Dirac kernels of convolutions, one-hot tables
    return f"0 and ±{significant(high, 4)}"
