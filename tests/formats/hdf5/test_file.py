"""HDF5 files: every dataset reads as h5py reads it, nothing outside the file is followed, no file crashes us."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.places import FIXTURES

from inspectcli.commands.inspect.run import inspect_path
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError
from inspectcli.formats import open_checkpoint
from inspectcli.formats.hdf5 import process as _hdf5_process
from inspectcli.tensors.codecs import RAW
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef, aliases
from inspectcli.tensors.values import blocks

h5py = pytest.importorskip("h5py")
ml_dtypes = pytest.importorskip("ml_dtypes")

Array = np.ndarray[Any, Any]

NAMES = {
    "f8": "f64", "f4": "f32", "f2": "f16", "i8": "i64", "i4": "i32", "i2": "i16", "i1": "i8", "u8": "u64",
    "u4": "u32", "u2": "u16", "u1": "u8", "b1": "bool", "c8": "c64", "c16": "c128",
}  # fmt: skip
DTYPES = ["|b1", *(f"{order}{code}" for code in NAMES if code != "b1" for order in "<>")]
WAYS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (4, 3)},
    "gzip": {"chunks": (5, 7), "compression": "gzip"},
    "lzf": {"chunks": (5, 7), "compression": "lzf"},
    "shuffle": {"chunks": (3, 4), "compression": "gzip", "shuffle": True},
    "fletcher32": {"chunks": (8, 2), "fletcher32": True},
    "resizable": {"maxshape": (None, 7), "chunks": (2, 2)},
}


def sample(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Random bits as an array, without NaNs: HDF5 may change their payload when it converts."""
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.frombuffer(random.Random(seed).randbytes(n), np.uint8)
    array = ((raw & 1).astype(bool) if dtype == "|b1" else raw.view(dtype)).reshape(shape).copy()
    if array.dtype.kind in "fc":
        array[~np.isfinite(array)] = np.inf
    return array


def check(tensor: TensorRef, array: Array) -> None:
    assert tensor.problem == ""
    assert tensor.dtype.name == NAMES[array.dtype.str[1:]]
    got = tensor.numpy()
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert got.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def compact(group: Any, name: str, array: Array) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, space, plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array)
    )


