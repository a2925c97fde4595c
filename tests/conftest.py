"""Where the real files are, and what the tests share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"

#: The shared corpus: `corpora/` with real files and their truth, `security/` with hostile ones.
CORPUS = Path(os.environ.get("PINSPECT_CORPUS", ROOT.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(
        reason=f"no corpus at {CORPUS}: set PINSPECT_CORPUS to a folder with corpora/ and security/"
    )
    for item in items:
        wanted = {"corpus": "corpora/truth.json", "security": "security/make_cases.py"}
        for mark, needed in wanted.items():
            if item.get_closest_marker(mark) and not (CORPUS / needed).exists():
                item.add_marker(missing)


def corpus_truth(name: str) -> Any:
    """A truth file of the corpus; empty where the corpus is absent, so that collecting works."""
    path = CORPUS / "corpora" / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@pytest.fixture
def fixtures() -> Path:
    """The folder of small files that this project wrote itself."""
    return FIXTURES
