"""Packed words of quantized layers, recognized by the tensors around them: their mean would say nothing.

GPTQ/AWQ: `qweight`, `qzeros` int32 beside `scales`. bitsandbytes: uint8 `weight` beside `weight.absmax` or
`weight.quant_state.*`; int8 `weight` beside `SCB`. compressed-tensors: `weight_packed`. MXFP4: `*_blocks` beside
`*_scales`. MLX: uint32 `weight` beside `scales`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from inspectcli.tensors.model import Kind, TensorRef

_WORDS = frozenset({"i32", "u32", "u8", "i8"})

#: Leaf of a packed tensor -> siblings, of which one must exist.
_BY_LEAF = {
    "qweight": ("scales",),
    "qzeros": ("scales",),
    "weight_packed": ("weight_scale", "weight_shape"),
    "weight": ("SCB", "weight.absmax", "weight.quant_map", "scales", "weight.SCB"),
}
#: Leaves of tensors that tell how to unpack.
_HELPERS = frozenset(
    "qzeros scales g_idx SCB absmax quant_map nested_absmax nested_quant_map weight_scale weight_zero_point "
    "weight_shape weight_scale_inv input_scale weight_g_idx".split()
)


def mark_packed(refs: Iterable[TensorRef]) -> tuple[TensorRef, ...]:
    """Return the tensors with packed words marked as `packed`, and scales and the like as QUANTIZATION."""
    refs = tuple(refs)
    names = {ref.name for ref in refs}
    packed = {ref.name for ref in refs if _is_packed(ref, names)}
    if not packed:
        return refs
    groups = {_group(name) for name in packed}
    return tuple(_marked(ref, ref.name in packed, _group(ref.name) in groups) for ref in refs)


def _group(name: str) -> str:
    """Return the layer of a tensor: `layers.0.q_proj.qweight`, `layers.0.q_proj.weight.absmax` -> `layers.0.q_proj`."""
    stem, _, leaf = name.rpartition(".")
    if ".weight." in f".{name}" and (leaf in _HELPERS or ".quant_state" in name):
        return name[: max(f".{name}".index(".weight.") - 1, 0)]
    for suffix in ("_blocks", "_scales"):
        if leaf.endswith(suffix):
            return name.removesuffix(suffix)
    return stem


def _is_packed(ref: TensorRef, names: set[str]) -> bool:
    if ref.dtype.name not in _WORDS:
        return False
    stem, _, leaf = ref.name.rpartition(".")
    if leaf.endswith("_blocks"):
        return ref.name.removesuffix("_blocks") + "_scales" in names
    prefix = f"{stem}." if stem else ""
    siblings = _BY_LEAF.get(leaf, ())
    return any(prefix + sibling in names for sibling in siblings) or (
        leaf == "weight"
        and any(prefix + f"weight.quant_state.bitsandbytes__{kind}" in names for kind in ("nf4", "fp4"))
    )


def _marked(ref: TensorRef, packed: bool, in_group: bool) -> TensorRef:
    if packed:
        helper = ref.name.rpartition(".")[2] in _HELPERS
        kind = Kind.QUANTIZATION if helper else Kind.PARAMETER
        return replace(ref, packed=True, kind=kind, note=ref.note or "packed quantized words")
    leaf = ref.name.rpartition(".")[2]
    if in_group and (leaf in _HELPERS or ".quant_state" in ref.name or leaf.endswith("_scales")):
        # quant_state is JSON in bytes.
        return replace(ref, kind=Kind.QUANTIZATION, packed=".quant_state" in ref.name)
    return ref
