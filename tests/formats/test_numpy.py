"""NumPy's .npy and .npz: every array reads as NumPy reads it, and no pickle inside is ever touched."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.locations import in_memory
from support.work import processor_seconds

from inspectcli.commands.inspect.run import inspect_path
from inspectcli.encodings.zip import DEFLATE
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError
from inspectcli.formats import open_checkpoint, open_file
from inspectcli.formats.numpy import MAX_HEADER
from inspectcli.tensors.codecs import RAW
from inspectcli.tensors.model import Checkpoint, TensorRef

ml_dtypes = pytest.importorskip("ml_dtypes")

Array = np.ndarray[Any, Any]

CODES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "c8", "c16"]
DTYPES = ["|b1", *(f"{order}{code}" for code in CODES for order in "<>")]
NAMES = {
    "f8": "f64", "f4": "f32", "f2": "f16", "i8": "i64", "i4": "i32", "i2": "i16", "i1": "i8", "u8": "u64",
    "u4": "u32", "u2": "u16", "u1": "u8", "b1": "bool", "c8": "c64", "c16": "c128",
}  # fmt: skip
SHAPES = [(), (1,), (7,), (0,), (3, 4), (0, 5), (5, 0, 2), (2, 3, 4), (1, 1, 1, 6), (2,) * 8]


def npy(array: Array, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def raw_npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    """An array file with this very header."""
    text = header if isinstance(header, bytes) else header.encode("latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def opened(data: bytes) -> Checkpoint:
    return open_file(in_memory("array.npy", data))


def only(data: bytes) -> TensorRef:
    (tensor,) = opened(data)
    return tensor


def check(tensor: TensorRef, array: Array) -> None:
    assert tensor.problem == ""
    assert tensor.dtype.name == NAMES[array.dtype.str[1:]]
    got = tensor.numpy()
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert got.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def sample(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Random bits as an array: infinities, NaNs and extremes too."""
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.frombuffer(random.Random(seed).randbytes(n), np.uint8)
    return ((raw & 1).astype(bool) if dtype == "|b1" else raw.view(dtype)).reshape(shape)


# -- .npy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_type_shape_and_order_reads_as_numpy_reads_it(dtype: str, order: Any) -> None:
    for shape in SHAPES:
        data = npy(np.asarray(sample(dtype, shape), order=order))
        check(only(data), np.load(io.BytesIO(data)))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0))),
    st.booleans(),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_every_header_version_reads_back(array: Array, fortran: bool, version: tuple[int, int]) -> None:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asfortranarray(array) if fortran else array, version)
    check(only(out.getvalue()), np.load(io.BytesIO(out.getvalue())))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "|u1", "<c16"])
def test_an_array_larger_than_a_block_reads_back(dtype: str, order: Any) -> None:
    array = np.asarray(sample(dtype, (1024, 3072 // np.dtype(dtype).itemsize)), order=order)
    check(only(npy(array)), array)


def test_the_name_is_that_of_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "my.weights.npy", np.zeros(3))
    assert [t.name for t in open_checkpoint(tmp_path / "my.weights.npy")] == ["my.weights"]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }          \n",
        "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
    ],
)
def test_headers_of_other_writers_are_read(header: str) -> None:
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    check(only(raw_npy(header, array.tobytes())), array)


def test_bfloat16_is_read_from_the_two_bytes_that_numpy_keeps() -> None:
    array = np.array([1.5, -3.0, np.inf, 1e-40, 3e38], ml_dtypes.bfloat16)
    tensor = only(npy(array))
    assert (tensor.dtype.name, tensor.note) == ("bf16", "V2: read as bf16")
    np.testing.assert_array_equal(tensor.numpy(), array.astype(np.float32))


