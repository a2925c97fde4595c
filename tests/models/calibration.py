"""How true the verdicts are: new models, trained ones with a frozen layer, planted faults, counted against truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from models import faults, zoo
from models.drawn import Drawn
from torch import nn

from inspectcli.analysis.facts import InitMatch, Strength
from inspectcli.commands.inspect.result import FileReport
from inspectcli.commands.inspect.run import inspect_path

#: Fewest values of which the figures speak.
LEAST = 64
#: Lower ends of the sizes of the table.
SIZES = (64, 1024, 4096, 262144)
#: What a new model may be told: memory that a library left as it was, a new adapter, an underflow.
_FAIR = {"PI101", "PI303", "PI104"}


class Said(NamedTuple):
    """One drawn tensor of a new model, and what was said of it: right, unknown, moved, family, or nothing."""

    library: str
    dtype: str
    size: int
    family: str
    answer: str


class NewModel(NamedTuple):
    """Whether a new model was called trained, and the errors and warnings that it was given."""

    architecture: str
    dtype: str
    said: tuple[Said, ...]
    is_trained: bool
    alarms: tuple[str, ...]


class Frozen(NamedTuple):
    """A layer that was frozen in a trained model, and what was said of it and of the others."""

    kind: str
    is_found: bool
    others: int


class FaultCount(NamedTuple):
    fault: str
    files: int
    found: int


def answer(drawn: Drawn, verdict: InitMatch | None) -> str:
    """In one word; `family` if another family was named than the one that was drawn."""
    if verdict is None:
        return "nothing"
    if verdict.strength in (Strength.MOVED, Strength.UNKNOWN):
        return str(verdict.strength)
    return "right" if verdict.family == drawn.family else "family"


def new_model(architecture: str, dtype: str, folder: Path) -> NewModel:
    fresh = zoo.write(architecture, dtype, folder)
    report = inspect_path(str(fresh.path))
    library, _ = zoo.ARCHITECTURES[architecture]
    said = []
    for row in report.tensors:
        drawn, size = fresh.drawn.get(row.name), _numel(row.shape)
        if drawn is not None and len(row.shape) > 1 and size >= LEAST:
            said.append(Said(library, dtype, max(s for s in SIZES if s <= size), drawn.family, answer(drawn, row.init)))
    is_trained = report.trained is not None and report.trained.is_trained
    return NewModel(architecture, dtype, tuple(said), is_trained, tuple(c for c in alarms(report) if c not in _FAIR))


def alarms(report: FileReport) -> list[str]:
    """Codes of errors and warnings."""
    return [f.code for f in report.findings if str(f.severity) != "note"]


#: Ways to draw a layer that is then frozen.
FROZEN: Mapping[str, Callable[[torch.Tensor], object]] = {
    "PyTorch default": lambda w: None,
    "He normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "Xavier normal": nn.init.xavier_normal_,
    "Xavier uniform": nn.init.xavier_uniform_,
    "N(0, 0.02)": partial(nn.init.normal_, std=0.02),
    "N(0, 0.03)": partial(nn.init.normal_, std=0.03),
    "N(0, 0.02), cut": partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04),
    "U(±0.1)": partial(nn.init.uniform_, a=-0.1, b=0.1),
    "orthogonal": nn.init.orthogonal_,
}


def frozen(kind: str, folder: Path) -> Frozen:
    """Train four layers on what another network does, the third of them frozen."""
    torch.manual_seed(0)
    sizes = (48, 96, 96, 96, 32)
    layers = [nn.Linear(n, m) for n, m in pairwise(sizes)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.ReLU(), layers[3])
    FROZEN[kind](layers[2].weight.detach())
    layers[2].requires_grad_(False)
    goal = torch.randn(48, 32)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(150):
        x = torch.randn(64, 48)
        optimizer.zero_grad()
        (model(x) - (x @ goal).tanh()).square().mean().backward()
        optimizer.step()
    path = folder / "model.pt"
    torch.save(model.state_dict(), path)
    report = inspect_path(str(path))
    as_drawn = {row.name for row in report.tensors if row.init and row.init.is_as_drawn and len(row.shape) > 1}
    return Frozen(kind, "4.weight" in as_drawn, len(as_drawn - {"4.weight"}))


def trained(folder: Path) -> Iterator[tuple[str, bool, list[str]]]:
    """Yield the name of a trained model, whether it is called so, and its alarms."""
    for name in faults.TASKS:
        path = folder / f"{name}.pt"
        torch.save(faults.trained(name).state, path)
        report = inspect_path(str(path))
        yield name, report.trained is not None and report.trained.is_trained, alarms(report)


def fault_counts(folder: Path) -> Iterator[FaultCount]:
    files, found = Counter[str](), Counter[str]()
    for name in faults.TASKS:
        for planted in faults.planted(name):
            path = folder / "faulty.pt"
            torch.save(planted.state, path)
            files[planted.fault] += 1
            found[planted.fault] += planted.code in {f.code for f in inspect_path(str(path)).findings}
    yield from (FaultCount(fault, count, found[fault]) for fault, count in files.items())


def _numel(shape: Iterable[int]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
