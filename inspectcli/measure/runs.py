"""The longest run of zeros among the values of a tensor: what a write that was not finished leaves behind."""

from __future__ import annotations

from typing import NamedTuple

from inspectcli.measure.base import Block, Measurement
from inspectcli.measure.rows import ZeroSlices, nonzero
from inspectcli.tensors.model import TensorRef

#: A block with fewer zeros is taken to have none: shorter runs are of no interest, and pruned weights have many.
LEAST = 64


class Run(NamedTuple):
    """Consecutive zeros, in the order in which values are stored.

    Attributes:
        start: how many values stand before them.
        length: how many they are.
    """

    start: int = 0
    length: int = 0


class ZeroRun(Measurement[Run]):
    """The longest run of zeros; of several as long, the first."""

    def __init__(self) -> None:
        self._start = 0
        self._count = 0
        self._lead = 0
        self._trail = 0
        self._best = Run()

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return ZeroSlices.applies_to(ref)

    @classmethod
    def empty(cls, ref: TensorRef) -> ZeroRun:
        return cls()

    def update(self, block: Block) -> None:
        self.merge(self._of(block))

    def _of(self, block: Block) -> ZeroRun:
        import numpy as np

        made = ZeroRun()
        made._start, made._count = block.start, block.count
        zeros = block.stats.zeros
        if zeros == block.count:
            made._lead = made._trail = block.count
            made._best = Run(block.start, block.count)
        elif zeros >= min(LEAST, block.count):
            used = np.flatnonzero(nonzero(block, 0, block.count))
            made._lead, made._trail = int(used[0]), block.count - 1 - int(used[-1])
            gaps = np.diff(used) - 1
            widest = int(gaps.argmax()) if gaps.size else 0
            inner = Run(block.start + int(used[widest]) + 1, int(gaps[widest])) if gaps.size else Run()
            ends = (Run(block.start, made._lead), inner, Run(block.start + block.count - made._trail, made._trail))
            made._best = max(ends, key=lambda run: run.length)
        return made

    def merge(self, other: ZeroRun) -> ZeroRun:
        if not self._count:
            self._start = other._start
        joined = Run(self._start + self._count - self._trail, self._trail + other._lead)
        self._best = max((self._best, joined, other._best), key=lambda run: run.length)
        if self._lead == self._count:
            self._lead += other._lead
        self._trail = other._trail + self._trail if other._trail == other._count else other._trail
        self._count += other._count
        return self

    def result(self) -> Run:
        return self._best
