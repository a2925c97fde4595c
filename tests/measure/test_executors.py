"""Whoever runs the tasks, the report is the same to the last bit: threads, and processes that reopen the file."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.negatives import Negatives
from support.places import FIXTURES

import inspectcli
from inspectcli.errors import PinspectError
from inspectcli.measure import workers
from inspectcli.measure.plan import FIGURES, plan
from inspectcli.measure.scan import scan

MODELS = [
    path
    for path in sorted([*FIXTURES.iterdir(), *(FIXTURES / "damaged").iterdir()])
    if path.name not in ("README.md", "expected.json", "make_fixtures.py", "damaged")
]


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@cache
def report_of(path: Path) -> str:
    """All that is said of a file, floats to the last bit."""
    return repr(inspectcli.inspect(path))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_give_one_report(path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_WORTH_THREADS", 0)
    monkeypatch.setattr(workers, "_MOST_THREADS", threads)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 2)
    assert repr(inspectcli.inspect(path)) == report_of(path)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_processes_give_the_same_report(path: Path, processes: Executor) -> None:
    assert repr(inspectcli.inspect(path, executor=processes)) == report_of(path)


@pytest.mark.skipif(not hasattr(multiprocessing.context, "ForkContext"), reason="no fork on this system")
def test_forked_workers_leave_our_hdf5_processes_alone() -> None:
    pytest.importorskip("h5py")
    checkpoint = inspectcli.open_checkpoint(FIXTURES / "other.h5")  # a child of ours has it open
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        found = [repr(inspectcli.inspect(FIXTURES / "other.h5", executor=executor)) for _ in range(3)]
    assert found == [report_of(FIXTURES / "other.h5")] * 3
    assert all(scanned.problem == "" for scanned in scan(checkpoint))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_a_task_travels_without_an_open_file(path: Path) -> None:
    try:
        checkpoint = inspectcli.open_checkpoint(path)
    except PinspectError:
        return
    tasks = list(plan(enumerate(checkpoint.tensors), checkpoint.checksums, FIGURES))
    for task, back in zip(tasks, pickle.loads(pickle.dumps(tasks)), strict=True):
        assert [item.ref.name for item in back.items] == [item.ref.name for item in task.items]
        assert (back.nbytes, back.measurements) == (task.nbytes, task.measurements)


def test_a_bad_tensor_is_the_problem_of_one_tensor_in_another_process_too(tmp_path: Path, processes: Executor) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: np.ones(1 << 19, np.float32) for name in "abc"}, path)
    checkpoint = inspectcli.open_checkpoint(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8)
    assert [(s.ref.name, bool(s.problem)) for s in scan(checkpoint, executor=processes)] == [
        ("a", False),
        ("b", False),
        ("c", True),
    ]


def test_progress_adds_up_to_the_bytes_of_the_tensors(tmp_path: Path, processes: Executor) -> None:
    path = tmp_path / "model.safetensors"
    save_file({f"t{i}": np.ones(1000 * i, np.float32) for i in range(1, 9)}, path)
    told: list[int] = []
    list(scan(inspectcli.open_checkpoint(path), progress=told.append, executor=processes))
    assert sum(told) == 4 * 36_000


def test_a_measurement_of_ones_own_runs_in_another_process(tmp_path: Path, processes: Executor) -> None:
    x = np.random.default_rng(0).normal(size=(1000, 30)).astype(np.float32)
    save_file({"x": x}, tmp_path / "x.safetensors")
    (found,) = scan(inspectcli.open_checkpoint(tmp_path / "x.safetensors"), (Negatives,), executor=processes)
    assert found.get(Negatives) == int((x < 0).sum())
