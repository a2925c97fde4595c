"""Reports as text: a module for each format, which knows blocks and nothing else of the program.

A module of this folder with a RENDERER is a format, by being there; another package adds one as an entry point in the
group `inspectcli.renderers`, named as `--format` is to take it, that gives a `Renderer`: `--plugins` loads it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from inspectcli.display.blocks import Report
from inspectcli.plugins import are_asked_for, plugins
from inspectcli.render.base import Renderer

__all__ = ["find_renderer", "other_renderers", "own_renderers", "render"]


def render(report: Report, name: str, width: int = 80, color: bool = False) -> str:
    """The report in the format of this name.

    Args:
        report: what a command found.
        name: of a renderer.
        width: columns of the terminal; only the renderer for terminals asks for it.
        color: whether ANSI colors may be used.

    Raises:
        KeyError: there is no such format.
    """
    renderer = find_renderer(name)
    if renderer is None:
        raise KeyError(name)
    text = renderer.render(report, width, color)
    return text if isinstance(text, str) else "".join(text)


def find_renderer(name: str) -> Renderer | None:
    """The renderer of this name; of the modules of this folder, only its own is imported."""
    if name in _modules():
        own = _declared(name)
        if own is not None:
            return own
    return next((renderer for renderer in other_renderers() if renderer.name == name), None)


@lru_cache(maxsize=1)
def own_renderers() -> tuple[Renderer, ...]:
    """Those of this folder."""
    return tuple(renderer for name in _modules() if (renderer := _declared(name)) is not None)


def other_renderers() -> tuple[Renderer, ...]:
    """Those of other packages, if they were asked for: when no own one fits."""
    return _others(are_asked_for())


@lru_cache(maxsize=2)
def _others(plugged: bool) -> tuple[Renderer, ...]:
    return tuple(plugin for plugin in plugins("inspectcli.renderers") if isinstance(plugin, Renderer))


def _modules() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def _declared(name: str) -> Renderer | None:
    declared = getattr(importlib.import_module(f"{__name__}.{name}"), "RENDERER", None)
    return declared if isinstance(declared, Renderer) else None
