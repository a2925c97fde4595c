"""fan_in and fan_out of weights: number of inputs and outputs of a unit, by the conventions of each library."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from inspectcli.words import Word


class Framework(Word):
    """Library whose conventions a tensor follows."""

    TORCH = "PyTorch"
    KERAS = "Keras"
    FLAX = "Flax"


class Fans(NamedTuple):
    fan_in: int
    fan_out: int


def fans(shape: tuple[int, ...], framework: Framework) -> Iterator[Fans]:
    """Yield the fans of a weight: more than one where versions of a library differ.

    torch 2.13 `_calculate_fan_in_and_fan_out`: Linear (out, in), convolutions (out, in/groups, k...); transposed
    convolutions (in, out/groups, k...) are computed the same way. Keras 3.15 `compute_fans`: Dense (in, out),
    convolutions (k..., in, out); EinsumDense of attention (d, heads, k) counts d and heads*k, or by the general rule
    heads*d and k*d. Flax as Keras; its attention flattens to (d, heads*k).
    """
    if len(shape) < 2 or not prod(shape):
        return
    if framework is Framework.TORCH:
        window = prod(shape[2:])
        yield Fans(shape[1] * window, shape[0] * window)
        return
    window = prod(shape[:-2])
    yield Fans(shape[-2] * window, shape[-1] * window)
    if len(shape) == 3:
        yield Fans(shape[0], shape[1] * shape[2])
        yield Fans(shape[0] * shape[1], shape[2])
