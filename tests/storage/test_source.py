"""What every source answers: its bytes, which bytes they are, and whether they changed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inspectcli.errors import ChangedFileError, TruncatedFileError
from inspectcli.storage.local import LocalFile
from inspectcli.storage.memory import Memory, Window
from inspectcli.storage.source import Source, ensure_unchanged

DATA = bytes(range(256)) * 4
SPANS = [(0, 0), (0, 1), (0, 1024), (1, 3), (255, 2), (1000, 24), (1023, 1), (1024, 0)]
OUTSIDE = [(0, 1025, 1), (1024, 1, 1), (1020, 10, 6), (5000, 1, 3977), (1 << 70, 1, (1 << 70) - 1023)]


def source(kind: str, folder: Path) -> Source:
    """DATA, behind each kind of source."""
    if kind == "memory":
        return Memory("m", DATA)
    if kind == "memoryview":
        return Memory("m", memoryview(DATA))
    path = folder / "data"
    if kind == "file":
        path.write_bytes(DATA)
        return LocalFile(str(path))
    path.write_bytes(b"before" + DATA + b"after")
    if kind == "window":
        return Window(LocalFile(str(path)), 6, len(DATA))
    return Window(Window(LocalFile(str(path)), 2, len(DATA) + 6), 4, len(DATA))


KINDS = ("file", "memory", "memoryview", "window", "window of a window")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("offset", "n"), SPANS)
def test_a_span_is_that_slice_of_the_bytes(kind: str, offset: int, n: int, tmp_path: Path) -> None:
    made = source(kind, tmp_path)
    assert made.size == len(DATA)
    assert made.read_at(offset, n) == DATA[offset : offset + n]
    buffer = bytearray(n)
    made.read_into(offset, memoryview(buffer))
    assert buffer == DATA[offset : offset + n]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("offset", "n", "missing"), OUTSIDE)
def test_a_span_past_the_end_says_how_many_bytes_are_missing(
    kind: str, offset: int, n: int, missing: int, tmp_path: Path
) -> None:
    made = source(kind, tmp_path)
    with pytest.raises(TruncatedFileError, match=f"{missing:,} bytes are missing") as caught:
        made.read_at(offset, n)
    assert caught.value.path == made.name
    if n < 1 << 20:
        with pytest.raises(TruncatedFileError):
            made.read_into(offset, memoryview(bytearray(n)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (-1, 2), (5, -1)])
def test_a_negative_span_is_refused(kind: str, offset: int, n: int, tmp_path: Path) -> None:
    with pytest.raises(TruncatedFileError):
        source(kind, tmp_path).read_at(offset, n)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_travels_to_another_process(kind: str, tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(source(kind, tmp_path)))
    assert copy.size == len(DATA)
    assert copy.read_at(3, 500) == DATA[3:503]


def test_threads_share_a_file(tmp_path: Path) -> None:
    made = source("file", tmp_path)
    offsets = [i % 1000 for i in range(2000)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda offset: made.read_at(offset, 20), offsets))
    assert parts == [DATA[offset : offset + 20] for offset in offsets]


# -- identity -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_source_is_equal_to_the_one_it_was_made_of(kind: str, tmp_path: Path) -> None:
    made = source(kind, tmp_path)
    copy = pickle.loads(pickle.dumps(made))
    assert copy == made
    assert hash(copy) == hash(made)
    assert copy.identity == made.identity


def test_two_openings_of_one_file_are_equal_until_it_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    (tmp_path / "link").symlink_to(path)
    first, again, link = (LocalFile(str(p)) for p in (path, path, tmp_path / "link"))
    assert first == again == link
    assert len({first, again, link}) == 1
    assert Window(first, 1, 5) == Window(again, 1, 5) != Window(first, 2, 5)
    path.write_bytes(DATA + b"more")
    assert LocalFile(str(path)) != first


def test_files_of_equal_bytes_are_different_sources(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(DATA)
    assert LocalFile(str(tmp_path / "a")) != LocalFile(str(tmp_path / "b"))
    assert Memory("m", DATA) != Memory("m", DATA)


def test_memory_of_another_process_is_never_taken_for_ours() -> None:
    # Each process numbers its own: the numbers alone would be equal.
    code = (
        "import pickle, sys\n"
        "from inspectcli.storage.memory import Memory\n"
        "sys.stdout.buffer.write(pickle.dumps([Memory('m', b'') for _ in range(50)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    theirs = pickle.loads(done.stdout)
    ours = [Memory("m", b"") for _ in range(50)]
    assert len({*theirs, *ours}) == 100


# -- changes --------------------------------------------------------------------------------------------


def longer(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def other_bytes(path: Path) -> None:
    time = path.stat().st_mtime_ns
    path.write_bytes(bytes(len(path.read_bytes())))
    os.utime(path, ns=(time + 1_000_000, time + 1_000_000))


def replaced(path: Path) -> None:
    status = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize("kind", ["file", "window", "window of a window"])
@pytest.mark.parametrize("change", [longer, other_bytes, replaced, Path.unlink])
def test_a_change_of_the_file_is_seen(kind: str, change: object, tmp_path: Path) -> None:
    made = source(kind, tmp_path)
    assert not made.changed()
    ensure_unchanged([made])
    change(tmp_path / "data")  # type: ignore[operator]
    assert made.changed()
    with pytest.raises(ChangedFileError) as caught:
        ensure_unchanged([Memory("m", b""), made])
    assert caught.value.message == "the file changed while it was read"
    assert caught.value.path == str(tmp_path / "data")
    assert caught.value.hint


def test_reading_a_file_does_not_change_it(tmp_path: Path) -> None:
    made = source("file", tmp_path)
    made.read_at(0, made.size)
    (tmp_path / "data").read_bytes()
    assert not made.changed()


def test_a_change_before_it_is_unpickled_is_seen(tmp_path: Path) -> None:
    made = source("file", tmp_path)
    sent = pickle.dumps(made)
    longer(tmp_path / "data")
    copy = pickle.loads(sent)
    assert copy == made
    assert copy.changed()


def test_a_change_of_the_working_folder_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    made = LocalFile("data")
    monkeypatch.chdir("elsewhere")
    assert not made.changed()
