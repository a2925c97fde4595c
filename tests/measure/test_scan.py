"""The one loop over all tensors: what is read, what is not, and what happens when reading fails."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inspectcli
from inspectcli.encodings.zip import DEFLATE
from inspectcli.measure.figures import Figures, Sample
from inspectcli.measure.sample import Sampled
from inspectcli.measure.scan import ScannedTensor, scan
from inspectcli.measure.stats import Stats
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Checksum, Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Affine, Checkpoint, TensorRef
from inspectcli.tensors.values import BLOCK


class Counting:
    """A source in memory that counts the bytes read from it."""

    name = "counting"

    def __init__(self, data: bytes) -> None:
        self._memory = Memory(self.name, data)
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
        self._memory.read_into(offset, buffer)


class Forbidden:
    """A source that nobody may read."""

    name = "forbidden"
    size = 1 << 40

    def read_at(self, offset: int, n: int) -> bytes:
        raise AssertionError("values were read")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise AssertionError("values were read")


ONES = np.ones(10, "<f4").tobytes()


def ref(name: str, source: Any, dtype: str = "f32", shape: tuple[int, ...] = (10,), **more: Any) -> TensorRef:
    nbytes = more.pop("nbytes", None)
    stored = DTYPES[dtype].nbytes(int(np.prod(shape))) if nbytes is None else nbytes
    return TensorRef(name, DTYPES[dtype], shape, segments=(Segment(source, 0, stored),), **more)


def good(name: str = "good") -> TensorRef:
    return ref(name, Memory(name, ONES))


def checkpoint(*refs: TensorRef, checksums: tuple[Checksum, ...] = ()) -> Checkpoint:
    return Checkpoint(path="test", format="test", size=0, tensors=refs, checksums=checksums)


def scanned(*refs: TensorRef, checksums: tuple[Checksum, ...] = ()) -> dict[str, ScannedTensor]:
    return {s.ref.name: s for s in scan(checkpoint(*refs, checksums=checksums))}


def scan_saved(value: Any, folder: Path) -> dict[str, ScannedTensor]:
    path = folder / "saved.pt"
    torch.save(value, path)
    return {s.ref.name: s for s in scan(inspectcli.open_checkpoint(path))}


def is_sound(tensor: ScannedTensor) -> bool:
    return not tensor.problem and tensor.stats is not None and (tensor.stats.count, tensor.stats.mean) == (10, 1.0)


# -- tied tensors ---------------------------------------------------------------------------------------


def test_a_tied_tensor_is_read_once_and_named() -> None:
    source = Counting(ONES)
    found = scanned(*(ref(name, source, storage=("same",)) for name in ("first", "second", "third")))
    assert source.bytes_read == len(ONES)
    assert {name: s.alias_of for name, s in found.items()} == {"first": "", "second": "first", "third": "first"}
    assert is_sound(found["first"])
    assert found["second"].stats is None


def test_tensors_without_an_identity_are_not_tied() -> None:
    source = Counting(ONES)
    found = scanned(ref("first", source), ref("second", source))
    assert source.bytes_read == 2 * len(ONES)
    assert is_sound(found["second"])
    assert not found["second"].alias_of


def test_empty_tensors_are_not_tied() -> None:
    empties = [TensorRef(name, DTYPES["f32"], (0,), storage=("same",)) for name in ("first", "second")]
    assert [s.alias_of for s in scanned(*empties).values()] == ["", ""]


def test_tied_weights_of_a_saved_model_are_named(tmp_path: Path) -> None:
    weight = torch.randn(4, 3)
    found = scan_saved({"in": weight, "out": weight, "view": weight.T, "part": weight[:2]}, tmp_path)
    assert {name: s.alias_of for name, s in found.items()} == {"in": "", "out": "in", "view": "in", "part": ""}
    assert [name for name, s in found.items() if s.stats is None] == ["out", "view"]


# -- a bad tensor ---------------------------------------------------------------------------------------


def flip_last_byte(path: Path, segment: Segment) -> None:
    data = bytearray(path.read_bytes())
    data[segment.offset + segment.nbytes - 1] ^= 1
    path.write_bytes(data)


def write_torch(path: Path) -> None:
    torch.save({name: torch.ones(10) for name in ("a", "b", "c")}, path)


def write_npz(path: Path) -> None:
    np.savez(path, **{name: np.ones(10, "f4") for name in ("a", "b", "c")})  # type: ignore[arg-type]


@pytest.mark.parametrize(("write", "suffix"), [(write_torch, ".pt"), (write_npz, ".npz")])
@pytest.mark.parametrize("bad", ["a", "b", "c"])
def test_a_crc_mismatch_is_the_problem_of_one_tensor(
    write: Callable[[Path], None], suffix: str, bad: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    write(path)
    flip_last_byte(path, inspectcli.open_checkpoint(path)[bad].segments[0])
    found = {s.ref.name: s for s in scan(inspectcli.open_checkpoint(path))}
    assert found.pop(bad).problem.startswith("CRC mismatch")
    assert len(found) == 2
    assert all(is_sound(s) for s in found.values())


def test_a_crc_mismatch_touches_the_tied_tensor_too(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weight = torch.ones(10)
    torch.save({"in": weight, "out": weight, "other": torch.ones(10)}, path)
    flip_last_byte(path, inspectcli.open_checkpoint(path)["in"].segments[0])
    problems = {s.ref.name: s.problem[:12] for s in scan(inspectcli.open_checkpoint(path))}
    assert problems == {"in": "CRC mismatch", "out": "CRC mismatch", "other": ""}


def test_many_checksums_are_all_compared() -> None:
    sources = [Memory(f"t{i}", ONES) for i in range(60)]
    refs = [ref(source.name, source) for source in sources]
    crc = zlib.crc32(ONES)
    checksums = tuple(Checksum(s.name, s, 0, len(ONES), crc ^ (i % 7 == 0)) for i, s in enumerate(sources))
    found = scanned(*refs, checksums=checksums)
    assert [name for name, s in found.items() if s.problem] == [f"t{i}" for i in range(0, 60, 7)]


def test_a_checksum_of_several_blocks_is_right() -> None:
    data = np.arange(700_000, dtype="<f4").tobytes()
    source = Memory("large", data)
    for crc, problem in ((zlib.crc32(data), False), (zlib.crc32(data) ^ 1, True)):
        found = scanned(ref("x", source, shape=(700_000,)), checksums=(Checksum("x", source, 0, len(data), crc),))
        assert bool(found["x"].problem) is problem


def one_scale() -> TensorRef:
    return ref("scale", Memory("scale", np.ones(1).tobytes()), "f64", (1,))


def missing() -> TensorRef:
    return TensorRef("scale", DTYPES["f64"], (3,), problem="its storage is missing")


BAD: dict[str, Callable[[], TensorRef]] = {
    "a cut storage": lambda: ref("bad", Memory("cut", ONES[:39])),
    "no byte left": lambda: ref("bad", Memory("cut", b"")),
    "a cut strided storage": lambda: ref("bad", Memory("cut", ONES[:30]), shape=(2, 3), strides=(5, 2), nbytes=40),
    "known to be bad": lambda: ref("bad", Forbidden(), problem="its storage is missing"),
    "bytes that do not inflate": lambda: TensorRef(
        "bad", DTYPES["f32"], (10,), segments=(Segment(Memory("x", b"\xff" * 50), 0, 40, DEFLATE, 50),)
    ),
    "an overlapping view without end": lambda: ref(
        "bad", Memory("x", bytes(1 << 18)), shape=(1 << 15, 1 << 15), strides=(1, 1), nbytes=1 << 18
    ),
    "a cut scale": lambda: ref(
        "bad", Memory("x", bytes(3)), "qint8", (3,),
        affine=Affine(axis=0, scales=ref("s", Memory("cut", b"1"), "f64", (3,)), zero_points=one_scale()),
    ),
    "fewer scales than channels": lambda: ref(
        "bad", Memory("x", bytes(3)), "qint8", (3,),
        affine=Affine(axis=0, scales=one_scale(), zero_points=one_scale()),
    ),
    "scales that are missing": lambda: ref(
        "bad", Memory("x", bytes(3)), "qint8", (3,), affine=Affine(axis=0, scales=missing(), zero_points=missing()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_tensor_does_not_stop_the_rest(case: str) -> None:
    found = scanned(good("before"), BAD[case](), good("after"))
    assert list(found) == ["before", "bad", "after"]
    assert found["bad"].problem
    assert found["bad"].stats is None
    assert is_sound(found["before"])
    assert is_sound(found["after"])


def test_a_file_cut_after_opening_has_its_problem_in_the_cut_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_torch(path)
    opened = inspectcli.open_checkpoint(path)
    path.write_bytes(path.read_bytes()[: opened["b"].segments[0].offset + 8])
    assert [(s.ref.name, bool(s.problem)) for s in scan(opened)] == [("a", False), ("b", True), ("c", True)]


@pytest.mark.parametrize("value", [np.finfo("f8").max, np.finfo("f8").min, np.finfo("f8").smallest_subnormal])
def test_a_mask_of_the_most_extreme_value_is_scanned(value: float, tmp_path: Path) -> None:
    mask = torch.zeros(4, 4, dtype=torch.float64)
    mask[0, 1] = value
    found = scan_saved({"mask": mask, "weight": torch.ones(10)}, tmp_path)
    stats = found["mask"].stats
    assert stats is not None
    assert (stats.count, stats.zeros, stats.abs_max) == (16, 15, abs(value))
    assert is_sound(found["weight"])


# -- what is not read -----------------------------------------------------------------------------------

UNREAD: dict[str, dict[str, Any]] = {
    "packed": {"packed": True},
    "opaque": {"dtype": "bits8"},
    "bad": {"problem": "its storage is missing"},
}


@pytest.mark.parametrize("case", UNREAD)
def test_values_without_a_mean_are_not_read(case: str) -> None:
    (found,) = scan(checkpoint(ref("x", Forbidden(), **UNREAD[case])))
    assert found.stats is None
    assert found.sampled is None
    assert found.problem == UNREAD[case].get("problem", "")


def test_a_meta_tensor_has_no_stats(tmp_path: Path) -> None:
    found = scan_saved({"x": torch.empty(3, device="meta"), "y": torch.ones(10)}, tmp_path)
    assert (found["x"].stats, found["x"].problem) == (None, "")
    assert is_sound(found["y"])


def test_headers_only_reads_no_values() -> None:
    source = Forbidden()
    refs = (ref("a", source, storage=("same",)), ref("b", source, storage=("same",)), ref("c", source, problem="cut"))
    checksums = (Checksum("a", source, 0, 40, 1),)
    found = list(scan(checkpoint(*refs, checksums=checksums), (), progress=pytest.fail))
    assert found == [ScannedTensor(refs[0]), ScannedTensor(refs[1], "a"), ScannedTensor(refs[2], problem="cut")]


def test_reading_reads_what_headers_only_does_not() -> None:
    with pytest.raises(AssertionError, match="values were read"):
        list(scan(checkpoint(ref("a", Forbidden()))))


def test_scanned_tensors_do_not_keep_their_samples() -> None:
    (found,) = scan(checkpoint(good()))
    assert found.sampled is not None
    assert found.sampled.size == 10
    assert set(found.results) == {Figures, Sample}
    assert [type(result) for result in found.results.values()] == [Stats, Sampled]


# -- progress -------------------------------------------------------------------------------------------


def deflated(n: int) -> TensorRef:
    data = np.arange(n, dtype="<f4").tobytes()
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stored = encoder.compress(data) + encoder.flush()
    segment = Segment(Memory("x", stored), 0, len(data), DEFLATE, len(stored))
    return TensorRef("x", DTYPES["f32"], (n,), segments=(segment,))


def zeros(dtype: str, shape: tuple[int, ...], **more: Any) -> TensorRef:
    return ref("x", Memory("x", bytes(1 << 22)), dtype, shape, **more)


MEASURED: dict[str, tuple[TensorRef, int]] = {
    "nothing": (zeros("f32", (0,)), 0),
    "float32": (zeros("f32", (1000, 700)), 2_800_000),
    "bfloat16": (zeros("bf16", (1000, 700)), 1_400_000),
    "float8": (zeros("f8_e4m3", (1000, 700)), 700_000),
    "float6": (zeros("f6_e2m3", (1000, 700)), 525_000),
    "float4": (zeros("f4", (1000, 700)), 350_000),
    "complex64": (zeros("c64", (1000, 300)), 2_400_000),
    "big-endian": (zeros("i16", (1000, 700), big_endian=True), 1_400_000),
    "transposed": (zeros("f32", (1000, 700), strides=(1, 1000)), 2_800_000),
    "expanded": (zeros("f32", (1000, 700), strides=(1, 0), nbytes=4000), 4000),
    "deflated": (deflated(400_000), 1_600_000),
    "quantized": (zeros("qint8", (1000, 700), affine=Affine(0.5, 3)), 700_000),
    "quantized to 4 bits": (zeros("quint4x2", (1000, 700), affine=Affine(0.5, 3)), 350_000),
    "packed": (zeros("u8", (1000,), packed=True), 0),
}


@pytest.mark.parametrize("case", MEASURED)
def test_progress_adds_up_to_the_bytes_of_the_elements(case: str) -> None:
    tensor, expected = MEASURED[case]
    told: list[int] = []
    list(scan(checkpoint(tensor), progress=told.append))
    assert sum(told) == expected


def test_progress_adds_up_to_the_bytes_read_from_the_source() -> None:
    sources = [Counting(bytes(4 * n)) for n in (10, 300_000, 600_001)]
    refs = [ref(f"t{i}", s, shape=(s.size // 4,), storage=(i,)) for i, s in enumerate(sources)]
    refs.append(ref("tied", sources[0], storage=(0,)))
    told: list[int] = []
    list(scan(checkpoint(*refs), progress=told.append))
    assert sum(told) == sum(s.bytes_read for s in sources) == 4 * 900_011
    assert max(told) <= BLOCK


# -- threads --------------------------------------------------------------------------------------------


def test_a_file_that_is_worth_threads_gives_the_same_figures() -> None:
    rng = np.random.default_rng(0)
    arrays = {f"t{i}": rng.standard_normal(1 << 20).astype("<f4") for i in range(5)}
    found = scanned(*(ref(name, Memory(name, x.tobytes()), shape=x.shape) for name, x in arrays.items()))
    assert list(found) == list(arrays)
    for name, x in arrays.items():
        stats = found[name].stats
        assert stats is not None
        assert (stats.count, stats.low, stats.high) == (x.size, x.min(), x.max())
        assert stats.mean == pytest.approx(x.astype(np.float64).mean(), rel=1e-9, abs=1e-12)


class Failing:
    """A source with a bug, for every thread that reads from it."""

    name = "failing"
    size = 1 << 40

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def read_at(self, offset: int, n: int) -> bytes:
        raise self._error

    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise self._error


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("bad", range(4))
def test_what_a_thread_raises_reaches_the_caller(error: BaseException, bad: int) -> None:
    sources: list[Any] = [Memory(f"{i}", bytes(4 << 20)) for i in range(4)]
    sources[bad] = Failing(error)
    with pytest.raises(type(error)):
        scanned(*(ref(f"t{i}", source, shape=(1 << 20,)) for i, source in enumerate(sources)))


def test_a_checksum_is_compared_while_the_tensor_is_read_and_marks_all_who_share_the_bytes() -> None:
    source = Counting(bytes(8 << 20))
    check = Checksum("data/0", source, 0, source.size, zlib.crc32(bytes(8 << 20)) ^ 1)
    segment = Segment(source, 0, source.size, crc=check.crc)
    whole = TensorRef("whole", DTYPES["f32"], (2 << 20,), segments=(segment,))
    part = ref("part", source, shape=(10,))
    found = scanned(whole, part, good(), checksums=(check,))
    assert source.bytes_read == source.size + 40
    assert {name: s.problem[:23] for name, s in found.items()} == {
        "whole": "CRC mismatch: the bytes",
        "part": "CRC mismatch: the bytes",
        "good": "",
    }


# -- the first non-finite value -------------------------------------------------------------------------

NONFINITE = (float("nan"), float("inf"), float("-inf"))

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.T,
    "permuted": lambda t: t.reshape(2, 4, 10).permute(2, 0, 1),
    "sliced": lambda t: t[::2, 1::3],
    "sliced and transposed": lambda t: t[::2, 1::3].T,
    "overlapping": lambda t: t.reshape(-1).unfold(0, 7, 3),
    "overlapping the other way": lambda t: t.reshape(-1).unfold(0, 7, 3).T,
    "expanded": lambda t: t[:, :1].expand(8, 5),
    "expanded in front": lambda t: t[:, None].expand(8, 3, 10),
    "expanded and transposed": lambda t: t[0].expand(4, 10).T,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float8_e5m2], ids=str)
@settings(max_examples=8, deadline=None)
@given(spots=st.dictionaries(st.integers(0, 79), st.sampled_from(NONFINITE), min_size=1, max_size=4))
def test_the_first_nonfinite_index_is_in_c_order(
    view: str, dtype: torch.dtype, spots: dict[int, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = torch.ones(80)
    for position, bad in spots.items():
        base[position] = bad
    tensor = VIEWS[view](base.reshape(8, 10).to(dtype))
    x = tensor.float().numpy().ravel()
    stats = scan_saved({"x": tensor}, tmp_path_factory.getbasetemp())["x"].stats
    assert stats is not None
    expected = np.flatnonzero(~np.isfinite(x))
    assert stats.nonfinite == expected.size
    assert stats.first_nonfinite == (int(expected[0]) if expected.size else None)


@pytest.mark.parametrize("view", ["contiguous", "transposed", "sliced and transposed"])
def test_the_first_nonfinite_complex_value_is_in_c_order(view: str, tmp_path: Path) -> None:
    base = torch.ones(80, dtype=torch.complex64)
    base[[41, 67]] = complex(1, float("nan"))
    tensor = VIEWS[view](base.reshape(8, 10))
    stats = scan_saved({"x": tensor}, tmp_path)["x"].stats
    assert stats is not None
    assert stats.first_nonfinite == int(np.flatnonzero(~np.isfinite(tensor.numpy().ravel()))[0])


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_nonfinite_index_of_an_npy_file_is_in_c_order(order: Any, tmp_path: Path) -> None:
    x = np.ones((4, 6), order=order)
    x[1, 4] = x[3, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    (found,) = scan(inspectcli.open_checkpoint(tmp_path / "x.npy"))
    assert found.stats is not None
    assert found.stats.first_nonfinite == 10
