"""Other packages that offer entry points, as an installer leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectcli import plugins


def write_package(folder: Path, name: str, entry_points: str) -> None:
    """What `importlib.metadata` finds of a package: its name, and the text of its entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def install(folder: Path, name: str, entry_points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package importable from a folder, by a user who asks for plug-ins."""
    write_package(folder, name, entry_points)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(plugins, "_asked", True)
