"""Every way torch and NumPy write a tensor into a pickle, against what they load from it themselves."""

from __future__ import annotations

import io
import pickle
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.distributed.tensor
from torch._tensor import _rebuild_from_type_v2
from torch._utils import _rebuild_meta_tensor_no_storage, _rebuild_tensor, _rebuild_wrapper_subclass
from torch.testing._internal.two_tensor import TwoTensor

import inspectcli
from inspectcli.errors import DamagedFileError, PinspectError
from inspectcli.tensors.model import Checkpoint, TensorRef, aliases

pytestmark = pytest.mark.filterwarnings("ignore")


class Call:
    """Pickles as `func(*args)`."""

    def __init__(self, func: object, *args: object, state: object = None) -> None:
        self.func, self.args, self.state = func, args, state

    def __reduce__(self) -> tuple[object, ...]:
        return (self.func, self.args) if self.state is None else (self.func, self.args, self.state)


def saved(value: object, folder: Path, protocol: int = 2) -> Path:
    path = folder / "x.pt"
    torch.save(value, path, pickle_protocol=protocol)
    return path


def read(value: object, folder: Path, protocol: int = 2) -> Checkpoint:
    return inspectcli.open_checkpoint(saved(value, folder, protocol))


def loaded(folder: Path) -> Any:
    return torch.load(folder / "x.pt", weights_only=False)


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """What torch itself says the values are, in the type `TensorRef.numpy` promises."""
    t = tensor.detach()
    if t.is_quantized:
        return t.dequantize().numpy()
    t = t.resolve_conj().resolve_neg()
    if t.dtype is torch.complex32:
        return t.to(torch.complex64).numpy()
    if t.dtype is torch.bfloat16 or "float8" in str(t.dtype):
        return t.float().numpy()
    return t.numpy()


