"""Local files are regular files and nothing else; holes are zeros; a file that becomes shorter is damaged."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from inspectcli.errors import DamagedFileError, NotReadableError, TruncatedFileError, UsageError
from inspectcli.storage import local, locate
from inspectcli.storage.local import LocalFile, write_settings

DATA = bytes(range(256)) * 4


def test_a_file_is_pickled_without_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(1 << 20))
    assert len(pickle.dumps(LocalFile(str(path)))) < 300 + len(str(path))


def test_an_empty_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    made = LocalFile(str(tmp_path / "empty"))
    assert made.size == 0
    assert made.read_at(0, 0) == b""
    with pytest.raises(TruncatedFileError):
        made.read_at(0, 1)


# -- what is no file ------------------------------------------------------------------------------------


def refusal(path: Path | str) -> NotReadableError:
    with pytest.raises(NotReadableError) as caught:
        LocalFile(str(path))
    assert caught.value.path == str(path)
    return caught.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nothing")
    assert error.message == "no such file or directory"
    assert error.hint
    assert str(error).startswith(f"{tmp_path / 'nothing'}: no such file or directory")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path).message == "not a regular file: found a directory"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = (
        "import sys\n"
        "from inspectcli.errors import NotReadableError\n"
        "from inspectcli.storage.local import LocalFile\n"
        "try:\n    LocalFile(sys.argv[1])\n"
        "except NotReadableError as error:\n    sys.stdout.write(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pipe")], capture_output=True, text=True, timeout=20
    )
    assert done.stdout == "not a regular file: found a FIFO (named pipe)"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="the system has no /dev/zero")
def test_a_device_is_refused_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    assert refusal("/dev/zero").message == "not a regular file: found a character device"
    assert refusal(tmp_path / "link").message == "not a regular file: found a character device"


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "link").symlink_to("data")
    assert LocalFile(str(tmp_path / "link")).read_at(0, 8) == DATA[:8]


def test_links_in_a_circle_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "links that lead back to themselves" in refusal(tmp_path / "a").message


def test_a_name_that_is_too_long_is_called_so(tmp_path: Path) -> None:
    assert "too long" in refusal(tmp_path / ("n" * 5000)).message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(DATA)
    path.chmod(0)
    assert refusal(path).message == "permission denied"


# -- holes, and files that change -----------------------------------------------------------------------


def sparse(path: Path) -> Path:
    """Hole, data, hole, data, hole: 64 KiB each."""
    step = 1 << 16
    with open(path, "wb") as file:
        for start in (step, 3 * step):
            file.seek(start)
            file.write(random.Random(start).randbytes(step))
        file.truncate(5 * step)
    if os.stat(path).st_blocks * 512 >= 5 * step:
        pytest.skip("this file system keeps no holes")
    return path


def test_holes_read_as_zeros_and_data_as_data(tmp_path: Path) -> None:
    path = sparse(tmp_path / "sparse")
    content, made, dice = path.read_bytes(), LocalFile(str(path)), random.Random(0)
    for _ in range(500):
        offset = dice.randrange(len(content))
        n = dice.randrange(min(1 << 17, len(content) - offset) + 1)
        assert made.read_at(offset, n) == content[offset : offset + n], (offset, n)


def test_the_edges_of_holes_are_exact(tmp_path: Path) -> None:
    path = sparse(tmp_path / "sparse")
    content, made = path.read_bytes(), LocalFile(str(path))
    for edge in range(1 << 16, 5 << 16, 1 << 16):
        for offset, n in ((edge - 1, 1), (edge, 1), (edge - 1, 2), (edge - 5000, 5000), (edge - 5000, 5001)):
            assert made.read_at(offset, n) == content[offset : offset + n], (offset, n)


def test_the_end_of_a_huge_sparse_file_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with open(path, "wb") as file:
        file.seek(64 << 30)
        file.write(b"end")
    made = LocalFile(str(path))
    assert made.read_at((64 << 30) - 2, 5) == b"\0\0end"


def test_a_file_that_became_shorter_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(random.Random(1).randbytes(1 << 20))
    made = LocalFile(str(path))
    os.truncate(path, 1000)
    assert made.read_at(0, 1000) == random.Random(1).randbytes(1 << 20)[:1000]
    with pytest.raises(DamagedFileError, match="became shorter") as caught:
        made.read_at(900, 5000)
    assert caught.value.path == str(path)


def test_a_sparse_file_that_became_shorter_is_no_hole(tmp_path: Path) -> None:
    path = sparse(tmp_path / "sparse")
    made = LocalFile(str(path))
    os.truncate(path, 1 << 16)
    with pytest.raises(DamagedFileError, match="became shorter"):
        made.read_at(1 << 16, 1 << 16)


def test_a_closed_file_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    made = LocalFile(str(tmp_path / "data"))
    made.close()
    made.close()
    with pytest.raises(OSError):
        made.read_at(0, 1)


# -- links that are found ---------------------------------------------------------------------------------


def test_a_place_that_is_found_is_bound_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "m" / "inner").mkdir(parents=True)
    (tmp_path / "m" / "model.pt").write_bytes(DATA)
    (tmp_path / "m" / "other.json").write_text("[]")
    for name, target in (("out", "../secret.json"), ("within", "other.json"), ("up", "..")):
        (tmp_path / "m" / name).symlink_to(target)
    (tmp_path / "m" / "inner" / "back").symlink_to("../other.json")
    folder = locate(tmp_path / "m")
    for named in (folder, locate(tmp_path / "m" / "model.pt").parent, folder.absolute()):
        for out in (named.join("out"), named.join("up", "secret.json"), named.join("..", "secret.json")):
            assert out.leads_out()
            assert not (out.exists())
            assert not (out.is_file())
            assert not (out.size())
            for read in (out.open, lambda out=out: out.head(2), out.identity, out.on_disk):
                with pytest.raises(NotReadableError, match="leads out of its folder"):
                    read()
        assert not named.join("up").is_folder()
        with pytest.raises(NotReadableError, match="leads out of its folder"):
            list(named.join("up").list())
        assert named.join("within").head(2) == named.join("inner", "back").head(2) == b"[]"
    # What the user names is read wherever it leads; and the folder above may be asked for as itself.
    assert locate(tmp_path / "m" / "out").head(2) == b"{}"
    assert folder.join("..").join("secret.json").head(2) == folder.parent.join("secret.json").head(2) == b"{}"


def test_the_cache_of_hugging_face_is_links_to_its_own_blobs(tmp_path: Path) -> None:
    for name, target in (("a", "../../blobs/1"), ("b", "../../../other/blobs/1")):
        blob = tmp_path / "m" / "snapshots" / "c0ffee" / target
        blob.resolve().parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / "snapshots" / "c0ffee").mkdir(parents=True, exist_ok=True)
        blob.resolve().write_text("{}")
        (tmp_path / "m" / "snapshots" / "c0ffee" / name).symlink_to(target)
    folder = locate(tmp_path / "m" / "snapshots" / "c0ffee")
    assert folder.join("a").is_file()
    assert folder.join("b").leads_out()


# -- writing ------------------------------------------------------------------------------------------------


def test_what_is_written_is_there_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_settings(str(path), "größe\n\ud800")
    assert path.read_bytes() == "größe\n\\ud800".encode()
    path.chmod(0o640)
    write_settings(str(path), "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("fault", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "write":
        monkeypatch.setattr(local, "_write_all", full)
    else:
        monkeypatch.setattr(os, fault, full)
    with pytest.raises(OSError, match="No space left"):
        write_settings(str(path), "x" * 10_000)
    monkeypatch.undo()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.json", "before")]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are of POSIX")
def test_a_real_limit_leaves_no_half_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from inspectcli.storage.local import write_settings\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_settings(sys.argv[1], 'x' * 100_000)\n"
        "except OSError as error:\n    sys.exit(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "report")], timeout=60)
    assert done.returncode == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "nowhere").symlink_to("fresh")
    for name in ("link", "nowhere"):
        with pytest.raises(UsageError, match="nothing is written through one"):
            write_settings(str(tmp_path / name), "theirs")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "fresh").exists()


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="the system has no /dev/stdout")
def test_devices_and_pipes_are_written_as_they_are(tmp_path: Path) -> None:
    code = "import sys; from inspectcli.storage.local import write_settings; write_settings(sys.argv[1], 'said')"
    for sink, target in (("/dev/stdout", subprocess.PIPE), ("/dev/null", subprocess.PIPE)):
        done = subprocess.run([sys.executable, "-c", code, sink], stdout=target, text=True, timeout=60, check=True)
        assert done.stdout == ("said" if sink == "/dev/stdout" else "")
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code, "/dev/stdout"], stdout=out, timeout=60, check=True)
    assert (tmp_path / "out").read_text() == "said"
