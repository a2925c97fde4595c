"""Files that two readers read in two ways."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from inspectcli.errors import DamagedFileError, PinspectError, UnsafeFileError
from inspectcli.formats import open_checkpoint
from inspectcli.pickles.sweep import Budget, begun
from inspectcli.storage.memory import Memory

BAD = b"cos\nsystem\nX\x02\x00\x00\x00id\x85R"
WHAT = "os.system would be called with 'id'"


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(4.0))
    return out.getvalue()


def tar(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("start", [512, 1024, 4096, 65536])
def test_hdf5_behind_another_file_is_refused(start: int, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with h5py.File(path, "w", userblock_size=start) as file:
        file["w"] = np.zeros(3)
    raw = bytearray(path.read_bytes())
    raw[: len(npy())] = npy()
    with pytest.raises(UnsafeFileError, match="a file of two kinds, npy and HDF5"):
        open_checkpoint(written(path, bytes(raw)))


def test_a_zip_behind_another_file_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeFileError, match="npy and zip"):
        open_checkpoint(written(tmp_path / "x.npy", npy() + out.getvalue()))


def test_a_tar_that_begins_as_a_pickle_is_told(tmp_path: Path) -> None:
    raw = bytearray(tar(N=b"0}.", pickle=b"\x80\x02" + BAD + b"."))
    raw[:7] = b"\x80\x02T" + struct.pack("<I", 505)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with tarfile.open(fileobj=io.BytesIO(bytes(raw))) as archive:
        assert "pickle" in archive.getnames()
    with pytest.raises(PinspectError, match=r"os\.system would be called"):
        open_checkpoint(written(tmp_path / "x.pt", bytes(raw)))


def test_a_safetensors_file_whose_length_is_a_pickle_is_left_alone(tmp_path: Path) -> None:
    # The length of the header, 0x2e4e, reads as NONE and STOP: a pickle of None.
    header = b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    assert (
        open_checkpoint(written(tmp_path / "a.safetensors", struct.pack("<Q", 0x2E4E) + header.ljust(0x2E4E))).hazards
        == ()
    )


def test_a_safetensors_file_whose_length_begins_a_call_is_told(tmp_path: Path) -> None:
    # 0x5855 reads as SHORT_BINSTRING of 0x58 bytes, which ends inside the JSON: there, another one leads to the values.
    n, inner = 0x5855, b"0" + BAD + b"."
    body = b'{"k":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},"__metadata__":{"' % (len(inner), len(inner))
    body = body.ljust(0x58 - 6, b"a")
    body += b"X" + b"____" + b"a" * (n - len(body) - 5 - 5) + b'":""}}'[:5]
    raw = bytearray(struct.pack("<Q", n) + body.ljust(n) + inner)
    assert raw[:2] == b"UX"
    jump = raw.index(b"X____")
    raw[jump + 1 : jump + 5] = struct.pack("<I", 8 + n - jump - 5)
    assert any("os.system" in h.what for h in begun(Memory("x", bytes(raw)), "x", Budget()))


@pytest.mark.parametrize("name", ["extra.pkl", "data/9", "other/x.bin", "x"])
@pytest.mark.parametrize("ahead", [b"", b"X" + struct.pack("<I", 70_000) + b"a" * 70_000 + b"0"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_another_record_that_is_a_pickle_is_told(name: str, ahead: bytes, method: int, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(3)}, path)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(f"m/{name}", b"\x80\x02" + ahead + BAD + b".")
    assert [h.what for h in open_checkpoint(str(path)).hazards] == [WHAT]


def test_what_stands_before_an_error_is_told_with_it(tmp_path: Path) -> None:
    with pytest.raises(
        DamagedFileError, match=r"is no opcode.*before a loader comes to that, os\.system would be called"
    ):
        open_checkpoint(written(tmp_path / "x.pkl", b"\x80\x02" + BAD + b"0\xff" + b"x" * 80))


@pytest.mark.parametrize("twice", ["pickle", "storages"])
def test_a_tar_that_holds_a_member_twice_is_refused(twice: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle", twice):
            data = {"storages": b"K\x00.].", "tensors": b"K\x00.", "pickle": b"}."}[name]
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(UnsafeFileError, match="twice"):
        open_checkpoint(written(tmp_path / "x.tar", out.getvalue()))


def test_a_tar_member_that_is_renamed_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("storages", "tensors", "x"):
            info = tarfile.TarInfo(name)
            info.size = 2
            info.pax_headers = {"path": "pickle"} if name == "x" else {"mtime": "1500000000.5"}
            archive.addfile(info, io.BytesIO(b"}."))
    with pytest.raises(UnsafeFileError, match="another name"):
        open_checkpoint(written(tmp_path / "x.tar", out.getvalue()))


def test_honest_files_have_one_reading(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / f"{i}.safetensors"
        safetensors.numpy.save_file({f"w{j}": rng.normal(size=5) for j in range(i + 1)}, path)
        assert open_checkpoint(str(path)).hazards == ()
    for value in (0x28, 0x4E, 0x2E, 0x63, 0x80):  # MARK, NONE, STOP, GLOBAL, PROTO: values that are opcodes
        state = {"w": torch.full((4000,), value, dtype=torch.uint8)}
        torch.save(state, tmp_path / "u8.pt")
        assert open_checkpoint(str(tmp_path / "u8.pt")).hazards == ()
