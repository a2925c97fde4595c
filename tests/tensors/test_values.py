"""Values as torch, safetensors and NumPy wrote them, through every way in which bytes are stored."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inspectcli
from inspectcli.encodings.zip import DEFLATE
from inspectcli.errors import DamagedFileError, LimitError, TruncatedFileError
from inspectcli.measure.scan import stats_of
from inspectcli.storage.local import LocalFile
from inspectcli.storage.memory import Memory
from inspectcli.tensors import values
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Affine, TensorRef

Array = npt.NDArray[Any]

NUMBERS = "f64 f32 f16 i64 i32 i16 i8 u64 u32 u16 u8".split()
NOT_IN_NUMPY = [
    torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip
TORCH_NUMBERS = [
    *NOT_IN_NUMPY, torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip


class Counting:
    """A source in memory that counts the bytes read from it, and gives up beyond a budget."""

    name = "counting"

    def __init__(self, data: bytes, budget: int | None = None) -> None:
        self._memory = Memory(self.name, data)
        self._budget = budget
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return self._memory.size

    def read_at(self, offset: int, n: int) -> bytes:
        data = bytearray(n)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.bytes_read += len(buffer)
        assert self._budget is None or self.bytes_read <= self._budget, "more bytes were read than can be needed"
        self._memory.read_into(offset, buffer)


def in_memory(data: bytes) -> Segment:
    return Segment(Memory("test", data), 0, len(data))


def deflated(data: bytes, skip: int = 0, behind: int = 0) -> Segment:
    """`data` without its first `skip` and last `behind` bytes, as a run of a compressed member."""
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stored = encoder.compress(data) + encoder.flush()
    before = b"other bytes"
    source = Memory("test", before + stored + b"what follows")
    return Segment(source, len(before), len(data) - skip - behind, DEFLATE, len(stored), skip)


def numbers(name: str, n: int) -> Array:
    return np.random.default_rng(n).integers(0, 100, n).astype(DTYPES[name].numpy)


def ref(name: str, shape: tuple[int, ...], *segments: Segment, **more: Any) -> TensorRef:
    return TensorRef("x", DTYPES[name], shape, segments=segments, **more)


def saved(tensor: torch.Tensor, folder: Path) -> TensorRef:
    path = folder / "tensor.pt"
    torch.save({"x": tensor}, path)
    return inspectcli.open_checkpoint(path)["x"]


def as_numpy(tensor: torch.Tensor) -> Array:
    """By torch itself; types that NumPy lacks as float32."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.is_quantized:
        plain = plain.dequantize()
    return plain.float().numpy() if plain.dtype in NOT_IN_NUMPY else plain.numpy()


def assert_equal(got: object, expected: Array) -> None:
    assert isinstance(got, np.ndarray)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def concatenated(of: TensorRef, read: Callable[[TensorRef], Any]) -> Array:
    return np.concatenate([block.values.copy() for block in read(of)])


