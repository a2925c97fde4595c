"""What a fresh interpreter imports: the difference between a tenth of a second and two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"

PROBE = """
import json, sys
from inspectcli.cli import run
try:
    code = run(sys.argv[1:])
finally:
    print("\\n" + json.dumps(sorted({m.split(".")[0] for m in sys.modules})))
"""


def imported_by(*args: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("args", [("--help",), ("inspect", "--help"), ("--version",), ("no-such-file.pt",)])
def test_help_and_errors_import_nothing_heavy(args: tuple[str, ...]) -> None:
    assert not imported_by(*args) & {"numpy", "h5py", "rich", "tabulate", "numkong", "torch"}


def test_structure_alone_needs_no_arithmetic() -> None:
    got = imported_by(str(FIXTURES / "mlp.safetensors"), "--no-stats", "--format", "json")
    assert not got & {"numpy", "h5py", "numkong", "torch"}


@pytest.mark.parametrize("name", ["mlp.pt", "mlp.safetensors", "mlp_legacy.pt", "module.pt", "mlp_script.pt"])
def test_torch_is_never_imported(name: str) -> None:
    assert (FIXTURES / name).exists()
    assert not imported_by(str(FIXTURES / name)) & {"torch", "tensorflow", "keras", "safetensors"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, inspectcli; print(sorted(m.split('.')[0] for m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "click", "rich", "h5py", "torch"} & set(eval(out))
