"""A verdict says no more than the values do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from models.pairs import gpt, write

from inspectcli import DiffReport, diff
from inspectcli.commands.diff.compare import Status

State = dict[str, torch.Tensor]


def compared(tmp_path: Path, a: State, b: State, suffix: str = "safetensors", **options: object) -> DiffReport:
    return diff(write(a, tmp_path, "a", suffix), write(b, tmp_path, "b", suffix), **options)  # type: ignore[arg-type]


def nudged(state: State, size: float = 0.01, seed: int = 5) -> State:
    g = torch.Generator().manual_seed(seed)
    return {n: v + size * v.abs().mean() * torch.randn(v.shape, generator=g) for n, v in state.items()}


# -- casts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e5m2, torch.float8_e4m3fn])
def test_a_cast_that_overflows_is_no_rounding(dtype: torch.dtype, tmp_path: Path) -> None:
    a = gpt()
    a["wte.weight"][0, :3] = torch.tensor([7e4, -8.5e4, 6.6e4])
    b = {n: v.numpy().astype(_ml(dtype)) for n, v in a.items()}
    report = compared(tmp_path, a, {n: _torch(v, dtype) for n, v in b.items()}, allow_rounding=True)
    assert not report.same
    assert report.verdict.code == "cast-with-overflow"
    assert "3 finite values are Inf or NaN in B (wte.weight)" in report.verdict.text
    assert report["wte.weight"].status is Status.CHANGED
    assert report["ln_f.bias"].status is Status.EQUAL_ROUNDED


def _ml(dtype: torch.dtype) -> type:
    import ml_dtypes
    import numpy as np

    return {
        torch.float16: np.float16,
        torch.float8_e5m2: ml_dtypes.float8_e5m2,
        torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    }[dtype]


def _torch(values: object, dtype: torch.dtype) -> torch.Tensor:
    import numpy as np

    bits = np.asarray(values).view(np.int16 if dtype.itemsize == 2 else np.uint8)
    return torch.from_numpy(bits.copy()).view(dtype)


def test_two_roundings_of_one_model(tmp_path: Path) -> None:
    a, b = ({n: v.to(t) for n, v in gpt().items()} for t in (torch.bfloat16, torch.float16))
    report = compared(tmp_path, a, b)
    assert not report.same
    assert report.verdict.text == "Same weights within two roundings: bf16 in A, f16 in B"
    assert report["wte.weight"].rounded_side == "both"
    assert compared(tmp_path, a, b, allow_rounding=True).same


def test_a_fine_tune_in_another_type_is_no_rounding(tmp_path: Path) -> None:
    a = {n: v.bfloat16() for n, v in gpt().items()}
    b = {n: v.half() for n, v in nudged(gpt(), 0.002).items()}
    assert compared(tmp_path, a, b).verdict.code == "fine-tune"


@pytest.mark.parametrize("widened", [False, True])
def test_a_model_that_was_rounded_twice(widened: bool, tmp_path: Path) -> None:
    b = {n: v.bfloat16().half() for n, v in gpt().items()}
    if widened:
        b = {n: v.float() for n, v in b.items()}
    # Where float16 has no smaller values, its own rounding shows; elsewhere it keeps what bfloat16 left.
    report = compared(tmp_path, gpt(), b)
    assert report.verdict.code == "same-weights-rounded"
    assert "bf16" in report.verdict.text


def test_the_sign_of_zero_is_not_the_layout(tmp_path: Path) -> None:
    a, b = gpt(), gpt()
    a["wte.weight"][:, :2] = -0.0
    b["wte.weight"][:, :2] = 0.0
    report = compared(tmp_path, a, b)
    assert report.same
    assert report["wte.weight"].zero_signs == 80
    assert report.verdict.text == "Equal values; the sign of 80 zeros differs (+0 and -0)"


# -- nothing to compare ---------------------------------------------------------------------------------


@pytest.mark.parametrize("on_both", [True, False])
def test_tensors_without_values_are_not_compared(on_both: bool, tmp_path: Path) -> None:
    meta = {n: v.to("meta") for n, v in gpt().items()}
    report = compared(tmp_path, meta, meta if on_both else gpt(), "pt")
    assert report.exit_code == 2
    assert report.verdict.code == "not-compared"
    assert not re.search("same|bit for bit", report.verdict.text, re.I)
    sides = "A and B hold" if on_both else "A holds"
    assert report["wte.weight"].problem == f"{sides} no values of it, only its shape and type"


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"])
def test_wrappers_inside_names(wrapper: str, tmp_path: Path) -> None:
    b = {re.sub(r"(h\.\d+)\.", rf"\1.{wrapper}.", n): v for n, v in gpt().items()}
    report = compared(tmp_path, gpt(), b)
    assert report.same
    assert {t.how_matched for t in report.tensors} == {"name", "wrapper"}
    assert not compared(tmp_path, gpt(), b, strict_names=True).same
    tuned = compared(tmp_path, gpt(), nudged(b))
    assert tuned.verdict.code == "fine-tune"
    assert tuned.counts["added"] == tuned.counts["removed"] == 0


def test_wrappers_before_and_inside_names(tmp_path: Path) -> None:
    b = {"module." + re.sub(r"(h\.\d+)\.", r"\1._orig_mod.", n): v for n, v in gpt().items()}
    report = compared(tmp_path, gpt(), b)
    assert report.same
    assert [(p.a, p.b) for p in report.prefixes] == [("", "module")]


# -- tied tensors ---------------------------------------------------------------------------------------


def test_a_second_name_of_a_tensor_is_counted_once(tmp_path: Path) -> None:
    from inspectcli.commands.diff.view import View, present
    from inspectcli.display.blocks import Facts
    from inspectcli.display.text import short

    a = gpt()
    a["lm_head.weight"] = a["wte.weight"]
    b = {**a, "ln_f.bias": a["ln_f.bias"] + 1}
    report = compared(tmp_path, a, b, "pt")
    assert report["lm_head.weight"].tied
    assert not report["wte.weight"].tied
    facts = next(block for block in present(report, View()).blocks if isinstance(block, Facts))
    parameters = next(cell.text for name, cell in facts.rows if name == "parameters")
    assert parameters.endswith(f"{short(sum(v.numel() for n, v in gpt().items() if n != 'ln_f.bias'))} untouched")


# -- moves ------------------------------------------------------------------------------------------------


def test_a_layer_that_is_a_copy_of_another_is_no_fine_tune(tmp_path: Path) -> None:
    a = gpt()
    b = {n: a[n.replace("h.2.", "h.1.")] for n in a}
    report = compared(tmp_path, a, b)
    assert report.verdict.code == "weights-moved"
    assert "h.2 of B equals h.1 of A" in report.verdict.text
    copied = {t.name: t.copy_of for t in report.tensors if t.copy_of}
    varied = [n for n in a if n.startswith("h.2.") and n != "h.2.ln.weight"]  # all 1 in both
    assert copied == {n: n.replace("h.2.", "h.1.") for n in varied}


def test_two_matrices_that_changed_places(tmp_path: Path) -> None:
    a = gpt()
    x, y = "h.0.attn.weight", "h.3.attn.weight"
    report = compared(tmp_path, a, {**a, x: a[y], y: a[x]})
    assert report.verdict.code == "weights-moved"
    assert "changed places" in report.verdict.text
    assert (report[x].copy_of, report[y].copy_of) == (y, x)


def test_layers_that_were_added_as_copies(tmp_path: Path) -> None:
    a = gpt()
    b = a | {n.replace("h.1.", "h.9."): v for n, v in a.items() if n.startswith("h.1.")}
    report = compared(tmp_path, a, b)
    assert report.verdict.code == "same-weights-and-more"
    assert "h.9 of B equals h.1 of A" in report.verdict.text


def test_a_fine_tune_has_no_copies(tmp_path: Path) -> None:
    report = compared(tmp_path, gpt(), nudged(gpt()))
    assert report.verdict.code == "fine-tune"
    assert not any(t.copy_of for t in report.tensors)


def test_unrelated_values_in_some_tensors_are_no_fine_tune(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(9)
    a = gpt()
    report = compared(tmp_path, a, a | {"wte.weight": torch.randn(a["wte.weight"].shape, generator=g)})
    assert report.verdict.code == "partly-replaced"
    assert "1 tensor of the same names holds unrelated values (wte.weight)" in report.verdict.text


# -- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_what_both_have_of_a_tensor_that_grew(axis: int, tmp_path: Path) -> None:
    a = gpt()
    old = a["wte.weight"]
    more = torch.full((5, old.shape[1]) if axis == 0 else (old.shape[0], 5), 0.25)
    report = compared(tmp_path, a, a | {"wte.weight": torch.cat([old, more], axis)})
    unit = "rows" if axis == 0 else "columns"
    assert report.verdict.code == "same-weights-resized"
    assert report["wte.weight"].note == f"first {old.shape[axis]} {unit} identical; 5 more in B: all 0.25"
    assert (report["wte.weight"].changed, report["wte.weight"].part) == (0, f"first {old.shape[axis]} {unit}")


def test_the_same_shapes_in_the_same_order_are_one_architecture(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(11)
    shapes = [(16, 8, 3), (16,), (24, 16, 3), (24,), (40, 24), (40,)]
    a = {f"m{i}.left": torch.randn(s, generator=g) for i, s in enumerate(shapes)}
    b = {f"z{i}.right": torch.randn(s, generator=g) for i, s in enumerate(shapes)}
    b["z2.right"] = a["m2.left"].clone()
    report = compared(tmp_path, a | {"a.more": torch.randn(9, 9, generator=g)}, b)
    assert report.verdict.code == "other-names-same-shapes"
    assert "architecture" not in report.verdict.text
    assert {t.a: t.b for t in report.tensors if t.b} == {f"m{i}.left": f"z{i}.right" for i in range(6)}


def test_shapes_in_another_order_are_not_matched(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(12)
    shapes = [(16, 8), (16,), (24, 16), (24,), (40, 24), (40,)]
    a = {f"m{i}.left": torch.randn(s, generator=g) for i, s in enumerate(shapes)}
    b = {f"z{i}.right": torch.randn(s, generator=g) for i, s in enumerate(reversed(shapes))}
    report = compared(tmp_path, a, b)
    assert report.verdict.code == "other-names-same-shapes"
    assert "nothing tells which belong together" in report.verdict.text


# -- adapters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "down", "up"),
    [
        ("base_model.model.h.{}.attn", "lora_A.weight", "lora_B.weight"),
        ("base_model.model.h.{}.attn", "lora_A.default.weight", "lora_B.default.weight"),
        ("lora_unet_h_{}_attn", "lora_down.weight", "lora_up.weight"),
        ("unet.h.{}.attn", "lora.down.weight", "lora.up.weight"),
    ],
)
def test_an_adapter_is_no_other_architecture(target: str, down: str, up: str, tmp_path: Path) -> None:
    adapter = {}
    for i in range(3):
        rows, columns = gpt()[f"h.{i}.attn.weight"].shape
        adapter[f"{target.format(i)}.{down}"] = torch.randn(4, columns)
        adapter[f"{target.format(i)}.{up}"] = torch.randn(rows, 4)
    report = compared(tmp_path, gpt(), adapter)
    assert report.verdict.code == "adapter"
    assert report.verdict.text == "B is an adapter for 3 weights of A, of rank 4"


# -- parts of larger tensors ------------------------------------------------------------------------------


def projections(seed: int = 13) -> State:
    g = torch.Generator().manual_seed(seed)
    rows = {"k_proj": 8, "q_proj": 16, "v_proj": 8}
    names = [(i, p, n) for i in range(3) for p, n in rows.items()]
    return {f"layers.{i}.attn.{p}.weight": torch.randn(n, 16, generator=g) for i, p, n in names}


def fused(state: State) -> State:
    return {
        f"layers.{i}.attn.qkv_proj.weight": torch.cat([state[f"layers.{i}.attn.{p}_proj.weight"] for p in "qkv"])
        for i in range(3)
    }


def stacked(state: State) -> State:
    names = [n.replace(".0.", ".", 1) for n in state if ".0." in n]
    return {n: torch.stack([state[n.replace("layers.", f"layers.{i}.")] for i in range(3)]) for n in names}


@pytest.mark.parametrize("joined", [fused, stacked])
@pytest.mark.parametrize("order", ["a-joined", "b-joined"])
@pytest.mark.parametrize("tuned", [False, True])
def test_tensors_that_one_side_holds_as_parts_of_larger_ones(joined, order: str, tuned: bool, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a = projections()
    b = joined(nudged(a) if tuned else a)
    report = compared(tmp_path, *((a, b) if order == "b-joined" else (b, a)))
    assert len(report.tensors) == 9
    assert {t.how_matched for t in report.tensors} == {"slice"}
    assert report.verdict.code == ("fine-tune" if tuned else "same-weights-other-layout")
    q = next(t for t in report.tensors if "layers.1.attn.q_proj.weight" in (t.a, t.b))
    assert q.part == (
        "rows 0 to 15 of layers.1.attn.qkv_proj.weight" if joined is fused else "slice 1 of layers.attn.q_proj.weight"
    )
