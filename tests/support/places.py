"""Where the files of tests are: our own fixtures, and real files beside the checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "fixtures"

#: The shared corpus: `corpora/` with real files and their truth, `security/` with hostile ones.
CORPUS = Path(os.environ.get("PINSPECT_CORPUS", ROOT.parent / "shared"))

#: Folders of `fixtures/` whose files are refused, or reported.
_BAD = {"damaged", "hostile", "__pycache__"}


def healthy_fixtures() -> list[Path]:
    """Every sound checkpoint of `fixtures/`, and the files beside those."""
    paths = (p for p in sorted(FIXTURES.rglob("*")) if p.is_file() and p.suffix not in (".py", ".md"))
    return [p for p in paths if not _BAD & set(p.parts)]


def corpus_truth(name: str) -> Any:
    """A truth file of the corpus; empty where the corpus is absent, so that collecting works."""
    path = CORPUS / "corpora" / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
