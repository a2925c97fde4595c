"""Arrays of each float type, measured in blocks and in parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from inspectcli.measure.base import Block, Measurement
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import TensorRef

TYPES: dict[str, Any] = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
#: Where blocks end.
CUTS: list[list[int]] = [[], [1], [100], [99, 100, 101], [7, 333, 1000, 1500], list(range(0, 1920, 16))]


def made(measurement: type[Measurement[Any]], x: npt.NDArray[Any], name: str, cuts: list[int], parts: bool) -> Any:
    """What is measured of an array in blocks that end at the cuts, in one part or in one part a block."""
    source = Memory("x", x.tobytes())
    ref = TensorRef("x", DTYPES[name], x.shape, segments=(Segment(source, 0, source.size),))
    assert measurement.applies_to(ref)
    flat = x.ravel().view(np.uint16) if name == "bf16" else x.ravel()
    blocks = [Block(flat[a:b], DTYPES[name], a, b - a) for a, b in pairwise([0, *cuts, flat.size]) if b > a]
    found = measurement.empty(ref)
    for block in blocks:
        if parts:
            part = measurement.empty(ref)
            part.update(block)
            found = found.merge(part)
        else:
            found.update(block)
    return found.result()


def array(name: str, *zeros: tuple[int, int]) -> npt.NDArray[Any]:
    """1,920 numbers without a zero, but for runs of them."""
    x = np.random.default_rng(1).normal(size=1920)
    x[np.abs(x) < 1e-3] = 0.5
    for first, size in zeros:
        x[first : first + size] = 0
    return x.astype(TYPES[name]).reshape(40, 48)
