"""The zip directory: archives of zipfile and torch read well, and every trick gets its own error."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import inspectcli
from inspectcli.encodings import zip as _zip
from inspectcli.encodings.zip import ZipDirectory, inflate, read_directory, read_member
from inspectcli.errors import DamagedFileError, LimitError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.storage.local import LocalFile
from inspectcli.storage.memory import Memory

CONTENTS = {"x/data.pkl": b"\x80\x02}q\x00.", "x/data/0": bytes(range(200)), "x/version": b"3\n", "x/empty": b""}


def zipped(contents: dict[str, bytes] = CONTENTS, method: int = zipfile.ZIP_STORED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return bytearray(file.getvalue())


def directory(data: bytes | bytearray) -> ZipDirectory:
    return read_directory(Memory("x.zip", bytes(data)))


def central(data: bytearray, name: str) -> int:
    """Where the directory entry of a member begins."""
    return data.index(name.encode(), data.index(b"PK\x01\x02")) - 46


def local(data: bytearray, name: str) -> int:
    return data.index(name.encode()) - 30


# -- archives that are fine -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_an_archive_of_zipfile_reads_as_zipfile_reads_it(method: int, comment: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    source = Memory("x.zip", file.getvalue())
    found = read_directory(source)
    with zipfile.ZipFile(file) as archive:
        assert list(found.members) == archive.namelist()
        for name, member in found.members.items():
            assert read_member(source, member, 1 << 20) == archive.read(name)
            assert (member.size, member.crc) == (archive.getinfo(name).file_size, archive.getinfo(name).CRC)


def test_an_archive_of_torch_reads_as_zipfile_reads_it() -> None:
    file = io.BytesIO()
    torch.save({"w": torch.arange(100.0), "b": torch.ones(3)}, file)
    source = Memory("x.pt", file.getvalue())
    with zipfile.ZipFile(file) as archive:
        found = read_directory(source).members
        assert list(found) == archive.namelist()
        assert all(read_member(source, m, 1 << 20) == archive.read(name) for name, m in found.items())


def test_an_archive_written_to_a_pipe_has_descriptors_and_reads() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

    file = Pipe()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    source = Memory("x.zip", file.getvalue())
    assert {n: read_member(source, m, 1 << 20) for n, m in read_directory(source).members.items()} == CONTENTS


def test_members_with_zip64_fields_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in CONTENTS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    source = Memory("x.zip", file.getvalue())
    assert {n: read_member(source, m, 1 << 20) for n, m in read_directory(source).members.items()} == CONTENTS


@pytest.mark.parametrize("name", ["x/é.npy", "x/日本.npy", "a b.npy"])
def test_names_beyond_ascii_are_kept(name: str) -> None:
    assert list(directory(zipped({name: b"1"})).members) == [name]


def test_a_folder_entry_is_a_member_of_no_bytes() -> None:
    assert directory(zipped({"x/": b"", "x/data": b"1"})).members["x/"].size == 0


def test_arrays_whose_names_differ_in_case_are_two() -> None:
    assert len(directory(zipped({"w.npy": b"1", "W.npy": b"2"})).members) == 2


@pytest.mark.parametrize(("size", "block"), [(0, 1), (1, 1), (1_000, 7), (1_000, 1 << 20), (300_000, 4_096)])
def test_inflating_gives_what_zlib_gives(size: int, block: int) -> None:
    data = (random.Random(1).randbytes(100) * (size // 100 + 1))[:size]
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    pieces = list(inflate(Memory("x", packed), 0, len(packed), size, block))
    assert b"".join(pieces) == data
    assert all(len(piece) <= block for piece in pieces)


def test_inflating_a_part_stops_there() -> None:
    packed = zlib.compress(bytes(range(256)) * 1_000, wbits=-15)
    assert b"".join(inflate(Memory("x", packed), 0, len(packed), 300, partial=True)) == (bytes(range(256)) * 2)[:300]


# -- tricks ---------------------------------------------------------------------------------------------


def twice() -> bytearray:
    data = zipped({"x/a": b"1", "x/b": b"2"})
    return data.replace(b"x/b", b"x/a")


def twice_but_for_case() -> bytearray:
    return zipped({"x/data.pkl": b"1", "x/DATA.pkl": b"2"})


def named(name: str) -> Callable[[], bytearray]:
    stand_in = "q" * len(name.encode("cp437"))
    return lambda: zipped({"x/a": b"1", stand_in: b"2"}).replace(stand_in.encode(), name.encode("cp437"))


def symlink() -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("x/data.pkl")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return bytearray(file.getvalue())


def flagged(bit: int, where: Callable[[bytearray, str], int]) -> Callable[[], bytearray]:
    def make() -> bytearray:
        data = zipped()
        at = where(data, "x/data/0") + (8 if where is central else 6)
        struct.pack_into("<H", data, at, bit)
        return data

    return make


def overlapping() -> bytearray:
    data = zipped()
    at = central(data, "x/data.pkl")
    struct.pack_into("<LL", data, at + 20, 100, 100)
    return data


def same_header_twice() -> bytearray:
    data = zipped({"x/a": b"1" * 50, "x/b": b"1" * 50})
    struct.pack_into("<L", data, central(data, "x/b") + 42, 0)
    return data


def two_ends() -> bytearray:
    data = zipped()
    data += zipped()[-22:]
    struct.pack_into("<H", data, len(data) - 44 + 20, 22)
    return data


def end_in_a_comment() -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/a", "1")
        archive.comment = b"PK\x05\x06" + bytes(18)
    return bytearray(file.getvalue())


def in_the_front() -> bytearray:
    return bytearray(b"PK\x03\x04" + bytes(60)) + zipped()


def fixed_in_the_front() -> bytearray:
    """Offsets moved along, as self-extracting archives have them."""
    file = io.BytesIO(b"PK\x03\x04" + bytes(60))
    file.seek(0, 2)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("x/a", "1")
    return bytearray(file.getvalue())


def behind() -> bytearray:
    return zipped() + b"more"


def other_local_name() -> bytearray:
    data = zipped()
    at = local(data, "x/data.pkl") + 30
    data[at : at + 10] = b"x/evil.pkl"
    return data


def other_local_method() -> bytearray:
    data = zipped()
    struct.pack_into("<H", data, local(data, "x/data/0") + 8, 8)
    return data


def truth_in_zip64(field: int, value: int) -> Callable[[], bytearray]:
    """torch writes both end records: field 0 count, 1 directory size, 2 directory start."""

    def make() -> bytearray:
        file = io.BytesIO()
        torch.save({"w": torch.ones(3)}, file)
        data = bytearray(file.getvalue())
        struct.pack_into("<Q", data, data.index(b"PK\x06\x06") + 32 + 8 * field, value)
        return data

    return make


def end64(offset: int, form: str, value: int, magic: bytes = b"PK\x06\x07") -> Callable[[], bytearray]:
    def make() -> bytearray:
        file = io.BytesIO()
        torch.save({"w": torch.ones(3)}, file)
        data = bytearray(file.getvalue())
        struct.pack_into(form, data, data.index(magic) + offset, value)
        return data

    return make


UNSAFE: dict[str, tuple[Callable[[], bytearray], str]] = {
    "twice": (twice, "holds 'x/a' twice"),
    "twice but for case": (twice_but_for_case, "twice"),
    "absolute": (named("/etc/passwd"), "unpacked outside its folder"),
    "escaping": (named("../evil"), "unpacked outside its folder"),
    "escaping inside": (named("x/../../evil"), "unpacked outside its folder"),
    "backslash": (named("x\\evil"), "unpacked outside its folder"),
    "drive": (named("C:evil"), "unpacked outside its folder"),
    "nul": (named("x/data.pkl\0.txt"), "holds a NUL"),
    "symbolic link": (symlink, "symbolic link"),
    "encrypted": (flagged(1, central), "encrypted"),
    "strongly encrypted": (flagged(0x40, central), "encrypted"),
    "patch": (flagged(0x20, central), "a patch"),
    "encrypted in the local header alone": (flagged(1, local), "contradicts the directory"),
    "overlapping": (overlapping, "overlaps what follows"),
    "two members in one place": (same_header_twice, "calls itself"),
    "two end records": (two_ends, "two end records"),
    "end record in the comment": (end_in_a_comment, "two end records"),
    "zip64 record outside": (end64(8, "<Q", 1 << 40), "two zip64 end records"),
    "zip64 record elsewhere": (end64(8, "<Q", 5), "two zip64 end records"),
    "bytes in front": (in_the_front, "stand before the archive"),
    "bytes in front, offsets moved": (fixed_in_the_front, "stand before the first zip member"),
    "bytes behind": (behind, "bytes follow the end"),
    "other local name": (other_local_name, "calls itself 'x/evil.pkl'"),
    "other local method": (other_local_method, "contradicts the directory"),
    "zip64 count": (truth_in_zip64(0, 3), "contradict each other"),
    "zip64 directory size": (truth_in_zip64(1, 10), "contradict each other"),
    "zip64 directory start": (truth_in_zip64(2, 10), "contradict each other"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_a_trick_is_refused_as_unsafe(name: str) -> None:
    make, message = UNSAFE[name]
    with pytest.raises(UnsafeFileError, match=message):
        directory(make())


@pytest.mark.parametrize("name", UNSAFE)
def test_a_trick_is_refused_when_the_file_is_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(UNSAFE[name][0]())
    with pytest.raises(UnsafeFileError, match=str(path)):
        inspectcli.open_checkpoint(path)


# -- damage ---------------------------------------------------------------------------------------------


def patched(where: Callable[[bytearray, str], int], offset: int, form: str, *values: int) -> Callable[[], bytearray]:
    def make() -> bytearray:
        data = zipped()
        struct.pack_into(form, data, where(data, "x/data/0") + offset, *values)
        return data

    return make


def end_record(offset: int, form: str, value: int) -> Callable[[], bytearray]:
    def make() -> bytearray:
        data = zipped()
        struct.pack_into(form, data, len(data) - 22 + offset, value)
        return data

    return make


DAMAGED: dict[str, tuple[Callable[[], bytearray], str]] = {
    "no such method": (patched(central, 10, "<H", 12), "compression method 12"),
    "sizes differ though stored": (patched(central, 24, "<L", 199), "is stored, yet 199 bytes take 200"),
    "zip64 size without the field": (patched(central, 24, "<L", 0xFFFFFFFF), "lacks its 64-bit sizes"),
    "offset of no header": (patched(central, 42, "<L", 1), "no local header at byte 1"),
    "offset beyond the end": (patched(central, 42, "<L", 1 << 30), "no local header|wanted at byte"),
    "another volume": (patched(central, 34, "<H", 3), "another volume"),
    "entry without magic": (patched(central, 0, "<L", 0), "no zip directory entry"),
    "a comment longer than the directory": (patched(central, 32, "<H", 5_000), "directory entry is cut"),
    "no local magic": (patched(local, 0, "<L", 0), "no local header"),
    "more members announced": (end_record(10, "<H", 9), "several volumes"),
    "fewer members announced": (end_record(8, "<L", 0x00030003), "stray bytes in the zip directory"),
    "members beyond the directory": (end_record(8, "<L", 0x00050005), "ends early"),
    "directory beyond the file": (end_record(16, "<L", 1 << 30), "lies outside the file"),
    "a second volume": (end_record(4, "<H", 1), "several volumes"),
    "zip64 record without magic": (end64(0, "<L", 5, b"PK\x06\x06"), "no zip64 end record"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(name: str) -> None:
    make, message = DAMAGED[name]
    with pytest.raises(DamagedFileError, match=message):
        directory(make())


def test_a_member_beyond_the_end_of_a_whole_archive_is_not_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(patched(central, 42, "<L", 1 << 30)())
    with pytest.raises(DamagedFileError) as caught:
        inspectcli.open_checkpoint(path)
    assert "no end record" not in str(caught.value)
    assert "download" not in caught.value.hint


def test_no_end_record_is_a_truncation() -> None:
    with pytest.raises(TruncatedFileError, match="no end record"):
        directory(zipped()[:-23])


def test_a_wrong_checksum_is_damage() -> None:
    data = zipped()
    data[local(data, "x/data/0") + 30 + 8] ^= 1
    source = Memory("x.zip", bytes(data))
    with pytest.raises(DamagedFileError, match=r"CRC-32 [0-9a-f]{8}, expected [0-9a-f]{8}"):
        read_member(source, read_directory(source).members["x/data/0"], 1 << 20)


def test_a_checksum_of_zero_was_not_computed() -> None:
    data = zipped()
    struct.pack_into("<L", data, central(data, "x/data/0") + 16, 0)
    source = Memory("x.zip", bytes(data))
    assert read_member(source, read_directory(source).members["x/data/0"], 1 << 20) == CONTENTS["x/data/0"]


@pytest.mark.parametrize(("size", "message"), [(199, "more than 199 bytes"), (201, "200 bytes, its directory")])
def test_a_deflated_member_of_another_size_is_damage(size: int, message: str) -> None:
    data = zipped(method=zipfile.ZIP_DEFLATED)
    struct.pack_into("<L", data, central(data, "x/data/0") + 24, size)
    source = Memory("x.zip", bytes(data))
    with pytest.raises(DamagedFileError, match=message):
        read_member(source, read_directory(source).members["x/data/0"], 1 << 20)


def test_a_deflated_member_that_is_no_deflate_stream_is_damage() -> None:
    data = zipped({"x/a": bytes(10_000)}, zipfile.ZIP_DEFLATED)
    data[33:40] = b"\xff" * 7
    source = Memory("x.zip", bytes(data))
    with pytest.raises(DamagedFileError, match=r"cannot be inflated|compressed member holds"):
        read_member(source, read_directory(source).members["x/a"], 1 << 20)


# -- limits ---------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    source = Memory("x.zip", bytes(zipped({"x/a": bytes(20 << 20)}, zipfile.ZIP_DEFLATED)))
    with pytest.raises(LimitError, match="a zip bomb"):
        read_member(source, read_directory(source).members["x/a"], 1 << 30)


def test_a_small_member_may_shrink_as_much_as_it_likes() -> None:
    source = Memory("x.zip", bytes(zipped({"x/a": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)))
    assert read_member(source, read_directory(source).members["x/a"], 1 << 30) == bytes(1 << 20)


def test_a_member_beyond_the_limit_is_not_read() -> None:
    source = Memory("x.zip", bytes(zipped()))
    with pytest.raises(LimitError, match="200 bytes, at most 199 are read"):
        read_member(source, read_directory(source).members["x/data/0"], 199)


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zip, "MAX_MEMBERS", 3)
    with pytest.raises(LimitError, match="4 members, at most 3"):
        directory(zipped())


# -- mutations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_mutated_archive_raises_our_errors_only(method: int) -> None:
    dice = random.Random(method)
    original = zipped(method=method)
    refused = 0
    for _ in range(3_000):
        data = bytearray(original)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.choice([0, 255, dice.randrange(256)])
        source = Memory("x.zip", bytes(data))
        try:
            for member in read_directory(source).members.values():
                read_member(source, member, 1 << 20)
        except PinspectError:
            refused += 1
    assert 500 < refused <= 3_000


def test_a_file_rewritten_within_a_tick_of_the_clock_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"x/a": b"1"}))
    first, time = LocalFile(str(path)), path.stat().st_mtime_ns
    assert set(read_directory(first).members) == {"x/a"}
    path.write_bytes(zipped({"x/b": b"1"}))
    os.utime(path, ns=(time, time))
    again = LocalFile(str(path))
    assert again == first
    assert set(read_directory(again).members) == {"x/b"}
    assert read_directory(again) is read_directory(again)
