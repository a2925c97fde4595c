"""The first values of a tensor, where a sample of two tensors must be of the same places."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from inspectcli.measure.again import SecondPass
from inspectcli.measure.base import Block
from inspectcli.tensors.model import TensorRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class FirstValues(SecondPass["npt.NDArray[np.float64]"]):
    """Up to 65,536 values from the beginning, in C order.

    A second pass over the first block of Adam's two figures of a weight.
    """

    in_order: ClassVar[bool] = True
    most: ClassVar[int] = 1 << 16

    def __init__(self) -> None:
        import numpy as np

        self._values = np.empty(0, np.float64)

    @classmethod
    def empty(cls, ref: TensorRef) -> FirstValues:
        return cls()

    def update(self, block: Block) -> None:
        self._values = block.numbers[: self.most].astype("f8")

    def merge(self, other: FirstValues) -> FirstValues:
        return self

    def result(self) -> npt.NDArray[np.float64]:
        return self._values

    @property
    def has_enough(self) -> bool:
        return True
