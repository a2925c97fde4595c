"""Which elements a view takes, whatever their order: against NumPy's own strides."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectcli.tensors.stored import elements

SHAPES = st.lists(st.integers(1, 4), max_size=4)


def steps(array: np.ndarray) -> tuple[int, ...]:
    return tuple(step // array.itemsize for step in array.strides)


def taken(array: np.ndarray) -> list[int]:
    """The places of all elements of a view of `base`, which holds its own places."""
    return sorted(array.ravel().tolist())


@given(SHAPES, st.data())
def test_views_have_equal_elements_exactly_if_they_take_the_same_ones(shape: list[int], data: st.DataObject) -> None:
    base = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    slices = tuple(slice(0, n, data.draw(st.integers(1, 2))) for n in shape)
    views = [base, base.reshape(-1), base[slices], base[..., :1] if shape else base]
    views += [np.transpose(view, order) for view in views[:3] for order in permutations(range(view.ndim))]
    views.append(np.broadcast_to(base, (2, *shape)))
    for one in views:
        for other in views:
            same = elements(one.shape, steps(one)) == elements(other.shape, steps(other))
            assert same == (taken(one) == taken(other))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3)])
def test_without_strides_a_tensor_is_contiguous(shape: tuple[int, ...]) -> None:
    assert elements(shape, None) == elements(shape, steps(np.zeros(shape)))
