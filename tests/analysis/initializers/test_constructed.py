"""Matrices that are computed: what they are, and what is none of them."""

from __future__ import annotations

import numpy as np
import pytest

from inspectcli.analysis.initializers.constructed import constructed
from inspectcli.commands.inspect.run import inspect

RNG = np.random.default_rng(0)
HADAMARD = np.array([[(-1.0) ** (i & j).bit_count() for j in range(32)] for i in range(32)]) / np.sqrt(32)
DIRAC = np.zeros((16, 16, 3))
DIRAC[np.arange(16), np.arange(16), 1] = 1
MADE = {
    "identity": np.eye(32) * 0.5,
    "permutation": np.eye(32)[RNG.permutation(32)],
    "±0.1768": HADAMARD,
    "one value in each row": DIRAC,
    "0 and ±0.1": RNG.integers(-1, 2, (32, 32)) * 0.1,
    "equal rows": np.tile(np.log(np.arange(1, 17)), (64, 1)),
}


@pytest.mark.parametrize("name", list(MADE))
def test_what_a_matrix_is(name: str) -> None:
    assert constructed(MADE[name].astype(np.float32)) == name
    (row,) = inspect({"fc.weight": MADE[name].astype(np.float32)}).files[0].tensors
    assert row.init is not None
    assert (row.init.formula, row.init.is_drawn) == (name, False)


@pytest.mark.parametrize("x", [RNG.normal(size=(32, 32)), np.zeros((8, 8)), np.full((8, 8), np.nan)], ids=str)
def test_what_is_none_of_them(x: np.ndarray) -> None:
    assert constructed(x) is None
