"""Each planted fault is found by its code, on every architecture; the trained models themselves are silent.

`python tests/analysis/health/test_faults.py` prints the confusion table.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ["KERAS_BACKEND"] = "torch"
pytest.importorskip("keras")

import torch
from models import faults
from models.faults import ADAPTED, TASKS, Planted

from inspectcli.commands.inspect.run import inspect_path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RuleHit = tuple[str, str, str | None, str]


class Trial(NamedTuple):
    """One file with one fault, and what was reported of it: (code, severity, tensor, message)."""

    architecture: str
    planted: Planted
    found: tuple[RuleHit, ...]

    @property
    def is_found(self) -> bool:
        return any(code == self.planted.code and tensor == self.planted.tensor for code, _, tensor, _ in self.found)

    @property
    def others(self) -> tuple[RuleHit, ...]:
        return tuple(f for f in self.found if (f[0], f[2]) != (self.planted.code, self.planted.tensor))


def found_in(path: Path) -> tuple[RuleHit, ...]:
    report = inspect_path(str(path))
    assert report.error is None
    return tuple((f.code, f.severity.value, f.tensor, f.message) for f in report.findings)


def loud(found: tuple[RuleHit, ...]) -> list[RuleHit]:
    return [f for f in found if f[1] != "note"]


def _saved(content: object, folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save(content, path)
    return path


def trials(architecture: str, folder: Path) -> Iterator[Trial]:
    if architecture == "keras":
        yield from (Trial(architecture, planted, found_in(path)) for planted, path in faults.keras_planted(folder))
        return
    for planted in faults.planted(architecture):
        yield Trial(architecture, planted, found_in(_saved(planted.state, folder)))
    for planted, checkpoint in faults.in_optimizer(faults.trained(architecture)):
        yield Trial(architecture, planted, found_in(_saved(checkpoint, folder)))


def untouched(folder: Path) -> Iterator[tuple[str, tuple[RuleHit, ...]]]:
    """The trained models without a fault, as weights and as checkpoints."""
    for name in TASKS:
        made = faults.trained(name)
        yield name, found_in(_saved(made.state, folder))
        yield f"{name}, checkpoint", found_in(_saved(made.checkpoint, folder))
    for name in ADAPTED:
        yield f"{name}, adapted", found_in(_saved(faults.adapted(name).state, folder))
    path = folder / "model.keras"
    faults.keras_trained().save(path)
    yield "keras", found_in(path)


def test_healthy_trained_models_are_silent(tmp_path: Path) -> None:
    assert {name: loud(found) for name, found in untouched(tmp_path) if loud(found)} == {}


@pytest.mark.parametrize("architecture", [*TASKS, "keras"])
def test_each_fault_is_found_and_no_other_error_or_warning(architecture: str, tmp_path: Path) -> None:
    made = list(trials(architecture, tmp_path))
    assert len({trial.planted.fault for trial in made}) >= 9
    missed = [(t.planted.fault, t.planted.tensor, t.found) for t in made if not t.is_found]
    more = [(t.planted.fault, t.planted.tensor, loud(t.others)) for t in made if loud(t.others)]
    assert (missed, more) == ([], [])


def _table(made: list[Trial]) -> Iterator[str]:
    codes = sorted({code for trial in made for code, *_ in trial.found})
    yield f"{'fault':20} {'code':6} {'files':>5} {'arch.':>5} {'found':>5} {'alone':>5}  {' '.join(codes)}"
    for fault in dict.fromkeys(trial.planted.fault for trial in made):
        of = [trial for trial in made if trial.planted.fault == fault]
        counts = Counter(code for trial in of for code in {f[0] for f in trial.found})
        architectures = len({trial.architecture for trial in of})
        found, alone = sum(t.is_found for t in of), sum(t.is_found and not t.others for t in of)
        cells = " ".join(f"{counts[code] or '.':>5}" for code in codes)
        yield f"{fault:20} {of[0].planted.code:6} {len(of):>5} {architectures:>5} {found:>5} {alone:>5}  {cells}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        lines = [f"{name:24} {found or 'silent'}" for name, found in untouched(here)]
        every = [t for a in sys.argv[1:] or [*TASKS, "keras"] for t in trials(a, here)]
    lines += _table(every)
    for t in every:
        if not t.is_found or t.others:
            lines.append(
                f"{t.architecture} {t.planted.fault} {t.planted.tensor}: {'' if t.is_found else 'MISSED '}{t.others}"
            )
    sys.stdout.write("\n".join(lines) + "\n")
