"""Small tensors side by side: read in one go, each with its own results and its own problem."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.work import calls

from inspectcli.errors import TruncatedFileError
from inspectcli.measure.base import Block, Measurement
from inspectcli.measure.figures import Figures, Sample
from inspectcli.measure.neighbors import MOST
from inspectcli.measure.rows import ZeroSlices
from inspectcli.measure.scan import scan
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Checkpoint, TensorRef


class Counted(Memory):
    """Bytes that say how often they were asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__("model", data)
        self.reads = 0

    def read_at(self, offset: int, n: int) -> bytes:
        self.reads += 1
        return super().read_at(offset, n)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.reads += 1
        super().read_into(offset, buffer)


def refs(source: Any, shapes: list[tuple[int, ...]], crc: bool = False) -> Iterator[TensorRef]:
    at = 0
    for i, shape in enumerate(shapes):
        nbytes = 4 * int(np.prod(shape))
        check = zlib.crc32(source.data[at : at + nbytes]) if crc else 0
        yield TensorRef(f"t{i}", DTYPES["f32"], shape, segments=(Segment(source, at, nbytes, crc=check),))
        at += nbytes


def of(*tensors: TensorRef) -> Checkpoint:
    return Checkpoint("model", "safetensors", 0, tensors)


def values(n: int) -> bytes:
    return np.random.default_rng(0).normal(size=n).astype("<f4").tobytes()


def test_neighbors_of_several_shapes_are_read_in_one_go() -> None:
    shapes = [(2, 4), (8,), (3,), (2, 4), (8,), (3,)] * 50
    data = values(sum(int(np.prod(shape)) for shape in shapes))
    source = Counted(data)
    tensors = list(refs(source, shapes))
    found = scan(of(*tensors))
    assert source.reads == 1
    for tensor in found:
        (segment,) = tensor.ref.segments
        x = np.frombuffer(data[segment.offset :][: segment.nbytes], "<f4").astype(float)
        assert tensor.stats is not None
        assert tensor.sampled is not None
        assert tensor.stats.low == x.min()
        assert abs(tensor.stats.mean - x.mean()) < 1e-15
        assert tensor.sampled.median == pytest.approx(np.median(x), rel=1e-12)


def test_a_wrong_checksum_is_the_problem_of_its_tensor_alone() -> None:
    source = Counted(values(12))
    first, second, third = refs(source, [(4,)] * 3, crc=True)
    (segment,) = second.segments
    found = scan(of(first, replace(second, segments=(replace(segment, crc=segment.crc ^ 1),)), third))
    assert [bool(tensor.stats) for tensor in found] == [True, False, True]
    assert "CRC" in found[1].problem


def test_a_file_that_ends_among_small_tensors_gives_those_before_its_end() -> None:
    source = Counted(values(7))
    found = scan(of(*refs(source, [(4,)] * 3)))
    assert [bool(tensor.stats) for tensor in found] == [True, False, False]
    assert all(tensor.problem for tensor in found[1:])
    with pytest.raises(TruncatedFileError):
        source.read_at(16, 16)


def test_rows_of_zeros_are_found_among_small_tensors() -> None:
    x = np.ones((3, 4, 4), "<f4")
    x[1, 2] = 0
    found = scan(of(*refs(Counted(x.tobytes()), [(4, 4)] * 3)), (Figures, Sample, ZeroSlices))
    slices = [tensor.get(ZeroSlices) for tensor in found]
    assert [s[0].first if s else None for s in slices] == [(), (2,), ()]
    assert [s[1].count if s else None for s in slices] == [0, 0, 0]


class Sum(Measurement[float]):
    """Of a package that knows no rows."""

    def __init__(self) -> None:
        self.sum = 0.0

    @classmethod
    def empty(cls, ref: TensorRef) -> Sum:
        return cls()

    def update(self, block: Block) -> None:
        self.sum += float(block.numbers.sum(dtype="f8"))

    def merge(self, other: Sum) -> Sum:
        return self

    def result(self) -> float:
        return self.sum


def test_a_measurement_that_knows_no_rows_sees_blocks() -> None:
    data = values(64)
    found = scan(of(*refs(Counted(data), [(4, 4)] * 4)), (Figures, Sum))
    expected = np.frombuffer(data, "<f4").reshape(4, 16).astype("f8").sum(axis=1)
    assert [tensor.get(Sum) for tensor in found] == expected.tolist()


def test_a_small_tensor_costs_a_few_calls() -> None:
    counts = []
    for n in (100, 1000, 2000):  # the first one imports
        checkpoint = of(*refs(Counted(values(16 * n)), [(4, 4)] * n))
        counts.append(calls(lambda: scan(checkpoint, (Figures, Sample, ZeroSlices))))  # noqa: B023
    assert counts[2] - counts[1] < 80 * 1000


def test_the_largest_row_and_the_next_tensor_agree() -> None:
    n = MOST // 4
    data = values(2 * n + 1)
    row, block = scan(of(*refs(Counted(data), [(n,), (n + 1,)])))
    x = np.frombuffer(data, "<f4").astype("f8")
    for tensor, own in ((row, x[:n]), (block, x[n:])):
        assert tensor.stats is not None
        assert tensor.stats.std == pytest.approx(own.std(), rel=1e-12)