def native_float(size: int, exponent: int, mantissa: int, bias: int) -> Any:
    """A custom HDF5 float type: sign, exponent and mantissa of these widths."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(8 * size - 1, mantissa, exponent, 0, mantissa)
    kind.set_ebias(bias)
    kind.set_size(size)
    return kind


def write_native(group: Any, name: str, kind: Any, raw: Array, chunks: tuple[int, ...] | None = None) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        plist.set_chunk(chunks)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(raw.shape), plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(raw), kind)


# -- every type in every layout -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("h5") / "zoo.h5"
    with h5py.File(path, "w") as file:
        for i, dtype in enumerate(DTYPES):
            for way, options in WAYS.items():
                file.create_dataset(f"{way}/{dtype}", data=sample(dtype, (13, 7), i), **options)
            compact(file.require_group("compact"), dtype, sample(dtype, (13, 7), i))
            file[f"scalar/{dtype}"] = sample(dtype, (), i)
            file[f"empty/{dtype}"] = sample(dtype, (0, 3), i)
            file[f"many dimensions/{dtype}"] = sample(dtype, (2, 1, 3, 1, 2), i)
            fill = sample(dtype, (), i + 100)[()]
            file.create_dataset(f"unwritten/{dtype}", (5, 3), dtype, fillvalue=fill)
            file.create_dataset(f"unwritten chunks/{dtype}", (5, 3), dtype, fillvalue=fill, chunks=(2, 2))
            half = file.create_dataset(f"half written/{dtype}", (9, 4), dtype, fillvalue=fill, chunks=(2, 4))
            half[2:5] = sample(dtype, (3, 4), i)
    return path


PLACES = [*WAYS, "compact", "scalar", "empty", "many dimensions", "unwritten", "unwritten chunks", "half written"]


@pytest.fixture(scope="module")
def zoo(zoo_path: Path) -> Checkpoint:
    return open_checkpoint(zoo_path)


@pytest.mark.parametrize("place", PLACES)
def test_every_type_in_every_layout_reads_as_h5py_reads_it(place: str, zoo: Checkpoint, zoo_path: Path) -> None:
    with h5py.File(zoo_path) as file:
        for dtype in DTYPES:
            check(zoo[f"{place}.{dtype}"], np.asarray(file[place][dtype][()]))


def test_the_zoo_has_no_other_tensors_and_no_notes(zoo: Checkpoint) -> None:
    assert len(zoo) == len(DTYPES) * len(PLACES)
    assert zoo.notes == ()
    assert zoo.hazards == ()
    assert zoo.format == "hdf5"


def test_only_contiguous_values_are_read_without_libhdf5(zoo: Checkpoint) -> None:
    raw = {t.name.partition(".")[0] for t in zoo for s in t.segments if s.codec is RAW}
    assert raw == {"contiguous", "scalar", "many dimensions"}


def test_what_was_never_written_is_said_to_be(zoo: Checkpoint) -> None:
    unwritten = {t.name.partition(".")[0] for t in zoo if "never written" in t.note}
    assert unwritten == {"unwritten", "unwritten chunks"}


def test_filters_are_named(zoo: Checkpoint) -> None:
    assert zoo["shuffle.<f4"].note.startswith("compressed (shuffle, deflate")
    assert "lzf" in zoo["lzf.<f4"].note
    assert zoo["chunked.<f4"].note == ""


def test_integers_are_buffers_and_floats_parameters(zoo: Checkpoint) -> None:
    assert {str(zoo[f"contiguous.{d}"].kind) for d in ("<i8", "|b1", "<u1")} == {"buffer"}
    assert {zoo[f"contiguous.{d}"].kind for d in ("<f4", "<c8")} == {Kind.PARAMETER}


@pytest.mark.parametrize(
    ("libver", "user_block"), [("earliest", 512), ("v108", 0), ("v110", 1024), ("latest", 512), ("latest", 2048)]
)
def test_every_file_version_and_user_block_is_read(libver: str, user_block: int, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=user_block) as file:
        file["a"] = sample("<f4", (30, 2))
        file.create_dataset("b", data=sample(">i2", (30, 2)), chunks=(7, 2), compression="gzip")
    if user_block:
        with open(path, "r+b") as raw:
            raw.write(b"text of the user's own")
    made = open_checkpoint(path)
    check(made["a"], sample("<f4", (30, 2)))
    check(made["b"], sample(">i2", (30, 2)))


# -- types that NumPy does not know ---------------------------------------------------------------------

CODES = np.arange(1 << 16, dtype=np.uint16)
#: An exponent of ones is infinity or NaN.
FINITE = CODES[(CODES >> 7 & 0xFF) != 0xFF]
BYTES = np.arange(256, dtype=np.uint8)
BFLOAT16, E5M2, E4M3 = (2, 8, 7, 127), (1, 5, 2, 15), (1, 4, 3, 7)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("h5") / "odd.h5"
    with h5py.File(path, "w") as file:
        write_native(file, "bf16", native_float(*BFLOAT16), CODES)
        write_native(file, "bf16_chunked", native_float(*BFLOAT16), FINITE, (1000,))
        write_native(file, "e5m2", native_float(*E5M2), BYTES)
        write_native(file, "e5m2_chunked", native_float(*E5M2), np.arange(0x7C, dtype=np.uint8), (10,))
        write_native(file, "e4m3_chunked", native_float(*E4M3), np.arange(0x78, dtype=np.uint8), (10,))
        for name, options in {"opaque": {}, "opaque_chunked": {"chunks": (999,), "compression": "gzip"}}.items():
            file.create_dataset(name, data=CODES.view("V2"), **options).attrs["dtype"] = "bfloat16"
        file.create_dataset("opaque_e4m3", data=BYTES.view("V1")).attrs["dtype"] = "float8_e4m3fn"
        file["unnamed"] = CODES.view("V2")
        file["text"] = "some text"
        file["texts"] = np.array(["a", "b"], h5py.string_dtype())
        file["fixed"] = np.array([b"ab", b"c"])
        file["records"] = np.zeros(3, [("x", "f4"), ("y", "i4")])
        file["ragged"] = np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype("i4"))
        file["choice"] = np.zeros(2, h5py.enum_dtype({"RED": 0, "BLUE": 1}))
        file["null"] = h5py.Empty("f4")
        file["reference"] = np.array([file["text"].ref], h5py.ref_dtype)
        file["longdouble"] = np.zeros(3, np.longdouble)
        file["number"] = np.arange(3.0)
    return open_checkpoint(path)


def test_native_bfloat16_is_read_bit_for_bit(odd: Checkpoint) -> None:
    assert odd["bf16"].dtype.name == "bf16"
    np.testing.assert_array_equal(odd["bf16"].numpy(), CODES.view(ml_dtypes.bfloat16).astype(np.float32))


def test_native_bfloat16_in_chunks_is_narrowed_again(odd: Checkpoint) -> None:
    wanted = FINITE.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(odd["bf16_chunked"].numpy(), wanted)


def test_native_float8_is_read(odd: Checkpoint) -> None:
    assert odd["e5m2"].dtype.name == "f8_e5m2"
    np.testing.assert_array_equal(odd["e5m2"].numpy(), BYTES.view(ml_dtypes.float8_e5m2).astype(np.float32))


@pytest.mark.parametrize(("name", "dtype", "n"), [("e5m2", "float8_e5m2", 0x7C), ("e4m3", "float8_e4m3fn", 0x78)])
def test_native_float8_in_chunks_has_its_values_or_a_problem(name: str, dtype: str, n: int, odd: Checkpoint) -> None:
    tensor = odd[f"{name}_chunked"]
    wanted = np.arange(n, dtype=np.uint8).view(getattr(ml_dtypes, dtype)).astype(np.float32)
    if not tensor.problem:
        np.testing.assert_array_equal(tensor.numpy(), wanted)


@pytest.mark.parametrize("name", ["opaque", "opaque_chunked"])
def test_bfloat16_as_keras_writes_it_is_read(name: str, odd: Checkpoint) -> None:
    assert odd[name].dtype.name == "bf16"
    np.testing.assert_array_equal(odd[name].numpy(), CODES.view(ml_dtypes.bfloat16).astype(np.float32))


def test_float8_as_keras_would_write_it_is_read(odd: Checkpoint) -> None:
    np.testing.assert_array_equal(odd["opaque_e4m3"].numpy(), BYTES.view(ml_dtypes.float8_e4m3fn).astype(np.float32))


SKIPPED = {
    "unnamed": "(opaque bytes )", "text": "(text)", "texts": "(text)", "fixed": "(text)", "records": "(records)",
    "ragged": "(no numbers)", "choice": "(enum)", "null": "f32", "reference": "(references)",
    "longdouble": "(float of 128 bits)",
}  # fmt: skip


def test_what_holds_no_numbers_is_noted_and_no_tensor(odd: Checkpoint) -> None:
    assert not SKIPPED.keys() & {t.name for t in odd}
    (note,) = odd.notes
    assert note.startswith(f"{len(SKIPPED)} datasets hold no numbers and were not looked at: ")
    shown = note.partition(": ")[2].removesuffix(f" and {len(SKIPPED) - 5} more").split(", ")
    assert len(shown) == 5
    for text in shown:
        name, _, kind = text.partition(" ")
        assert kind == SKIPPED[name]


# -- links ----------------------------------------------------------------------------------------------


def test_hard_links_are_tied(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(6.0)
        file["b"] = np.arange(6.0)
        file["group/again"] = file["a"]
        file["chunks"] = file.create_dataset("c", data=np.ones(4), chunks=(2,))
    made = open_checkpoint(path)
    names = [t.name for t in made]
    assert {names[i]: first for i, first in aliases(made.tensors).items()} == {"group.again": "a", "chunks": "c"}
    report = inspect_path(str(path))
    assert report.totals is not None
    assert (report.totals.parameters, report.totals.unique_parameters) == (26, 16)


def test_a_circle_of_groups_comes_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a/b/x"] = np.zeros(2)
        file["a/b/up"] = file["a"]
        file["a/b/top"] = file["/"]
    assert [t.name for t in open_checkpoint(path)] == ["a.b.x"]


def test_soft_links_are_named_and_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["real"] = np.zeros(2)
        file["soft"] = h5py.SoftLink("/real")
        file["loop"] = h5py.SoftLink("/loop")
        file["nowhere"] = h5py.SoftLink("/not/there")
    made = open_checkpoint(path)
    assert [t.name for t in made] == ["real"]
    assert made.hazards == ()
    assert made.notes[0].startswith("3 symbolic links inside the file were not followed: ")
    assert "soft -> /real" in made.notes[0]


SECRET = 1234.5


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no other may lead to."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.full(4, SECRET)
    (tmp_path / "secret.raw").write_bytes(np.full(4, SECRET).tobytes())
    return path


def values_of(path: Path) -> list[float]:
    report = inspect_path(str(path))
    return [row.stats.max for row in report.tensors if row.stats is not None and row.stats.max is not None]


def test_an_external_link_is_a_hazard_and_not_followed(secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["own"] = np.zeros(2)
        file["out"] = h5py.ExternalLink(str(secret), "/data")
    with h5py.File(path) as file:
        assert file["out"][0] == SECRET
    made = open_checkpoint(path)
    assert [t.name for t in made] == ["own"]
    assert [(h.where, "secret.h5" in h.what) for h in made.hazards] == [("out", True)]
    assert "not followed" in made.notes[0]
    assert values_of(path) == [0.0]


def test_external_storage_is_a_hazard_and_not_read(secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("out", (4,), "f8", external=[(str(tmp_path / "secret.raw"), 0, 32)])
    with h5py.File(path) as file:
        assert file["out"][0] == SECRET
    made = open_checkpoint(path)
    assert "its values lie in another file" in made["out"].problem
    assert [(h.where, "secret.raw" in h.what) for h in made.hazards] == [("out", True)]
    assert values_of(path) == []
    with pytest.raises(ValueError):
        made["out"].numpy()


def test_a_virtual_dataset_is_a_problem_and_not_read(secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "data", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("out", layout)
    with h5py.File(path) as file:
        assert file["out"][0] == SECRET
    assert "a virtual dataset" in open_checkpoint(path)["out"].problem
    assert values_of(path) == []


# -- size -----------------------------------------------------------------------------------------------


LARGE: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3000, 1000), (7, 1000)), ((3000, 1000), (700, 13)), ((5, 600_000), (2, 60_000)), ((3_000_001,), (4096,)),
    ((2, 3, 500_000), (1, 3, 499_999)), ((1500, 2000), (1500, 2000)),
]  # fmt: skip


def test_arrays_larger_than_a_slab_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for i, (shape, chunks) in enumerate(LARGE):
            array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            file.create_dataset(str(i), data=array, chunks=chunks, compression="lzf")
    made = open_checkpoint(path)
    for i, (shape, _) in enumerate(LARGE):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(made[str(i)].numpy(), array)


def test_a_bomb_is_named_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("chunked", (1 << 30,), "f4", chunks=(1 << 16,), compression="gzip")
        file.create_dataset("contiguous", (1 << 30,), "f4")
        file["small"] = np.ones(3)
    made = open_checkpoint(path)
    for name in ("chunked", "contiguous"):
        assert made[name].problem == "declares 4,294,967,296 bytes and stores 0: not read"
    report = inspect_path(str(path))
    assert [row.name for row in report.problems] == ["chunked", "contiguous"]
    assert report["small"].stats is not None


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4,), "f4", chunks=(4,), compression=32765, allow_unknown_filter=True)
        file["y"] = np.ones(2)
    assert "not installed" in open_checkpoint(path)["x"].problem
    assert values_of(path) == [1.0]


def test_deep_groups_are_noted_and_not_recursed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["top"] = np.zeros(2)
        file["/".join(["g"] * 150) + "/seen"] = np.zeros(2)
        file["/".join(["h"] * 400) + "/unseen"] = np.zeros(2)
    made = open_checkpoint(path)
    assert {t.name.rpartition(".")[2] for t in made} == {"top", "seen"}
    assert "groups nested deeper than 200 levels were not looked at" in made.notes


@pytest.mark.parametrize("name", ["größe", "a\nb", "\u202e", "weird name.with.dots", "0"])
def test_names_of_any_kind_are_listed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file[name] = np.arange(2.0)
    check(open_checkpoint(path)[name], np.arange(2.0))


def test_a_name_that_is_not_utf_8_does_not_hide_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["good"] = np.arange(2.0)
        h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((2,)))
    check(open_checkpoint(path)["good"], np.arange(2.0))


# -- damage ---------------------------------------------------------------------------------------------


def little(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w", **options) as file:
        file.attrs["keras_version"] = "3.0"
        file["group/a"] = np.arange(50, dtype=np.float32)
        file.create_dataset("group/b", data=np.arange(60.0), chunks=(16,), compression="gzip", shuffle=True)
        file.create_dataset("c", data=np.ones((4, 4), np.float16), chunks=(2, 2), fletcher32=True)
        file["text"] = "text"
        file["d"] = file["group/a"]
    return path


@pytest.mark.parametrize("options", [{"libver": "earliest"}, {"libver": "latest"}, {"userblock_size": 512}], ids=str)
def test_a_cut_file_says_how_many_bytes_are_missing(options: dict[str, Any], tmp_path: Path) -> None:
    path = little(tmp_path / "x.h5", **options)
    data = path.read_bytes()
    for n in [*range(options.get("userblock_size", 0) + 100, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:n])
        with pytest.raises(TruncatedFileError) as caught:
            open_checkpoint(path)
        assert caught.value.message.startswith(f"{len(data) - n:,} bytes are missing at the end")
        assert caught.value.hint


@pytest.mark.parametrize("n", [8, 20, 60])
def test_a_file_cut_in_its_first_block_is_damaged(n: int, tmp_path: Path) -> None:
    path = little(tmp_path / "x.h5")
    path.write_bytes(path.read_bytes()[:n])
    with pytest.raises(DamagedFileError):
        open_checkpoint(path)


def test_bytes_after_the_end_are_no_damage(tmp_path: Path) -> None:
    path = little(tmp_path / "x.h5")
    with open(path, "ab") as file:
        file.write(bytes(1000))
    check(open_checkpoint(path)["d"], np.arange(50, dtype=np.float32))


def mutants(folder: Path) -> Iterator[Path]:
    """200 files, each with some bytes of its metadata or values changed."""
    dice = random.Random(20)
    originals = [
        little(folder / "a.h5").read_bytes(),
        little(folder / "b.h5", libver="latest").read_bytes(),
        (FIXTURES / "mlp.weights.h5").read_bytes(),
        (FIXTURES / "mlp_keras3.h5").read_bytes(),
    ]
    for i in range(200):
        data = bytearray(originals[i % len(originals)])
        used = [at for at in range(len(data)) if data[at]]
        for _ in range(dice.choice((1, 2, 5, 20))):
            data[dice.choice(used)] = dice.choice((0, 1, 0x7F, 0xFF, dice.randrange(256)))
        path = folder / f"mutant_{i}.h5"
        path.write_bytes(data)
        yield path


def outcome(path: Path) -> tuple[str, str]:
    """Code and message of the error, if there is one. Some mutants keep libhdf5 busy for ever."""
    _hdf5_process.LISTING_SECONDS = 1.5
    error = inspect_path(str(path)).error
    return (error.code, error.message) if error else ("", "")


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_and_never_crash(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        outcomes = list(pool.map(outcome, list(mutants(tmp_path)), chunksize=10))
    codes = Counter(code for code, _ in outcomes)
    assert set(codes) <= {"", "damaged", "truncated", "limit", "unsupported-format", "tensor-unreadable"}
    assert codes[""] > 20
    assert codes["damaged"] > 20
    assert all(message.strip() and "Traceback" not in message for code, message in outcomes if code)


# -- the child process ----------------------------------------------------------------------------------


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(_hdf5_process, "command", lambda path, start, size: [sys.executable, "-S", "-c", code])


@pytest.mark.parametrize(
    ("code", "error_class", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", DamagedFileError, "libhdf5 crashed on this file (signal 9)"),
        ("import os; os.kill(os.getpid(), 11)", DamagedFileError, "libhdf5 crashed on this file (signal 11)"),
        ("raise SystemExit(3)", DamagedFileError, "libhdf5 gave up on this file (exit 3)"),
        ("import os; os.write(1, b'\\x10\\0\\0\\0half'); os._exit(0)", DamagedFileError, "libhdf5 gave up"),
        ("import os; os.write(1, b'\\xff' * 4 + b'\\5\\0\\0\\0E: xy')", DamagedFileError, "libhdf5 cannot read it: xy"),
        ("import os; os.write(1, b'\\xff' * 4 + b'\\x0d\\0\\0\\0MemoryError: ')", LimitError, "needs more memory"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_crash_of_libhdf5_is_a_message(
    code: str, error_class: type[PinspectError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = little(tmp_path / "x.h5")
    child(monkeypatch, code)
    with pytest.raises(error_class) as caught:
        open_checkpoint(path)
    assert message in caught.value.message
    assert caught.value.path == str(path)


def test_a_child_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = little(tmp_path / "x.h5")
    child(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(_hdf5_process, "LISTING_SECONDS", 0.3)
    with pytest.raises(LimitError, match="did not come to an end"):
        open_checkpoint(path)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_crash_between_two_blocks_is_a_message(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((64, 1 << 17), np.float32), chunks=(1, 1 << 17))
    tensor = open_checkpoint(path)["x"]
    reader = _hdf5_process.process_for(tensor.segments[0].source)
    stream = blocks(tensor)
    next(stream)
    os.kill(reader._process.pid, signal.SIGKILL)
    with pytest.raises(DamagedFileError, match=r"libhdf5 crashed on this file \(signal 9\)"):
        list(stream)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_after_a_crash_a_new_child_reads_on(tmp_path: Path) -> None:
    made = open_checkpoint(little(tmp_path / "x.h5"))
    dead = _hdf5_process.process_for(made["c"].segments[0].source)._process
    dead.kill()
    dead.wait()
    np.testing.assert_array_equal(made["c"].numpy(), np.ones((4, 4), np.float16))


def test_a_file_is_compared_with_itself(tmp_path: Path) -> None:
    # Both sides decode at once, and are equal sources: each opening has a child of its own.
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name in ("x", "y"):
            file.create_dataset(name, data=np.ones((8, 1 << 17), np.float32), chunks=(1, 1 << 17), compression="gzip")
    first, second = open_checkpoint(path), open_checkpoint(path)
    assert first["x"].segments[0].source == second["x"].segments[0].source
    for a, b in zip(blocks(first["x"]), blocks(second["y"]), strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def test_a_dataset_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    path = little(tmp_path / "x.h5")
    made = open_checkpoint(path)
    data = path.read_bytes()
    with h5py.File(path) as file:
        at = file["c"].id.get_chunk_info(0).byte_offset
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    made = open_checkpoint(path)
    with pytest.raises(PinspectError):
        made["c"].numpy()
    check(made["group.b"], np.arange(60.0))


def test_the_environment_cannot_put_plugins_or_modules_into_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "json.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(open_checkpoint(little(tmp_path / "x.h5"))) == 4
    assert not mark.exists()


# -- Keras 1 and 2 --------------------------------------------------------------------------------------


def keras_2(path: Path, fill: Callable[[Any], None]) -> Checkpoint:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = "tensorflow"
        fill(file)
    return open_checkpoint(path)


def dense(root: Any, layer: str, weights: list[str]) -> None:
    group = root.create_group(layer)
    group.attrs["weight_names"] = np.array([w.encode() for w in weights])
    for i, weight in enumerate(weights):
        group[weight] = np.full((2, 2), float(i))


def test_weight_names_give_order_and_names(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"z", b"a", b"empty"]
        dense(root, "z", ["z/kernel:0", "z/bias:0"])
        dense(root, "a", ["a_3/kernel:0"])
        root.create_group("empty").attrs["weight_names"] = []

    made = keras_2(tmp_path / "x.h5", fill)
    assert made.format == "keras-h5"
    assert made.writer == "Keras 2.4.0 (tensorflow)"
    assert [(t.name, np.asarray(t.numpy())[0, 0]) for t in made] == [
        ("z.kernel", 0.0), ("z.bias", 1.0), ("a.kernel", 0.0)
    ]  # fmt: skip


def test_lists_of_names_that_were_split_are_joined(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["layer_names0"] = [b"b"]
        file.attrs["layer_names1"] = [b"a", b"c"]
        for layer in "abc":
            dense(file, layer, [f"{layer}/kernel:0"])

    assert [t.name for t in keras_2(tmp_path / "x.h5", fill)] == ["b.kernel", "a.kernel", "c.kernel"]


def test_two_datasets_never_share_a_name(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["layer_names"] = [b"a"]
        dense(file, "a", ["a_1/kernel:0", "a_2/kernel:0"])

    names = [t.name for t in keras_2(tmp_path / "x.h5", fill)]
    assert len(set(names)) == 2
    assert all(name.endswith("kernel") for name in names)


def test_a_config_that_is_not_json_becomes_a_note(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["model_config"] = "{broken"
        file.attrs["layer_names"] = [b"a"]
        dense(file, "a", ["a/kernel:0"])

    made = keras_2(tmp_path / "x.h5", fill)
    assert [t.name for t in made] == ["a.kernel"]
    assert "model_config is not JSON" in made.notes[0]


def test_the_optimizer_is_apart_and_its_counter_is_the_step(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["training_config"] = json.dumps({"optimizer_config": {"class_name": "Adam", "config": {}}})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"a"]
        dense(root, "a", ["a/kernel:0"])
        file["optimizer_weights/training/Adam/iterations:0"] = np.int64(77)
        file["optimizer_weights/training/Adam/a/kernel/m:0"] = np.zeros((2, 2))

    made = keras_2(tmp_path / "x.h5", fill)
    assert {t.name: str(t.kind) for t in made} == {
        "a.kernel": "parameter", "optimizer.training.Adam.iterations": "optimizer",
        "optimizer.training.Adam.a.kernel.m": "optimizer",
    }  # fmt: skip
    assert (made.training.step, made.training.optimizer) == (77, "Adam")
