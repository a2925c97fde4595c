"""Tokens, keys and passwords are masked in every format, and shown on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inspectcli.cli import run

TOKEN = "hf_" + "x" * 34


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "config.yaml").write_text(f"lr: 0.1\nhf_token: {TOKEN}\nstorage: mysql://me:pw123@db/x\n")
    return str(tmp_path / "config.yaml")


@pytest.mark.parametrize("name", ["plain", "json", "csv", "markdown", "yaml"])
@pytest.mark.parametrize("flags", [[], ["--all"]], ids=["", "all"])
def test_masked(config: str, name: str, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hparams", config, "--format", name, *flags]) == 0
    shown = capsys.readouterr().out
    assert TOKEN not in shown
    assert "pw123" not in shown


def test_shown_on_request(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hparams", config, "--format", "json", "--all", "--show-secrets"]) == 0
    shown = json.dumps(json.loads(capsys.readouterr().out))
    assert TOKEN in shown
    assert "pw123" in shown
