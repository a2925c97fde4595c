"""The end record of a zip archive: one that is bytes of a tensor does not count, two that fit are refused."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from inspectcli.encodings.zip_end import ends_like_zip, find_directory
from inspectcli.errors import DamagedFileError, PinspectError, TruncatedFileError, UnsafeFileError
from inspectcli.storage.memory import Memory

END = b"PK\x05\x06"
#: What END is as a number of 32 bits: a token id.
TOKEN = 101_010_256


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def zipped(members: dict[str, bytes], comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def arrays(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def moved(data: bytes, by: int) -> bytes:
    """An archive without zip64 records, whose end record names a directory that lies further behind."""
    start, size = struct.unpack_from("<LL", data, len(data) - 10)[::-1]
    return data[: len(data) - 10] + struct.pack("<LL", size, start + by) + data[-2:]


# -- archives that are fine -----------------------------------------------------------------------------

HONEST = {
    "a token id": lambda: saved({"ids": torch.tensor([5, TOKEN, 7, TOKEN], dtype=torch.int32)}),
    "nothing but token ids": lambda: saved({"ids": torch.full((4_000,), TOKEN, dtype=torch.int32)}),
    "a zip as a tensor": lambda: saved({"b": torch.frombuffer(bytearray(zipped({"a": b"1"})), dtype=torch.uint8)}),
    "a torch file as bytes": lambda: saved({"w": torch.ones(3), "best": saved({"v": torch.ones(3)})}),
    "an array of a zip": lambda: arrays(blob=np.frombuffer(zipped({"a": b"1"}), "u1")),
    "an archive with a comment, inside": lambda: zipped({"x": zipped({"a": b"1"}, b"text")}),
    "an archive in an archive in an archive": lambda: zipped({"x": zipped({"y": saved({"w": torch.ones(3)})})}),
    "the magic as a member's name": lambda: zipped({"PK\x05\x06": b"1"}),
    "a comment": lambda: zipped({"a": END * 9}, b"a comment"),
    "no member": lambda: zipped({}),
}


@pytest.mark.parametrize("case", HONEST)
def test_an_end_record_that_does_not_fit_is_just_bytes(case: str) -> None:
    data = HONEST[case]()
    place = find_directory(Memory("x", data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert (place.start, place.entries) == (archive.start_dir, len(archive.namelist()))


def test_every_position_of_the_magic_in_a_member_is_read() -> None:
    for at in range(60):
        data = zipped({"a": bytes(at) + END + bytes(60 - at)})
        assert find_directory(Memory("x", data)).entries == 1


def test_a_directory_that_begins_at_the_number_of_the_magic_is_read() -> None:
    """The field of the end record that names its place is then the magic."""
    head = zipped({"a": b""})
    data = moved(head, TOKEN - struct.unpack_from("<L", head, len(head) - 6)[0])

    class Far(Memory):
        @property
        def size(self) -> int:
            return TOKEN + len(self.data) - 31

        def read_at(self, offset: int, n: int) -> bytes:
            gap = max(self.size - len(self.data) - offset, 0)
            return (bytes(gap) + bytes(self.data[max(offset - self.size + len(self.data), 0) :]))[:n]

    assert find_directory(Far("x", data)).start == TOKEN


# -- two readers, two archives --------------------------------------------------------------------------


def hidden_in_the_comment() -> bytes:
    """torch reads zeros, Python's zipfile ones."""
    zeros, ones = saved({"w": torch.zeros(3)}), saved({"w": torch.ones(3)})
    return zeros[:-2] + struct.pack("<H", len(ones)) + ones


def hidden_with_true_places() -> bytes:
    front, back = zipped({"a": b"1"}), moved(zipped({"b": b"2"}), 0)
    moved_back = moved(back, len(front))
    at = moved_back.index(b"PK\x01\x02")
    moved_back = moved_back[: at + 42] + struct.pack("<L", len(front)) + moved_back[at + 46 :]
    return front[:-2] + struct.pack("<H", len(back)) + moved_back


def broken_record_in_the_comment() -> bytes:
    return zipped({"a": b"1"}, END + bytes(16) + b"\x07\x00" + b"x" * 40)


