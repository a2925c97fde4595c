"""SECURITY.md: each promise names what holds it, and that is there."""

from __future__ import annotations

import re

from support.places import ROOT


def test_each_promise_has_its_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|(.+)\|(.+)\|(.+)\|$", text, re.MULTILINE)[2:]
    assert len(rows) >= 9
    for promise, _, held in rows:
        named = re.findall(r"`(tests/[^`]+)`", held)
        assert named, promise
        assert all((ROOT / name).exists() for name in named), promise
