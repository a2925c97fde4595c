"""`pinspect check` as people and CI call it."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.places import FIXTURES

from inspectcli.cli import run
from inspectcli.cli.check import CONTENTS
from inspectcli.render import own_renderers

GOOD = str(FIXTURES / "mlp.safetensors")
NAN = str(FIXTURES / "gpt2_tiny_nan.safetensors")
HALF = str(FIXTURES / "half_trained.pt")
CUT = str(FIXTURES / "damaged" / "cut_mlp.pt")


def checked(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(["check", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_clean_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = checked([GOOD, "--select", "PI1,PI2"], capsys)
    assert (code, err) == (0, "")
    assert out == (
        "  1 file checked by 23 rules: nothing found\n"
        "  1 file read (4 tensors, 104 bytes of values), 0 not read, 0 passed over\n"
    )


def test_a_sick_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = checked([NAN, GOOD], capsys)
    assert (code, err) == (1, "")
    assert out == (
        f"{NAN}  (safetensors · 179.3 kB)\n"
        "  error PI101  h.3.mlp.c_fc.weight: 12 NaN of 4,096 values (0.29 %), the first NaN or Inf at [7, 40]\n"
        "               → go back to the last checkpoint without NaN, and train on with a lower learning rate or"
        " gradient clipping\n"
        "  error PI102  h.3.mlp.c_fc.weight: 1 +Inf of 4,096 values (0.024 %), the first NaN or Inf at [7, 40]\n"
        "               → find the step at which the values overflowed, and train on from before it\n"
        "\n"
        "  2 errors in 1 of 2 files\n"
        "  2 files read (80 tensors, 173.2 kB of values), 0 not read, 0 passed over\n"
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([CUT, NAN], 2, "cut_mlp.pt: cut at 800 bytes"),
        (["no-such-file.pt"], 2, "no such file or directory"),
        ([], 2, "Missing argument 'PATH...'"),
        ([GOOD, "--select", "PI1O1"], 2, "there is no rule 'PI1O1'\n  did you mean PI101?"),
        ([GOOD, "--fail-on", "fatal"], 2, "'fatal' is not one of 'error', 'warning', 'note'"),
        ([GOOD, "--update-baseline"], 2, "there is no baseline to update"),
        ([GOOD, "--baseline", GOOD], 2, "mlp.safetensors: not a baseline of pinspect"),
        ([GOOD, "--baseline", "/no/such/folder/known.json"], 2, "the baseline cannot be written: No such file"),
        ([GOOD, "--max-size", "big"], 2, "'big' is not a size"),
        ([GOOD, "--format", "csv"], 2, "is not one of"),
    ],
    ids=str,
)
def test_what_cannot_be_done_gives_2(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got, out, err = checked(args, capsys)
    assert got == code
    assert message in err
    assert "Traceback" not in out + err


def test_the_others_are_reported_beside_an_unreadable_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = checked([CUT, NAN], capsys)
    assert "2 errors in 1 of 2 files, 1 could not be read" in out


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 1), ("note", 1)])
def test_what_fails_is_chosen(fail_on: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    got, out, _ = checked([HALF, "--fail-on", fail_on], capsys)
    assert got == code
    assert "warning PI301  model.skip.weight: untouched" in out


def test_quiet_prints_nothing_of_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked([NAN, "--quiet"], capsys) == (1, "", "")


def test_codes_may_be_repeated_or_joined(capsys: pytest.CaptureFixture[str]) -> None:
    _, joined, _ = checked([NAN, "--select", "PI101, PI2", "--format", "json"], capsys)
    _, repeated, _ = checked([NAN, "--select", "PI101", "--select", "PI2", "--format", "json"], capsys)
    assert joined == repeated
    assert json.loads(joined)["statistics"] == {"PI101": 1}


def test_statistics_count_by_code(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = checked([NAN, HALF, "--statistics"], capsys)
    assert (
        "findings  files  code   severity  rule\n"
        "--------  -----  -----  --------  ---------------\n"
        "       1      1  PI101  error     nan-values\n"
        "       1      1  PI102  error     infinite-values\n"
        "       1      1  PI301  warning   untouched-layer\n"
        "       1      1  PI302  warning   untrained-head\n"
    ) in out


def test_explain_tells_each_rule_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nan = np.full((8, 8), np.nan, np.float32)
    for name in ("a", "b"):
        save_file({"u": nan, "v": nan}, tmp_path / f"{name}.safetensors")
    code, out, _ = checked([str(tmp_path), "--explain"], capsys)
    assert code == 1
    assert out.count("error PI101") == 4
    assert out.count("Why it matters: one NaN spreads") == 1
    assert out.count("→ go back to the last checkpoint") == 1  # under the second file: the text says it already


def test_a_terminal_shows_some_of_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = np.full(8, np.nan, np.float32)
    save_file({f"w{i}": nan for i in range(50)}, tmp_path / "m.safetensors")
    monkeypatch.setenv("NO_COLOR", "1")
    path = str(tmp_path / "m.safetensors")
    _, out, _ = checked([path, "--format", "terminal"], capsys)
    assert out.count("error PI101") == 20
    assert "and 30 more of PI101: --format plain shows all" in out
    _, out, _ = checked([path, "--format", "plain"], capsys)
    assert out.count("error PI101") == 50


def test_folders_are_walked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "below").mkdir()
    for place in (tmp_path / "a.safetensors", tmp_path / "below" / "b.safetensors"):
        save_file({"w": np.ones(4, np.float32)}, place)
    code, out, _ = checked([str(tmp_path)], capsys)
    assert (code, "2 files checked" in out) == (0, True)


def test_fast_finds_a_pickle_that_acts_and_no_nan(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Acts:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("echo ran",)

    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"w": Acts()}, protocol=2))
        archive.writestr("model/version", "3\n")
    code = run(["check", "--fast", str(tmp_path / "model.pt"), NAN])
    out, err = capfd.readouterr()
    assert code == 1
    assert "error PI501" in out
    assert "PI101" not in out
    assert "\nran" not in out + err


def test_hook_passes_over_quietly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("words")
    names = [str(tmp_path / "notes.txt"), str(FIXTURES / "damaged" / "lfs_pointer.safetensors")]
    assert checked([*names, "--hook"], capsys) == (
        0,
        "  no files to check\n"
        "  0 files read (0 tensors, 0 bytes of values), 0 not read, 2 passed over: no checkpoints\n",
        "",
    )
    assert checked(names, capsys)[0] == 2


def test_the_baseline_is_written_then_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = str(tmp_path / "known.json")
    code, out, err = checked([NAN, "--baseline", known], capsys)
    assert (code, err) == (0, f"pinspect: 2 findings are recorded in {known}\n")
    assert "nothing new\n  2 findings known from the baseline\n" in out
    code, _, err = checked([NAN, "--baseline", known], capsys)
    assert (code, err) == (0, "")
    code, out, _ = checked([NAN, "--baseline", known, "--ignore", "PI101"], capsys)
    assert (code, "1 finding is no longer there: --update-baseline" in out) == (0, True)


@pytest.mark.parametrize("format_name", [r.name for r in own_renderers() if r.draws in CONTENTS])
def test_every_format_writes_to_a_file(format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report"
    code, out, _ = checked([NAN, "--format", format_name, "-o", str(path)], capsys)
    assert (code, out) == (1, "")
    assert "PI101" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "begins"), [("r.sarif", "{"), ("r.xml", "<?xml"), ("r.json", "{"), ("r.csv", "/")])
def test_the_name_of_the_output_file_chooses_the_format(
    name: str, begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked([NAN, "-o", str(tmp_path / name)], capsys)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
