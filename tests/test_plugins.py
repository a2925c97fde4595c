"""Code of other packages is loaded if somebody asks for it: what lies in the working folder may be downloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.packages import write_package
from support.places import FIXTURES, ROOT

GROUPS = ("formats", "renderers", "rules", "sources")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder with a package that says it when it is imported."""
    (tmp_path / "theirs.py").write_text("open(__file__ + '.ran', 'w').close()\nTHING = ()\n")
    write_package(tmp_path, "theirs", "".join(f"[inspectcli.{g}]\nx = theirs:THING\n" for g in GROUPS))
    return tmp_path


def pinspect(theirs: Path, *args: object) -> subprocess.CompletedProcess[str]:
    # With `-m` the working folder is the first of sys.path.
    code = f"import sys; sys.path.insert(1, {str(ROOT)!r}); from inspectcli.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, cwd=theirs, capture_output=True, text=True, timeout=120)


MODEL = FIXTURES / "mlp.safetensors"


@pytest.mark.parametrize(
    "args",
    [
        (MODEL, "--format", "toy"),
        (MODEL, "-o", "report.html"),
        ("check", MODEL),
        ("check", MODEL, "--require-format", "toy"),
        ("hparams", MODEL),
        ("diff", MODEL, MODEL),
        ("rules",),
        (".",),
    ],
    ids=lambda args: " ".join(str(a).rpartition("/")[2] for a in args),
)
def test_none_is_loaded_unasked(args: tuple[object, ...], theirs: Path) -> None:
    (theirs / ".pinspect.toml").write_text("plugins = true")
    pinspect(theirs, *args)
    assert not (theirs / "theirs.py.ran").exists()


def test_a_configuration_that_was_found_asks_in_vain(theirs: Path) -> None:
    (theirs / ".pinspect.toml").write_text("plugins = true")
    (theirs / "m.safetensors").write_bytes(MODEL.read_bytes())
    done = pinspect(theirs, "check", "m.safetensors")
    assert done.returncode == 0
    assert "the plug-ins that" in done.stdout
    assert not (theirs / "theirs.py.ran").exists()


@pytest.mark.parametrize("args", [("rules", "--plugins"), ("check", MODEL, "--config", "mine.toml")])
def test_they_are_when_somebody_asks(args: tuple[object, ...], theirs: Path) -> None:
    (theirs / "mine.toml").write_text("[tool.pinspect]\nplugins = true")
    assert pinspect(theirs, *args).returncode == 0
    assert (theirs / "theirs.py.ran").exists()


def test_one_that_cannot_be_loaded_is_named(theirs: Path) -> None:
    (theirs / "theirs.py").write_text("1 / 0")
    done = pinspect(theirs, "rules", "--plugins")
    assert done.returncode == 2
    assert "the plug-in x (theirs:THING) cannot be loaded: ZeroDivisionError" in done.stderr
