"""How much work something is, counted or bounded; never the seconds on the wall, which are the machine's."""

from __future__ import annotations

import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest


def calls(work: Callable[[], object]) -> int:
    """The calls of functions, Python's and C's, that `work` makes in this thread."""
    count = 0

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@contextmanager
def processor_seconds(most: float) -> Iterator[None]:
    """Fail if the body computes for longer; waiting for a busy machine does not count.

    For work inside one call of C, such as a regular expression that could go back: give it so much that the slow way
    takes a hundred times `most`, and the right one a hundredth.
    """
    if not hasattr(signal, "setitimer"):  # Windows: the work is done, and not bounded
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"computes for more than {most} s")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def allocated(most: int) -> Iterator[None]:
    """Fail if Python holds more than `most` bytes more at any moment of the body."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= most, f"{peak:,} bytes at the peak"
