"""Models in memory as a Checkpoint: an `nn.Module` with its gradients, or a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from inspectcli.errors import UsageError
from inspectcli.formats.torch.tree import leaf_kind
from inspectcli.pickles.tensors import TORCH_DTYPES
from inspectcli.storage.memory import Memory
from inspectcli.tensors.codecs import Segment
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Checkpoint, Kind, TensorRef
from inspectcli.tensors.stored import elements

_NUMPY = {"float64": "f64", "float32": "f32", "float16": "f16", "complex128": "c128", "complex64": "c64"} | {
    f"{sign}int{bits}": f"{letter}{bits}" for sign, letter in (("", "i"), ("u", "u")) for bits in (8, 16, 32, 64)
}


def from_live(target: object) -> Checkpoint:
    """Describe a `torch.nn.Module`, or a mapping of names to torch tensors or NumPy arrays.

    Contiguous tensors on the CPU share their memory with the checkpoint, others are copied. The gradient of a parameter
    is listed as `name.grad`.

    Raises:
        UsageError: `target` is something else.
    """
    refs = tuple(_refs(target))
    return Checkpoint(
        path=f"<{type(target).__name__}>",
        format="memory",
        size=sum(ref.nbytes for ref in refs),
        tensors=refs,
        writer="in memory",
    )


def _refs(target: object) -> Iterator[TensorRef]:
    if hasattr(target, "named_parameters") and hasattr(target, "named_buffers"):
        module: Any = target
        layers = {name: type(child).__name__ for name, child in module.named_modules()}
        for name, value in module.named_parameters(remove_duplicate=False):
            layer = layers.get(name.rpartition(".")[0], "")
            yield _ref(name, value, Kind.PARAMETER, layer)
            if value.grad is not None:
                yield _ref(f"{name}.grad", value.grad, Kind.GRADIENT, layer)
        for name, value in module.named_buffers(remove_duplicate=False):
            yield _ref(name, value, Kind.BUFFER, layers.get(name.rpartition(".")[0], ""))
    elif isinstance(target, Mapping):
        for name, value in target.items():
            if hasattr(value, "dtype") and hasattr(value, "shape"):
                yield _ref(str(name), value, None, "")
            elif isinstance(value, Mapping):
                for ref in _refs(value):
                    yield _renamed(ref, f"{name}.{ref.name}")
    else:
        raise UsageError(f"a {type(target).__name__} is neither a path, nor an nn.Module, nor a state dict")


def _renamed(ref: TensorRef, name: str) -> TensorRef:
    return replace(ref, name=name)


def _ref(name: str, value: Any, kind: Kind | None, layer: str) -> TensorRef:
    if getattr(value, "is_quantized", False):
        value = value.detach().dequantize()
    elif "strided" not in str(getattr(value, "layout", "strided")):
        value = value.detach().to_dense()
    text = str(value.dtype).removeprefix("torch.")
    dtype = DTYPES.get(TORCH_DTYPES.get(text) or _NUMPY.get(text) or "bool")
    if dtype is None or (dtype.name == "bool" and text != "bool"):
        raise UsageError(f"{name} has the element type {text}, which has no numbers")
    kind = kind or leaf_kind(name.rpartition(".")[2], dtype.family)
    shape = tuple(int(n) for n in value.shape)
    if getattr(value, "is_meta", False):
        return TensorRef(name, dtype, shape, kind, layer=layer, note="meta: no values")
    return TensorRef(
        name,
        dtype,
        shape,
        kind,
        (_segment(name, value),) if all(shape) else (),
        storage=_identity(value),
        layer=layer,
    )


def _identity(value: Any) -> tuple[object, ...] | None:
    """Return what is equal for tied tensors: address, type and elements; for an array, the object itself."""
    if hasattr(value, "data_ptr"):
        lazy = (value.is_conj(), value.is_neg())
        return ("memory", value.data_ptr(), str(value.dtype), elements(value.shape, value.stride()), lazy)
    return ("memory", id(value))


def _segment(name: str, value: Any) -> Segment:
    """Return the bytes of a tensor: its own memory if it is contiguous and on the CPU, else a copy."""
    if hasattr(value, "detach"):
        import torch

        plain = value.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy().data
    else:
        import numpy as np

        plain = np.ascontiguousarray(value)
        data = plain.astype(plain.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
    return Segment(Memory(name, data), 0, len(data))
