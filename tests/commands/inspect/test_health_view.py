"""How verdicts and findings are told: the whole report, its sentence, its column, and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inspectcli.analysis.facts import InitMatch, Strength
from inspectcli.analysis.findings import Finding, Severity
from inspectcli.analysis.training import Answer, TrainingJudgment
from inspectcli.cli import run
from inspectcli.commands.inspect.health_view import findings_facts, trained_fact
from inspectcli.commands.inspect.result import FileReport, TensorRow
from inspectcli.commands.inspect.run import inspect
from inspectcli.commands.inspect.view import View, present
from inspectcli.render import render


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Five blocks and a head: one block as drawn, one with a NaN, the others grown, each row by a size of its own."""
    rng = np.random.default_rng(0)
    tensors = {}
    for i, growth in enumerate((1.5, 1.5, 1.0, 1.5, 1.5)):
        tensors[f"h.{i}.up.weight"] = (rng.random((128, 64), np.float32) * 0.25 - 0.125) * growth
        if growth > 1:
            tensors[f"h.{i}.up.weight"] *= np.linspace(0.1, 1, 128)[:, None]
        tensors[f"h.{i}.norm.bias"] = rng.normal(0.1, 0.02, 64)
    tensors["h.0.up.weight"][3, 5] = np.nan
    tensors["head.weight"] = rng.uniform(-0.25, 0.25, (10, 64))
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return "model.safetensors"


def shown(path: str, width: int) -> str:
    lines = render(present(inspect(path), View()), "terminal", width).splitlines()
    return "\n".join(line.rstrip() for line in lines)


AT_140 = """\
model.safetensors  safetensors · 168.5 kB
 written by  safetensors
 parameters  41,920 (41.9k) in 11 tensors
 types       f32 41.9k · 167.7 kB
 values      1 NaN in h.0.up.weight, first at [3, 5]
 trained     yes: 5 of 5 biases are off their start; 3 weights fit no known initializer; 1 of 5 weights are as drawn: h.2.up.weight (PyTorch
             default, U(±1/sqrt(fan_in)) = U(±0.125)); of 1 weight nothing can be told
 PI101       h.0.up.weight: 1 NaN of 8,192 values (0.012 %), the first NaN or Inf at [3, 5]
             → Go back to the last checkpoint without NaN, and train on with a lower learning rate or gradient clipping.
 PI301       h.2.up.weight: untouched since initialization: PyTorch default, U(±1/sqrt(fan_in)) = U(±0.125)
             → See whether it is frozen on purpose; else check that it is used in `forward` and given to the optimizer.

 tensor                    shape   type  params          mean          std      min     max  NaN/Inf  init       values 1–99 %
 ────────────────────────  ──────  ────  ──────  ────────────  ───────────  ───────  ──────  ───────  ─────────  ─────────────
 h.{0..4}.norm.bias  ×5    64      f32      320    0.096…0.11   0.016…0.02  0.04165  0.1477        0  moved      ▁▁▂▅███▇▃▂
 h.{1,3..4}.up.weight  ×3  128×64  f32    24.6k  -4.4e-4…8e-4  0.065…0.066  -0.1852  0.1862        0  ×0.91      ▂▂▄▆██▅▄▂▂
 h.0.up.weight             128×64  f32    8.19k       -8.3e-4      0.06586  -0.1871   0.184        1             ▂▃▄▅██▆▄▂▂
 h.2.up.weight             128×64  f32    8.19k       -4.5e-4      0.07227  -0.1249   0.125        0  untouched  ██████████
 head.weight               10×64   f32      640      -0.00164       0.1457  -0.2497    0.25        0  unknown    ███▇▇████▇"""  # noqa: E501

AT_80 = """\
model.safetensors  safetensors · 168.5 kB
 written by  safetensors
 parameters  41,920 (41.9k) in 11 tensors
 types       f32 41.9k · 167.7 kB
 values      1 NaN in h.0.up.weight, first at [3, 5]
 trained     yes: 5 of 5 biases are off their start; 3 weights fit no known
             initializer; 1 of 5 weights are as drawn: h.2.up.weight (PyTorch
             default, U(±1/sqrt(fan_in)) = U(±0.125)); of 1 weight nothing can
             be told
 PI101       h.0.up.weight: 1 NaN of 8,192 values (0.012 %), the first NaN or
             Inf at [3, 5]
             → Go back to the last checkpoint without NaN, and train on with a
             lower learning rate or gradient clipping.
 PI301       h.2.up.weight: untouched since initialization: PyTorch default,
             U(±1/sqrt(fan_in)) = U(±0.125)
             → See whether it is frozen on purpose; else check that it is used
             in `forward` and given to the optimizer.

 tensor                    shape           std      min     max  NaN/Inf
 ────────────────────────  ──────  ───────────  ───────  ──────  ───────
 h.{0..4}.norm.bias  ×5    64       0.016…0.02  0.04165  0.1477        0
 h.{1,3..4}.up.weight  ×3  128×64  0.065…0.066  -0.1852  0.1862        0
 h.0.up.weight             128×64      0.06586  -0.1871   0.184        1
 h.2.up.weight             128×64      0.07227  -0.1249   0.125        0
 head.weight               10×64        0.1457  -0.2497    0.25        0
 not shown at 80 columns: type, params, mean, init, values 1–99 % (widen the
 window, or --format plain)"""


