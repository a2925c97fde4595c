"""Hostile files of the shared corpus: nothing runs, nothing hangs, nothing crashes, and honest files raise no alarm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.places import CORPUS

pytestmark = [pytest.mark.security, pytest.mark.slow]


def test_the_judge_passes_every_case(tmp_path: Path) -> None:
    security = CORPUS / "security"
    subprocess.run([sys.executable, str(security / "make_cases.py"), str(tmp_path)], check=True, capture_output=True)
    command = f"{sys.executable} -m inspectcli"
    formats = [f"{command} {{}}", *(f"{f}={command} --format {f} {{}}" for f in ("json", "markdown"))]
    judged = subprocess.run(
        [sys.executable, str(security / "judge.py"), str(tmp_path / "open" / "manifest.json"),
         *(part for f in formats for part in ("--cmd", f))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout
