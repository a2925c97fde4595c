"""Pairs of checkpoints with their right answers, which come from torch, Keras, safetensors and ml_dtypes."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from models.pairs import gpt, write
from safetensors.torch import save_file

from inspectcli import DiffReport, diff, open_checkpoint
from inspectcli.commands.diff.compare import Status

FORMATS = ("pt", "safetensors", "h5")
#: Each format on each side; the others are slow.
QUICK = {("pt", "safetensors"), ("safetensors", "h5"), ("h5", "pt")}
COMBINATIONS = [
    pytest.param(pair, marks=[pytest.mark.slow] * (pair not in QUICK)) for pair in product(FORMATS, FORMATS)
]

IDENTICAL, EQUAL, ROUNDED, WITHIN, CHANGED, RESHAPED, ADDED, REMOVED = Status


def statuses(report: DiffReport) -> dict[str, Status | None]:
    return {t.name: t.status for t in report.tensors}


def others(report: DiffReport, *names: str) -> set[Status | None]:
    return {status for name, status in statuses(report).items() if name not in names}


@pytest.fixture(params=COMBINATIONS, ids=lambda pair: "-".join(pair))
def compared(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Write A and B in two formats and compare them."""

    def run(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], **options: object) -> DiffReport:
        first, second = request.param
        return diff(write(a, tmp_path, "a", first), write(b, tmp_path, "b", second), **options)  # type: ignore[arg-type]

    return run


# -- every format with every other ------------------------------------------------------------------------


