"""Equal rows and sizes of rows, against NumPy, whatever the blocks and the type."""

from __future__ import annotations

import numpy as np
import pytest
from support.blocks import CUTS, TYPES, array, made

from inspectcli.measure.row_marks import RowHashes, RowMarks, RowSizes


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_rows(name: str, cuts: list[int], parts: bool) -> None:
    x = array(name)
    x[10:20] = x[:10]
    x[20:25] = 0
    x[30, 8:] = x[31, 8:]
    x[30, :8] = x[32, :8]  # begins as one row, and ends as another
    different = len({row.tobytes() for row in x if row.any()})
    assert made(RowHashes, x, name, cuts, parts) == (35, different)
    sizes = np.sqrt(np.square(x.astype(np.float64)).mean(axis=1))
    np.testing.assert_allclose(made(RowSizes, x, name, cuts, parts), sizes, rtol=1e-12)
    if not cuts:
        assert made(RowMarks, x, name, cuts, parts) == (35, different - 1)


def test_values_that_change_places_make_another_row() -> None:
    x = array("f32")
    x[1] = x[0][::-1]
    assert made(RowHashes, x, "f32", [], False) == (40, 40)