# -- contiguous tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TORCH_NUMBERS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 1, 5), (0,), (3, 0, 2)], ids=str)
def test_a_saved_tensor_reads_as_torch_has_it(dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = (torch.arange(prod(shape)).reshape(shape) % 5).to(dtype)
    got = saved(tensor, tmp_path).numpy()
    expected = as_numpy(tensor)
    assert_equal(got, expected)
    assert isinstance(got, np.ndarray)
    assert got.dtype == expected.dtype


@pytest.mark.parametrize("name", NUMBERS)
def test_big_endian_bytes_are_turned_round(name: str) -> None:
    x = numbers(name, 60).reshape(3, 20)
    swapped = x.astype(x.dtype.newbyteorder(">")).tobytes()
    of = ref(name, x.shape, in_memory(swapped), big_endian=True)
    got = of.numpy()
    assert_equal(got, x)
    assert isinstance(got, np.ndarray)
    assert got.dtype.isnative
    assert stats_of(of).high == x.max()


@pytest.mark.parametrize("code", [">f8", ">f4", ">f2", ">i8", ">u2", ">c8", ">c16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_big_endian_npy_file_reads_as_numpy_reads_it(code: str, order: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.asarray(numbers("i32", 24).reshape(4, 6), order=order).astype(code, order="K"))
    assert_equal(inspectcli.open_checkpoint(path).tensors[0].numpy(), np.load(path))


def test_an_empty_array_in_fortran_order_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    header = b"{'descr': '<f4', 'fortran_order': True, 'shape': (0, 3), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert_equal(inspectcli.open_checkpoint(path).tensors[0].numpy(), np.load(path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int8], ids=str)
def test_a_tensor_of_several_blocks_is_read_completely(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = (torch.arange(values.BLOCK + 12_345) % 127).to(dtype)
    of = saved(tensor, tmp_path)
    assert_equal(of.numpy(), as_numpy(tensor))
    assert stats_of(of).count == tensor.numel()


# -- views ----------------------------------------------------------------------------------------------


@st.composite
def views(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...]) -> torch.Tensor:
    """Any `as_strided` view: gaps, overlaps, expanded and reordered dimensions."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    strides = draw(st.lists(st.integers(0, 9), min_size=len(shape), max_size=len(shape)))
    offset = draw(st.integers(0, 5))
    size = 1 + sum((max(d, 1) - 1) * s for d, s in zip(shape, strides, strict=True))
    base = torch.arange(offset + size + draw(st.integers(0, 3))) + 1
    return base.to(draw(st.sampled_from(dtypes))).as_strided(shape, strides, offset)


REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int16, torch.uint8)


@pytest.mark.parametrize("span", [32, values.SPAN_BLOCK])
@settings(max_examples=120, deadline=None)
@given(tensor=views((*REAL, torch.complex64)))
def test_any_strided_view_reads_as_torch_has_it(
    span: int, tensor: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with mock.patch.object(values, "SPAN_BLOCK", span):
        assert_equal(saved(tensor, tmp_path_factory.getbasetemp()).numpy(), as_numpy(tensor))


@pytest.mark.parametrize("span", [32, values.SPAN_BLOCK])
@settings(max_examples=120, deadline=None)
@given(tensor=views(REAL))
def test_any_strided_view_has_the_figures_of_its_elements(
    span: int, tensor: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with mock.patch.object(values, "SPAN_BLOCK", span):
        stats = stats_of(saved(tensor, tmp_path_factory.getbasetemp()))
    x = tensor.to(torch.float64).numpy()
    assert stats.count == x.size
    if x.size:
        assert (stats.low, stats.high) == (x.min(), x.max())
        assert stats.mean == pytest.approx(x.mean(), rel=1e-12)
        assert stats.std == pytest.approx(x.std(), rel=1e-12, abs=1e-12)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda t: t.T,
    "permuted": lambda t: t.reshape(4, 3, 10).permute(2, 0, 1),
    "expanded": lambda t: t[:, None, :1].expand(12, 5, 4),
    "expanded in front": lambda t: t[0].expand(3, 10),
    "sliced": lambda t: t[2::3, 1::2],
    "a column": lambda t: t[:, 3],
    "a window": lambda t: t.reshape(-1).unfold(0, 7, 2),
    "a diagonal": lambda t: t.diagonal(),
    "an element": lambda t: t[5, 5],
}
COMPLEX_VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conjugated": lambda z: z.conj(),
    "conjugated and transposed": lambda z: z.mH,
    "conjugated and sliced": lambda z: z.conj()[::2, 1::2],
    "conjugated and expanded": lambda z: z[:, :1].conj().expand(12, 3),
    "the imaginary part of a conjugate": lambda z: z.conj().imag,
    "the real part": lambda z: z.real,
    "negated": lambda z: torch._neg_view(z),
    "negated and transposed": lambda z: torch._neg_view(z).T,
    "conjugated and negated": lambda z: torch._neg_view(z.conj()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.bool, torch.int64], ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_reads_as_torch_has_it(dtype: torch.dtype, view: str, tmp_path: Path) -> None:
    tensor = VIEWS[view]((torch.arange(120) % 7).reshape(12, 10).to(dtype))
    of = saved(tensor, tmp_path)
    assert_equal(of.numpy(), as_numpy(tensor))
    assert stats_of(of).count == tensor.numel()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.complex32], ids=str)
@pytest.mark.parametrize("view", COMPLEX_VIEWS)
@pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")
def test_a_complex_view_reads_as_torch_has_it(dtype: torch.dtype, view: str, tmp_path: Path) -> None:
    base = torch.complex(torch.arange(120.0), 1000 - torch.arange(120.0)).reshape(12, 10)
    tensor = COMPLEX_VIEWS[view](base.to(dtype))
    assert_equal(saved(tensor, tmp_path).numpy(), as_numpy(COMPLEX_VIEWS[view](base)))


def test_a_negated_view_has_the_figures_of_its_elements(tmp_path: Path) -> None:
    tensor = torch.complex(torch.zeros(9), torch.arange(9.0)).conj().imag
    assert tensor.is_neg()
    stats = stats_of(saved(tensor, tmp_path))
    assert (stats.low, stats.high, stats.mean) == (-8, 0, -4)


def test_in_order_gives_c_order_and_blocks_give_every_element() -> None:
    stored = np.arange(24, dtype="<f4")
    of = ref("f32", (4, 6), in_memory(stored.tobytes()), strides=(1, 4))
    assert concatenated(of, values.in_order).tolist() == stored.reshape(6, 4).T.ravel().tolist()
    assert sorted(concatenated(of, values.blocks).tolist()) == stored.tolist()


def test_a_large_strided_view_is_read_in_windows() -> None:
    stored = np.arange(3 << 20, dtype="<f4")
    of = ref("f32", (3 << 10, 512), in_memory(stored.tobytes()), strides=(1 << 10, 2))
    assert_equal(of.numpy(), stored.reshape(3 << 10, 1 << 10)[:, ::2])


def test_a_large_transposed_tensor_is_not_read_over_and_over() -> None:
    stored = np.arange(3 << 20, dtype="<f4")
    source = Counting(stored.tobytes(), budget=64 * stored.nbytes)
    of = ref("f32", (1 << 10, 3 << 10), Segment(source, 0, stored.nbytes), strides=(1, 1 << 10))
    assert_equal(of.numpy(), stored.reshape(3 << 10, 1 << 10).T)


def test_an_overlapping_view_larger_than_any_storage_is_refused() -> None:
    of = ref("f32", (1 << 15, 1 << 15), in_memory(bytes(4 << 16)), strides=(1, 1))
    with pytest.raises(LimitError):
        stats_of(of)


# -- segments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f64", "f32", "i8", "u16"])
@pytest.mark.parametrize("kind", ["raw", "deflate", "mixed"])
def test_segments_are_read_one_after_the_other(name: str, kind: str) -> None:
    item = DTYPES[name].itemsize
    block = values.BLOCK // item
    sizes = [block + 3, 5, block - 1, 2 * block, 1]
    x = numbers(name, sum(sizes))
    pieces = [part.tobytes() for part in np.split(x, np.cumsum(sizes)[:-1])]
    packed = {"raw": [], "deflate": range(5), "mixed": [1, 3]}[kind]
    segments = [deflated(p) if i in packed else in_memory(p) for i, p in enumerate(pieces)]
    of = ref(name, (x.size,), *segments)
    assert_equal(of.numpy(), x)
    stats = stats_of(of)
    assert (stats.count, stats.low, stats.high) == (x.size, x.min(), x.max())
    assert stats.mean == pytest.approx(x.astype(np.float64).mean(), rel=1e-12)


def test_the_first_nonfinite_index_counts_across_segments() -> None:
    x = np.ones(3 * values.BLOCK // 4 + 7, "<f4")
    x[-3] = np.nan
    cut = 4 * (values.BLOCK // 2)
    assert stats_of(
        ref("f32", x.shape, in_memory(x.tobytes()[:cut]), in_memory(x.tobytes()[cut:]))
    ).first_nonfinite == (x.size - 3)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 400), data=st.data())
def test_a_compressed_run_begins_after_its_skip(n: int, data: st.DataObject) -> None:
    skip = data.draw(st.integers(0, n - 1))
    behind = data.draw(st.integers(0, n - 1 - skip))
    x = numbers("f32", n)
    of = ref("f32", (n - skip - behind,), deflated(x.tobytes(), 4 * skip, 4 * behind))
    assert_equal(of.numpy(), x[skip : n - behind])


@pytest.mark.parametrize("skip", [0, 1, values.BLOCK - 1, values.BLOCK, values.BLOCK + 1, 2 * values.BLOCK + 77])
def test_a_skip_may_be_longer_than_a_block(skip: int) -> None:
    x = numbers("u8", 3 * values.BLOCK + 500)
    of = ref("u8", (x.size - skip - 9,), deflated(x.tobytes(), skip, 9))
    assert_equal(of.numpy(), x[skip:-9])


def test_a_strided_view_of_a_compressed_member_is_read() -> None:
    x = np.arange(60, dtype="<f4")
    of = ref("f32", (4, 5), deflated(x.tobytes(), 4 * 3, 4 * (60 - 3 - 59 + 2)), strides=(14, 3))
    assert_equal(of.numpy(), np.lib.stride_tricks.as_strided(x[3:], (4, 5), (56, 12)))


def test_a_deflated_checkpoint_reads_as_the_plain_one(fixtures: Path) -> None:
    plain = inspectcli.open_checkpoint(fixtures / "mlp.pt")
    for of in inspectcli.open_checkpoint(fixtures / "mlp_deflated.pt"):
        assert of.segments[0].codec is DEFLATE
        assert_equal(of.numpy(), np.asarray(plain[of.name].numpy()))


def test_bytes_that_do_not_inflate_are_damage() -> None:
    source = Memory("test", b"\xff" * 100)
    with pytest.raises(DamagedFileError, match="cannot be inflated"):
        ref("f32", (5,), Segment(source, 0, 20, DEFLATE, 100)).numpy()


def test_a_compressed_member_that_is_too_short_is_damage() -> None:
    segment = deflated(bytes(40))
    with pytest.raises(DamagedFileError, match="holds 40 bytes"):
        ref("f32", (20,), replace(segment, nbytes=80)).numpy()


# -- types narrower than a byte -------------------------------------------------------------------------


def pack(codes: npt.NDArray[np.uint8], bits: int) -> bytes:
    """Lowest bits first, without gaps."""
    number = sum(int(code) << bits * i for i, code in enumerate(codes))
    return number.to_bytes((codes.size * bits + 7) // 8, "little")


def write_safetensors(path: Path, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


SUB_BYTE: dict[str, tuple[Any, int]] = {
    "F4": (ml_dtypes.float4_e2m1fn, 4),
    "F6_E2M3": (ml_dtypes.float6_e2m3fn, 6),
    "F6_E3M2": (ml_dtypes.float6_e3m2fn, 6),
}


@pytest.mark.parametrize("dtype", SUB_BYTE)
@pytest.mark.parametrize("shape", [(4,), (3, 8), (2, 5, 4), (0, 4)], ids=str)
def test_a_sub_byte_safetensors_file_reads_as_ml_dtypes_has_it(
    dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    scalar, bits = SUB_BYTE[dtype]
    codes = np.random.default_rng(4).integers(0, 1 << bits, prod(shape), np.uint8)
    path = tmp_path / "x.safetensors"
    write_safetensors(path, dtype, shape, pack(codes, bits))
    of = inspectcli.open_checkpoint(path)["x"]
    assert_equal(of.numpy(), codes.view(scalar).astype(np.float32).reshape(shape))
    assert stats_of(of).count == prod(shape)


@pytest.mark.parametrize("dtype", SUB_BYTE)
def test_a_sub_byte_tensor_of_several_blocks_is_read_completely(dtype: str, tmp_path: Path) -> None:
    scalar, bits = SUB_BYTE[dtype]
    group = np.random.default_rng(4).integers(0, 1 << bits, 4 * 997, np.uint8)
    times = values.BLOCK * 8 // bits // group.size + 2
    path = tmp_path / "x.safetensors"
    write_safetensors(path, dtype, (times, group.size), pack(group, bits) * times)
    of = inspectcli.open_checkpoint(path)["x"]
    row = group.view(scalar).astype(np.float32)
    assert_equal(of.numpy(), np.tile(row, (times, 1)))
    stats = stats_of(of)
    assert (stats.count, stats.zeros) == (times * row.size, times * int((row == 0).sum()))
    assert stats.std == pytest.approx(row.astype(np.float64).std(), rel=1e-12)


def test_the_last_half_byte_of_an_odd_tensor_is_not_a_value() -> None:
    codes = np.array([1, 2, 3], np.uint8)
    of = ref("f4", (3,), in_memory(pack(codes, 4)))
    assert_equal(of.numpy(), codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    stats = stats_of(of)
    assert (stats.count, stats.zeros, stats.low) == (3, 0, 0.5)
    assert stats.mean == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(6,), (3, 4)], ids=str)
def test_a_pair_type_has_its_last_dimension_doubled(shape: tuple[int, ...], tmp_path: Path) -> None:
    raw = np.random.default_rng(9).integers(0, 256, shape, np.uint8)
    of = saved(torch.from_numpy(raw).view(torch.float4_e2m1fn_x2), tmp_path)
    codes = np.stack([raw & 15, raw >> 4], axis=-1).reshape(*shape[:-1], -1)
    assert_equal(of.numpy(), codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    assert stats_of(of).count == 2 * raw.size


# -- quantized tensors ----------------------------------------------------------------------------------

DEPRECATED = pytest.mark.filterwarnings("ignore:torch.quantize_per_:UserWarning")

QUANTIZED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "whole": lambda q: q,
    "transposed": lambda q: q.T,
    "sliced": lambda q: q[1::2, ::3],
    "expanded": lambda q: q[:, :1].expand(6, 4),
}


@DEPRECATED
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
@pytest.mark.parametrize("view", QUANTIZED)
def test_a_tensor_with_one_scale_reads_as_torch_dequantizes_it(dtype: torch.dtype, view: str, tmp_path: Path) -> None:
    x = torch.linspace(-3, 5, 60).reshape(6, 10)
    tensor = QUANTIZED[view](torch.quantize_per_tensor(x, 0.05, 30, dtype))
    got = saved(tensor, tmp_path).numpy()
    np.testing.assert_allclose(np.asarray(got), as_numpy(tensor), rtol=1e-6)
    assert np.asarray(got).dtype == np.float32


@DEPRECATED
@pytest.mark.parametrize("view", QUANTIZED)
def test_figures_of_a_quantized_tensor_are_of_its_real_values(view: str, tmp_path: Path) -> None:
    x = torch.linspace(-3, 5, 60).reshape(6, 10)
    tensor = QUANTIZED[view](torch.quantize_per_tensor(x, 0.05, 30, torch.quint8))
    expected = as_numpy(tensor).astype(np.float64)
    stats = stats_of(saved(tensor, tmp_path))
    assert stats.count == expected.size
    assert stats.mean == pytest.approx(expected.mean(), rel=1e-6)
    assert stats.std == pytest.approx(expected.std(), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "axis"),
    [
        *((dtype, axis) for dtype in (torch.qint8, torch.quint8, torch.qint32) for axis in (0, 1, 2)),
        *((dtype, 0) for dtype in (torch.quint4x2, torch.quint2x4)),
    ],
    ids=str,
)
@DEPRECATED
def test_a_tensor_with_a_scale_per_channel_reads_as_torch_dequantizes_it(
    dtype: torch.dtype, axis: int, tmp_path: Path
) -> None:
    narrow = dtype in (torch.quint4x2, torch.quint2x4)
    shape = (3, 4, 5)
    n = shape[axis]
    zero_points = torch.arange(n).float() / 2 if narrow else torch.arange(n)
    x = torch.linspace(-3, 5, 60).reshape(shape)
    tensor = torch.quantize_per_channel(x, 0.05 + 0.1 * torch.arange(n), zero_points, axis, dtype)
    of = saved(tensor, tmp_path)
    expected = as_numpy(tensor)
    np.testing.assert_allclose(np.asarray(of.numpy()), expected, rtol=1e-6, atol=1e-7)
    stats = stats_of(of)
    assert stats.count == 60
    assert stats.mean == pytest.approx(expected.astype(np.float64).mean(), rel=1e-5)


@DEPRECATED
def test_channels_go_on_across_blocks(tmp_path: Path) -> None:
    x = torch.linspace(-3, 5, 3 * 700_001).reshape(700_001, 3)
    tensor = torch.quantize_per_channel(x, torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0, 5, 9]), 1, torch.qint8)
    np.testing.assert_allclose(np.asarray(saved(tensor, tmp_path).numpy()), as_numpy(tensor), rtol=1e-6)


def test_fewer_scales_than_channels_are_damage() -> None:
    one = ref("f64", (1,), in_memory(np.ones(1).tobytes()))
    of = ref("qint8", (3, 2), in_memory(bytes(6)), affine=Affine(axis=0, scales=one, zero_points=one))
    with pytest.raises(inspectcli.PinspectError):
        of.numpy()


# -- tensors without values -----------------------------------------------------------------------------


def test_a_meta_tensor_has_no_values(tmp_path: Path) -> None:
    of = saved(torch.empty(3, 4, device="meta"), tmp_path)
    assert not of.has_values
    with pytest.raises(ValueError, match="x has no values to read: meta"):
        of.numpy()


def test_packed_words_have_no_values(fixtures: Path) -> None:
    of = next(t for t in inspectcli.open_checkpoint(fixtures / "gptq.safetensors") if t.packed)
    with pytest.raises(ValueError, match="has no values to read: packed"):
        of.numpy()


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (ref("bits8", (3,), in_memory(bytes(3))), "x has no values to read: bits8"),
        (ref("f32", (3,)), "x has no values to read: f32"),
        (ref("f32", (3,), in_memory(bytes(12)), problem="its storage is missing"), "x: its storage is missing"),
    ],
)
def test_a_tensor_that_cannot_be_read_says_why(of: TensorRef, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        of.numpy()
    assert str(caught.value) == message


def test_a_cut_storage_is_a_truncated_file() -> None:
    with pytest.raises(TruncatedFileError):
        ref("f32", (10,), Segment(Memory("test", bytes(20)), 0, 40)).numpy()


# -- memory ---------------------------------------------------------------------------------------------

SIZE = 64 << 20


def peak(of: TensorRef) -> int:
    stats_of(replace(of, segments=(replace(of.segments[0], nbytes=of.dtype.itemsize),), shape=(1,), strides=None))
    tracemalloc.start()
    try:
        stats_of(of)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *((name, "plain") for name in ("f64", "f32", "bf16", "f8_e4m3", "i64", "bool")),
        *(("f32", case) for case in ("with NaN", "mean far from 0", "transposed", "big-endian")),
    ],
)
def test_the_figures_of_a_large_tensor_take_little_memory(name: str, case: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal(1 << 18).astype("<f4") + (1000 if case == "mean far from 0" else 0)
    x[5] = np.nan if case == "with NaN" else 1
    piece = x.tobytes() if DTYPES[name].family.value == "float" else bytes(range(256)) * (1 << 12)
    path = tmp_path / "x.bin"
    with path.open("wb") as file:
        for _ in range(SIZE // len(piece)):
            file.write(piece)
    items = SIZE // DTYPES[name].itemsize
    of = ref(name, (items,), Segment(LocalFile(str(path)), 0, SIZE), big_endian=case == "big-endian")
    if case == "transposed":
        of = replace(of, shape=(1024, items // 1024), strides=(1, 1024))
    assert peak(of) < 16 << 20
