"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from support.places import CORPUS, FIXTURES

# A loaded machine must not fail a test: none asserts on the clock.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(
        reason=f"no corpus at {CORPUS}: set PINSPECT_CORPUS to a folder with corpora/ and security/"
    )
    for item in items:
        wanted = {"corpus": "corpora/truth.json", "security": "security/make_cases.py"}
        for mark, needed in wanted.items():
            if item.get_closest_marker(mark) and not (CORPUS / needed).exists():
                item.add_marker(missing)


@pytest.fixture
def fixtures() -> Path:
    """The folder of small files that this project wrote itself."""
    return FIXTURES