def assert_equal(ref: TensorRef, tensor: torch.Tensor) -> None:
    expected, got = as_numpy(tensor), ref.numpy()
    assert isinstance(got, np.ndarray)
    assert ref.problem == ""
    assert ref.shape == tuple(tensor.shape)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def random_bits(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Any bit pattern at all, NaNs and infinities among them; a bool is 0 or 1."""
    g = torch.Generator().manual_seed(3)
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=g).bool()
    nbytes = torch.empty(shape, dtype=dtype).nbytes
    flat = torch.randint(0, 256, (nbytes,), dtype=torch.uint8, generator=g)
    made = torch.empty(shape, dtype=dtype)
    made.untyped_storage().copy_(flat.untyped_storage())
    return made


# -- element types --------------------------------------------------------------------------------------

NUMERIC = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint64": "u64", "uint32": "u32", "uint16": "u16", "uint8": "u8", "bool": "bool",
    "complex128": "c128", "complex64": "c64", "complex32": "c32", "float8_e4m3fn": "f8_e4m3",
    "float8_e5m2": "f8_e5m2", "float8_e4m3fnuz": "f8_e4m3fnuz", "float8_e5m2fnuz": "f8_e5m2fnuz",
    "float8_e8m0fnu": "f8_e8m0",
}  # fmt: skip
OPAQUE = ["bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"]
QUANTIZED = ["qint8", "quint8", "qint32", "quint4x2", "quint2x4"]
UNSAVABLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)]


def test_every_dtype_of_torch_is_in_a_table() -> None:
    known = {str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.dtype)}
    assert known == {*NUMERIC, *OPAQUE, *QUANTIZED, *UNSAVABLE, "float4_e2m1fn_x2"}


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (3, 0, 2), (2, 1, 3, 2)])
@pytest.mark.parametrize("name", NUMERIC)
def test_every_dtype_reads_as_torch_reads_it(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    checkpoint = read({"w": random_bits(getattr(torch, name), *shape)}, tmp_path)
    assert_equal(checkpoint["w"], loaded(tmp_path)["w"])
    assert checkpoint["w"].dtype.name == NUMERIC[name]
    assert checkpoint["w"].nbytes == loaded(tmp_path)["w"].nbytes


@pytest.mark.parametrize("name", [n for n in NUMERIC if "float8" in n])
def test_every_code_of_an_eight_bit_float_is_torch_s(name: str, tmp_path: Path) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    assert_equal(read({"w": codes}, tmp_path)["w"], codes)


def test_four_bit_floats_are_pairs_low_nibble_first(tmp_path: Path) -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(16, 16).view(torch.float4_e2m1fn_x2)
    ref = read({"w": codes}, tmp_path)["w"]
    nibbles = np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1).astype(np.uint8)
    expected = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(16, 32)
    assert ref.shape == (16, 16)
    np.testing.assert_array_equal(ref.numpy(), expected)


@pytest.mark.parametrize("name", OPAQUE)
def test_bits_without_a_meaning_are_listed_and_not_read(name: str, tmp_path: Path) -> None:
    ref = read({"w": random_bits(getattr(torch, name), 4)}, tmp_path)["w"]
    assert (ref.dtype.name, ref.shape) == (name, (4,))
    with pytest.raises(ValueError, match="no values"):
        ref.numpy()


@pytest.mark.parametrize("old", ["FloatTensor", "DoubleTensor", "LongTensor", "ByteTensor", "HalfTensor", "BoolTensor"])
def test_old_tensor_types_read_as_torch_reads_them(old: str, tmp_path: Path) -> None:
    value = getattr(torch, old)([0, 1, 2])
    assert_equal(read({"w": value}, tmp_path)["w"], value)


# -- rebuild functions ----------------------------------------------------------------------------------


class WithAttributes(torch.nn.Parameter):
    pass


def parameter_with_attribute() -> torch.Tensor:
    made = torch.nn.Parameter(torch.arange(3.0))
    made.note = "hello"  # type: ignore[attr-defined]
    return made


def subclass_of_parameter() -> torch.Tensor:
    return WithAttributes(torch.arange(4.0))


def conjugate_slice() -> torch.Tensor:
    return torch.randn(4, 3, dtype=torch.complex64).conj()[1:, ::2]


def imaginary_part() -> torch.Tensor:
    made = torch.randn(4, dtype=torch.complex64).conj().imag
    assert made.is_neg()
    return made


PLAIN: dict[str, Callable[[], torch.Tensor]] = {
    "tensor": lambda: torch.randn(3, 2),
    "requires grad": lambda: torch.randn(3, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.randn(2, 2)),
    "parameter of integers": lambda: torch.nn.Parameter(torch.arange(3), requires_grad=False),
    "parameter with an attribute": parameter_with_attribute,
    "subclass of parameter": subclass_of_parameter,
    "buffer": lambda: torch.nn.Buffer(torch.randn(3)),
    "conjugate": lambda: torch.randn(3, 2, dtype=torch.complex64).conj(),
    "conjugate of wide": lambda: torch.randn(3, dtype=torch.complex128).conj(),
    "conjugate of half": lambda: torch.randn(3, dtype=torch.complex64).to(torch.complex32).conj(),
    "conjugate slice": conjugate_slice,
    "negative": imaginary_part,
    "negative of half": lambda: torch._neg_view(torch.randn(4).half()),
    "negative of bfloat16": lambda: torch._neg_view(torch.randn(4).bfloat16()),
    "negative of complex": lambda: torch._neg_view(torch.randn(4, dtype=torch.complex64)),
    "negative of integers": lambda: torch._neg_view(torch.arange(4)),
    "negative conjugate": lambda: torch._neg_view(torch.randn(4, dtype=torch.complex64).conj()),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "uninitialized memory format": lambda: torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PLAIN)
def test_a_tensor_reads_as_torch_reads_it(name: str, protocol: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = read({"w": PLAIN[name]()}, tmp_path, protocol)
    assert len(checkpoint) == 1
    assert_equal(checkpoint["w"], loaded(tmp_path)["w"])


def test_attributes_of_a_tensor_that_are_tensors_are_listed(tmp_path: Path) -> None:
    value = torch.nn.Parameter(torch.zeros(2))
    value.scale = torch.arange(2.0)  # type: ignore[attr-defined]
    checkpoint = read({"w": value}, tmp_path)
    assert [t.name for t in checkpoint] == ["w", "w.scale"]
    assert_equal(checkpoint["w.scale"], loaded(tmp_path)["w"].scale)


def test_the_very_old_rebuild_function_reads(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    value = {"w": Call(_rebuild_tensor, base.storage(), 2, (2, 3), (4, 1))}
    assert_equal(read(value, tmp_path)["w"], loaded(tmp_path)["w"])


@pytest.mark.parametrize("storage", [torch.arange(5.0).storage(), torch.arange(5, dtype=torch.uint8).untyped_storage()])
def test_a_bare_storage_is_one_dimension(storage: Any, tmp_path: Path) -> None:
    ref = read({"w": storage}, tmp_path)["w"]
    np.testing.assert_array_equal(ref.numpy(), np.arange(5))


def per_tensor(dtype: torch.dtype) -> torch.Tensor:
    return torch.quantize_per_tensor(torch.linspace(-3, 3, 24).reshape(4, 6), 0.1, 3, dtype)


def per_channel(axis: int, dtype: torch.dtype) -> torch.Tensor:
    values = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
    n = values.shape[axis]
    scales, zeros = torch.linspace(0.01, 0.2, n, dtype=torch.float64), torch.arange(n)
    return torch.quantize_per_channel(values, scales, zeros, axis, dtype)


def float_qparams(dtype: torch.dtype, columns: int) -> torch.Tensor:
    values = torch.linspace(-3, 3, 4 * columns).reshape(4, columns)
    return torch.quantize_per_channel(values, torch.linspace(0.2, 0.5, 4), torch.linspace(0.5, 7.5, 4), 0, dtype)


QUANTIZED_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "per tensor qint8": lambda: per_tensor(torch.qint8),
    "per tensor quint8": lambda: per_tensor(torch.quint8),
    "per tensor qint32": lambda: per_tensor(torch.qint32),
    "per tensor, transposed": lambda: per_tensor(torch.qint8).t(),
    "per tensor, part": lambda: per_tensor(torch.qint8)[1:3, 2:],
    "per tensor, expanded": lambda: per_tensor(torch.qint8)[:1].expand(5, 6),
    "per tensor, scalar": lambda: torch.quantize_per_tensor(torch.tensor(1.5), 0.5, 0, torch.qint8),
    "per tensor, empty": lambda: torch.quantize_per_tensor(torch.zeros(0, 3), 0.5, 0, torch.qint8),
    "per channel 0": lambda: per_channel(0, torch.qint8),
    "per channel 1": lambda: per_channel(1, torch.quint8),
    "per channel 2": lambda: per_channel(2, torch.qint8),
    "per channel, wide": lambda: per_channel(1, torch.qint32),
    "float parameters": lambda: float_qparams(torch.quint8, 6),
    "four bits": lambda: float_qparams(torch.quint4x2, 6),
    "four bits, odd columns": lambda: float_qparams(torch.quint4x2, 5),
    "two bits": lambda: float_qparams(torch.quint2x4, 8),
    "two bits, odd columns": lambda: float_qparams(torch.quint2x4, 7),
}


@pytest.mark.parametrize("name", QUANTIZED_TENSORS)
def test_a_quantized_tensor_reads_as_its_real_values(name: str, tmp_path: Path) -> None:
    ref = read({"w": QUANTIZED_TENSORS[name]()}, tmp_path)["w"]
    expected = loaded(tmp_path)["w"]
    got = ref.numpy()
    assert isinstance(got, np.ndarray)
    assert ref.shape == tuple(expected.shape)
    assert ref.dtype.name == str(expected.dtype).removeprefix("torch.")
    assert got.dtype == np.float32
    # torch rounds scale * code once in float32.
    np.testing.assert_allclose(got, expected.dequantize().numpy(), rtol=1e-6, atol=1e-6)


def test_scales_as_old_files_have_them_are_a_list(tmp_path: Path) -> None:
    codes = torch.arange(6, dtype=torch.int8)
    storage = torch.quantize_per_tensor(codes.float(), 1.0, 0, torch.qint8).storage()
    scheme = (torch.per_channel_affine, [0.5, 2.0], [0, 1], 0)
    value = Call(torch._utils._rebuild_qtensor, storage, 0, (2, 3), (3, 1), scheme, False, {})
    ref = read({"w": value}, tmp_path)["w"]
    np.testing.assert_allclose(ref.numpy(), loaded(tmp_path)["w"].dequantize().numpy())


SPARSE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse_coo": lambda t: t.to_sparse(),
    "sparse_csr": lambda t: t.to_sparse_csr(),
    "sparse_csc": lambda t: t.to_sparse_csc(),
    "sparse_bsr": lambda t: t.to_sparse_bsr((2, 2)),
    "sparse_bsc": lambda t: t.to_sparse_bsc((2, 2)),
}


@pytest.mark.parametrize("layout", SPARSE)
def test_a_sparse_tensor_holds_torch_s_values_and_its_zeros(layout: str, tmp_path: Path) -> None:
    dense = torch.zeros(4, 6)
    dense[0, 1], dense[2, 3], dense[3, 5] = 1.5, -2.0, 7.0
    ref = read({"w": SPARSE[layout](dense)}, tmp_path)["w"]
    values = loaded(tmp_path)["w"].values().numpy()
    assert ref.shape == (4, 6)
    np.testing.assert_array_equal(ref.numpy(), values)
    assert ref.implicit_zeros == 24 - values.size
    assert ref.note == f"{layout}, {values.size} stored"


def test_an_uncoalesced_tensor_holds_every_stored_value(tmp_path: Path) -> None:
    value = torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 0]], [1.0, 2.0, 3.0], (3, 2))
    ref = read({"w": value}, tmp_path)["w"]
    np.testing.assert_array_equal(ref.numpy(), loaded(tmp_path)["w"]._values().numpy())


def test_a_hybrid_sparse_tensor_counts_all_its_elements(tmp_path: Path) -> None:
    value = torch.sparse_coo_tensor([[0, 2]], torch.arange(6.0).reshape(2, 3), (4, 3))
    ref = read({"w": value}, tmp_path)["w"]
    assert (ref.shape, ref.held, ref.implicit_zeros) == ((4, 3), 6, 6)
    np.testing.assert_array_equal(ref.numpy(), loaded(tmp_path)["w"]._values().numpy())


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_holds_torch_s_values_one_after_the_other(layout: torch.layout, tmp_path: Path) -> None:
    value = torch.nested.nested_tensor(
        [torch.arange(6.0).reshape(2, 3), torch.arange(3.0).reshape(1, 3)], layout=layout
    )
    ref = read({"w": value}, tmp_path)["w"]
    back = loaded(tmp_path)["w"]
    np.testing.assert_array_equal(np.ravel(ref.numpy()), back.values().numpy().ravel())
    assert "2 parts" in ref.note


def test_a_meta_tensor_is_listed_without_values(tmp_path: Path) -> None:
    ref = read({"w": torch.empty(3, 4, device="meta", dtype=torch.bfloat16)}, tmp_path)["w"]
    assert (ref.shape, ref.dtype.name, ref.segments) == ((3, 4), "bf16", ())
    assert "meta" in ref.note
    with pytest.raises(ValueError, match="meta"):
        ref.numpy()


def test_the_parts_of_a_wrapper_subclass_are_listed(tmp_path: Path) -> None:
    checkpoint = read({"w": TwoTensor(torch.arange(6.0).reshape(2, 3), torch.ones(2, 3))}, tmp_path)
    back = loaded(tmp_path)["w"]
    assert checkpoint["w"].shape == tuple(back.shape)
    assert_equal(checkpoint["w.a"], back.a)
    assert_equal(checkpoint["w.b"], back.b)


def distributed(local: torch.Tensor, shape: tuple[int, ...]) -> Call:
    """A DTensor as torch pickles one, without a process group."""
    from torch.distributed.tensor import DTensor

    strides = torch.empty(shape, device="meta").stride()
    args = (DTensor, torch.float32, torch.Size(shape), strides, 0, torch.strided, torch.device("cpu"), False)
    return Call(
        _rebuild_from_type_v2, _rebuild_wrapper_subclass, DTensor, args, {"_local_tensor": local, "_spec": None}
    )


def test_a_dtensor_has_the_shape_of_the_whole_and_the_values_of_one_rank(tmp_path: Path) -> None:
    local = torch.arange(12.0).reshape(3, 4)
    checkpoint = read({"w": distributed(local, (6, 4))}, tmp_path)
    ref = checkpoint["w"]
    assert [t.name for t in checkpoint] == ["w"]
    assert (ref.shape, ref.stored_shape, ref.numel, ref.held) == ((6, 4), (3, 4), 24, 12)
    assert "DTensor" in ref.note
    np.testing.assert_array_equal(ref.numpy(), local.numpy())


def test_a_replicated_dtensor_is_whole(tmp_path: Path) -> None:
    local = torch.arange(12.0).reshape(3, 4)
    ref = read({"w": distributed(local, (3, 4))}, tmp_path)["w"]
    assert ref.held == 12
    np.testing.assert_array_equal(ref.numpy(), local.numpy())


@pytest.mark.parametrize("name", ["_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor"])
def test_a_tensor_of_another_device_kept_as_an_array_reads(name: str, tmp_path: Path) -> None:
    rebuild = getattr(torch._utils, name)
    value = Call(rebuild, np.arange(6, dtype=np.float32).reshape(2, 3), torch.float32, "cpu", False)
    assert_equal(read({"w": value}, tmp_path)["w"], loaded(tmp_path)["w"])


# -- views ----------------------------------------------------------------------------------------------

BASE = torch.arange(60.0).reshape(3, 4, 5)
VIEWS: dict[str, torch.Tensor] = {
    "transposed": BASE.transpose(0, 2),
    "sliced": BASE[1:, ::2, 1:4],
    "one row": BASE[2, 3],
    "one element": BASE[2, 3, 4],
    "expanded": BASE[:, :1].expand(3, 7, 5),
    "expanded scalar": torch.tensor(3.0).expand(2, 3),
    "unsqueezed": BASE[:, None],
    "overlapping": torch.arange(10.0).unfold(0, 4, 2),
    "diagonal": torch.arange(16.0).reshape(4, 4).diagonal(),
    "broadcast inside": BASE[:, :, :1].expand(3, 4, 5),
    "empty slice": BASE[3:],
    "offset": torch.arange(9.0)[5:],
    "as strided": torch.arange(30.0).as_strided((2, 3, 4), (1, 7, 2), 3),
    "no dimension of a slice": torch.arange(9.0)[4],
    "bool part": (BASE > 7)[1, 1:3],
    "complex part": torch.complex(BASE, -BASE)[:, 1].t(),
    "bfloat16 part": BASE.bfloat16()[:, ::3].permute(2, 0, 1),
    "float8 part": BASE.to(torch.float8_e5m2)[1:, ::2],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_reads_as_torch_reads_it(name: str, tmp_path: Path) -> None:
    assert_equal(read({"w": VIEWS[name]}, tmp_path)["w"], loaded(tmp_path)["w"])


def test_views_of_one_storage_take_its_bytes_once(tmp_path: Path) -> None:
    checkpoint = read({"a": BASE, "b": BASE.flatten(), "c": BASE[0]}, tmp_path)
    assert len({t.segments[0].offset for t in checkpoint}) == 1
    for name, value in loaded(tmp_path).items():
        assert_equal(checkpoint[name], value)


def test_only_the_same_elements_under_two_names_are_tied(tmp_path: Path) -> None:
    w = torch.randn(4, 4)
    checkpoint = read(
        {"w": w, "same": w, "alias": w.view(4, 4), "t": w.t(), "part": w[:2], "copy": w.clone()}, tmp_path
    )
    named = {checkpoint.tensors[i].name: first for i, first in aliases(checkpoint.tensors).items()}
    assert named == {"same": "w", "alias": "w", "t": "w"}


@pytest.mark.parametrize("seed", range(20))
def test_random_views_read_as_torch_reads_them(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    view = torch.arange(720.0).reshape(2, 3, 4, 5, 6)
    for _ in range(4):
        dim = dice.randrange(view.ndim)
        view = dice.choice(
            [
                lambda v, d: v.transpose(d, 0),
                lambda v, d: v.narrow(d, v.shape[d] // 2, v.shape[d] - v.shape[d] // 2),
                lambda v, d: v[(slice(None),) * d + (slice(None, None, 2),)],
                lambda v, d: v.unsqueeze(d).expand(*v.shape[:d], 3, *v.shape[d:]),
                lambda v, d: v.select(d, v.shape[d] - 1),
            ]
        )(view, dim)
        if view.ndim == 0:
            break
    assert_equal(read({"w": view}, tmp_path)["w"], loaded(tmp_path)["w"])


# -- NumPy ----------------------------------------------------------------------------------------------

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    **{f"dtype {d}": np.arange(6).reshape(2, 3).astype(d) for d in ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1",
                                                                     "<u8", "<u4", "<u2", "u1", "?", "<c8", "<c16")},
    **{f"big-endian {d}": np.arange(6).reshape(2, 3).astype(d) for d in (">f8", ">f4", ">i2", ">u4", ">c8")},
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "view": np.arange(12.0).reshape(3, 4)[:, ::2],
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_inside_a_checkpoint_reads_as_numpy_reads_it(name: str, protocol: int, tmp_path: Path) -> None:
    ref = read({"a": ARRAYS[name]}, tmp_path, protocol)["a"]
    expected = loaded(tmp_path)["a"]
    got = ref.numpy()
    assert isinstance(got, np.ndarray)
    assert got.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_a_pickled_array_reads_as_numpy_reads_it(name: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": ARRAYS[name]}, protocol))
    np.testing.assert_array_equal(inspectcli.open_checkpoint(path)["a"].numpy(), ARRAYS[name])


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([{}, None]), np.zeros(2, [("x", "f4"), ("y", "i2")])])
def test_arrays_of_text_objects_and_records_are_not_listed(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    assert [t.name for t in read({"a": array, "w": torch.ones(1)}, tmp_path)] == ["w"]


def test_a_pickled_state_dict_keeps_its_storages_inside(tmp_path: Path) -> None:
    state = torch.nn.Linear(3, 2).state_dict()
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(state))
    checkpoint = inspectcli.open_checkpoint(path)
    assert checkpoint.format == "pickle"
    for name, value in pickle.loads(path.read_bytes()).items():
        assert_equal(checkpoint[name], value)


# -- lies -----------------------------------------------------------------------------------------------


def v2(storage: object, offset: object, size: object, stride: object) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


FLOATS = torch.arange(10.0).storage()
QINTS = torch.quantize_per_tensor(torch.zeros(6), 1.0, 0, torch.qint8).storage()
DEEP: list[object] = []
for _ in range(3_000):
    DEEP = [DEEP]


def nested_rebuilds(depth: int) -> object:
    made: object = torch.ones(1)
    for _ in range(depth):
        made = Call(torch._utils._rebuild_parameter, made, False, {})
    return made


LIES: dict[str, object] = {
    "too large": v2(FLOATS, 0, (11,), (1,)),
    "offset beyond": v2(FLOATS, 10, (1,), (1,)),
    "stride beyond": v2(FLOATS, 0, (2, 2), (9, 1)),
    "negative size": v2(FLOATS, 0, (-1,), (1,)),
    "negative stride": v2(FLOATS, 5, (2,), (-1,)),
    "negative offset": v2(FLOATS, -1, (2,), (1,)),
    "wrap-around": v2(FLOATS, 0, (2**32, 2**32), (0, 0)),
    "wrap-around of strides": v2(FLOATS, 0, (2, 2), (2**63, 2**63)),
    "huge": v2(FLOATS, 0, (2**61,), (1,)),
    "many dimensions": v2(FLOATS, 0, (1,) * 65, (1,) * 65),
    "sizes without strides": v2(FLOATS, 0, (2, 2), (1,)),
    "size is bool": v2(FLOATS, 0, (True,), (1,)),
    "size is float": v2(FLOATS, 0, (2.0,), (1,)),
    "size is text": v2(FLOATS, 0, "12", (1,)),
    "offset is text": v2(FLOATS, "0", (1,), (1,)),
    "offset is bool": v2(FLOATS, True, (1,), (1,)),
    "no storage": v2(None, 0, (1,), (1,)),
    "storage is a list": v2([1.0], 0, (1,), (1,)),
    "no arguments": Call(torch._utils._rebuild_tensor_v2),
    "size is deep": v2(FLOATS, 0, (DEEP,), (1,)),
    "no such dtype": Call(torch._utils._rebuild_tensor_v3, FLOATS, 0, (1,), (1,), False, {}, torch.strided),
    "dtype is text": Call(torch._utils._rebuild_tensor_v3, FLOATS, 0, (1,), (1,), False, {}, "float32"),
    "dtype wider than the storage": Call(
        torch._utils._rebuild_tensor_v3, FLOATS, 0, (10,), (1,), False, {}, torch.float64
    ),
    "parameter of nothing": Call(torch._utils._rebuild_parameter, None, False, {}),
    "parameters without end": nested_rebuilds(200),
    "quantized along no axis": Call(
        torch._utils._rebuild_qtensor, QINTS, 0, (2, 3), (3, 1), (torch.per_channel_affine, [1.0], [0], 5), False, {}
    ),
    "quantized along a deep axis": Call(
        torch._utils._rebuild_qtensor, QINTS, 0, (2, 3), (3, 1), (torch.per_channel_affine, [1.0], [0], DEEP), False, {}
    ),
    "quantized with text": Call(
        torch._utils._rebuild_qtensor, QINTS, 0, (2, 3), (3, 1), (torch.per_tensor_affine, "x", 0), False, {}
    ),
    "quantized by nothing": Call(torch._utils._rebuild_qtensor, QINTS, 0, (2, 3), (3, 1), None, False, {}),
    "too few scales": Call(
        torch._utils._rebuild_qtensor, QINTS, 0, (2, 3), (3, 1), (torch.per_channel_affine, [1.0], [0], 0), False, {}
    ),
    "sparse of nothing": Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ()),
    "sparse of text": Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ("a", "b", "c")),
    "sparse of impossible size": Call(
        torch._utils._rebuild_sparse_tensor, torch.sparse_coo, (torch.zeros(1, 1), torch.ones(1), (2**40, 2**40))
    ),
    "meta of impossible size": Call(_rebuild_meta_tensor_no_storage, torch.float32, (2**62, 2**62), (1, 1), False),
    "wrapper of impossible size": Call(
        _rebuild_from_type_v2,
        _rebuild_wrapper_subclass,
        torch.Tensor,
        (torch.Tensor, torch.float32, (2**62, 4), (4, 1)),
        {},
    ),
    "state of a subclass is a number": Call(_rebuild_from_type_v2, 5, torch.Tensor, 6, 7),
    "items set on a tensor": None,
    "blob that is no file": v2(Call(torch.storage._load_from_bytes, b"junk"), 0, (1,), (1,)),
    "blob that is text": v2(Call(torch.storage._load_from_bytes, "junk"), 0, (1,), (1,)),
}  # fmt: skip


class TensorWithItems(Call):
    def __reduce__(self) -> tuple[object, ...]:
        args = (FLOATS, 0, (1,), (1,), False, {})
        return torch._utils._rebuild_tensor_v2, args, None, None, iter([("key", "value")])


LIES["items set on a tensor"] = TensorWithItems(None)


def outcome(path: Path) -> str:
    """`error`, `problem`, or `values` where every tensor of the file can be read."""
    try:
        checkpoint = inspectcli.open_checkpoint(path)
    except PinspectError as error:
        str(error)
        return "error"
    for ref in checkpoint:
        if ref.problem:
            return "problem"
        try:
            ref.numpy()
        except PinspectError:
            return "problem"
        except ValueError as error:
            if "no values" not in str(error):
                raise
            return "problem"
    return "values"


@pytest.mark.parametrize("name", LIES)
def test_a_lying_tensor_is_an_error_or_a_problem(name: str, tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        path = saved({"good": torch.ones(2), "w": LIES[name]}, tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert outcome(path) in ("error", "problem")


def blob_in_a_blob(depth: int) -> object:
    """`_load_from_bytes` of a stream whose object is again one."""
    value: object = torch.ones(1).storage()
    for _ in range(depth):
        file = io.BytesIO()
        torch.save(value, file, pickle_protocol=4, _use_new_zipfile_serialization=False)
        value = Call(torch.storage._load_from_bytes, file.getvalue())
    return v2(value, 0, (1,), (1,))


def test_a_blob_in_a_blob_reads_as_torch_reads_it(tmp_path: Path) -> None:
    assert_equal(read({"w": blob_in_a_blob(3)}, tmp_path, 4)["w"], loaded(tmp_path)["w"])


def test_blobs_in_blobs_without_end_are_refused(tmp_path: Path) -> None:
    assert outcome(saved({"w": blob_in_a_blob(700)}, tmp_path, 4)) in ("error", "problem")


# -- lies about storages --------------------------------------------------------------------------------


def with_pid(pid: object, folder: Path, contiguous: bool = True) -> Path:
    """A checkpoint whose only storage has this persistent id, and one record `data/0` of 40 bytes."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return pid if isinstance(obj, torch.storage.TypedStorage) else None

    file = io.BytesIO()
    Pickler(file, 2).dump({"w": v2(FLOATS, 0, (10,), (1,)) if contiguous else FLOATS})
    path = folder / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", file.getvalue())
        archive.writestr("x/data/0", np.arange(10, dtype=np.float32).tobytes())
        archive.writestr("x/version", "3\n")
    return path


def test_the_honest_persistent_id_reads(tmp_path: Path) -> None:
    path = with_pid(("storage", torch.FloatStorage, "0", "cpu", 10), tmp_path)
    np.testing.assert_array_equal(inspectcli.open_checkpoint(path)["w"].numpy(), np.arange(10))


PIDS: dict[str, object] = {
    "one element more": ("storage", torch.FloatStorage, "0", "cpu", 11),
    "one element less": ("storage", torch.FloatStorage, "0", "cpu", 9),
    "a wider type": ("storage", torch.DoubleStorage, "0", "cpu", 10),
    "no such record": ("storage", torch.FloatStorage, "1", "cpu", 10),
    "an escaping key": ("storage", torch.FloatStorage, "../data.pkl", "cpu", 10),
    "an absolute key": ("storage", torch.FloatStorage, "/etc/passwd", "cpu", 10),
    "an empty key": ("storage", torch.FloatStorage, "", "cpu", 10),
    "a long key": ("storage", torch.FloatStorage, "0" * 200, "cpu", 10),
    "a deep key": ("storage", torch.FloatStorage, DEEP, "cpu", 10),
    "a negative count": ("storage", torch.FloatStorage, "0", "cpu", -10),
    "a count that is a bool": ("storage", torch.FloatStorage, "0", "cpu", True),
    "a count that is a float": ("storage", torch.FloatStorage, "0", "cpu", 10.0),
    "a huge count": ("storage", torch.FloatStorage, "0", "cpu", 2**80),
    "a deep count": ("storage", torch.FloatStorage, "0", "cpu", DEEP),
    "a class that is no storage": ("storage", torch.nn.Linear, "0", "cpu", 10),
    "a class that is text": ("storage", "FloatStorage", "0", "cpu", 10),
    "a view that is a number": ("storage", torch.FloatStorage, "0", "cpu", 10, 5),
    "a view of two fields": ("storage", torch.FloatStorage, "0", "cpu", 10, ("k", 1)),
    "a view beyond the end": ("storage", torch.FloatStorage, "0", "cpu", 10, ("k", 0, 99)),
    "a view before the start": ("storage", torch.FloatStorage, "0", "cpu", 10, ("k", -1, 5)),
    "a view of a deep key": ("storage", torch.FloatStorage, "0", "cpu", 10, (DEEP, 5, 99)),
    "too few fields": ("storage", torch.FloatStorage, "0"),
    "a module": ("module", torch.nn.Linear, "file", "source"),
    "text": "text",
    "a number": 17,
}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", PIDS)
def test_a_lying_persistent_id_is_refused(name: str, bare: bool, tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        path = with_pid(PIDS[name], tmp_path, not bare)
    finally:
        sys.setrecursionlimit(limit)
    try:
        checkpoint = inspectcli.open_checkpoint(path)
    except PinspectError:
        return
    assert all(t.problem for t in checkpoint)


def test_a_size_that_contradicts_the_record_names_both(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="storage '0' is 40 bytes in the archive, 44 according to the pickle"):
        inspectcli.open_checkpoint(with_pid(("storage", torch.FloatStorage, "0", "cpu", 11), tmp_path))


# -- mutations ------------------------------------------------------------------------------------------


def everything() -> dict[str, object]:
    return {
        "f": torch.arange(6.0).reshape(2, 3).t(),
        "p": torch.nn.Parameter(torch.ones(2)),
        "q": per_channel(1, torch.qint8),
        "s": torch.eye(3).to_sparse(),
        "c": torch.ones(2, dtype=torch.complex64).conj(),
        "n": np.arange(4.0),
        "m": torch.empty(2, device="meta"),
        "e": torch.ones(2).to(torch.float8_e4m3fn),
        "d": distributed(torch.ones(2, 2), (4, 2)),
    }


def rezipped(members: dict[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_pickle_of_tensors_raises_our_errors_only(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    with zipfile.ZipFile(saved(everything(), tmp_path)) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    original = members["x/data.pkl"]
    seen: dict[str, int] = {}
    for i in range(250):
        data = bytearray(original)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.choice([dice.randrange(256), *b"K(tRN\x85}s]\x00\xff"])
        path = tmp_path / f"{i}.pt"
        rezipped({**members, "x/data.pkl": bytes(data)}, path)
        result = outcome(path)
        seen[result] = seen.get(result, 0) + 1
    assert seen["error"]
    assert seen["values"] + seen.get("problem", 0)


def test_deep_nesting_is_a_note_and_not_a_recursion_error(tmp_path: Path) -> None:
    body = b"\x80\x02}X\x04\x00\x00\x00deep" + b"]" * 100_000 + b"a" * 99_999 + b"s."
    with zipfile.ZipFile(saved({"w": torch.ones(1)}, tmp_path)) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["x/data.pkl"] = members["x/data.pkl"][:-1] + body[2:-1] + b"\x86."
    rezipped(members, tmp_path / "deep.pt")
    checkpoint = inspectcli.open_checkpoint(tmp_path / "deep.pt")
    assert [t.name for t in checkpoint] == ["0.w"]
    assert "objects nested deeper than 200 levels were not looked at" in checkpoint.notes


def test_a_tree_that_repeats_itself_is_visited_once(tmp_path: Path) -> None:
    node: object = [1]
    for _ in range(60):
        node = [node, node]
    checkpoint = read({"laughs": node, "w": torch.ones(1)}, tmp_path)
    assert [t.name for t in checkpoint] == ["w"]


def test_a_cycle_ends(tmp_path: Path) -> None:
    value: dict[str, object] = {"w": torch.ones(1)}
    value["self"] = value
    assert [t.name for t in read(value, tmp_path)] == ["w"]
