"""Runs of zeros, against a walk over all values, whatever the blocks and the type."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy.typing as npt
import pytest
from support.blocks import CUTS, TYPES, array, made

from inspectcli.measure.zero_runs import LEAST, Runs, ZeroRuns


def runs(x: npt.NDArray[Any]) -> Runs:
    """By going through all values."""
    long, others, at = [], 0, 0
    for is_zero, values in groupby(x.ravel() == 0):
        size = len(list(values))
        if is_zero and size >= LEAST:
            long.append((at, size))
        elif is_zero:
            others += size
        at += size
    return Runs(tuple(long), others)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("zeros", [
    (), ((0, 20),), ((1900, 20),), ((90, 30),), ((500, 15),), ((0, 3), (990, 40), (1917, 3)), ((0, 1920),),
    ((96, 480), (700, 2)),
])  # fmt: skip
def test_runs_of_zeros(zeros: tuple[tuple[int, int], ...], name: str, cuts: list[int], parts: bool) -> None:
    x = array(name, *zeros)
    assert made(ZeroRuns, x, name, cuts, parts) == runs(x)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_many_runs_and_many_zeros_are_a_pattern(cuts: list[int], parts: bool) -> None:
    many = array("f32", *[(i * 48, 24) for i in range(40)])
    scattered = array("f32", *[(i * 40, 1) for i in range(40)])
    assert made(ZeroRuns, many, "f32", cuts, parts) is None
    assert made(ZeroRuns, scattered, "f32", cuts, parts) is None
