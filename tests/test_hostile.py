"""Hostile and damaged files of our own: nothing in them runs, each is told as it is, honest twins raise no alarm."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.audited import FORMATS
from support.places import FIXTURES

import inspectcli
from inspectcli.cli import run

HOSTILE = FIXTURES / "hostile"
FILES, HONEST = HOSTILE / "files", HOSTILE / "honest"


class Told(NamedTuple):
    """What `pinspect` says of a file.

    Attributes:
        exit_code: 0 read, 1 read and would act when loaded, 2 refused.
        code: of a finding, or of the error if it is refused.
        words: in the message of that finding or error.
        live: what runs the payload when it loads the file: the file is what it claims to be.
    """

    exit_code: int
    code: str
    words: str
    live: str = ""


SYSTEM = "os.system would be called with 'test -n"
KERAS_LAMBDA = "a Lambda layer is Python code, which a loader would run: 'act'"

EXPECTED = {
    # -- pickles that call
    "global.bin": Told(1, "PI501", SYSTEM, "pickle"),
    "stack_global_eval.ckpt": Told(1, "PI501", "builtins.eval would be called", "pickle"),
    "names_from_memo.pkl": Told(1, "PI501", SYSTEM, "pickle"),
    "inst.pkl": Told(1, "PI501", SYSTEM, "pickle"),
    "obj_thrown_away.pkl": Told(1, "PI501", SYSTEM, "pickle"),
    "newobj_ex.pkl": Told(1, "PI501", "subprocess.Popen would be called with 'sh'"),
    "build_setstate.pkl": Told(1, "PI501", "__setstate__ of an object would be replaced", "pickle"),
    "extension.pkl": Told(1, "PI501", "copyreg.add_extension would be called with 'os'", "pickle"),
    "dotted_name.pkl": Told(1, "PI501", "pathlib.os.system would be called", "pickle"),
    "after_the_end.pkl": Told(1, "PI501", SYSTEM),
    "pickle_in_a_pickle.pkl": Told(1, "PI501", "pickle.loads would be called", "pickle"),
    "somebody_s_class.pkl": Told(1, "PI501", "pinspect_payload.shell.run, a function we do not know"),
    "broken_after_the_call.pkl": Told(2, "damaged", "is no opcode: found 0xff", "pickle"),
    # -- in torch's containers
    "in_nested_tuples.pt": Told(1, "PI501", SYSTEM, "torch"),
    "stream_object.pth": Told(1, "PI501", SYSTEM, "torch"),
    "stream_keys.pth": Told(2, "damaged", "the list of storages is no list", "torch"),
    "tar.pt": Told(1, "PI501", SYSTEM, "torch"),
    "pickle_before_zip.pt": Told(1, "PI501", SYSTEM, "pickle"),
    # -- in NumPy's
    "objects.npy": Told(1, "PI501", "an array of Python objects is a pickle", "numpy"),
    "objects.npz": Told(1, "PI501", "an array of Python objects is a pickle", "numpy"),
    "code_in_the_header.npy": Told(2, "damaged", "a NumPy header without type, shape or order"),
    # -- Keras and HDF5
    "lambda.keras": Told(1, "PI503", KERAS_LAMBDA),
    "lambda_inside.keras": Told(1, "PI503", KERAS_LAMBDA),
    "lambda_keras_2.h5": Told(1, "PI503", KERAS_LAMBDA),
    "function_of_os.keras": Told(1, "PI503", "os.system would be imported and called by a loader"),
    "links_outside.h5": Told(1, "PI504", "a loader would read another file, '../outside/outside-7c1e.h5:/secret'"),
    "stored_outside.h5": Told(2, "PI504", "a loader would read another file, '../outside/secret.txt'"),
    "stored_outside.keras": Told(2, "PI504", "a loader would read another file, '../outside/secret.txt'"),
    "index": Told(2, "unsafe", "the index names a file outside its folder"),
    # -- zips that two readers read in two ways
    "two_end_records.pt": Told(2, "unsafe", "two end records"),
    "overlap.pt": Told(2, "unsafe", "'archive/data/2' overlaps what follows it"),
    "path.pt": Told(2, "unsafe", "would be unpacked outside its folder"),
    "name_twice.pt": Told(2, "unsafe", "holds 'archive/data.pkl' twice"),
    "other_local_name.pt": Told(2, "unsafe", "calls itself 'archive/data.pkX' in its local header"),
    "symbolic_link.pt": Told(2, "unsafe", "'archive/data/2' is a symbolic link"),
    # -- numbers that lie
    "bomb.pt": Told(2, "limit", "would inflate 1,028 times: a zip bomb"),
    "promised_bytes.pkl": Told(2, "truncated", "has no end: the file is cut"),
    "memo_of_billions.pkl": Told(2, "no-checkpoint", "a pickle without tensors"),
    "nested_lists.pkl": Told(2, "no-checkpoint", "a pickle without tensors"),
    "storage_too_short.pt": Told(2, "damaged", "is 24 bytes in the archive, 4,000,000 according to the pickle"),
    "shape_of_2_to_60.pt": Told(2, "damaged", "reaches 4,611,686,018,427,387,904 bytes into a storage of 24 bytes"),
    "shape_of_2_to_60.npy": Told(2, "truncated", "4,611,686,018,427,387,840 bytes are missing"),
    "header_past_the_end.safetensors": Told(2, "truncated", "the header needs 1,048,576 bytes"),
    "header_of_2_to_64.safetensors": Told(2, "limit", "at most 100,000,000 are allowed"),
    "overlap.safetensors": Told(2, "damaged", "'b' overlaps the one before it"),
    "hole.safetensors": Told(2, "damaged", "'b' leaves a hole before it"),
    "name_twice.safetensors": Told(2, "damaged", "names 'w' twice"),
    "shape_of_2_to_64.safetensors": Told(2, "damaged", "a shape that no memory can hold"),
    "nested.safetensors": Told(2, "limit", "nested more than 100 levels deep"),
    "digits.safetensors": Told(2, "damaged", "a number of 9,000 digits"),
    "cut.h5": Told(2, "truncated", "bytes are missing at the end: found 900"),
    # -- names
    "names_that_hide.safetensors": Told(0, "PI505", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "names_that_command.safetensors": Told(0, "PI505", "U+001B control character"),
}


def test_the_table_names_each_file() -> None:
    assert sorted(EXPECTED) == sorted(path.name for path in FILES.iterdir())


def test_the_files_are_those_that_make_fixtures_writes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_hostile", FIXTURES / "make_hostile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {path.relative_to(tmp_path): path.stat().st_size for path in module.write(tmp_path)}
    assert set(written) == {path.relative_to(HOSTILE) for path in HOSTILE.rglob("*") if path.is_file()}
    assert max(written.values()) < 20_000


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_file_is_told_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = EXPECTED[name]
    assert run([str(FILES / name), "--format", "json"]) == told.exit_code
    assert "Traceback" not in "".join(capsys.readouterr())
    (report,) = inspectcli.inspect(FILES / name).files
    messages = [(f.code, f.message) for f in report.findings]
    if report.error is not None:
        messages.append((report.error.code, report.error.message))
    assert [m for code, m in messages if code == told.code and told.words in m], messages


@pytest.mark.parametrize("name", EXPECTED)
def test_check_fails_on_all_but_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(FILES / name), "--quiet"]) == EXPECTED[name].exit_code
    assert run(["check", str(FILES / name), "--fail-on", "warning"]) == (EXPECTED[name].exit_code or 1)


@pytest.mark.parametrize("path", sorted(HONEST.iterdir()), ids=lambda path: path.name)
def test_an_honest_twin_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = inspectcli.inspect(path).files
    told = [f.code for f in report.findings if f.code != "PI429"]  # what torch refuses by default is a note
    assert (report.error, report.hazards, told, report.foreign) == (None, (), [], ())
    assert report.tensors
    assert run(["check", str(path), "--fail-on", "note", "--ignore", "PI429"]) == 0
    assert run([str(path)]) == 0


#: Loads each file with the library that would run its payload, and prints those that left the mark.
LOADER = """
import json, os, sys, pickle, warnings
import numpy, torch
warnings.simplefilter("ignore")
def npz(path):
    with numpy.load(path, allow_pickle=True) as loaded:
        return {name: loaded[name] for name in loaded} if path.endswith("z") else loaded
