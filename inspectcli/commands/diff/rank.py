"""The rank of the difference of two matrices: of a LoRA that was merged in, its own.

A matrix stored in floats carries rounding noise of full rank. Singular values count that lie above what noise alone
gives: sigma * (sqrt(rows) + sqrt(columns)), with sigma from the spacing of the stored values.
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

#: Singular values looked for: of a larger rank only "at least" is known.
MOST = 128
#: Matrices that lie in different orders are held whole, up to this many elements.
MOST_TURNED = 1 << 22
#: What stands between a singular value and the noise.
_MARGIN = 1.5
#: Rounding of the sketch itself.
_SKETCH_NOISE = 1e-6
_SEED = 20_250_101
#: Bits of the fraction, the implicit one included.
_PRECISION = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8, "f8_e4m3": 4, "f8_e5m2": 3}


class Rank(NamedTuple):
    """Singular values above the noise; `at_least` if there may be more."""

    rank: int
    at_least: bool


def rank_of_difference(a: TensorRef, b: TensorRef, permutation: Layout | None, tools: Tools) -> Rank | None:
    """Rank of A - B as a matrix (first dimension, all others); None if it is none, or its type has no known spacing.

    Two passes: a random sketch finds the space of the rows, the singular values within it are exact. Memory is that of
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
    """(rows of A, rows of B): whole rows, some at a time."""
    if p.a.strides is not None or p.b.strides is not None:
        x, y = (side.astype(np.float32).reshape(-1, columns) for side in pairing.whole(p))
        yield x, y
        return
    held: list[pairing.Piece] = []
    size = 0
    for piece in pairing.pieces(p, tools.buffers):
        # Pieces are views of buffers that the next one overwrites.
        held.append(piece._replace(a=piece.a.astype(np.float32), b=piece.b.astype(np.float32)))
        size += piece.a.size
        if size >= columns:
            x, y = (np.concatenate(side) for side in ([h.a for h in held], [h.b for h in held]))
            n = size // columns
            yield x[: n * columns].reshape(n, columns), y[: n * columns].reshape(n, columns)
            size -= n * columns
            held = [pairing.Piece(x[n * columns :], y[n * columns :], 0)] if size else []


def _rounding(x: Matrix, y: Matrix, precision: int) -> float:
    """Sum of the variances of what rounding to the stored type moved."""
    _, exponent = np.frexp(np.maximum(np.abs(x), np.abs(y)))
    spacing = np.ldexp(1.0, exponent - precision)
    return float(np.square(spacing).sum()) / 12
