"""A file that somebody writes to while it is read is an error of that file, whatever the command."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from support.places import FIXTURES

import inspectcli
from inspectcli.cli import run
from inspectcli.commands.check.policy import Policy
from inspectcli.commands.check.run import Checker
from inspectcli.commands.diff.run import Options
from inspectcli.commands.diff.textconv import text_lines
from inspectcli.commands.diff.trajectory import trajectory
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.commands.inspect.run import inspect_path
from inspectcli.errors import ChangedFileError
from inspectcli.storage.local import LocalFile

MESSAGE = "the file changed while it was read"
SHARDED = FIXTURES / "sharded"


def copied(folder: Path, name: str = "mlp.safetensors", to: str = "model.safetensors") -> Path:
    shutil.copy(FIXTURES / name, folder / to)
    return folder / to


def touched(path: Path) -> None:
    """The same bytes, written again."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def longer(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b" ")


def replaced(path: Path) -> None:
    """As programs save that do it well: written beside, and moved into its place."""
    shutil.copy(path, path.with_name("new"))
    path.with_name("new").replace(path)


CHANGES = [touched, longer, replaced, Path.unlink]


@pytest.fixture
def on_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes a file just after some of it was read: the first part, or a later one."""

    def arrange(path: Path, change: Callable[[Path], None], part: int = 1) -> None:
        real, left = LocalFile.read_into, [change, *[lambda path: None] * (part - 1)]

        def read_into(self: LocalFile, offset: int, buffer: memoryview) -> None:
            real(self, offset, buffer)
            if left and Path(self.path) == path:
                left.pop()(path)

        monkeypatch.setattr(LocalFile, "read_into", read_into)

    return arrange


@pytest.mark.parametrize("change", CHANGES)
def test_inspect(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = copied(tmp_path)
    changes = [change]
    report = inspect_path(str(path), progress=lambda nbytes: changes and changes.pop()(path))
    assert not changes
    assert report.error is not None
    assert (report.path, report.error.code, report.error.message) == (str(path), "changed", MESSAGE)
    assert report.error.hint
    assert not report.tensors


@pytest.mark.parametrize("change", CHANGES)
def test_check(change: Callable[[Path], None], tmp_path: Path) -> None:
    path, other = copied(tmp_path), copied(tmp_path, "mlp.pt", "other.pt")
    changes = [change]
    report = Checker(Policy(), progress=lambda nbytes: changes and changes.pop()(path)).check_paths([path, other])
    assert [file.error and file.error.message for file in report.files] == [MESSAGE, None]
    assert report.exit_code == 2


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["a", "b"])
def test_diff(side: str, change: Callable[[Path], None], tmp_path: Path, on_reading: Callable[..., None]) -> None:
    paths = {"a": copied(tmp_path), "b": copied(tmp_path, "mlp.pt", "model.pt")}
    on_reading(paths[side], change)
    with pytest.raises(ChangedFileError) as caught:
        inspectcli.diff(paths["a"], paths["b"])
    assert (caught.value.path, caught.value.message) == (str(paths[side]), MESSAGE)


def test_a_checkpoint_that_was_opened_before_it_changed_is_not_compared(tmp_path: Path) -> None:
    path = copied(tmp_path)
    checkpoint = inspectcli.open_checkpoint(path)
    assert inspectcli.diff(checkpoint, checkpoint).same
    longer(path)
    with pytest.raises(ChangedFileError):
        inspectcli.diff(checkpoint, FIXTURES / "mlp.pt")


@pytest.mark.parametrize("args", [["inspect"], ["check"], ["hparams"], ["diff", FIXTURES / "mlp.pt"]])
def test_the_command_says_it_and_exits_2(
    args: list[object], tmp_path: Path, on_reading: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(tmp_path)
    on_reading(path, touched, part=2)  # hparams opens a file once to recognize it, and again to read it
    assert run([*map(str, args), str(path), "--format", "json"]) == 2
    out, err = capsys.readouterr()
    assert f"{path}: {MESSAGE}" in err
    document = json.loads(out)
    error = document["files"][0]["error"] if "files" in document else document["error"]
    assert (error["code"], error["message"]) == ("changed", MESSAGE)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "model-00002-of-00002.safetensors"])
@pytest.mark.parametrize("change", [touched, replaced])
def test_every_file_of_a_sharded_model_is_asked(
    name: str, change: Callable[[Path], None], tmp_path: Path, on_reading: Callable[..., None]
) -> None:
    folder = Path(shutil.copytree(SHARDED, tmp_path / "model"))
    on_reading(folder / name, change)
    report = inspect_path(str(folder))
    assert report.error is not None
    assert (report.path, report.error.message) == (str(folder / name), MESSAGE)


def test_an_archive_in_an_archive_is_asked(tmp_path: Path, on_reading: Callable[..., None]) -> None:
    path = copied(tmp_path, "mlp.keras", "model.keras")
    on_reading(path, touched)
    report = inspect_path(str(path))
    assert report.error is not None
    assert report.error.message == MESSAGE


def test_a_step_of_a_run_is_a_problem_and_the_others_are_compared(
    tmp_path: Path, on_reading: Callable[..., None]
) -> None:
    for step in (1, 2, 3):
        copied(tmp_path, to=f"step{step}.safetensors")
    on_reading(tmp_path / "step2.safetensors", touched)
    found = trajectory(str(tmp_path), Options())
    assert [(p.path, p.message) for p in found.problems] == [("step2.safetensors", MESSAGE)]
    assert len(found.trajectory) == 3


def test_git_is_told(tmp_path: Path, on_reading: Callable[..., None]) -> None:
    path = copied(tmp_path)
    on_reading(path, touched)
    assert next(iter(text_lines(str(path)))) == f"not compared as a checkpoint: {MESSAGE}"


# -- hyperparameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "to"), [("lightning.ckpt", "last.ckpt"), ("sharded/config.json", "config.json")])
@pytest.mark.parametrize("change", [touched, longer, replaced])
def test_the_file_that_was_named(
    name: str, to: str, change: Callable[[Path], None], tmp_path: Path, on_reading: Callable[..., None]
) -> None:
    path = copied(tmp_path, name, to)
    on_reading(path, change, part=2)
    with pytest.raises(ChangedFileError) as caught:
        read_hparams(path)
    assert (caught.value.path, caught.value.message) == (str(path), MESSAGE)


def test_a_file_of_a_folder_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("learning_rate: 0.5\n")
    (tmp_path / "args.yaml").write_text("batch_size: 4\n")
    monkeypatch.setattr(LocalFile, "changed", lambda self: self.path.endswith("args.yaml"))
    found = read_hparams(tmp_path)
    assert found["learning_rate"] == 0.5
    assert "batch_size" not in found
    assert found.notes == (f"args.yaml was not read: {MESSAGE}",)


def test_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "trackio.db") as db:
        db.executescript(
            "CREATE TABLE metrics (a); CREATE TABLE system_metrics (a);"
            "CREATE TABLE configs (run_name TEXT, config TEXT);"
            """INSERT INTO configs VALUES ('r', '{"lr": 0.5}');"""
        )
    db.close()
    assert read_hparams(tmp_path / "trackio.db")["learning_rate"] == 0.5
    monkeypatch.setattr(LocalFile, "changed", lambda self: True)
    with pytest.raises(ChangedFileError):
        read_hparams(tmp_path / "trackio.db")