@pytest.mark.parametrize(("width", "expected"), [(140, AT_140), (80, AT_80)], ids=["140", "80"])
def test_in_a_terminal(model: str, width: int, expected: str) -> None:
    assert shown(model, width) == expected


def test_in_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([model, "--format", "json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    formula = "PyTorch default, U(±1/sqrt(fan_in)) = U(±0.125)"
    assert file["findings"] == [
        {
            "code": "PI101",
            "severity": "error",
            "tensor": "h.0.up.weight",
            "message": "1 NaN of 8,192 values (0.012 %), the first NaN or Inf at [3, 5]",
            "advice": "go back to the last checkpoint without NaN, and train on with a lower learning rate or gradient "
            "clipping",
            "figures": {"count": 1, "share": 1 / 8192, "first_index": [3, 5], "kind": "NaN"},
            "name": None,
        },
        {
            "code": "PI301",
            "severity": "warning",
            "tensor": "h.2.up.weight",
            "message": f"untouched since initialization: {formula}",
            "advice": "see whether it is frozen on purpose; else check that it is used in `forward` and given to the "
            "optimizer",
            "figures": {"formula": formula},
            "name": None,
        },
    ]
    init = {row["name"]: row.get("init") for row in file["tensors"]}
    as_drawn = {"strength": "untouched", "formula": formula, "family": "uniform", "ratio": None}
    assert init["h.2.up.weight"] == as_drawn | {"within": None, "rows": None}
    assert file["trained"] == {
        "answer": "trained",
        "evidence": ["5 of 5 biases are off their start", "3 weights fit no known initializer"],
        "weights": 5,
        "moved": 3,
        "as_drawn": 1,
        "moved_share": 0.75,
    }
    assert init["h.1.up.weight"]["strength"] == "moved"
    assert init["h.1.up.weight"]["ratio"] == pytest.approx(0.91, rel=0.02)
    assert init["h.0.up.weight"] is None


def test_strict_is_for_errors_and_warnings(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"fc.weight": np.full((3, 3), 1e5, np.float32)}, tmp_path / "note.safetensors")
    assert run([model]) == 0
    assert run([model, "--strict"]) == 1
    (only,) = inspect("note.safetensors").files[0].findings
    assert only.severity == "note"
    assert run(["note.safetensors", "--strict"]) == 0
    capsys.readouterr()


PROBE = """
import sys
from inspectcli.analysis.health import base
from inspectcli.analysis.analyze import analyze
from inspectcli.analysis.training import Answer, TrainingJudgment
from inspectcli.commands.inspect.run import inspect
report = inspect(sys.argv[1], stats=False).files[0]
print([f.code for f in report.findings], "numpy" in sys.modules)
"""


def test_without_values_only_rules_of_the_header_run_and_numpy_stays_away(tmp_path: Path) -> None:
    layers = {f"h.{i}.fc.weight": np.full((4, 4), np.nan, np.float32) for i in range(4)}
    layers["h.1.fc.weight"] = layers["h.1.fc.weight"].astype(np.float16)
    save_file(layers, tmp_path / "mixed.safetensors")
    command = [sys.executable, "-c", PROBE, str(tmp_path / "mixed.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['PI407'] False\n"
    with_values = {f.code for f in inspect(str(tmp_path / "mixed.safetensors")).files[0].findings}
    assert with_values == {"PI101", "PI407"}


# -- the sentence ---------------------------------------------------------------------------------------

MOVED = InitMatch(Strength.MOVED, "default", "", 1.2)
UNTOUCHED = InitMatch(Strength.UNTOUCHED, "U(±0.1)", "uniform")
ZEROS = InitMatch(Strength.UNTOUCHED, "zeros", "constant")
LIKE = InitMatch(Strength.INIT_LIKE, "N(0, 0.02)", "normal")


def report(*verdicts: InitMatch | None, findings: tuple[Finding, ...] = (), **more: Any) -> FileReport:
    from inspectcli.tensors.model import Kind

    rows = tuple(
        TensorRow(f"{chr(97 + i)}.weight", (4, 4), "f32", Kind.PARAMETER, 16, 64, None, None, init=verdict)
        for i, verdict in enumerate(verdicts)
    )
    return FileReport("model.pt", "torch-zip", 1, None, None, rows, findings=findings, **more)


YES, NO, UNKNOWN = Answer.TRAINED, Answer.NOT_TRAINED, Answer.UNKNOWN
UNLIKE = InitMatch(Strength.UNKNOWN)


@pytest.mark.parametrize(
    ("verdicts", "answer", "evidence", "sentence"),
    [
        ((), UNKNOWN, (), None),
        ((ZEROS, None), NO, ("all 2 biases are 0",), None),
        (
            (MOVED, MOVED, ZEROS),
            YES,
            ("2 weights fit no known initializer",),
            "yes: 2 weights fit no known initializer",
        ),
        (
            (UNTOUCHED, UNTOUCHED),
            NO,
            ("3 norms are at 1",),
            "no: both weights are as drawn (U(±0.1)); 3 norms are at 1",
        ),
        ((LIKE,), NO, (), "no: the only weight looks as drawn (N(0, 0.02))"),
        ((UNTOUCHED, LIKE, LIKE), NO, (), "no: all 3 weights look as drawn"),
        (
            (UNTOUCHED, UNLIKE),
            UNKNOWN,
            (),
            "cannot be told: 1 of 2 weights are as drawn: a.weight (U(±0.1)); of 1 weight nothing can be told",
        ),
        (
            (MOVED, *[UNTOUCHED] * 4, LIKE),
            YES,
            ("batch norms saw 4,800 batches", "1 weight fits no known initializer"),
            "yes: batch norms saw 4,800 batches; 1 weight fits no known initializer; 5 of 6 weights look as drawn: "
            "b.weight, c.weight and 3 more",
        ),
    ],
)
def test_whether_it_was_trained_is_one_sentence(
    verdicts: tuple[InitMatch | None, ...], answer: Answer, evidence: tuple[str, ...], sentence: str | None
) -> None:
    drawn = [v for v in verdicts if v is not None and v.is_drawn]
    moved, still = sum(v.strength == "moved" for v in drawn), sum(v.is_as_drawn for v in drawn)
    judged = TrainingJudgment(answer, evidence, len(drawn), moved, still)
    told = [cell.text for _, cell in trained_fact(report(*verdicts, trained=judged))]
    assert told == ([sentence] if sentence else [])


# -- findings under the summary -------------------------------------------------------------------------


def finding(code: str, tensor: str | None, message: str = "wrong", severity: Severity = Severity.ERROR) -> Finding:
    return Finding(code, severity, tensor, message, "do this")


def told(*findings: Finding) -> list[tuple[str, str]]:
    return [(code, cell.text) for code, cell in findings_facts(report(findings=findings))]


def test_tensors_of_which_the_same_is_said_share_a_line() -> None:
    assert told(*(finding("PI101", name) for name in "abcd")) == [
        ("PI101", "a, b and 2 more: wrong"),
        ("", "→ Do this."),
    ]


def test_of_many_findings_of_a_code_three_are_told() -> None:
    assert told(*(finding("PI101", name, f"message {name}") for name in "abcde")) == [
        ("PI101", "a: message a"),
        ("PI101", "b: message b"),
        ("PI101", "c: message c"),
        ("PI101", "and in 2 more tensors"),
        ("", "→ Do this."),
    ]


def test_a_finding_of_the_file_has_no_name() -> None:
    assert told(finding("PI303", None, "all B are 0"))[0] == ("PI303", "all B are 0")


def test_notes_are_counted() -> None:
    note = finding("PI103", "a", severity=Severity.NOTE)
    assert told(note) == [("findings", "1 note: `pinspect check` lists them")]
    assert told(note, note) == [("findings", "2 notes: `pinspect check` lists them")]


def test_of_many_codes_eight_are_told() -> None:
    lines = told(*(finding(f"PI1{i:02}", "a") for i in range(10)))
    assert [code for code, _ in lines if code.startswith("PI")] == [f"PI1{i:02}" for i in range(8)]
    assert lines[-1] == ("findings", "2 more findings: `pinspect check` lists them")