def zip64_elsewhere() -> bytes:
    """torch follows the locator; Python's zipfile reads what stands in front of it."""
    data = saved({"w": torch.ones(3)})
    at = data.rfind(b"PK\x06\x07")
    return data[:at] + data[at - 56 : at] + data[at:]


def zip64_named_elsewhere() -> bytes:
    data = bytearray(saved({"w": torch.ones(3)}))
    struct.pack_into("<Q", data, data.rfind(b"PK\x06\x07") + 8, 5)
    return bytes(data)


TWO = {
    "an archive in the comment": (hidden_in_the_comment, r"two end records.*lists 7 members.*last one, at byte"),
    "an archive in the comment, places right": (hidden_with_true_places, "two end records.*lists 1 members"),
    "a record in the comment that does not fit": (broken_record_in_the_comment, "two end records"),
    "a locator that names another place": (zip64_named_elsewhere, "torch would read one at byte 5, Python's zipfile"),
    "another zip64 record": (zip64_elsewhere, "two end records|56 bytes stand before the archive or inside"),
    "a second record behind": (lambda: zipped({"a": b"1"}) + zipped({"a": b"1"})[-22:], "two end records"),
    "an archive behind an archive": (
        lambda: saved({"w": torch.zeros(3)}) + saved({"w": torch.ones(3)}),
        r"several archives in a row.*\.distcp",
    ),
    "bytes in front": (lambda: b"junk" * 9 + zipped({"a": b"1"}), "36 bytes stand before the archive"),
    "bytes in the directory": (lambda: moved(zipped({"a": b"1"}), 3), "3 bytes are missing before the archive"),
    "bytes behind": (lambda: zipped({"a": b"1"}) + b"more", "4 bytes follow the end"),
    "zeros behind": (lambda: zipped({"a": b"1"}) + bytes(512), "512 zero bytes follow the end"),
    "a line end behind": (lambda: saved({"w": torch.ones(3)}) + b"\n", r"1 bytes follow .*\(line ends\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", TWO)
def test_what_two_readers_would_read_in_two_ways_is_refused_with_a_next_step(case: str) -> None:
    make, message = TWO[case]
    with pytest.raises(UnsafeFileError, match=message) as caught:
        find_directory(Memory("x", make()))
    assert caught.value.hint


@pytest.mark.parametrize("tail", [b"more", bytes(512), b"\r\n", END + b"x"])
def test_the_cure_for_appended_bytes_gives_the_file_back(tail: bytes) -> None:
    data = saved({"w": torch.ones(3)})
    with pytest.raises(UnsafeFileError) as caught:
        find_directory(Memory("x", data + tail))
    assert f"head -c {len(data)} " in caught.value.hint


def test_a_cut_archive_with_an_archive_inside_is_cut() -> None:
    data = saved({"w": torch.ones(3), "best": saved({"v": torch.ones(3)}), "x": torch.ones(900)})
    with pytest.raises(TruncatedFileError):
        find_directory(Memory("x", data[:-1_500]))


@pytest.mark.parametrize("case", HONEST)
def test_every_truncation_is_refused(case: str) -> None:
    data = HONEST[case]()
    for size in {*range(0, len(data), len(data) // 97 + 1), *range(max(len(data) - 130, 0), len(data))}:
        with pytest.raises((DamagedFileError, UnsafeFileError)):
            find_directory(Memory("x", data[:size]))


def test_what_ends_like_an_archive() -> None:
    data = zipped({"a": b"1"})
    assert ends_like_zip(Memory("x", data))
    assert ends_like_zip(Memory("x", b"front" + data))
    assert not ends_like_zip(Memory("x", END * 3_000))
    assert not ends_like_zip(Memory("x", b"front" + END + bytes(range(60))))
    assert not ends_like_zip(Memory("x", b""))


def test_a_tail_full_of_magic_is_looked_at_once() -> None:
    """20 bytes apart, each with a comment that fits: 3,276 records."""
    n = 3_200
    data = b"".join(END + bytes(14) + struct.pack("<H", 20 * (n - 1 - i) - 2) for i in range(n - 1))
    source = Memory("x", zipped({"a": b"1"}) + data + bytes(20))
    with pytest.raises(PinspectError):
        find_directory(source)
