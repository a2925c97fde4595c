"""Every fixture: exactly the names, shapes, types and figures that the library that wrote it gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.places import FIXTURES

from inspectcli.commands.inspect.result import TensorRow
from inspectcli.commands.inspect.run import inspect_path
from inspectcli.tensors.model import Kind

EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
EXACT = ("f64", "f32", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool", "c128", "c64")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fixture_reads_as_its_library_reads_it(name: str) -> None:
    report = inspect_path(str(FIXTURES / name))
    assert report.error is None
    assert report.hazards == ()
    assert sorted(row.name for row in report.tensors) == sorted(EXPECTED[name])
    for row in report.tensors:
        check(row, EXPECTED[name][row.name])


def check(row: TensorRow, truth: dict[str, Any]) -> None:
    where = row.name
    assert row.problem == "", where
    assert list(row.shape) == truth["shape"], where
    assert row.dtype == truth["dtype"], where
    figures = truth["figures"]
    if figures is None:
        assert row.stats is None, where
        return
    assert row.stats is not None, where
    tolerance = 1e-9 if row.dtype in EXACT else 1e-6
    for key, expected in figures.items():
        got = getattr(row.stats, key)
        if isinstance(expected, float):
            assert got is not None, (where, key)
            # A mean of values that cancel is right to the rounding of their sum.
            scale = max(abs(expected), (figures["abs_max"] or 0.0) * (1e-3 if key in ("mean", "std") else 0))
            assert math.isclose(got, expected, rel_tol=0, abs_tol=tolerance * max(scale, 1e-300)), (
                where,
                key,
                got,
            )
        else:
            assert got == expected, (where, key)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("mlp.pt", "torch-zip"), ("mlp_deflated.pt", "torch-zip"), ("mlp_legacy.pt", "torch-legacy"),
        ("mlp_tar.pt", "torch-tar"), ("mlp_script.pt", "torchscript"), ("mlp_pickle.pkl", "pickle"),
        ("mlp.safetensors", "safetensors"), ("mlp.keras", "keras"), ("mlp.weights.h5", "keras-weights-h5"),
        ("mlp_keras2.h5", "keras-h5"), ("mlp_keras3.h5", "keras-h5"), ("other.h5", "hdf5"), ("arrays.npz", "npz"),
        ("array.npy", "npy"), ("sharded", "safetensors-sharded"), ("sharded_torch", "torch-sharded"),
    ],
)  # fmt: skip
def test_the_format_is_named(name: str, format_name: str) -> None:
    assert inspect_path(str(FIXTURES / name), read=False).format == format_name


def test_optimizer_state_is_apart() -> None:
    report = inspect_path(str(FIXTURES / "lightning.ckpt"), read=False)
    kinds = {row.name.partition(".")[0]: row.kind for row in report.tensors}
    assert kinds == {
        "state_dict": Kind.PARAMETER, "optimizer_states": Kind.OPTIMIZER, "callbacks": Kind.CALLBACK,
        "hyper_parameters": Kind.HYPERPARAMETER,
    }  # fmt: skip
    assert report.totals is not None
    assert report.totals.model_parameters == 26
    assert report.training.epoch == 3
    assert report.training.step == 200
    assert report.training.optimizer == "AdamW"


def test_a_tie_is_read_once_and_named() -> None:
    report = inspect_path(str(FIXTURES / "views.pt"))
    rows = {row.name: row for row in report.tensors}
    assert rows["tied"].alias_of == "base"
    assert rows["transposed"].alias_of == "base"
    assert rows["slice"].alias_of is None
    assert report.totals is not None
    assert report.totals.parameters - report.totals.unique_parameters == 48


def test_foreign_classes_are_named_and_not_imported() -> None:
    assert inspect_path(str(FIXTURES / "foreign.pt"), read=False).foreign == ("my_project.Config",)


def test_packed_words_are_not_averaged() -> None:
    report = inspect_path(str(FIXTURES / "gptq.safetensors"))
    assert {row.name.rpartition(".")[2]: row.packed for row in report.tensors} == {
        "qweight": True, "qzeros": True, "scales": False, "g_idx": False, "weight": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut_mlp.pt", "cut at 800 bytes: at least 104 bytes are missing; 4 of 4 tensors are cut: "
                       "fc1.bias, fc1.weight, fc2.bias and 1 more"),
        ("cut_mlp.safetensors", "50 bytes are missing at the end: 3 of 4 tensors are cut "
                                "(fc1.weight, fc2.bias, fc2.weight)"),
        ("cut_mlp_keras2.h5", "14,944 bytes are missing at the end: found 5,000, expected 19,944"),
        ("empty.pt", "the file is empty (0 bytes)"),
        ("lfs_pointer.safetensors", "this looks like a Git LFS pointer, not the file itself"),
        ("login_page.pt", "this looks like a web page"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_its_reason(name: str, message: str) -> None:
    error = inspect_path(str(Path(FIXTURES, "damaged", name))).error
    assert error is not None
    assert error.message == message
    assert error.hint


def test_a_wrong_checksum_is_the_row_s_problem() -> None:
    report = inspect_path(str(FIXTURES / "damaged" / "bad_crc.pt"))
    assert report.error is not None
    assert [row.name for row in report.tensors if "CRC mismatch" in row.problem] == ["fc1.weight"]
