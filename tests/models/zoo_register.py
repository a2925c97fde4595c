"""The architectures of the zoo, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Builder = Callable[[], Any]

#: Name -> (library, what builds a new model).
ARCHITECTURES: dict[str, tuple[str, Builder]] = {}


def architecture(library: str) -> Callable[[Builder], Builder]:
    """Add a builder to the zoo under its own name."""

    def register(builder: Builder) -> Builder:
        ARCHITECTURES[builder.__name__] = library, builder
        return builder

    return register
