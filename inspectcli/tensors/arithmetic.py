"""Small arithmetic, without NumPy: a run that reads no values imports neither it nor `statistics`."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def unravel(index: int, dims: Sequence[int]) -> tuple[int, ...]:
    """Flat C-order index -> one index per dimension."""
    made: list[int] = []
    for dim in reversed(dims):
        index, at = divmod(index, max(dim, 1))
        made.append(at)
    return tuple(reversed(made))


def median(values: Sequence[float]) -> float:
    """The middle of values of which there is one at least."""
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def shortest(value: float) -> float:
    """A 32-bit float, as the double that people wrote: 0.05000000074505806 -> 0.05."""
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        try:
            if struct.pack("<f", float(text)) == struct.pack("<f", value):
                return float(text)
        except OverflowError:  # rounded beyond the largest one
            continue
    return value
