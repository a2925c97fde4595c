"""Content hashes: equal for tensors of equal values, in whatever order they are stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from inspectcli.measure.again import SecondPass
from inspectcli.measure.base import Block, Measurement
from inspectcli.tensors.model import TensorRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from inspectcli.tensors.values import Array


class Digest(Measurement[str]):
    """BLAKE2b of the values in C order, little-endian, in hexadecimal; of packed words too."""

    in_order: ClassVar[bool] = True
    can_be_merged: ClassVar[bool] = False
    #: Bytes.
    size: ClassVar[int] = 8

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=self.size)

    @classmethod
    def applies_to(cls, ref: TensorRef) -> bool:
        return not ref.problem

    @classmethod
    def empty(cls, ref: TensorRef) -> Digest:
        return cls()

    def update(self, block: Block) -> None:
        import numpy as np

        self._hash.update(np.ascontiguousarray(block.values).data)

    def merge(self, other: Digest) -> Digest:
        raise NotImplementedError("a hash of a part is not part of a hash")

    def result(self) -> str:
        return self._hash.hexdigest()


class ContentHash(Digest, SecondPass[str]):
    """BLAKE2b of the values, for a proof that tensors are equal; empty if there are few different ones, a pattern.

    A second pass over tensors of which all figures agree with those of another one: each is read once more.
    """

    size: ClassVar[int] = 32
    #: Fewer different values than these are not what training made.
    least_distinct: ClassVar[int] = 16

    def __init__(self) -> None:
        super().__init__()
        self._distinct = 0

    @classmethod
    def empty(cls, ref: TensorRef) -> ContentHash:
        return cls()

    def update(self, block: Block) -> None:
        import numpy as np

        super().update(block)
        if self._distinct < self.least_distinct:
            self._distinct = max(self._distinct, len(np.unique(block.values[:65_536])))

    def result(self) -> str:
        return super().result() if self._distinct >= self.least_distinct else ""


class RoundedHash(ContentHash):
    """The same of the values rounded to bfloat16: equal for a float tensor and a copy of it in a smaller type.

    A second pass over tensors whose bounds are equal once they are rounded.
    """

    def update(self, block: Block) -> None:
        rounded = rounded_to_bf16(block.numbers)
        super().update(Block(rounded, block.dtype, block.start, block.count))


def rounded_to_bf16(values: Array) -> npt.NDArray[np.uint16]:
    """The bits of finite numbers in bfloat16, the nearest or the even one of two."""
    import numpy as np

    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest: npt.NDArray[np.uint16] = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return nearest
