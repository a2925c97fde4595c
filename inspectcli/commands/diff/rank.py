"""Rank of the difference of two matrices, which tells the rank of a LoRA that was merged in.

The rounding of stored values is noise of full rank. Singular values count if they are above those of noise alone:
sigma * (sqrt(rows) + sqrt(columns)), with sigma from the spacing of the stored values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inspectcli.commands.diff.compare import Tools
from inspectcli.measure import pairing
from inspectcli.tensors.layout import Layout
from inspectcli.tensors.model import TensorRef

Matrix = npt.NDArray[np.float32]

#: Most singular values that are computed: of a larger rank, only a lower bound is known.
MOST = 128
#: Most elements of matrices in different orders, which have to be held whole.
MOST_TURNED = 1 << 22
#: Factor by which a singular value must exceed the noise.
_MARGIN = 1.5
#: Relative rounding error of the sketch.
_SKETCH_NOISE = 1e-6
_SEED = 20_250_101
#: Element type -> bits of the significand, with the implicit one.
_PRECISION = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8, "f8_e4m3": 4, "f8_e5m2": 3}


class Rank(NamedTuple):
    """Number of singular values above the noise; `at_least` if there may be more."""

    rank: int
    at_least: bool


def rank_of_difference(a: TensorRef, b: TensorRef, permutation: Layout | None, tools: Tools) -> Rank | None:
    """Return the rank of A - B as a matrix (first dimension, all others); None for other tensors.

    Two passes: a random sketch finds the space of the rows, in which the singular values are exact. Memory is that of
    `MOST` rows.
    """
    precision = min(_PRECISION.get(a.dtype.name, 0), _PRECISION.get(b.dtype.name, 0))
    p = pairing.pair(a, b, permutation)
    if len(p.shape) < 2 or min(p.shape[0], math.prod(p.shape[1:])) < 2 or not precision:
        return None
    if (p.a.strides or p.b.strides) and math.prod(p.shape) > MOST_TURNED:
        return None
    rows, columns = p.shape[0], math.prod(p.shape[1:])
    k = min(rows, columns, MOST)
    random = np.random.default_rng(_SEED)
    sketch = np.zeros((k, columns), np.float32)
    noise = 0.0
    for x, y in _rows(p, columns, tools):
        sketch += random.standard_normal((k, len(x)), np.float32) @ (x - y)
        noise += _rounding(x, y, precision)
    if not np.isfinite(sketch).all():
        return None
    basis = np.linalg.qr(sketch.T)[0]
    gram = np.zeros((k, k))
    for x, y in _rows(p, columns, tools):
        inside = ((x - y) @ basis).astype(np.float64)
        gram += inside.T @ inside
    found = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0))
    sigma = math.sqrt(noise / (rows * columns))
    floor = max(_MARGIN * sigma * (math.sqrt(rows) + math.sqrt(columns)), _SKETCH_NOISE * float(found[0]))
    rank = int(np.count_nonzero(found > floor))
    return Rank(rank, rank == k < min(rows, columns))


def _rows(p: pairing.Pair, columns: int, tools: Tools) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield (rows of A, rows of B), some whole rows at a time."""
    if p.a.strides is not None or p.b.strides is not None:
        x, y = (side.astype(np.float32).reshape(-1, columns) for side in pairing.whole(p))
        yield x, y
        return
    held: list[pairing.Piece] = []
    size = 0
    for piece in pairing.pieces(p, tools.buffers):
        # Pieces are views of buffers, which the next piece overwrites.
        held.append(piece._replace(a=piece.a.astype(np.float32), b=piece.b.astype(np.float32)))
        size += piece.a.size
        if size >= columns:
            x, y = (np.concatenate(side) for side in ([h.a for h in held], [h.b for h in held]))
            n = size // columns
            yield x[: n * columns].reshape(n, columns), y[: n * columns].reshape(n, columns)
            size -= n * columns
            held = [pairing.Piece(x[n * columns :], y[n * columns :], 0)] if size else []


def _rounding(x: Matrix, y: Matrix, precision: int) -> float:
    """Return the sum of the variances of the rounding errors of the stored values."""
    _, exponent = np.frexp(np.maximum(np.abs(x), np.abs(y)))
    spacing = np.ldexp(1.0, exponent - precision)
    return float(np.square(spacing).sum()) / 12