loaders = {
    "pickle": lambda path: pickle.load(open(path, "rb")),
    "torch": lambda path: torch.load(path, weights_only=False),
    "numpy": lambda path: npz(path) if path.endswith("z") else numpy.load(path, allow_pickle=True),
}
mark, acted = os.environ["PINSPECT_MARK"], []
for path, loader in json.loads(sys.argv[1]):
    try:
        loaders[loader](path)
    except Exception:
        pass
    if os.path.exists(mark):
        os.remove(mark)
        acted.append(os.path.basename(path))
print(json.dumps(acted))
"""


@pytest.mark.skipif(os.name != "posix", reason="the payloads are commands of a POSIX shell")
def test_the_payloads_act_when_a_library_loads_them(tmp_path: Path) -> None:
    live = {name: told.live for name, told in EXPECTED.items() if told.live}
    jobs = json.dumps([(str(FILES / name), loader) for name, loader in live.items()])
    environment = {**os.environ, "PINSPECT_MARK": str(tmp_path / "mark")}
    done = subprocess.run([sys.executable, "-c", LOADER, jobs], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == list(live)


# -- no command does anything but read --------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name == "diff")) for name in FORMATS],
)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the audit hook saw, and what was printed, for each hostile file in each format of one command."""
    folder = tmp_path_factory.mktemp("watched")
    environment = {**os.environ, "PINSPECT_MARK": str(folder / "mark"), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    names = ("words_as_text.pkl", "stream.pth", "dense.keras", "numbers.npz", "padded.safetensors")
    honest = [str(HONEST / name) for name in names]
    command = [sys.executable, str(FIXTURES.parent / "tests" / "support" / "audited.py"), request.param]
    done = subprocess.run(
        [*command, str(FILES), *honest, str(FIXTURES / "damaged" / "cut_mlp.pt")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


def test_nothing_is_imported_run_written_or_connected(watched: Any) -> None:
    assert len(watched["runs"]) >= 5 * len(EXPECTED)
    assert watched["events"] == []


def test_nothing_outside_is_read(watched: Any) -> None:
    # libhdf5 opens files without telling Python: what it read would be seen in the report.
    named = re.compile(r"outside-7c1e(?!\.(h5|safetensors))")
    assert [run[:2] for run in watched["runs"] if named.search(run[3] + run[4])] == []


def test_no_run_ends_in_a_traceback(watched: Any) -> None:
    assert [run[:2] for run in watched["runs"] if re.search("Traceback|this is a bug", run[3] + run[4])] == []
    assert {run[2] for run in watched["runs"]} <= {0, 1, 2}


#: Controls but the line feed, direction marks, separators and what takes no room.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069]")
FORGED = {
    "markdown": re.compile(r"^# heading|(?<!\\)!\[x\]|<script>", re.MULTILINE),
    "github": re.compile(r"^::error::forged", re.MULTILINE),
}


def test_names_are_inert_in_every_format(watched: Any) -> None:
    for entry, form, _, out, err in watched["runs"]:
        assert not RAW.search(out + err), (entry, form)
        if form in FORGED:
            assert not FORGED[form].search(out), (entry, form)
        if form == "json":
            json.loads(out, parse_constant=pytest.fail)
        if form == "csv":
            cells = [cell for row in csv.reader(io.StringIO(out)) for cell in row]
            assert [cell for cell in cells if cell.startswith("=")] == [], entry
