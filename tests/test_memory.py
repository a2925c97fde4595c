"""Memory does not grow with the size of a tensor: the peak of a fresh process, measured by the system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MIB = 1 << 20

# What getrusage gives counts from before exec: the peak of pytest, which started the process.
PROBE = """
import json, re, sys
import inspectcli
report = inspectcli.check(sys.argv[1])
peak = 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
print(json.dumps([peak, [[f.code, f.tensor, dict(f.figures)] for f in report.findings]]))
"""


def write(path: Path, rows: int, columns: int, dead: list[int]) -> None:
    """A safetensors file of one matrix, written some rows at a time."""
    header = json.dumps(
        {"fc.weight": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, 4 * rows * columns]}}
    )
    some = np.random.default_rng(0).normal(0, 0.02, (64, columns)).astype("<f4")
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        for first in range(0, rows, 64):
            part = some[: rows - first].copy()
            part[[row - first for row in dead if first <= row < first + 64]] = 0
            file.write(part.tobytes())


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("rows", [8192, 8200])
def test_dead_rows_of_a_large_matrix_are_found_in_little_memory(rows: int, tmp_path: Path) -> None:
    dead = [0, 1, 100, 4000, 4001, 8000, 8100, 8191]
    path = tmp_path / "model.safetensors"
    write(path, rows, 8192, dead)
    done = subprocess.run([sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=True)
    peak, findings = json.loads(done.stdout)
    # Its rows are the same 64 over and over.
    assert findings == [
        ["PI207", "fc.weight", {"axis": 0, "count": 8, "indices": dead}],
        ["PI208", "fc.weight", {"rows": rows - 8, "different": 64}],
    ]
    assert peak < 80 * MIB