def test_same(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared(gpt(), gpt())
    assert report.same
    assert report.verdict.code == "same-weights"
    assert report.verdict.text == "Same weights, bit for bit"
    assert others(report) == {IDENTICAL}


def test_one_bit_of_one_value(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    bits = b["h.2.attn.weight"].view(torch.int32)
    bits[5, 7] ^= 1
    report = compared(a, b)
    changed = report["h.2.attn.weight"]
    expected = (a["h.2.attn.weight"].double() - b["h.2.attn.weight"].double()).abs()
    assert not report.same
    assert others(report, "h.2.attn.weight") == {IDENTICAL}
    assert changed.status is CHANGED
    assert changed.max_abs == expected.max().item()
    assert changed.max_abs_index == (5, 7)
    assert changed.changed == 1
    assert report.verdict.code == "fine-tune"


def test_shuffled_values_have_the_same_moments_and_are_not_the_same(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    w = a["h.1.mlp.weight"]
    b["h.1.mlp.weight"] = w.flatten()[torch.randperm(w.numel(), generator=torch.Generator().manual_seed(1))].view_as(w)
    found = compared(a, b)["h.1.mlp.weight"]
    d = a["h.1.mlp.weight"].double() - b["h.1.mlp.weight"].double()
    assert found.status is CHANGED
    mean, std = w.double().mean().item(), w.double().std(correction=0).item()
    assert (found.mean_a, found.mean_b) == (pytest.approx(mean, rel=1e-9), pytest.approx(mean, rel=1e-9))
    assert (found.std_a, found.std_b) == (pytest.approx(std, rel=1e-9), pytest.approx(std, rel=1e-9))
    assert found.max_abs == d.abs().max().item()
    assert found.rel_l2 == pytest.approx((d.norm() / w.double().norm()).item(), rel=1e-6)
    assert found.cosine == pytest.approx(
        torch.cosine_similarity(w.double().flatten(), b["h.1.mlp.weight"].double().flatten(), 0).item(), abs=1e-7
    )
    assert found.changed == int((d != 0).sum())


def test_a_prefix_on_all_names_is_said_once_and_does_not_count(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared(gpt(), {f"module.{name}": value for name, value in gpt().items()})
    assert report.same
    assert [(p.a, p.b) for p in report.prefixes] == [("", "module")]
    assert {t.how_matched for t in report.tensors} == {"prefix"}


def test_a_prefix_counts_under_strict_names(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared({f"_orig_mod.{n}": v for n, v in gpt().items()}, gpt(), strict_names=True)
    assert not report.same
    assert others(report) == {IDENTICAL}


def test_two_renames_by_content(compared) -> None:  # type: ignore[no-untyped-def]
    b = {n.replace("ln_f", "ln_final").replace("wte", "embedding.tokens"): v for n, v in gpt().items()}
    report = compared(gpt(), b)
    assert not report.same
    assert report.verdict.code == "same-weights-other-names"
    moved = {t.a: (t.b, t.how_matched, t.status) for t in report.tensors if t.a != t.b}
    assert moved == {
        "ln_f.weight": ("ln_final.weight", "content", IDENTICAL),
        "ln_f.bias": ("ln_final.bias", "content", IDENTICAL),
        "wte.weight": ("embedding.tokens.weight", "content", IDENTICAL),
    }


def test_removed_added_and_reshaped_are_named(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    del b["h.3.mlp.bias"]
    b["head.weight"] = torch.randn(7, 16, generator=torch.Generator().manual_seed(3))
    b["wte.weight"] = torch.cat([b["wte.weight"], torch.ones(2, 16)])
    report = compared(a, b)
    assert statuses(report)["h.3.mlp.bias"] is REMOVED
    assert statuses(report)["head.weight"] is ADDED
    assert statuses(report)["wte.weight"] is RESHAPED
    assert (report["wte.weight"].shape_a, report["wte.weight"].shape_b) == ((40, 16), (42, 16))
    assert others(report, "h.3.mlp.bias", "head.weight", "wte.weight") == {IDENTICAL}
    assert not report.same


def test_nan_on_one_side(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    b["ln_f.bias"][3] = math.nan
    found = compared(a, b)["ln_f.bias"]
    assert found.status is CHANGED
    assert (found.nan_a, found.nan_b, found.changed, found.nonfinite_changed) == (0, 1, 1, 1)
    assert found.nonfinite_index == (3,)
    assert found.max_abs == 0.0


def test_nan_in_the_same_place_on_both_is_equal_and_told(compared) -> None:  # type: ignore[no-untyped-def]
    a = gpt()
    a["ln_f.bias"][3] = math.nan
    a["ln_f.weight"][2] = math.inf
    report = compared(a, a)
    assert report.same
    assert report["ln_f.bias"].status is IDENTICAL
    assert (report["ln_f.bias"].nan_a, report["ln_f.bias"].nan_b) == (1, 1)


def test_nan_in_another_place_is_a_change(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    a["ln_f.bias"][3] = b["ln_f.bias"][4] = math.nan
    found = compared(a, b)["ln_f.bias"]
    assert found.status is CHANGED
    assert (found.nan_a, found.nan_b, found.changed) == (1, 1, 2)


def test_two_zero_tensors_are_equal(compared) -> None:  # type: ignore[no-untyped-def]
    a = {"zero.weight": torch.zeros(5, 5), "other.weight": torch.ones(3)}
    b = {"zero.weight": -torch.zeros(5, 5), "other.weight": torch.ones(3)}
    report = compared(a, b)
    assert report.same
    assert report["zero.weight"].status is EQUAL
    assert report["zero.weight"].cosine == 1.0
    assert report["zero.weight"].rel_l2 == 0.0


def test_zeros_that_became_values_have_no_relative_change(compared) -> None:  # type: ignore[no-untyped-def]
    found = compared({"w.weight": torch.zeros(4)}, {"w.weight": torch.ones(4)})["w.weight"]
    assert found.status is CHANGED
    assert (found.rel_l2, found.cosine, found.l2, found.max_abs) == (None, None, 2.0, 1.0)


def test_f16_cast(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared(gpt(), {n: v.half() for n, v in gpt().items()})
    assert not report.same
    assert report.verdict.text == "Same weights rounded to f16"
    assert others(report) == {ROUNDED}


def test_f64_copy_holds_equal_values(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared(gpt(), {n: v.double() for n, v in gpt().items()})
    assert report.same
    assert report.verdict.text == "Same weights, stored in another type: f32 as f64"
    assert others(report) == {EQUAL}


def test_tolerance(compared) -> None:  # type: ignore[no-untyped-def]
    a = gpt()
    b = {n: v + 1e-4 for n, v in a.items()}
    assert others(compared(a, b, atol=1e-3)) == {WITHIN}
    assert compared(a, b, atol=1e-3).same
    assert others(compared(a, b, atol=1e-5)) == {CHANGED}
    assert not compared(a, b, atol=1e-5).same


def test_different_models_of_one_architecture(compared) -> None:  # type: ignore[no-untyped-def]
    report = compared(gpt(seed=0), gpt(seed=1))
    assert report.verdict.text == "Different models of the same architecture"


def test_a_fine_tune(compared) -> None:  # type: ignore[no-untyped-def]
    a, b = gpt(), gpt()
    for name in b:
        if name.startswith(("h.3", "ln_f")):
            b[name] = b[name] * 1.01
    b["h.3.mlp.weight"] = b["h.3.mlp.weight"] * 1.5
    report = compared(a, b)
    assert report.verdict.text == (
        "Fine-tune of the same base: 19 of 27 tensors untouched, largest change in h.3.mlp.weight"
    )


def test_different_architectures(compared) -> None:  # type: ignore[no-untyped-def]
    b = {"encoder.kernel_a": torch.randn(9, 5), "encoder.kernel_b": torch.randn(11)}
    report = compared(gpt(), b)
    assert report.verdict.code == "different-architectures"
    assert others(report) == {ADDED, REMOVED}


# -- casts that only some formats can hold ------------------------------------------------------------------

NARROW = {
    "bf16": torch.bfloat16,
    "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2,
}


@pytest.mark.parametrize("wide", FORMATS)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_casts(dtype: str, suffix: str, wide: str, tmp_path: Path) -> None:
    a = write(gpt(), tmp_path, "a", wide)
    b = write({n: v.to(NARROW[dtype]) for n, v in gpt().items()}, tmp_path, "b", suffix)
    report = diff(a, b)
    assert report.verdict.text == f"Same weights rounded to {dtype}"
    assert others(report) == {ROUNDED}
    assert not report.same
    assert diff(a, b, allow_rounding=True).same
    assert diff(b, a).verdict.text == f"Same weights rounded to {dtype}; A is the rounded one"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", NARROW)
def test_a_cast_that_was_widened_again(dtype: str, suffix: str, tmp_path: Path) -> None:
    a = write(gpt(), tmp_path, "a", suffix)
    b = write({n: v.to(NARROW[dtype]).float() for n, v in gpt().items()}, tmp_path, "b", suffix)
    assert diff(a, b).verdict.text == f"Same weights rounded to {dtype}"


def test_a_cast_with_one_value_changed_is_no_cast(tmp_path: Path) -> None:
    b = {n: v.bfloat16() for n, v in gpt().items()}
    b["wte.weight"][39, 15] += 1
    report = diff(write(gpt(), tmp_path, "a", "pt"), write(b, tmp_path, "b", "safetensors"))
    assert statuses(report)["wte.weight"] is CHANGED
    assert others(report, "wte.weight") == {ROUNDED}


# -- tied, sharded, state, metadata -------------------------------------------------------------------------


def tied() -> dict[str, torch.Tensor]:
    state = gpt()
    return state | {"lm_head.weight": state["wte.weight"]}


@pytest.mark.parametrize("suffix", FORMATS)
def test_tied_and_untied_copies(suffix: str, tmp_path: Path) -> None:
    report = diff(write(tied(), tmp_path, "a", "pt"), write(tied(), tmp_path, "b", suffix))
    assert report.same
    assert report["lm_head.weight"].note == ("" if suffix == "pt" else "tied to wte.weight in A only")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_tied_tensor_that_was_left_out_is_told(suffix: str, tmp_path: Path) -> None:
    report = diff(write(tied(), tmp_path, "a", "pt"), write(gpt(), tmp_path, "b", suffix))
    assert report["lm_head.weight"].status is REMOVED
    assert report["lm_head.weight"].note == "tied to wte.weight in A"
    assert others(report, "lm_head.weight") == {IDENTICAL}
    assert not report.same


@pytest.mark.parametrize("suffix", FORMATS)
def test_sharded_and_single(suffix: str, tmp_path: Path) -> None:
    import json

    state, folder = gpt(), tmp_path / "sharded"
    folder.mkdir()
    names = list(state)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, members in shards.items():
        save_file({n: state[n] for n in members}, str(folder / shard))
    weight_map = {n: shard for shard, members in shards.items() for n in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    report = diff(str(folder), write(state, tmp_path, "b", suffix))
    assert report.same
    assert others(report) == {IDENTICAL}


def training(lr: float = 0.1, steps: int = 2) -> dict[str, object]:
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 5)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    weights = {n: v.clone() for n, v in model.state_dict().items()}
    for _ in range(steps):
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
    return {"model": weights, "optimizer": optimizer.state_dict(), "epoch": 3}


def test_only_the_optimizer_differs(tmp_path: Path) -> None:
    torch.save(training(steps=2), tmp_path / "a.pt")
    torch.save(training(steps=3), tmp_path / "b.pt")
    report = diff(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not report.same
    assert report.verdict.text == "Same weights, bit for bit; the optimizer state differs"
    assert {t.status for t in report.tensors if not t.is_state} == {IDENTICAL}


def test_only_a_hyperparameter_differs(tmp_path: Path) -> None:
    a, b = training(lr=0.1), training(lr=0.1)
    b["optimizer"]["param_groups"][0]["lr"] = 0.2  # type: ignore[index]
    torch.save(a, tmp_path / "a.pt")
    torch.save(b, tmp_path / "b.pt")
    report = diff(tmp_path / "a.pt", tmp_path / "b.pt")
    assert report.same
    assert [(c.key, c.a, c.b) for c in report.metadata] == [("optimizer.param_groups.0.lr", 0.1, 0.2)]
    assert report.verdict.text == ("Same weights, bit for bit; metadata differs in optimizer.param_groups.0.lr")
    assert not diff(tmp_path / "a.pt", tmp_path / "b.pt", strict_metadata=True).same


def test_only_metadata_differs_in_safetensors(tmp_path: Path) -> None:
    for name, epoch in (("a", "1"), ("b", "2")):
        save_file(gpt(), str(tmp_path / f"{name}.safetensors"), metadata={"epoch": epoch})
    report = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert report.same
    assert [(c.key, c.a, c.b) for c in report.metadata] == [("epoch", "1", "2")]


# -- rank -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "dtype"), [(s, torch.float32) for s in FORMATS] + [("safetensors", torch.float64)])
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_the_rank_of_a_merged_lora(rank: int, suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(rank)
    base = torch.randn(96, 160, generator=generator, dtype=torch.float64) * 0.02
    up = torch.randn(96, rank, generator=generator, dtype=torch.float64)
    down = torch.randn(rank, 160, generator=generator, dtype=torch.float64)
    merged = base + 1e-3 * (up @ down)
    a = write({"w.weight": base.to(dtype)}, tmp_path, "a", suffix)
    b = write({"w.weight": merged.to(dtype)}, tmp_path, "b", suffix)
    found = diff(a, b, rank=True)["w.weight"]
    assert (found.rank, found.rank_at_least) == (rank, False)


def test_a_full_change_has_full_rank(tmp_path: Path) -> None:
    a = write({"w.weight": torch.randn(40, 30)}, tmp_path, "a", "pt")
    b = write({"w.weight": torch.randn(40, 30)}, tmp_path, "b", "pt")
    assert diff(a, b, rank=True)["w.weight"].rank == 30


# -- layouts --------------------------------------------------------------------------------------------------


def test_a_conv1d_of_gpt2_and_a_linear(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = {"attn.weight": torch.randn(16, 48), "proj.weight": torch.randn(16, 16), "proj.bias": torch.randn(16)}
    b = {"attn.weight": a["attn.weight"].T, "proj.weight": a["proj.weight"].T, "proj.bias": a["proj.bias"]}
    report = diff(write(a, tmp_path, "a", "pt"), write(b, tmp_path, "b", "safetensors"))
    assert report.verdict.code == "same-weights-other-layout"
    assert {t.name: (t.status, t.layout) for t in report.tensors} == {
        "attn.weight": (EQUAL, "transposed"),
        "proj.weight": (EQUAL, "transposed"),
        "proj.bias": (IDENTICAL, ""),
    }


def test_a_transposed_view_in_a_file_holds_the_values_of_its_copy(tmp_path: Path) -> None:
    w = torch.randn(2000, 1500)
    a = write({"w.weight": w.T}, tmp_path, "a", "pt")
    b = write({"w.weight": w.T.contiguous()}, tmp_path, "b", "pt")
    assert open_checkpoint(a)["w.weight"].strides == (1, 1500)
    assert diff(a, b).tensors[0].status is EQUAL
    assert diff(a, a).tensors[0].status is IDENTICAL
    changed = w.T.contiguous()
    changed[1234, 567] += 1
    found = diff(a, write({"w.weight": changed}, tmp_path, "c", "pt")).tensors[0]
    assert (found.status, found.changed, found.max_abs_index) == (CHANGED, 1, (1234, 567))
    assert found.max_abs == pytest.approx(1.0, rel=1e-6)


def test_a_tensor_of_another_shape_with_the_same_values_is_reshaped(tmp_path: Path) -> None:
    w = torch.randn(4, 6)
    report = diff(
        write({"w.weight": w}, tmp_path, "a", "pt"), write({"w.weight": w.reshape(1, 4, 6, 1)}, tmp_path, "b", "pt")
    )
    assert report.tensors[0].status is RESHAPED
    assert report.tensors[0].note == "same values in the same order"
    assert not report.same


def test_compressed_datasets_on_both_sides(tmp_path: Path) -> None:
    """Each side has a child process that decodes; one that is stopped early gives no wrong answer to the next."""
    state = gpt()
    for name, factor in (("a", 1.0), ("b", 1.5)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, value in state.items():
                changed = value * factor if key.startswith("h.1.") else value
                file.create_dataset(key, data=changed.numpy(), chunks=True, compression="gzip", shuffle=True)
    report = diff(tmp_path / "a.h5", tmp_path / "b.h5")
    assert {t.name for t in report.tensors if t.status is CHANGED} == {n for n in state if n.startswith("h.1.")}
    assert others(report, *(n for n in state if n.startswith("h.1."))) == {IDENTICAL}
    renamed = {n.replace("wte", "embedding"): v for n, v in state.items()}
    report = diff(tmp_path / "a.h5", write(renamed, tmp_path, "c", "pt"))
    assert report["embedding.weight"].how_matched == "content"
    assert diff(tmp_path / "a.h5", tmp_path / "a.h5").same


def test_a_checkpoint_compared_with_itself(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(gpt(), tmp_path, "a", "h5"))
    assert diff(checkpoint, checkpoint).same


def test_numbered_layers_that_moved_are_matched_by_position(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = {f"net.{i}.weight": torch.randn(4, 4) for i in (0, 2)}
    b = {f"net.{i}.weight": torch.randn(4, 4) for i in (0, 3)}
    moved = {f"dense_{i}.kernel": torch.randn(4, 4) for i in (1, 2)}
    other = {f"dense_{i}.kernel": torch.randn(4, 4) for i in (9, 10)}
    # net.0 is on both sides: net.2 was removed, net.3 was added.
    assert others(diff(a, b)) == {CHANGED, ADDED, REMOVED}
    assert [(t.a, t.b, t.how_matched) for t in diff(moved, other).tensors] == [
        ("dense_1.kernel", "dense_9.kernel", "position"),
        ("dense_2.kernel", "dense_10.kernel", "position"),
    ]


def test_integers_beyond_the_precision_of_floats(tmp_path: Path) -> None:
    a = write({"n.ids": torch.tensor([2**62, 5])}, tmp_path, "a", "pt")
    b = write({"n.ids": torch.tensor([2**62 + 1, 5])}, tmp_path, "b", "pt")
    found = diff(a, b).tensors[0]
    assert (found.status, found.changed, found.max_abs, found.max_abs_index) == (CHANGED, 1, 1.0, (0,))


def test_a_large_mean_hides_no_change(tmp_path: Path) -> None:
    w = torch.full((1000,), 1e4)
    b = w.clone()
    b[7] = np.nextafter(np.float32(1e4), np.float32(2e4)).item()
    found = diff(write({"w": w}, tmp_path, "a", "pt"), write({"w": b}, tmp_path, "b", "pt")).tensors[0]
    assert (found.status, found.changed, found.max_abs_index) == (CHANGED, 1, (7,))


def test_files_without_values_are_not_compared(tmp_path: Path) -> None:
    for name, device in (("a", "meta"), ("b", "meta"), ("real", "cpu")):
        torch.save(torch.nn.Linear(4, 3, device=device).state_dict(), tmp_path / f"{name}.pt")
    for other in ("b", "real"):
        report = diff(tmp_path / "a.pt", tmp_path / f"{other}.pt")
        assert (report.exit_code, report.same) == (2, False)
        assert "Not compared: 2 tensors" in report.verdict.text
