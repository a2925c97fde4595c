"""The second pass: as much as a measurement says, and nothing of what cannot be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspectcli.measure.again import again, whole
from inspectcli.measure.content import ContentHash
from inspectcli.measure.first_values import FirstValues
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import TensorRef
from inspectcli.tensors.values import BLOCK

X = np.random.default_rng(0).normal(size=(1000, 1100)).astype("<f4")


class Counting(Memory):
    bytes_read = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        object.__setattr__(self, "bytes_read", self.bytes_read + len(buffer))
        super().read_into(offset, buffer)


def described(data: bytes = X.tobytes(), **more: Any) -> tuple[Counting, TensorRef]:
    source = Counting("x", data)
    shape = more.pop("shape", X.shape)
    return source, TensorRef("x", DTYPES["f32"], shape, segments=(Segment(source, 0, X.nbytes),), **more)


def test_the_first_values_are_read_and_no_more() -> None:
    source, ref = described()
    found = again(ref, FirstValues)
    assert found is not None
    np.testing.assert_array_equal(found, X.ravel()[: 1 << 16].astype(np.float64))
    assert source.bytes_read == BLOCK < X.nbytes


def test_the_first_values_are_those_in_c_order() -> None:
    _, ref = described(shape=(1100, 1000), strides=(1, 1100))
    found = again(ref, FirstValues)
    assert found is not None
    np.testing.assert_array_equal(found, X.T.ravel()[: found.size].astype(np.float64))


def test_of_an_empty_tensor_there_are_no_first_values() -> None:
    found = again(TensorRef("x", DTYPES["f32"], (0,)), FirstValues)
    assert found is not None
    assert found.size == 0


@pytest.mark.parametrize("measurement", [FirstValues, ContentHash])
def test_what_cannot_be_read_has_no_result(measurement: Any) -> None:
    _, ref = described(data=b"cut")
    assert again(ref, measurement) is None
    assert whole(ref, X.size) is None


def test_a_small_tensor_is_read_whole() -> None:
    _, ref = described(shape=(1100, 1000), strides=(1, 1100))
    found = whole(ref, X.size)
    assert found is not None
    np.testing.assert_array_equal(found, X.T)


def test_a_larger_tensor_is_not_read() -> None:
    source, ref = described()
    assert whole(ref, X.size - 1) is None
    assert source.bytes_read == 0


def test_packed_words_are_no_values() -> None:
    _, ref = described(packed=True)
    assert whole(ref, X.size) is None
