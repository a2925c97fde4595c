"""Packed words of quantized layers are told from integers that mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from inspectcli.commands.inspect.run import inspect_path
from inspectcli.formats.packed import mark_packed
from inspectcli.tensors.dtypes import DTYPES
from inspectcli.tensors.model import Kind, TensorRef

#: Layout -> name and type of each tensor of one layer, and what it is: words, helper, or - for an ordinary one.
LAYOUTS: dict[str, list[tuple[str, str, str]]] = {
    "GPTQ": [("qweight", "i32", "words"), ("qzeros", "i32", "words helper"), ("scales", "f16", "helper"),
             ("g_idx", "i32", "helper"), ("bias", "f16", "-")],
    "AWQ": [("qweight", "i32", "words"), ("qzeros", "i32", "words helper"), ("scales", "f16", "helper")],
    "bitsandbytes nf4": [
        ("weight", "u8", "words"), ("weight.absmax", "f32", "helper"), ("weight.quant_map", "f32", "helper"),
        ("weight.quant_state.bitsandbytes__nf4", "u8", "words helper"), ("bias", "f16", "-")],
    "bitsandbytes fp4": [
        ("weight", "u8", "words"), ("weight.absmax", "f32", "helper"), ("weight.quant_map", "f32", "helper"),
        ("weight.quant_state.bitsandbytes__fp4", "u8", "words helper")],
    "bitsandbytes nested": [
        ("weight", "u8", "words"), ("weight.absmax", "u8", "helper"), ("weight.nested_absmax", "f32", "helper"),
        ("weight.nested_quant_map", "f32", "helper"), ("weight.quant_map", "f32", "helper"),
        ("weight.quant_state.bitsandbytes__nf4", "u8", "words helper")],
    "bitsandbytes state alone": [("weight", "u8", "words"),
                                 ("weight.quant_state.bitsandbytes__nf4", "u8", "words helper")],
    "bitsandbytes int8": [("weight", "i8", "words"), ("SCB", "f32", "helper"), ("bias", "f16", "-")],
    "compressed-tensors": [
        ("weight_packed", "i32", "words"), ("weight_scale", "bf16", "helper"), ("weight_shape", "i64", "helper"),
        ("weight_zero_point", "i32", "helper"), ("weight_g_idx", "i32", "helper")],
    "NVFP4": [("weight_packed", "u8", "words"), ("weight_scale", "f8_e4m3", "helper")],
    "MXFP4": [("gate_up_proj_blocks", "u8", "words"), ("gate_up_proj_scales", "u8", "helper"),
              ("gate_up_proj_bias", "bf16", "-"), ("down_proj_blocks", "u8", "words"),
              ("down_proj_scales", "u8", "helper")],
    "MLX": [("weight", "u32", "words"), ("scales", "f16", "helper")],
}  # fmt: skip


def ref(name: str, dtype: str, kind: Kind = Kind.PARAMETER) -> TensorRef:
    return TensorRef(name, DTYPES[dtype], (4, 4), kind)


ORDINARY = [ref("norm.weight", "f32"), ref("position_ids", "i64", Kind.BUFFER), ref("weight", "f32")]


@pytest.mark.parametrize("prefix", ["model.layers.0.self_attn.q_proj.", "a.", ""])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_known_layout_is_packed(layout: str, prefix: str) -> None:
    table = LAYOUTS[layout]
    around = [] if not prefix else ORDINARY
    marked = mark_packed([*around, *(ref(prefix + name, dtype) for name, dtype, _ in table)])
    assert list(marked[: len(around)]) == around
    for got, (name, _, what) in zip(marked[len(around) :], table, strict=True):
        assert got.name == prefix + name
        assert got.packed == ("words" in what), name
        assert (got.kind is Kind.QUANTIZATION) == ("helper" in what), name


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "bitsandbytes state alone"])
def test_words_without_what_unpacks_them_are_left_alone(layout: str) -> None:
    for name, dtype, what in LAYOUTS[layout]:
        if what == "words":
            alone = [ref(f"a.{name}", dtype), ref("b.bias", "f32")]
            assert list(mark_packed(alone)) == alone


def test_the_helpers_of_another_layer_do_not_count() -> None:
    refs = [ref("a.qweight", "i32"), ref("b.scales", "f16"), ref("c.weight", "u8"), ref("d.weight.absmax", "f32")]
    assert list(mark_packed(refs)) == refs


@pytest.mark.parametrize(
    "refs",
    [
        [ref("position_ids", "i64"), ref("scales", "f32")],
        [ref("bn.num_batches_tracked", "i64"), ref("bn.weight", "f32"), ref("bn.running_mean", "f32")],
        [ref("token_ids", "i32"), ref("input_ids", "i32"), ref("weight", "f32")],
        [ref("embed.token_type_ids", "i64"), ref("embed.weight", "f32"), ref("embed.scales", "f32")],
        [ref("a.qweight", "i32")],
        [ref("a.qweight", "f16"), ref("a.scales", "f16")],
        [ref("a.weight", "f8_e4m3"), ref("a.weight_scale", "f32"), ref("a.weight_scale_inv", "f32")],
        [ref("a.weight", "f16"), ref("a.SCB", "f32")],
        [ref("a.weight", "i64"), ref("a.scales", "f32")],
        [ref("a.weight", "bool"), ref("a.scales", "f32")],
        [ref("mask", "u8"), ref("mask.absmax", "f32")],
        [ref("a.weight", "u8"), ref("a.bias", "f32")],
        [ref("a.codes", "i32"), ref("a.scales", "f16")],
        [ref("a_blocks", "i64"), ref("a_scales", "f32")],
        [ref("num_blocks", "i32")],
        [ref("a.blocks", "u8"), ref("a.scales", "u8")],
    ],
    ids=lambda refs: ",".join(r.name for r in refs),
)
def test_ordinary_tensors_are_left_alone(refs: list[TensorRef]) -> None:
    assert list(mark_packed(refs)) == refs


def test_order_and_every_other_property_are_kept() -> None:
    refs = [ref(f"l{i}.{name}", dtype) for i in range(3) for name, dtype, _ in LAYOUTS["GPTQ"]]
    marked = mark_packed(iter(refs))
    assert [(m.name, m.dtype, m.shape) for m in marked] == [(r.name, r.dtype, r.shape) for r in refs]
    assert {m.note for m in marked if m.packed} == {"packed quantized words"}


def test_the_report_gives_no_mean_of_words_and_one_of_ordinary_integers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = json.dumps({"blocksize": 64}).encode()
    arrays = {
        "a.qweight": np.full((2, 8), 0x77777777, np.int32), "a.qzeros": np.full((1, 1), 0x77777777, np.int32),
        "a.scales": np.ones((1, 8), np.float16), "a.g_idx": np.zeros(16, np.int32),
        "b.weight": np.full((8, 1), 0x77, np.uint8), "b.weight.absmax": np.ones(1, np.float32),
        "b.weight.quant_state.bitsandbytes__nf4": np.frombuffer(state, np.uint8),
        "position_ids": np.arange(8), "lonely.qweight": np.arange(4, dtype=np.int32),
    }  # fmt: skip
    safetensors.numpy.save_file(arrays, path)
    rows = {row.name: row for row in inspect_path(str(path)).tensors}
    silent = {name for name, row in rows.items() if row.stats is None}
    assert silent == {"a.qweight", "a.qzeros", "b.weight", "b.weight.quant_state.bitsandbytes__nf4"}
    assert rows["position_ids"].stats is not None
    assert rows["position_ids"].stats.mean == 3.5
