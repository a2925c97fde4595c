"""Whole numbers, whatever the blocks and the type."""

from __future__ import annotations

import numpy as np
import pytest
from support.blocks import CUTS, TYPES, made

from inspectcli.measure.whole_numbers import WholeNumbers


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_whole_numbers(name: str, cuts: list[int], parts: bool) -> None:
    whole = np.random.default_rng(2).integers(-127, 128, (40, 48)).astype(TYPES[name])
    assert made(WholeNumbers, whole, name, cuts, parts) is True
    for place, value in [(1919, 0.5), (1000, np.nan), (1, np.inf)]:
        changed = whole.copy()
        changed.flat[place] = value
        assert made(WholeNumbers, changed, name, cuts, parts) is False
