"""The longest run of zeros, against the definition, whatever the blocks are."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from inspectcli.measure.base import Block
from inspectcli.measure.runs import LEAST, Run, ZeroRun
from inspectcli.tensors.dtypes import DTYPES


def longest(values: np.ndarray) -> Run:
    best, start = Run(), 0
    for zero, group in groupby(values == 0):
        n = len(list(group))
        if zero and n > best.length:
            best = Run(start, n)
        start += n
    return best


def measured(values: np.ndarray, cuts: list[int]) -> Run:
    made = ZeroRun()
    for first, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        part = ZeroRun()
        part.update(Block(values[first:end], DTYPES["f32"], first, end - first))
        made = made.merge(part)
    return made.result()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cuts", [[], [1000], [700, 1300], [500, 1000, 1500]], ids=str)
def test_against_the_definition(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=2000).astype(np.float32)
    start = int(rng.integers(0, 1500))
    values[start : start + int(rng.integers(3 * LEAST, 900))] = 0
    expected, found = longest(values), measured(values, cuts)
    # A block with few zeros is taken to have none.
    assert abs(found.length - expected.length) < 2 * LEAST
    if not cuts:
        assert found == expected


@pytest.mark.parametrize("cuts", [[], [5], [5, 6]], ids=str)
def test_all_zeros_and_none(cuts: list[int]) -> None:
    assert measured(np.zeros(10, np.float32), cuts) == Run(0, 10)
    assert measured(np.ones(10, np.float32), cuts).length == 0
