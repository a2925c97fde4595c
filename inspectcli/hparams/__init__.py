"""Hyperparameters, wherever they are stored: sources, one a file, found by being there."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from inspectcli.hparams.base import HParamSource

__all__ = ["sources"]


@lru_cache(maxsize=1)
def sources() -> tuple[HParamSource, ...]:
    """Every source: the modules of this folder that have a SOURCE; the generic ones last."""
    found: list[HParamSource] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and module.name != "base":
            declared = getattr(importlib.import_module(f"{__name__}.{module.name}"), "SOURCE", None)
            found += declared if isinstance(declared, tuple) else [declared] if declared else []
    return tuple(sorted(found, key=lambda source: source.generic))
