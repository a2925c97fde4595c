"""A zip archive cut anywhere: an error that says what is missing, and nothing else."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import inspectcli
from inspectcli.errors import NotReadableError, PinspectError, TruncatedFileError

STATE = {
    "first.weight": torch.arange(60.0).reshape(6, 10),
    "first.bias": torch.arange(10.0).double(),
    "half": torch.arange(33).half(),
    "part": torch.arange(100.0)[10:20],
    "empty": torch.zeros(0, 3),
    "flag": torch.tensor(True),
    "last": torch.arange(80),
}


def whole(state: dict[str, torch.Tensor] = STATE) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


WHOLE = whole()


def ends(data: bytes) -> dict[str, tuple[int, int]]:
    """(first byte, end) of each record, as zipfile and the local headers give it."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            n_name, n_extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            start = info.header_offset + 30 + n_name + n_extra
            found[info.filename] = (start, start + info.file_size)
    return found


ENDS = ends(WHOLE)
PICKLE_END = ENDS["archive/data.pkl"][1]
#: Storages are numbered as the tensors appear.
LAST_BYTE = {
    name: ENDS[f"archive/data/{i}"][0] + (t.storage_offset() + t.numel()) * t.element_size()
    for i, (name, t) in enumerate(STATE.items())
    if t.numel()
}
DIRECTORY = WHOLE.index(b"PK\x01\x02")


def cut(folder: Path, end: int, data: bytes = WHOLE) -> PinspectError:
    path = folder / "cut.pt"
    path.write_bytes(data[:end])
    with pytest.raises(PinspectError) as caught:
        inspectcli.open_checkpoint(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_the_whole_file_reads(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    path.write_bytes(WHOLE)
    assert [t.name for t in inspectcli.open_checkpoint(path)] == list(STATE)


def test_a_cut_at_every_fiftieth_byte_says_what_is_missing(tmp_path: Path) -> None:
    for end in range(50, len(WHOLE), 50):
        error = cut(tmp_path, end)
        assert isinstance(error, TruncatedFileError), end
        assert error.hint, end
        if end >= PICKLE_END:
            assert f"cut at {end:,} bytes" in error.message, end


def test_a_cut_in_front_of_the_directory_names_the_cut_tensors(tmp_path: Path) -> None:
    for end in range(PICKLE_END, DIRECTORY, 29):
        lost = [name for name, last in LAST_BYTE.items() if last > end]
        message = cut(tmp_path, end).message
        if not lost:
            assert f"all {len(STATE)} tensors are there, the zip directory" in message, end
            continue
        assert f"{len(lost)} of {len(STATE)} tensors are cut: {', '.join(lost[:3])}" in message, (end, lost)
        missing = re.search(r"at least ([\d,]+) bytes are missing", message)
        assert missing, end
        assert 0 < int(missing[1].replace(",", "")) <= len(WHOLE) - end, end


@pytest.mark.parametrize("end", [PICKLE_END - 1, PICKLE_END // 2, 200])
def test_a_cut_inside_the_pickle_says_so(end: int, tmp_path: Path) -> None:
    assert "cut inside archive/data.pkl" in cut(tmp_path, end).message


def test_a_cut_inside_the_first_header_says_that_the_end_is_missing(tmp_path: Path) -> None:
    for end in range(4, 60):
        assert isinstance(cut(tmp_path, end), TruncatedFileError)


def test_fewer_than_four_bytes_are_no_archive(tmp_path: Path) -> None:
    assert isinstance(cut(tmp_path, 0), NotReadableError)
    for end in range(1, 4):
        cut(tmp_path, end)


@pytest.mark.parametrize("end", range(DIRECTORY, len(WHOLE), 17))
def test_a_cut_inside_the_directory_loses_no_tensor(end: int, tmp_path: Path) -> None:
    assert "all 7 tensors are there" in cut(tmp_path, end).message


def test_missing_bytes_of_one_storage_are_counted_exactly(tmp_path: Path) -> None:
    data = whole({"only": torch.arange(1000.0)})
    start, end = ends(data)["archive/data/0"]
    assert "at least 1,000 bytes are missing; 1 of 1 tensors are cut: only" in cut(tmp_path, end - 1_000, data).message
    assert "at least 4,000 bytes are missing" in cut(tmp_path, start, data).message


def test_a_storage_of_zip_signatures_is_not_taken_for_headers(tmp_path: Path) -> None:
    fake = np.frombuffer(b"PK\x03\x04" * 500, np.uint8)
    data = whole({"a": torch.from_numpy(fake.copy()), "b": torch.arange(100.0)})
    start, _ = ends(data)["archive/data/1"]
    assert "1 of 2 tensors are cut: b" in cut(tmp_path, start + 100, data).message


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_npz_says_how_much_is_missing(compressed: bool, tmp_path: Path) -> None:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, a=np.arange(500.0), b=np.arange(500) * 7)
    data = file.getvalue()
    for end in range(4, len(data), 50):
        error = cut(tmp_path, end, data)
        assert isinstance(error, TruncatedFileError)
    _, b_end = ends(data)["b.npy"]
    if not compressed:
        assert f"cut at {b_end - 64:,} bytes inside b.npy: at least 64 bytes" in cut(tmp_path, b_end - 64, data).message


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_cut_rezipped_checkpoint_is_a_truncation(method: int, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    data = file.getvalue()
    for end in range(4, len(data), 50):
        assert isinstance(cut(tmp_path, end, data), TruncatedFileError), end


def test_a_cut_rezipped_checkpoint_names_the_cut_tensors(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    data = file.getvalue()
    start, _ = ends(data)["archive/data/6"]
    assert "1 of 7 tensors are cut: last" in cut(tmp_path, start + 8, data).message


def test_a_hostile_pickle_in_a_cut_archive_does_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w')".encode()
    body = b"cbuiltins\neval\n(X" + struct.pack("<I", len(code)) + code + b"tR."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/data/0", bytes(100))
    cut(tmp_path, len(file.getvalue()) - 40, file.getvalue())
    assert not canary.exists()
