"""Work grows in a straight line with the number of tensors: calls are counted, not seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.work import calls

import inspectcli
from inspectcli.commands.inspect.fold import fold

FEW, TIMES = 60, 4
#: Four times the tensors may take this many times the calls.
MOST = 5.0


def write(path: Path, names: list[str], seed: int) -> Path:
    """A safetensors file of 2 x 4 values a name; each tensor has values of its own."""
    values = np.random.default_rng(seed).normal(size=(len(names), 8)).astype("<f4")
    header = {
        name: {"dtype": "F32", "shape": [2, 4], "data_offsets": [32 * i, 32 * i + 32]} for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values.tobytes())
    return path


NAMES: dict[str, Callable[[int], str]] = {
    "one family": lambda i: f"layers.{i}.weight",
    "no family": lambda i: "".join(chr(97 + int(digit)) for digit in f"{i:05}") + ".weight",
    "experts by layers": lambda i: f"layers.{i % 4}.experts.{i // 4}.weight",
}


OTHERS: dict[str, Callable[[str], str]] = {
    "same names": lambda name: name,
    "same endings": lambda name: f"x_{name}",
    "unrelated names": lambda name: f"other_{name[::-1]}",
}


def inspect(a: Path, b: Path) -> None:
    report = inspectcli.inspect(a).files[0]
    fold(report.tensors)
    for row in report.tensors:
        assert report[row.name] is row
    checkpoint = inspectcli.open_checkpoint(a)
    assert all(checkpoint[ref.name] is ref for ref in checkpoint)


def check(a: Path, b: Path) -> None:
    inspectcli.check([a])


def diff(a: Path, b: Path) -> None:
    report = inspectcli.diff(a, b)
    assert all(report[row.a] is row for row in report.tensors if row.a)


@pytest.mark.parametrize("command", [inspect, check, diff], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("other", OTHERS)
def test_calls_grow_with_the_number_of_tensors(
    command: Callable[[Path, Path], None], kind: str, other: str, tmp_path: Path
) -> None:
    counts = []
    for n in (FEW, FEW, FEW * TIMES):  # the first run imports, and fills tables
        names = [NAMES[kind](i) for i in range(n)]
        a = write(tmp_path / "a.safetensors", names, 1)
        b = write(tmp_path / "b.safetensors", [OTHERS[other](name) for name in names], 2)
        counts.append(calls(lambda a=a, b=b: command(a, b)))  # type: ignore[misc]
    assert counts[2] <= MOST * counts[1]


def test_calls_grow_with_the_number_of_files(tmp_path: Path) -> None:
    counts = []
    for n in (FEW, FEW, FEW * TIMES):
        folder = tmp_path / f"{len(counts)}"
        folder.mkdir()
        paths = [write(folder / f"m{i}.safetensors", ["a.weight", "b.weight"], i) for i in range(n)]
        counts.append(calls(lambda paths=paths: inspectcli.check(paths)))  # type: ignore[misc]
        assert [file.path for file in inspectcli.check(paths).files] == [str(path) for path in paths]
    assert counts[2] <= MOST * counts[1]
