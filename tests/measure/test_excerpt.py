"""A few values of a tensor, read without the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inspectcli import open_checkpoint
from inspectcli.measure.excerpt import excerpt


def test_values_from_the_start_the_middle_and_the_end(tmp_path: Path) -> None:
    values = torch.arange(1000.0).reshape(10, 100)
    torch.save({"w": values, "t": values.T, "s": values[0, :2]}, tmp_path / "a.pt")
    w, t, s = open_checkpoint(tmp_path / "a.pt").tensors
    np.testing.assert_array_equal(excerpt(w, 3), [0, 1, 2, 498, 499, 500, 997, 998, 999])
    np.testing.assert_array_equal(excerpt(t, 2), values.T.flatten()[:6].numpy())
    np.testing.assert_array_equal(excerpt(s, 8), [0, 1, 0, 1, 0, 1])
