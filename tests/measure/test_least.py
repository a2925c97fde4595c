"""The smallest magnitudes, against NumPy, whatever the blocks and the type."""

from __future__ import annotations

import numpy as np
import pytest
from support.blocks import CUTS, array, made

from inspectcli.measure.least import LeastMagnitudes


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", ["f64", "f32", "bf16"])
@pytest.mark.parametrize("zeros", [(), ((3, 40),)])
def test_the_smallest_magnitudes(zeros: tuple[tuple[int, int], ...], name: str, cuts: list[int], parts: bool) -> None:
    x = array(name, *zeros)
    x.flat[1234] = -1e-22
    first, second = np.sort(np.abs(x[x != 0]).astype(np.float64))[:2]
    assert made(LeastMagnitudes, x, name, cuts, parts) == (first, second)
