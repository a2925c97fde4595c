"""A progress line on stderr, in a terminal, for work that takes longer than half a second."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from inspectcli.display.text import size
from inspectcli.render.base import escape, shorten_middle
from inspectcli.storage import size_of
from inspectcli.storage.names import file_name

_PATIENCE = 0.5
_EVERY = 0.1


class Meter:
    """Told how many bytes were read; shows them once it took long enough, and wipes the line at the end."""

    def __init__(self, quiet: bool) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._begun = time.monotonic()
        self._next = self._begun + _PATIENCE
        self._name = ""
        self._total = 0
        self._done = 0
        self._shown = False

    def __enter__(self) -> Meter:
        return self

    def start(self, path: str) -> None:
        """The next file."""
        self._name = file_name(path)
        self._done = 0
        self._total = size_of(path) if self._live else 0

    def advance(self, nbytes: int) -> None:
        if not self._live:
            return
        self._done += nbytes
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            self._draw()

    def _draw(self) -> None:

        width = os.get_terminal_size(sys.stderr.fileno()).columns
        share = min(self._done / self._total, 1.0) if self._total else 0.0
        bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
        text = f" {size(self._done)} of {size(self._total)}" if self._total else f" {size(self._done)}"
        name = shorten_middle(escape(self._name), max(width - len(text) - 24, 8))
        sys.stderr.write(f"\r\x1b[K{name} {bar}{text}")
        sys.stderr.flush()
        self._shown = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
