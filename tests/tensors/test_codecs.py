"""The table of codecs: a new way to store elements is an entry, and nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from inspectcli.encodings.zip import DEFLATE
from inspectcli.formats.hdf5.process import HDF5
from inspectcli.measure.scan import scan
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import CODECS, RAW, Codec, Segment, register
from inspectcli.tensors.dtypes import DTYPES, DType, NumberClass
from inspectcli.tensors.model import Checkpoint, TensorRef

BLOCK = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])
Q8 = DType("q8", 8, NumberClass.QUANTIZED, "<f4")


def decode_q8(segment: Segment, workspace: memoryview) -> Iterator[bytes]:
    """Blocks of 32 values: a float16 scale and 32 codes of a byte, as llama.cpp's Q8_0."""
    for start in range(0, segment.stored, 1000 * BLOCK.itemsize):
        raw = segment.source.read_at(segment.offset + start, min(1000 * BLOCK.itemsize, segment.stored - start))
        yield numbers(np.frombuffer(raw, BLOCK)).tobytes()


def numbers(blocks: np.ndarray) -> np.ndarray:
    return blocks["scale"].astype("<f4")[:, None] * blocks["codes"].astype("<f4")


@pytest.fixture
def codec() -> Iterator[Codec]:
    yield register(Codec("q8", decode_q8, dtype=DTYPES["f32"], elements=BLOCK["codes"].shape[0], nbytes=BLOCK.itemsize))
    del CODECS["q8"]


def quantized(codec: Codec, rows: int) -> tuple[np.ndarray, TensorRef]:
    rng = np.random.default_rng(1)
    blocks = np.empty(rows * 2, BLOCK)
    blocks["scale"], blocks["codes"] = rng.random(rows * 2), rng.integers(-127, 128, (rows * 2, 32))
    source = Memory("blocks", blocks.tobytes())
    segment = Segment(source, 0, rows * 64 * 4, codec, stored=source.size)
    return numbers(blocks).reshape(rows, 64), TensorRef("w", Q8, (rows, 64), segments=(segment,))


def test_a_block_quantized_type_is_an_entry_in_the_table(codec: Codec) -> None:
    expected, ref = quantized(codec, 30_000)
    np.testing.assert_array_equal(ref.numpy(), expected)
    assert ref.nbytes == 30_000 * 2 * 34


def test_its_figures_are_those_of_its_values(codec: Codec) -> None:
    expected, ref = quantized(codec, 30_000)
    told: list[int] = []
    (found,) = scan(Checkpoint("test", "test", 0, (ref,)), progress=told.append)
    assert found.stats is not None
    assert (found.stats.count, found.stats.low, found.stats.high) == (expected.size, expected.min(), expected.max())
    assert found.stats.std == pytest.approx(expected.astype(np.float64).std(), rel=1e-9)
    assert sum(told) == ref.nbytes


def test_a_transposed_view_is_read_too(codec: Codec) -> None:
    expected, ref = quantized(codec, 100)
    turned = TensorRef("w", Q8, (64, 100), segments=ref.segments, strides=(1, 64))
    np.testing.assert_array_equal(turned.numpy(), expected.T)


def test_the_table_holds_what_formats_use() -> None:
    assert {name: CODECS[name] for name in ("raw", "deflate", "hdf5")} == {
        "raw": RAW,
        "deflate": DEFLATE,
        "hdf5": HDF5,
    }


@pytest.mark.parametrize("codec", [RAW, DEFLATE, HDF5], ids=lambda codec: codec.name)
def test_a_segment_travels_and_finds_its_codec(codec: Codec) -> None:
    back = pickle.loads(pickle.dumps(Segment(Memory("m", b"1234"), 0, 4, codec)))
    assert back.codec is codec


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'raw'"):
        register(Codec("raw", decode_q8))


@pytest.mark.parametrize(("elements", "nbytes"), [(0, 0), (1, 34), (32, 34), (33, 68)])
def test_the_last_block_is_stored_whole(codec: Codec, elements: int, nbytes: int) -> None:
    assert codec.size(Q8, elements) == nbytes
    assert RAW.size(DTYPES["f4"], elements) == (elements + 1) // 2
