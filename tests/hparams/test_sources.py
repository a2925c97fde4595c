"""A source of hyperparameters is one file in `sources/`: found, read and named, with nothing else edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspectcli.cli import run
from inspectcli.commands.hparams.run import read_hparams
from inspectcli.hparams import all_sources, sources

TOY = """
from inspectcli.hparams.base import HParamSource, Origin, Store
from inspectcli.hparams.names import hparam


def _read(location, head, choice):
    pairs = (line.split("=") for line in head.decode().splitlines()[1:])
    return Store(tuple(hparam(key, float(value), Origin(str(location), "", "toy")) for key, value in pairs))


SOURCE = HParamSource("toy", lambda location, head: head.startswith(b"%toy\\n"), _read)
"""


def forget() -> None:
    all_sources.cache_clear()
    sys.modules.pop("inspectcli.hparams.sources.toy", None)


@pytest.fixture(autouse=True)
def _toy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    home = tmp_path_factory.mktemp("sources")
    (home / "toy.py").write_text(TOY)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(home)])
    forget()
    yield
    forget()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "settings").write_text("%toy\nlr=0.01\ndropout=0.5\n")
    return tmp_path


def test_a_file(settings: Path) -> None:
    rows = read_hparams(str(settings / "settings")).rows
    assert [(row.name, row.raw_key, row.value, row.source.tool) for row in rows] == [
        ("learning_rate", "lr", 0.01, "toy"),
        ("dropout", "dropout", 0.5, "toy"),
    ]


def test_in_a_folder_and_as_text(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hparams", str(settings), "--format", "plain"]) == 0
    shown = capsys.readouterr().out
    assert "learning_rate" in shown
    assert "written by  toy" in shown
