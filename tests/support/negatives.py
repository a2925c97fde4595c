"""A measurement of a test's own, in a module that a worker process can import."""

from __future__ import annotations

from inspectcli.measure.base import Block, Measurement
from inspectcli.tensors.model import TensorRef


class Negatives(Measurement[int]):
    """How many values are below 0."""

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def empty(cls, ref: TensorRef) -> Negatives:
        return cls()

    def update(self, block: Block) -> None:
        self.count += int((block.numbers < 0).sum())

    def merge(self, other: Negatives) -> Negatives:
        self.count += other.count
        return self

    def result(self) -> int:
        return self.count
