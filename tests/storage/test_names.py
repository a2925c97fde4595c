"""Paths as reports name them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspectcli.storage.names import file_name, from_here, relative, uri

pytestmark = pytest.mark.skipif(os.name != "posix", reason="slashes")


@pytest.mark.parametrize(
    ("path", "folder", "way"),
    [("a/b", "a", "b"), ("a", "a", "."), ("/x/y", "/x/z", "../y"), ("b", "", "b"), ("", "", "."), ("a/../b", "b", ".")],
)
def test_the_way_from_a_folder(path: str, folder: str, way: str) -> None:
    assert relative(path, folder) == way


def test_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outside = str(tmp_path.parent / f"{tmp_path.name}x" / "a")
    assert [from_here(p) for p in ("a", "./a/../b", "../c", str(tmp_path / "d" / "e"), outside)] == [
        "a", "b", "../c", "d/e", outside,
    ]  # fmt: skip


def test_uris() -> None:
    assert uri("/a b/ü.pt") == Path("/a b/ü.pt").as_uri() == "file:///a%20b/%C3%BC.pt"
    assert uri("a b/c:d.pt") == "a%20b/c%3Ad.pt"


def test_the_name_of_a_file() -> None:
    assert [file_name(p) for p in ("a/b.pt", "b.pt", "a/", "<Linear>")] == ["b.pt", "b.pt", "", "<Linear>"]
