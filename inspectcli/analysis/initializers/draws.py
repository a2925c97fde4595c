"""Exact proofs that numbers are as a generator gave them: float32 draws lie on a grid, and leave it with any change.

PyTorch draws 24 random bits for a float32 number (ATen `uniform_real_distribution`), so U(±b) is on the grid
-b + k * 2b/2**24; JAX and TensorFlow draw 23 bits, a part of that grid. A normal draw on the CPU fills 16 values at a
time by Box and Muller (ATen `normal_fill`): values i and i + 8 are radius * cos(angle) and radius * sin(angle), and the
angle is k * 2 pi/2**24, whatever the scale. NumPy's `random(dtype=float32)` shows
too, draws in float64 and on a GPU do not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_BITS = 2.0**24
#: Values above this share of the bound were rounded in a float32 that is as coarse as the grid.
_FINE = 1 / 8
#: Largest distance to the grid, in steps, of what was rounded once or twice.
_ON_GRID = 0.12
#: Fewest values that tell: of seven random ones, all are so near 4 times in 100,000.
_FEWEST = 7
#: Angles below this share of a turn, of which a float32 can tell the steps.
_SHARP = 0.16
#: Mean distance of the angles to the grid: 0.07 as drawn, 0.25 for any other numbers.
_ANGLES = 0.15
_FEWEST_ANGLES = 24
#: Angles that are farther than this from the grid are this share of a draw, by rounding; of other numbers 0.4.
_FAR, _ROUNDED = 0.3, 0.0065
_GROUP = 16
#: Values that are enough.
_MOST = 1 << 14

Values = npt.NDArray[Any]


def is_uniform_draw(values: Values, bound: float) -> bool | None:
    """Return whether float32 values are an unchanged draw from U(±bound); None if too few of them tell.

    Args:
        values: any of the tensor's values, in any order.
        bound: to the last digit or the one before; the float32 next to it are tried too.
    """
    x = values.ravel()[: 8 * _MOST]
    near = np.float32(bound)
    for exact in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))):
        b = float(exact)
        fine = x[np.abs(x) < b * _FINE].astype(np.float64)
        if fine.size < _FEWEST:
            return None
        at = (fine + b) * (_BITS / (2 * b))
        steps = np.rint(at)
        if float(np.abs(at - steps).max()) < _ON_GRID:
            return True
        # Keras and NumPy round the product before they subtract: what is left near 0 is exact.
        product = (steps * (2 * b / _BITS)).astype(np.float32).astype(np.float64)
        if np.array_equal(product, fine + b):
            return True
    return False


def is_normal_draw(values: Values) -> bool | None:
    """Return whether float32 values are an unchanged draw from N(0, any); None if too few of them tell.

    An angle says nothing of the scale: rows of a draw that were multiplied by different numbers are on the grid too.

    Args:
        values: from the beginning of the tensor, in C order.
    """
    x = values.ravel()[: _GROUP * _MOST]
    whole = x[: x.size // _GROUP * _GROUP].astype(np.float64).reshape(-1, 2, _GROUP // 2)
    turn = np.arctan2(whole[:, 1], whole[:, 0]) / (2 * math.pi)
    fine = turn[(turn > 0) & (turn < _SHARP)] * _BITS
    if fine.size < _FEWEST_ANGLES:
        return None
    distances = np.abs(fine - np.rint(fine))
    expected = _ROUNDED * fine.size
    changed = int((distances > _FAR).sum()) > expected + 5 * math.sqrt(expected) + 1  # some of them, as rows of a table
    return float(distances.mean()) < _ANGLES and not changed
