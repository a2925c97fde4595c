"""The command as people and programs call it: exit codes, streams, files, pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from support.places import FIXTURES

from inspectcli.cli import run

MLP = str(FIXTURES / "mlp.pt")
BAD = str(FIXTURES / "damaged" / "cut_mlp.pt")


def run_in_process(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(args)
    out, err = capsys.readouterr()
    return code, out, err


def hazard(path: Path) -> str:
    """A file that would print a word when it is unpickled."""

    class Acts:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("echo ran",)

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"w": Acts()}, protocol=2))
        archive.writestr("model/version", "3\n")
    return str(path)


def test_a_healthy_file_gives_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_in_process([MLP], capsys)
    assert code == 0
    assert "26 in 4 tensors" in out
    assert err == ""


def test_a_pickle_that_acts_gives_1_and_is_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = run([hazard(tmp_path / "model.pt")])
    out, err = capfd.readouterr()
    assert code == 1
    assert "system would be called with 'echo ran'" in out
    assert "\nran" not in out + err


def test_nan_alone_gives_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_in_process([str(FIXTURES / "nonfinite.pt")], capsys)
    assert code == 0
    assert "NaN" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no-such-file.pt"], "pinspect: no-such-file.pt: no such file or directory\n  check the spelling"),
        ([BAD], "cut_mlp.pt: cut at 800 bytes: at least 104 bytes are missing"),
        (["--nonsense", MLP], "pinspect: No such option"),
        ([], "Usage: pinspect"),
        (["inspect"], "pinspect: Missing argument 'MODEL...'"),
        ([MLP, "--sort", "color"], "is not one of"),
        ([MLP, "-o", "/no/such/folder/x.txt"], "No such file or directory"),
    ],
)
def test_what_cannot_be_done_gives_2_and_one_message(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_in_process(args, capsys)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err


def test_the_other_files_are_still_reported(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_in_process(["missing.pt", BAD, MLP], capsys)
    assert code == 2
    assert "26 in 4 tensors" in out
    assert err.count("pinspect: ") == 2


def test_a_fifo_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs on this system")
    os.mkfifo(tmp_path / "pipe.pt")
    code, _, err = run_in_process([str(tmp_path / "pipe.pt")], capsys)
    assert (code, "a FIFO" in err) == (2, True)


def test_an_empty_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_in_process([str(tmp_path)], capsys)
    assert code == 2
    assert "a directory without a model file" in err


def test_a_folder_gives_one_line_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.pt", "b.pt"):
        shutil.copy(MLP, tmp_path / name)
    (tmp_path / "below").mkdir()
    shutil.copy(FIXTURES / "mlp.safetensors", tmp_path / "below" / "c.safetensors")
    code, out, _ = run_in_process([str(tmp_path)], capsys)
    assert code == 0
    heading, _, _, rule, *rows = out.splitlines()
    assert heading == f"{tmp_path}{os.sep}  (3 files)"
    assert rule.startswith("-----")
    assert [row.split()[0] for row in rows[:3]] == ["a.pt", "b.pt", os.path.join("below", "c.safetensors")]


def test_a_hugging_face_folder_is_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_in_process([str(FIXTURES / "sharded")], capsys)
    assert code == 0
    assert "26 in 4 tensors" in out


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.weight"], {"fc1.weight", "fc2.weight"}),
        (["!*.weight"], {"fc1.bias", "fc2.bias"}),
        (["fc1.*", "fc2.*", "!*.bias"], {"fc1.weight", "fc2.weight"}),
        (["nothing*"], set()),
    ],
)
def test_filters_choose_tensors(patterns: list[str], expected: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    args = [MLP, "--format", "json", *(part for p in patterns for part in ("--filter", p))]
    code, out, _ = run_in_process(args, capsys)
    assert code == 0
    assert {t["name"] for t in json.loads(out)["files"][0]["tensors"]} == expected


def test_headers_only_reads_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_in_process([MLP, "--no-stats", "--format", "json"], capsys)
    assert all(t["stats"] is None for t in json.loads(out)["files"][0]["tensors"])


def test_the_json_object_has_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_in_process([MLP, "missing.pt", "--format", "json"], capsys)
    assert code == 2
    document = json.loads(out, parse_constant=pytest.fail)
    assert (document["schema"], document["command"]) == ("pinspect/1", "inspect")
    good, bad = document["files"]
    assert {
        "path", "format", "size", "error", "totals", "tensors", "metadata", "foreign", "findings",
    } <= good.keys()  # fmt: skip
    assert good["totals"]["by_dtype"] == {"f32": 26}
    assert {
        "name", "shape", "dtype", "kind", "numel", "nbytes", "alias_of", "stats",
    } <= good["tensors"][0].keys()  # fmt: skip
    assert {
        "mean", "std", "min", "max", "abs_max", "l2", "zeros", "nan", "posinf", "neginf", "first_nonfinite", "sampled",
    } <= good["tensors"][0]["stats"].keys()  # fmt: skip
    assert bad["error"]["code"] == "not-readable"
    assert bad["error"]["message"] == "no such file or directory"
    assert bad["totals"] is None


def test_json_lists_training_state_unfolded(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_in_process([str(FIXTURES / "lightning.ckpt"), "--format", "json"], capsys)
    assert len(json.loads(out)["files"][0]["tensors"]) == 18


def test_csv_has_one_line_a_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_in_process([MLP, "--format", "csv"], capsys)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [r["name"] for r in rows] == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
    assert rows[1]["shape"] == "4x3"


@pytest.mark.parametrize(("name", "begins"), [("r.json", "{"), ("r.csv", "path,"), ("r.md", "##"), ("r.txt", "/")])
def test_the_name_of_the_output_file_chooses_the_format(
    name: str, begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_in_process([MLP, "-o", str(tmp_path / name)], capsys)
    assert (code, out) == (0, "")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_quiet_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_in_process([MLP, "missing.pt", "--quiet"], capsys)
    assert (code, out) == (2, "")
    assert "missing.pt" in err


def pinspect(*args: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "inspectcli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_closed_pipe_is_no_error() -> None:
    process = pinspect(str(FIXTURES / "gpt2_tiny.safetensors"), "--format", "json")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0


#: `pinspect` whose main thread presses Ctrl-C at its third block of values. Each block that is read leaves a byte in
#: a file; after Ctrl-C, reads wait a moment, so that the count does not depend on which thread comes first.
INTERRUPTED = """
import os, signal, sys, threading, time
from inspectcli.cli import main
read, log, own, pressed = os.preadv, os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0, False
def preadv(fd, buffers, offset):
    global own, pressed
    if sum(map(len, buffers)) >= 1 << 16:
        os.write(log, b".")
        if threading.current_thread() is threading.main_thread():
            own += 1
            if own == 3:
                pressed = True
                os.kill(os.getpid(), signal.SIGINT)
        elif pressed:
            time.sleep(0.05)
    return read(fd, buffers, offset)
