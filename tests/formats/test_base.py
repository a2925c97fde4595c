"""A format of another package is one object: found, opened, named and listed, with nothing else edited."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import toy_format
from support.packages import install
from support.toy_format import write, write_folder

import inspectcli
from inspectcli import formats as package
from inspectcli.cli import run
from inspectcli.errors import UsageError
from inspectcli.formats import FORMAT_NAMES, finding, open_checkpoint
from inspectcli.formats.discovery import is_named_like_a_checkpoint, models_in, search
from inspectcli.storage import locate


@pytest.fixture(params=["by an entry point", "by being there"])
def _toys(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy formats, installed in each of the two ways."""
    home = tmp_path / "site"
    home.mkdir()
    if request.param == "by being there":
        shutil.copy(toy_format.__file__, home / "toy.py")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(home)])
    else:
        install(home, "toys", "[inspectcli.formats]\ntoy = support.toy_format:FORMAT\n", monkeypatch)
    monkeypatch.setattr(finding, "_titles", dict(finding._titles))
    finding._formats.cache_clear()
    yield
    finding._formats.cache_clear()


pytestmark = pytest.mark.usefixtures("_toys")


def plain(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    code = run([str(arg) for arg in args])
    return code, capsys.readouterr().out


def test_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "whatever", [1.0, 2.5, -4.0])
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "toy"
    np.testing.assert_array_equal(checkpoint["whatever.weight"].numpy(), np.array([1.0, 2.5, -4.0], np.float32))
    assert inspectcli.inspect(path).files[0]["whatever.weight"].stats.max == 2.5  # type: ignore[union-attr]
    code, text = plain(capsys, path, "--format", "plain")
    assert code == 0
    assert "toy numbers" in text
    assert FORMAT_NAMES["toy"] == "toy numbers"


def test_a_folder_that_is_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "runs" / "last", {"a.toy": [1.0, 2.0], "b.toy": [5.0]})
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.format, checkpoint.path, len(checkpoint)) == ("toy-folder", str(folder), 2)
    np.testing.assert_array_equal(checkpoint["b.weight"].numpy(), np.array([5.0], np.float32))
    assert [str(f.place) for f in search(locate(tmp_path / "runs")).found] == [str(folder)]
    report = inspectcli.inspect(folder).files[0]
    assert (report.path, report.size) == (str(folder), 16 + 12)
    code, text = plain(capsys, tmp_path / "runs", "--format", "plain")
    assert code == 0
    assert "folder of toy numbers" in text
    same = inspectcli.diff(folder, folder)
    assert same.same


def test_the_folder_of_a_checkpoint_is_not_looked_into(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "last", {"a.toy": [1.0]})
    write(folder / "b.toy", [2.0])
    (folder / "deeper").mkdir()
    write(folder / "deeper" / "c.toy", [3.0])
    assert [str(p) for p in models_in(locate(folder))] == [str(folder)]
    assert [str(f.place) for f in search(locate(tmp_path)).found] == [str(folder)]


def test_its_suffix_is_looked_for_in_folders_and_by_hooks(tmp_path: Path) -> None:
    write(tmp_path / "model.toy", [1.0])
    (tmp_path / "notes.txt").write_text("TOY1")
    assert [str(f.place) for f in search(locate(tmp_path)).found] == [str(tmp_path / "model.toy")]
    assert open_checkpoint(tmp_path).path == str(tmp_path / "model.toy")
    assert is_named_like_a_checkpoint(locate(tmp_path / "MODEL.TOY"))
    assert not is_named_like_a_checkpoint(locate(tmp_path / "notes.txt"))


def test_a_run_of_them_is_a_trajectory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from inspectcli.commands.diff.run import Options
    from inspectcli.commands.diff.trajectory import trajectory

    for step in (2, 10, 9):
        write_folder(tmp_path / f"step{step}", {"a.toy": [float(step)]})
    assert [step.name for step in trajectory(str(tmp_path), Options()).trajectory] == ["step2", "step9", "step10"]


def test_it_can_be_required(tmp_path: Path) -> None:
    path = write(tmp_path / "model.toy", [1.0])
    assert not inspectcli.check(path, select=["PI590"], require_format=["toy"]).findings
    (finding,) = inspectcli.check(path, select=["PI590"], require_format=["safetensors"]).findings
    assert "toy" in finding.message
    with pytest.raises(UsageError, match="there is no format 'tox'"):
        inspectcli.check(path, require_format=["tox"])


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "model.toy", [1.0])
    path.write_bytes(path.read_bytes() + b"x")
    report = inspectcli.inspect(path).files[0]
    assert report.error is not None
    assert (report.path, report.error.message) == (str(path), "13 bytes, expected 12")
