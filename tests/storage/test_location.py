"""Places of this machine by name; and everything that reads folders reads them of any kind of place."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support.locations import stored
from support.places import FIXTURES

from inspectcli.cli import run
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.commands.inspect.run import inspect_path
from inspectcli.encodings.files import names_in, read_json, siblings, subfolders
from inspectcli.errors import ChangedFileError, NotReadableError, TruncatedFileError
from inspectcli.formats import open_location
from inspectcli.formats.discovery import search
from inspectcli.storage import locate, size_of
from inspectcli.storage.local import LocalFile, LocalPath
from inspectcli.storage.location import Entry, EntryKind
from inspectcli.storage.memory import Memory

# -- from text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["model.pt", "a/b", ".", "/x", "C:/x", "C://x", "a:b", "hf:x", "a//b", "x/s3://y"])
def test_text_is_a_path_and_keeps_its_spelling(text: str) -> None:
    assert str(locate(text)) == text
    assert locate(Path("a") / "b") == locate(os.path.join("a", "b"))
    assert locate(locate(text)) == locate(text)


@pytest.mark.parametrize(
    "text", ["hf://gpt2", "https://x.org/a.pt", "s3://bucket/a", "GS://b", "file:///etc", "az+x://"]
)
def test_a_text_with_a_scheme_is_refused(text: str) -> None:
    with pytest.raises(NotReadableError) as caught:
        locate(text)
    scheme = text.partition("//")[0] + "//"
    assert caught.value.message == f"{scheme} addresses are not supported: only local files and folders are read"
    assert caught.value.path == text
    assert caught.value.hint


@pytest.mark.parametrize("args", [["inspect"], ["check"], ["hparams"], ["diff", FIXTURES / "mlp.pt"], ["diff"]])
def test_every_command_refuses_it_in_the_same_words(args: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*map(str, args), "hf://gpt2/model.pt"]) == 2
    assert capsys.readouterr().err == (
        "pinspect: hf://gpt2/model.pt: hf:// addresses are not supported: only local files and folders are read\n"
        "  download it, and name the file\n"
    )


def test_no_text_is_no_place() -> None:
    with pytest.raises(NotReadableError, match="no such file or directory"):
        locate("")


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"12345")
    assert size_of(str(tmp_path / "data")) == 5
    assert [size_of(text) for text in ("", str(tmp_path), str(tmp_path / "none"), "s3://b", "a\0b")] == [0] * 5


# -- names ----------------------------------------------------------------------------------------------

HERE = "the name of the working folder"
NAMES = {
    # text: (name, suffix, stem, str of the parent)
    "model.pt": ("model.pt", ".pt", "model", ""),
    "a/model.best.pth": ("model.best.pth", ".pth", "model.best", "a"),
    "a/b/": ("b", "", "b", "a"),
    "./x": ("x", "", "x", "."),
    "/x": ("x", "", "x", "/"),
    "/": ("", "", "", "/"),
    ".hidden": (".hidden", "", ".hidden", ""),
    "a/.hidden.pt": (".hidden.pt", ".pt", ".hidden", "a"),
    "..a": ("..a", "", "..a", ""),
    "x.": ("x.", ".", "x", ""),
    ".": (HERE, "", HERE, "./.."),
    "a/..": (HERE, "", HERE, "a/../.."),
}


@pytest.mark.skipif(os.name != "posix", reason="slashes")
@pytest.mark.parametrize("text", NAMES)
def test_parts_of_a_name(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / HERE).mkdir()
    monkeypatch.chdir(tmp_path / HERE)
    place = locate(text)
    assert (place.name, place.suffix, place.stem, str(place.parent)) == NAMES[text]
    if place.name not in ("", HERE):
        assert place.suffix == os.path.splitext(place.name)[1]
        assert place.parent.absolute() == place.absolute().parent


def test_the_folder_of_a_name_alone_is_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "run")
    folder = locate("model.pt").parent
    assert folder.is_folder()
    assert folder.name == "run"
    assert str(folder.join("config.json")) == "config.json"
    assert [entry.name for entry in folder.list()] == ["config.json"]
    assert folder.parent.name == tmp_path.name
    assert str(folder.absolute()) == folder.on_disk() == str(tmp_path / "run")


def test_a_climb_ends_at_the_root(tmp_path: Path) -> None:
    place, names = locate(tmp_path), []
    while place.parent != place:
        names.append(place.name)
        place = place.parent
    assert names == [part.name for part in (tmp_path, *tmp_path.parents)][:-1]


# -- what is there --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to file").symlink_to("file")
    (tmp_path / "to folder").symlink_to("folder")
    (tmp_path / "to nothing").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    folder = locate(tmp_path)
    assert set(folder.list()) == {
        Entry("file", EntryKind.FILE), Entry("folder", EntryKind.FOLDER), Entry("to file", EntryKind.LINK),
        Entry("to folder", EntryKind.LINK), Entry("to nothing", EntryKind.LINK), Entry("pipe", EntryKind.OTHER),
    }  # fmt: skip
    seen = {
        entry.name: (place.exists(), place.is_file(), place.is_folder(), place.is_link(), place.size())
        for entry in folder.list()
        for place in [folder.join(entry.name)]
    }
    assert seen == {
        "file": (True, True, False, False, 3),
        "folder": (True, False, True, False, 0),
        "to file": (True, True, False, True, 3),
        "to folder": (True, False, True, True, 0),
        "to nothing": (False, False, False, True, 0),
        "pipe": (True, False, False, False, 0),
    }
    assert names_in(folder) == siblings(folder.join("file")) == set(seen)
    assert subfolders(folder) == [folder.join("folder")]


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "none"):
        place = locate(tmp_path / name)
        with pytest.raises(NotReadableError) as caught:
            list(place.list())
        assert caught.value.path == str(place)
        assert names_in(place) == frozenset()
        assert subfolders(place) == []


def test_links_are_resolved_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    (tmp_path / "a" / "data").touch()
    (tmp_path / "link").symlink_to("a/data")
    real = locate(tmp_path / "link").real()
    assert real == locate(tmp_path / "a" / "data").real()
    assert real.is_below(locate(tmp_path / "a").real())
    assert not real.is_below(locate(tmp_path / "ab").real())
    assert not locate(tmp_path / "ab" / "x").is_below(locate(tmp_path / "a"))


# -- bytes ----------------------------------------------------------------------------------------------


def test_the_identity_of_a_place_is_that_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"1")
    place = locate(tmp_path / "data")
    assert place.identity() == place.open().identity
    with pytest.raises(NotReadableError, match="no such file"):
        locate(tmp_path / "none").identity()


def test_an_opened_place_gives_the_source_it_was_opened_with(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"12345")
    place = locate(tmp_path / "data")
    source = place.open()
    opened = place.opened(source, b"123")
    assert opened.open() is source
    assert opened == place
    assert [opened.head(n) for n in (0, 2, 3, 4, 9)] == [b"", b"12", b"123", b"1234", b"12345"]
    assert [place.head(n) for n in (0, 2, 9)] == [b"", b"12", b"12345"]
    assert opened.opened(Memory("m", b"ab")).head(9) == b"ab"


def test_a_place_pickles(tmp_path: Path) -> None:
    place = locate(tmp_path / "data")
    assert pickle.loads(pickle.dumps(place)) == place


def test_a_file_is_closed_when_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"12345")
    with locate(tmp_path / "data").reading() as source:
        assert source.read_at(1, 3) == b"234"
    with pytest.raises(OSError):
        source.read_at(0, 1)


def test_a_file_that_is_written_to_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"12345")
    with pytest.raises(ChangedFileError, match="the file changed while it was read") as caught:  # noqa: SIM117
        with locate(path).reading():
            path.write_bytes(b"123456")
    assert caught.value.path == str(path)


def test_what_went_wrong_before_says_more_than_the_change(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"12345")

    def change_and_read_too_far() -> None:
        with locate(path).reading() as source:
            path.write_bytes(b"1")
            source.read_at(0, 9)

    with pytest.raises(TruncatedFileError):
        change_and_read_too_far()


# -- other kinds of places ------------------------------------------------------------------------------


@pytest.fixture
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of this machine is opened, no folder of it listed."""

    def refuse(*args: object) -> None:
        raise AssertionError(args)

    monkeypatch.setattr(LocalFile, "__init__", refuse)
    monkeypatch.setattr(LocalPath, "list", refuse)


