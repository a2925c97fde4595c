"""A few values of a tensor, read without the rest: enough to tell that two tensors are not equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inspectcli.tensors.layout import box, is_sliceable, plain
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.values import Array, in_order, read_array


def excerpt(ref: TensorRef, size: int) -> Array:
    """Return `size` values from the start, from the middle and from the end; of what cannot be cut, from the start.

    Raises:
        PinspectError: the bytes cannot be read.
    """
    ref = plain(ref)
    if ref.strides is not None or not is_sliceable(ref):
        first = next(iter(in_order(ref)), None)
        return np.empty(0) if first is None else first.values[: 3 * size].copy()
    # Consecutive elements may be looked at as one row, whatever the shape.
    n = ref.held
    row = replace(ref, shape=(n,), stored_shape=None)
    length = min(n, size)
    starts = (0, (n - length) // 2, n - length)
    return np.concatenate([np.asarray(read_array(box(row, (start,), (length,)))) for start in starts])
