"""Files that were transferred as text are named as that, with the cure; others never are."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from support.locations import in_memory
from support.places import healthy_fixtures

from inspectcli.encodings.transfer import text_damage
from inspectcli.errors import DamagedFileError, PinspectError
from inspectcli.formats import open_file
from inspectcli.storage.memory import Memory

VALUES = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))


def saved(**how: object) -> bytes:
    file = io.BytesIO()
    torch.save({"w": VALUES}, file, **how)  # type: ignore[arg-type]
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, w=VALUES.numpy())
    return file.getvalue()


def hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h:
        h["w"] = VALUES.numpy()
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "torch": saved,
    "legacy": lambda: saved(_use_new_zipfile_serialization=False),
    "npz": arrays,
    "hdf5": hdf5,
    "safetensors": lambda: safetensors.torch.save({"w": VALUES}),
}


@pytest.mark.parametrize("name", FILES)
def test_added_carriage_returns_are_named_and_the_cure_undoes_them(name: str) -> None:
    data = FILES[name]()
    with pytest.raises(DamagedFileError, match="carriage return before it, as after a transfer as text") as caught:
        open_file(in_memory("x", data.replace(b"\n", b"\r\n")))
    assert r"sed 's/\r$//'" in caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_replaced_bytes_are_named(name: str) -> None:
    damaged = FILES[name]().decode("utf-8", "replace").encode()
    with pytest.raises(DamagedFileError, match=r"replaced by U\+FFFD") as caught:
        open_file(in_memory("x", damaged))
    assert "the original is needed" in caught.value.hint


def test_carriage_returns_taken_out_of_an_hdf5_file_are_named() -> None:
    with pytest.raises(DamagedFileError, match="the carriage returns were taken out"):
        open_file(in_memory("x", hdf5().replace(b"\r\n", b"\n")))


def test_healthy_files_are_never_taken_for_transferred_ones() -> None:
    for path in healthy_fixtures():
        assert text_damage(Memory("x", path.read_bytes())) is None, path


@pytest.mark.parametrize("text", [b"a: 1\r\nb: 2\r\n" * 9, "ä�\n".encode() * 99, b""])
def test_text_is_no_damage(text: bytes) -> None:
    assert text_damage(Memory("x", text)) is None


def test_other_damage_is_no_transfer() -> None:
    dice = random.Random(1)
    data = saved()
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(30):
            damaged[dice.randrange(len(data))] = dice.randrange(256)
        try:
            open_file(in_memory("x", bytes(damaged)))
        except PinspectError as error:
            assert "transfer" not in error.message  # noqa: PT017


# -- holes ----------------------------------------------------------------------------------------------


def test_a_hole_in_an_archive_is_named(tmp_path: Path) -> None:
    data = bytearray(saved())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = archive.infolist()[3].header_offset
    data[at : at + 64] = bytes(64)
    with pytest.raises(DamagedFileError, match=f"zeros at byte {at:,}") as caught:
        open_file(in_memory("x", bytes(data)))
    assert "hole" in caught.value.hint