@pytest.mark.usefixtures("_no_disk")
@pytest.mark.parametrize(
    "name", ["sharded", "sharded/model.safetensors.index.json", "mlp.pt", "mlp.keras", "zoo_keras3.h5"]
)
def test_a_checkpoint_of_a_store(name: str) -> None:
    place = stored(FIXTURES).join(name)
    report = inspect_path(place)
    assert report.error is None
    assert report.path.startswith(f"store://{name}")
    assert report.totals is not None
    assert report.totals.tensors


@pytest.mark.usefixtures("_no_disk")
def test_shards_and_config_of_a_store_are_found_in_it(tmp_path: Path) -> None:
    place = stored(FIXTURES).join("sharded")
    checkpoint = open_location(place)
    assert checkpoint.location == place.join("model.safetensors.index.json")
    assert checkpoint.files == tuple(f"store://sharded/model-0000{i}-of-00002.safetensors" for i in (1, 2))
    assert len(checkpoint.sources) == 3
    assert read_json(place.join("config.json")) == json.loads((FIXTURES / "sharded" / "config.json").read_text())
    files = safetensors.numpy.load_file(FIXTURES / "sharded" / "model-00001-of-00002.safetensors")
    for tensor, values in files.items():
        np.testing.assert_array_equal(checkpoint[tensor].numpy(), values)


@pytest.mark.usefixtures("_no_disk")
def test_a_run_of_a_store(tmp_path: Path) -> None:
    run = tmp_path / "exp"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(FIXTURES / "lightning.ckpt", run / "checkpoints" / "last.ckpt")
    (run / "config.yaml").write_text("learning_rate: 0.25\nbatch_size: 16\n")
    place = stored(tmp_path)
    assert [str(f.place) for f in search(place.join("exp")).found] == ["store://exp/checkpoints/last.ckpt"]
    for named in ("exp", "exp/checkpoints/last.ckpt"):
        found = read_hparams(place.join(named))  # type: ignore[arg-type]
        assert found["batch_size"] == 16
        assert {"store://exp/checkpoints/last.ckpt"} < set(found.files)
