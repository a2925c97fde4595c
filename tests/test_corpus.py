"""Real files of published packages: exactly the counts and figures of the reference libraries, or one clear line."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.places import CORPUS, corpus_truth

from inspectcli.commands.inspect.result import FileReport, TensorRow
from inspectcli.commands.inspect.run import inspect_path

pytestmark = pytest.mark.corpus

FILES = {entry["file"]: entry for entry in corpus_truth("truth.json")}
TENSORS: dict[str, list[dict[str, Any]]] = corpus_truth("truth_tensors.json")

IN_SCOPE_PREFIXES = ("torch-zip", "torch-legacy", "safetensors", "hdf5", "keras", "npz")
IN_SCOPE = [
    name for name, entry in FILES.items() if entry["format"].startswith(IN_SCOPE_PREFIXES) and "expect" not in entry
]
#: Damaged ones, and formats that are not read yet.
OTHERS = [name for name in FILES if name not in IN_SCOPE]

DTYPES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool",
}  # fmt: skip


def read(name: str) -> FileReport:
    return inspect_path(str(CORPUS / "corpora" / "files" / name))


@pytest.mark.parametrize("name", IN_SCOPE)
def test_counts_are_those_of_the_reference_library(name: str) -> None:
    truth, report = FILES[name], read(name)
    assert report.error is None
    assert report.totals is not None
    got = report.totals
    assert got.tensors == truth["n_tensors"]
    assert got.parameters == truth["n_params_all"]
    assert got.unique_parameters == truth["n_params_unique"]
    if truth.get("model_params") is not None:
        assert got.model_parameters == truth["model_params"]
        assert got.optimizer_parameters == truth["optimizer_params"]
    assert dict(got.by_dtype) == {DTYPES[k]: n for k, n in truth["params_by_dtype"].items()}


@pytest.mark.parametrize("name", IN_SCOPE)
def test_every_tensor_has_the_figures_of_the_reference_library(name: str) -> None:
    report = read(name)
    left = list(report.tensors)
    for truth in TENSORS[name]:
        row = find(truth, left)
        assert row is not None, f"no tensor like {truth}"
        left.remove(row)
    listed = FILES[name]["n_tensors"]
    assert len(left) == listed - len(TENSORS[name])


def find(truth: dict[str, Any], rows: list[TensorRow]) -> TensorRow | None:
    """The row of the same name, or, where a user knows a better name, one with the same shape and figures."""
    named = [row for row in rows if row.name == truth["name"]]
    return next((row for row in named or rows if agrees(row, truth)), None)


def agrees(row: TensorRow, truth: dict[str, Any]) -> bool:
    if list(row.shape) != truth["shape"] or row.dtype != DTYPES[truth["dtype"]] or row.numel != truth["numel"]:
        return False
    s = row.stats
    if "mean" not in truth:  # no finite value, or none at all
        return s is None or s.mean is None
    assert s is not None
    return (
        all(close(got, truth[k]) for got, k in ((s.mean, "mean"), (s.std, "std_pop"), (s.min, "min"), (s.max, "max")))
        and s.zeros == truth["zeros"]
        and s.nan == truth.get("nan", 0)
        and s.posinf + s.neginf == truth.get("inf", 0)
    )


def close(got: float | int | None, truth: float) -> bool:
    # Means of values that cancel are right to the rounding of their sum, not of themselves.
    return got is not None and math.isclose(got, truth, rel_tol=1e-6, abs_tol=1e-12)


@pytest.mark.parametrize("name", IN_SCOPE)
def test_a_published_file_raises_no_alarm(name: str) -> None:
    assert read(name).hazards == ()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_gets_one_clear_line(name: str) -> None:
    report = read(name)
    assert report.error is not None
    assert report.error.code in ("unsupported-format", "damaged", "truncated")
    assert "\n" not in report.error.message
    assert report.error.hint
    assert report.tensors == ()


def test_all_files_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    right = 0
    for name in FILES:
        report = read(name)
        if name in IN_SCOPE:
            assert report.totals is not None
            right += report.totals.parameters == FILES[name]["n_params_all"]
        else:
            right += report.error is not None
    with capsys.disabled():
        print(f"\ncorpus: {right} of {len(FILES)} files")  # noqa: T201
    assert right == len(FILES)