os.preadv = preadv
main(sys.argv[2:])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_ctrl_c_stops_at_once_and_quietly(tmp_path: Path) -> None:
    path, counted = tmp_path / "big.safetensors", tmp_path / "reads"
    save_file({f"w{i}": np.ones(1 << 21, np.float32) for i in range(16)}, path)
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(counted), str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
    assert 3 <= len(counted.read_text()) < 40  # of 8 x 16 blocks of 1 MiB, were it not for Ctrl-C


def test_version() -> None:
    import inspectcli

    process = pinspect("--version")
    assert process.communicate()[0].strip() == f"pinspect, version {inspectcli.__version__}"


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    "arguments",
    [["inspect", "none.pt"], ["check", "none.pt"], ["diff", "none.pt", "none.pt"], ["hparams", "none.pt"]],
    ids=lambda words: words[0],
)
def test_an_error_is_an_object_too(arguments: list[str], form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--format", form]) == 2
    document = yaml.safe_load(capsys.readouterr().out)  # JSON is YAML
    (error,) = [document["error"]] if "error" in document else [file["error"] for file in document["files"]]
    assert (document["schema"], document["command"], document["exit_code"]) == ("pinspect/1", arguments[0], 2)
    assert error["code"] == "not-readable"
    assert error["message"] == "no such file or directory"
    assert "hint" in error


def test_quiet_prints_no_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "none.pt", "none.pt", "--format", "json", "--quiet"]) == 2
    assert capsys.readouterr().out == ""