# -- what holds no numbers ------------------------------------------------------------------------------


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_an_array_of_objects_is_a_hazard_and_never_loaded(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "x.npy"
    np.save(path, np.array([Bomb(mark), None], object), allow_pickle=True)
    report = inspect_path(str(path))
    assert report.tensors == ()
    assert [(h.where, "pickle" in h.what) for h in report.hazards] == [("x", True)]
    assert not mark.exists()
    np.load(path, allow_pickle=True)
    assert mark.exists()


def test_objects_beside_numbers_are_a_hazard_in_an_npz(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "x.npz"
    np.savez(path, w=np.arange(3.0), o=np.array([Bomb(mark)], object))
    report = inspect_path(str(path))
    assert [row.name for row in report.tensors] == ["w"]
    assert [h.where for h in report.hazards] == ["o"]
    assert report.notes == ("1 array of Python objects was not read (no numbers): o",)
    assert not mark.exists()


def test_records_with_a_field_of_objects_are_a_hazard_too() -> None:
    data = npy(np.array([(1, None)], [("a", "i4"), ("b", object)]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(io.BytesIO(data), allow_pickle=False)
    assert opened(data).hazards != ()


RECORDS = "of records, or of a type that NumPy does not name was not read:"


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros(3, [("a", "<f4"), ("b", "<i8", (2,))]), RECORDS),
        (np.zeros((), [("x", "u1")]), RECORDS),
        (np.zeros(2, "V5"), RECORDS),
        (np.zeros(2, np.longdouble), "of long double, whose bytes depend on the machine was not read:"),
        (np.zeros(2, np.clongdouble), "of complex long double, whose bytes depend on the machine was not read:"),
        (np.array(["ab", "c"]), "of text was not read (no numbers):"),
        (np.array([b"ab", b"c"]), "of text was not read (no numbers):"),
        (np.zeros(2, "datetime64[ns]"), "of dates was not read (no numbers):"),
        (np.zeros(2, "timedelta64[s]"), "of durations was not read (no numbers):"),
    ],
    ids=lambda a: str(getattr(a, "dtype", ""))[:30],
)  # fmt: skip
def test_what_is_not_read_is_named_by_its_kind(array: Array, what: str) -> None:
    made = opened(npy(array))
    assert made.tensors == ()
    assert made.hazards == ()
    assert made.notes == (f"1 array {what} array",)


def test_float8_e5m2_is_the_one_float_of_one_byte() -> None:
    array = np.array([1.5, -3.0, np.inf, 57344], ml_dtypes.float8_e5m2)
    np.testing.assert_array_equal(only(npy(array)).numpy(), array.astype(np.float32))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e8m0fnu", "int4", "float4_e2m1fn"])
def test_numbers_of_one_byte_are_counted_and_their_type_is_left_open(name: str) -> None:
    array = np.zeros((8, 6), getattr(ml_dtypes, name))
    tensor = only(npy(array))
    assert (tensor.shape, tensor.nbytes, tensor.dtype.name) == ((8, 6), 48, "bits8")
    assert "does not name" in tensor.note
    assert not opened(npy(array)).notes


@pytest.mark.parametrize("field", ["'descr': '<f4'", "'shape': (1,)", "'fortran_order': True", "descr", "shape"])
def test_the_name_of_a_field_is_no_entry_of_the_header(field: str) -> None:
    data = npy(np.zeros(3, [(field, "<f4"), ("b", "<f4")]))
    assert np.load(io.BytesIO(data)).dtype.names == (field, "b")
    made = opened(data)
    assert made.tensors == ()
    assert "of records" in made.notes[0]


# -- damage ---------------------------------------------------------------------------------------------

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
BAD: dict[str, tuple[bytes, type[PinspectError], str]] = {
    "version 4": (raw_npy(GOOD % "(1,)", bytes(4), 4), DamagedFileError, "format version 4: expected 1, 2 or 3"),
    "version 0": (raw_npy(GOOD % "(1,)", bytes(4), 0), DamagedFileError, "format version 0"),
    "magic alone": (b"\x93NUMPY", DamagedFileError, "magic bytes are missing"),
    "cut length": (b"\x93NUMPY\x02\0\x10", DamagedFileError, ""),
    "header past the end": (raw_npy(GOOD % "(1,)")[:-5], TruncatedFileError, "the NumPy header needs"),
    "huge header": (b"\x93NUMPY\x02\0\xff\xff\xff\xff", LimitError, f"at most {MAX_HEADER:,} are read"),
    "no shape": (raw_npy("{'descr': '<f4', 'fortran_order': False}"), DamagedFileError, "shape or order"),
    "no order": (raw_npy("{'descr': '<f4', 'shape': (1,)}", bytes(4)), DamagedFileError, "shape or order"),
    "order by name": (raw_npy("{'descr': '<f4', 'fortran_order': x, 'shape': (1,)}"), DamagedFileError, "order"),
    "negative shape": (raw_npy(GOOD % "(-1,)", bytes(4)), DamagedFileError, ""),
    "huge dimension": (raw_npy(GOOD % f"({1 << 62},)"), DamagedFileError, "impossible shape"),
    "huge product": (raw_npy(GOOD % f"({1 << 31}, {1 << 31})"), DamagedFileError, "impossible shape"),
    "wrapping product": (raw_npy(GOOD % f"({1 << 32}, {1 << 32})"), DamagedFileError, "impossible shape"),
    "65 dimensions": (raw_npy(GOOD % f"({'1, ' * 65})", bytes(4)), DamagedFileError, "impossible shape"),
    "two numbers without a comma": (raw_npy(GOOD % "(1 2,)", bytes(8)), DamagedFileError, ""),
    "a dimension of one letter": (raw_npy(GOOD % "(L,)", bytes(8)), DamagedFileError, ""),
    "a dimension of two letters": (raw_npy(GOOD % "(2LL, 1L1)", bytes(8)), DamagedFileError, ""),
    "a dimension of 10,000 digits": (raw_npy(GOOD % f"({'9' * 10_000},)"), DamagedFileError, "shape"),
    "shape of calls": (raw_npy(GOOD % "(len('a'),)", bytes(4)), DamagedFileError, ""),
    "more than there is": (raw_npy(GOOD % "(3, 5)", bytes(50)), TruncatedFileError, "10 bytes are missing"),
    "far more than there is": (raw_npy(GOOD % f"({1 << 40},)"), TruncatedFileError, f"{1 << 42:,} bytes are missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_lying_header_is_refused_with_its_reason(case: str) -> None:
    data, error_class, message = BAD[case]
    with pytest.raises(error_class) as caught:
        opened(data)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("case", BAD)
def test_a_lying_header_in_an_npz_is_the_problem_of_one_tensor(case: str) -> None:
    made = opened(npz({"good.npy": npy(np.arange(3.0)), "bad.npy": BAD[case][0]}))
    assert made["bad"].problem
    check(made["good"], np.arange(3.0))


def test_the_shape_is_never_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(PinspectError):
        opened(raw_npy(GOOD % f"(open({str(mark)!r}, 'w').write('1'),)", bytes(8)))
    assert not mark.exists()


def test_a_cut_anywhere_is_an_error_that_says_how_much_is_missing() -> None:
    data = npy(np.arange(12, dtype=np.int16))
    start = len(data) - 24
    for n in range(7, len(data)):
        with pytest.raises(DamagedFileError) as caught:
            opened(data[:n])
        if n >= start:
            assert f"{len(data) - n} bytes are missing" in caught.value.message, n


def test_bytes_after_the_array_are_ignored_as_numpy_does() -> None:
    array = np.arange(5, dtype=np.float32)
    check(only(npy(array) + b"trailing"), np.load(io.BytesIO(npy(array) + b"trailing")))


def test_mutated_arrays_never_crash() -> None:
    dice = random.Random(5)
    tokens = [b"(", b")", b",", b"'", b"L", b"9", b" ", b"-", b"{", b"V2", b"|O", b">", b"\0", b"\xb2", b"\xa0", b"\n"]
    whole = npy(np.arange(6, dtype=np.float32).reshape(2, 3))
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(8, 128)
            piece = dice.choice(tokens)
            data[at : at + dice.choice((0, len(piece)))] = piece
        with suppress(PinspectError):
            for tensor in opened(bytes(data)):
                tensor.numpy()


def test_the_time_grows_with_the_header_only() -> None:
    for text in (
        "'shape':" + " " * 60_000,
        "'shape': (" + "1," * 30_000,
        "'descr': '" * 6_000,
        "'descr':" + " " * 60_000,
    ):
        with processor_seconds(2), pytest.raises(PinspectError):
            opened(raw_npy("{" + text))


# -- .npz -----------------------------------------------------------------------------------------------


def arrays() -> dict[str, Array]:
    made = {f"{d[1:]}_{'big' if d[0] == '>' else 'little'}": sample(d, (3, 5), i) for i, d in enumerate(DTYPES)}
    return made | {
        "scalar": np.array(1.5), "empty": np.zeros((0, 3), np.float32),
             "fortran": np.asfortranarray(sample("<f4", (4, 6))),
        "layers/0/weight": sample("<f4", (2, 2)), "größe": np.arange(3), "large": sample("<f8", (300, 1000)),
        "zeros": np.zeros((700, 1000)), "big_fortran": np.asfortranarray(sample(">i4", (5, 7))),
    }  # fmt: skip


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_archive_reads_as_numpy_reads_it(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with open(path, "wb") as file:
        write(file, **arrays())
    made = open_checkpoint(path)
    with np.load(path) as loaded:
        assert [t.name for t in made] == loaded.files
        for tensor in made:
            check(tensor, loaded[tensor.name])
    codecs = {segment.codec for tensor in made for segment in tensor.segments}
    assert codecs == {RAW if write is np.savez else DEFLATE}
    assert made.metadata["compressed"] == (0 if write is np.savez else len(arrays()))


def test_positional_arrays_keep_numpy_s_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros(2), np.ones(3))
    assert [t.name for t in open_checkpoint(tmp_path / "x.npz")] == ["arr_0", "arr_1"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("change", [-8, -1, 1, 1000])
def test_a_member_of_another_size_than_its_header_says_is_a_problem(method: int, change: int) -> None:
    data = npy(np.arange(5.0))
    data = data[:change] if change < 0 else data + bytes(change)
    made = opened(npz({"a.npy": data, "b.npy": npy(np.arange(3.0))}, method))
    assert f"a.npy is {len(data):,} bytes, its header needs {168:,}" in made["a"].problem
    check(made["b"], np.arange(3.0))
    with pytest.raises(ValueError):
        made["a"].numpy()


def test_a_flipped_byte_is_found_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(npz({"a.npy": npy(np.arange(50.0)), "b.npy": npy(np.arange(3.0))}))
    data[300] ^= 1
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    report = inspect_path(str(path))
    assert [row.name for row in report.problems] == ["a"]
    assert "CRC" in report["a"].problem


def test_a_flipped_byte_in_compressed_values_is_found(tmp_path: Path) -> None:
    data = bytearray(npz({"a.npy": npy(sample("<f8", (200,)))}, zipfile.ZIP_DEFLATED))
    data[900] ^= 0x55
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile), np.load(path) as loaded:
        loaded["a"]
    report = inspect_path(str(path))
    assert report.error is not None
    assert [row.name for row in report.problems] == ["a"]


def test_packed_words_of_an_archive_are_not_averaged(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **{"l.weight": np.zeros((2, 4), np.uint32), "l.scales": np.ones((2, 1), np.float16)})
    assert {t.name: t.packed for t in open_checkpoint(path)} == {"l.weight": True, "l.scales": False}


# -- members that are no arrays -------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_is_told_by_its_bytes_as_numpy_does(method: int) -> None:
    data = npz(
        {"w.npy": npy(np.arange(3.0)), "plain": npy(np.arange(4.0)), "w": npy(np.arange(5.0)), "notes": b"text"}, method
    )
    made = opened(data)
    loaded = np.load(io.BytesIO(data))
    assert {t.name: t.shape for t in made} == {"w.npy": (3,), "plain": (4,), "w": (5,)}
    assert (loaded["plain"].shape, loaded["w"].shape, loaded["notes"]) == ((4,), (5,), b"text")
    assert made.notes == ("1 member that is no array: notes",)


def test_a_pickle_among_arrays_is_a_hazard(tmp_path: Path) -> None:
    made = opened(npz({"w.npy": npy(np.arange(3.0)), "extra": pickle.dumps(Bomb(tmp_path))}))
    assert [(h.where.partition(",")[0], t.name) for h, t in zip(made.hazards, made, strict=True)] == [("extra", "w")]


def test_folders_in_an_archive_of_arrays_are_not_named() -> None:
    assert opened(npz({"x/": b"", "x/w.npy": npy(np.arange(3.0))})).notes == ()


def test_many_strangers_are_counted() -> None:
    made = opened(npz({"w.npy": npy(np.arange(3.0)), **{f"{n}.txt": b"1" for n in range(9)}}))
    assert made.notes == ("9 members that are no array: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more",)
