"""A rule is one file in `health/`, or one entry point: listed, explained, run, selected, and nothing else is edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.packages import install

from inspectcli.analysis import findings, health
from inspectcli.cli import run

TOY = '''
from inspectcli.analysis.findings import RuleHit, rule
from inspectcli.contract import Severity
from support.negatives import Negatives


@rule("TOY101", "all-negative", Severity.WARNING, needs=(Negatives,))
def all_negative(context):
    """All values of a tensor are negative.

    Why it matters: it is a toy.

    What to do: nothing.
    """
    for tensor in context.unique:
        if tensor.get(Negatives) == tensor.ref.numel:
            yield RuleHit(tensor.name, "all values are below 0")
'''


@pytest.fixture(autouse=True, params=["a file in health/", "an entry point"])
def _toy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(findings, "_RULES", dict(findings._RULES))
    if request.param == "a file in health/":
        home = tmp_path / "health"
        home.mkdir()
        (home / "toy.py").write_text(TOY)
        monkeypatch.setattr(health, "__path__", [*health.__path__, str(home)])
    else:
        home = tmp_path / "site"
        install(home, "toy_rules", "[inspectcli.rules]\ntoy = toy_rules\n", monkeypatch)
        (home / "toy_rules.py").write_text(TOY)
    yield
    for name in ("toy_rules", "inspectcli.analysis.health.toy"):
        sys.modules.pop(name, None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    save_file({"mixed": x, "below": -np.abs(x) - 1}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_it_is_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "--format", "plain"]) == 0
    assert "TOY101" in capsys.readouterr().out
    assert run(["rules", "TOY101", "--format", "plain"]) == 0
    assert "it is a toy" in capsys.readouterr().out


def test_it_is_run_selected_and_ignored(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check", str(model), "--fail-on", "warning", "--format", "plain", "--no-config"]
    assert run([*check, "--select", "TOY"]) == 1
    shown = capsys.readouterr().out
    assert "TOY101" in shown
    assert "below" in shown
    assert run([*check, "--select", "TOY", "--ignore", "TOY101"]) in (0, 2)  # 2: no rule is left
    assert "all values are below 0" not in capsys.readouterr().out
