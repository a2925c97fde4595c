"""What a library drew into each weight, written down while it draws: the truth that verdicts are compared with.

Nothing here knows formulas. torch is watched at `Tensor.uniform_` and its like, Keras at its random functions, so that
the figures are those that the library's own code passed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch

#: Standard deviation of N(0, 1) cut at ±2, from integrating its density: 1 - 4 pdf(2) / (cdf(2) - cdf(-2)).
CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


class Drawn(NamedTuple):
    """Attributes:
    family: constant, uniform, normal, truncated-normal, orthogonal.
    scale: value, bound, standard deviation, standard deviation after cutting, gain.
    default: drawn by the layer's own `reset_parameters`.
    """

    family: str
    scale: float
    default: bool = False


def cut_normal(std: float, low: float, high: float) -> Drawn:
    """A normal distribution that is cut far outside of what it reaches is not cut."""
    if abs(low + 2 * std) < 1e-6 * std and abs(high - 2 * std) < 1e-6 * std:
        return Drawn("truncated-normal", std * CUT)
    return Drawn("normal", std)


class Torch:
    """The last draw into each storage, and into parts of it."""

    def __init__(self) -> None:
        self._draws: dict[int, list[tuple[torch.Tensor, Drawn]]] = {}

    def note(self, tensor: torch.Tensor, drawn: Drawn) -> None:
        draws = self._draws.setdefault(tensor.untyped_storage().data_ptr(), [])
        covered = tensor.data_ptr(), tensor.numel()
        draws[:] = [(t, d) for t, d in draws if (t.data_ptr(), t.numel()) != covered]
        if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
            draws.clear()
        draws.append((tensor.detach(), drawn))  # keeps the storage, so that its address is not used again

    def forget(self, tensor: torch.Tensor) -> None:
        self._draws.pop(tensor.untyped_storage().data_ptr(), None)

    def scaled(self, tensor: torch.Tensor, factor: float) -> None:
        draws = self._draws.get(tensor.untyped_storage().data_ptr(), [])
        draws[:] = [(t, d._replace(scale=d.scale * abs(factor))) for t, d in draws]

    def of(self, tensor: torch.Tensor) -> Drawn | None:
        """None if it was not drawn, or its parts differ. A padding row is no part."""
        draws = self._draws.get(tensor.untyped_storage().data_ptr(), [])
        parts = {(d.family, d.scale): d for t, d in draws if t.numel() * 4 >= tensor.numel()}
        return next(iter(parts.values())) if len(parts) == 1 else None


def _in_reset() -> bool:
    frame = sys._getframe(2)
    while frame.f_back is not None:
        if frame.f_code.co_name == "reset_parameters":
            return True
        frame = frame.f_back
    return False


@contextmanager
def watch_torch() -> Iterator[Torch]:
    """Note what is drawn into tensors inside of the block."""
    seen = Torch()
    init = torch.nn.init
    base = torch.Tensor.__mro__[1]

    def method(name: str, drawn: Callable[..., Drawn]) -> None:
        plain = getattr(base, name)

        def watched(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            result: torch.Tensor = plain(tensor, *args, **options)
            options.pop("generator", None)
            seen.note(tensor, drawn(*args, **options)._replace(default=_in_reset()))
            return result

        setattr(torch.Tensor, name, watched)

    def uniform(low: float = 0.0, high: float = 1.0) -> Drawn:
        return Drawn("uniform", high) if low == -high else Drawn("other", high)

    def normal(mean: float = 0.0, std: float = 1.0) -> Drawn:
        return Drawn("normal", std) if mean == 0 else Drawn("other", std)

    def constant(value: float = 0.0) -> Drawn:
        return Drawn("constant", float(value))

    def copied(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        seen.forget(tensor)
        return base.copy_(tensor, *args, **options)

    def multiplied(tensor: torch.Tensor, other: Any) -> torch.Tensor:
        if isinstance(other, float | int):
            seen.scaled(tensor, other)
        else:
            seen.forget(tensor)
        return base.mul_(tensor, other)

    def divided(tensor: torch.Tensor, other: Any, **options: Any) -> torch.Tensor:
        if isinstance(other, float | int):
            seen.scaled(tensor, 1 / other)
        else:
            seen.forget(tensor)
        return base.div_(tensor, other, **options)

    plain_cut, plain_orthogonal = init._no_grad_trunc_normal_, init.orthogonal_

    def cut(tensor: torch.Tensor, mean: float, std: float, a: float, b: float, **options: Any) -> torch.Tensor:
        result = plain_cut(tensor, mean, std, a, b, **options)
        seen.note(tensor, cut_normal(std, a, b))
        return result

    def orthogonal(tensor: torch.Tensor, gain: float = 1, **options: Any) -> torch.Tensor:
        result = plain_orthogonal(tensor, gain, **options)
        seen.note(tensor, Drawn("orthogonal", gain))
        return result

    for name, drawn in {"uniform_": uniform, "normal_": normal, "fill_": constant, "zero_": constant}.items():
        method(name, drawn)
    torch.Tensor.copy_, torch.Tensor.mul_, torch.Tensor.div_ = copied, multiplied, divided  # type: ignore[method-assign]
    init._no_grad_trunc_normal_, init.orthogonal_ = cut, orthogonal
    try:
        yield seen
    finally:
        for name in ("uniform_", "normal_", "fill_", "zero_", "copy_", "mul_", "div_"):
            delattr(torch.Tensor, name)
        init._no_grad_trunc_normal_, init.orthogonal_ = plain_cut, plain_orthogonal


def fingerprint(values: Any) -> bytes:
    """Of the values of a weight, whatever type holds them."""
    return sha256(np.asarray(values, np.float64).ravel().tobytes()).digest()


@contextmanager
def watch_keras() -> Iterator[Mapping[bytes, Drawn]]:
    """Values -> what Keras drew, by their fingerprint: Keras makes a new array for each draw."""
    import keras
    from keras.src.backend import random
    from keras.src.initializers import random_initializers

    seen: dict[bytes, Drawn] = {}
    plain = {name: getattr(random, name) for name in ("uniform", "normal", "truncated_normal")}
    plain_orthogonal = random_initializers.Orthogonal.__call__

    def note(values: Any, drawn: Drawn) -> Any:
        for dtype in ("float32", "bfloat16"):  # of the policy: a layer may cast what was drawn
            cast = keras.ops.cast(keras.ops.cast(values, dtype), "float32")
            seen[fingerprint(keras.ops.convert_to_numpy(cast))] = drawn
        return values

    def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, **options: Any) -> Any:
        return note(plain["uniform"](shape, minval=minval, maxval=maxval, **options), Drawn("uniform", maxval))

    def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, **options: Any) -> Any:
        return note(plain["normal"](shape, mean=mean, stddev=stddev, **options), Drawn("normal", stddev))

    def cut(shape: Any, mean: float = 0.0, stddev: float = 1.0, **options: Any) -> Any:
        drawn = Drawn("truncated-normal", stddev * CUT)
        return note(plain["truncated_normal"](shape, mean=mean, stddev=stddev, **options), drawn)

    def orthogonal(self: Any, shape: Any, dtype: Any = None) -> Any:
        # No backend has a QR decomposition in half precision: Keras leaves such a layer without weights.
        return note(keras.ops.cast(plain_orthogonal(self, shape), dtype or "float32"), Drawn("orthogonal", self.gain))

    random.uniform, random.normal, random.truncated_normal = uniform, normal, cut
    random_initializers.Orthogonal.__call__ = orthogonal
    try:
        yield seen
    finally:
        for name, function in plain.items():
            setattr(random, name, function)
        random_initializers.Orthogonal.__call__ = plain_orthogonal
