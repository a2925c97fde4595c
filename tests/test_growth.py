"""Work grows in a straight line with the number of tensors: calls are counted, not seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.work import calls

import inspectcli
from inspectcli.commands.check.view import CheckView, present_check
from inspectcli.commands.diff.run import Options
from inspectcli.commands.diff.trajectory import present_trajectory, trajectory
from inspectcli.commands.diff.view import View as DiffView
from inspectcli.commands.diff.view import present as present_diff
from inspectcli.commands.hparams.view import HParamsView, present_hparams
from inspectcli.commands.inspect.view import View, present
from inspectcli.display.blocks import Content, Report
from inspectcli.render import own_renderers

Command = Callable[[Path, Path], Report]

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


def inspect(a: Path, b: Path) -> Report:
    report = inspectcli.inspect(a)
    file = report.files[0]
    assert all(file[row.name] is row for row in file.tensors)
    checkpoint = inspectcli.open_checkpoint(a)
    assert all(checkpoint[ref.name] is ref for ref in checkpoint)
    return present(report, View())


def headers(a: Path, b: Path) -> Report:
    return present(inspectcli.inspect(a, stats=False), View(all_rows=True))


def check(a: Path, b: Path) -> Report:
    return present_check(inspectcli.check([a], select=["PI"]), CheckView(statistics=True, explain=True))


def diff(a: Path, b: Path) -> Report:
    report = inspectcli.diff(a, b)
    assert all(report[row.a] is row for row in report.tensors if row.a)
    return present_diff(report, DiffView(all_rows=True))


def hparams(a: Path, b: Path) -> Report:
    return present_hparams(inspectcli.read_hparams(a), HParamsView(all_rows=True))


def work(count: Callable[[Callable[[], object]], int], command: Command, a: Path, b: Path) -> dict[str, int]:
    """Calls of a command, and of each format that its reports have."""
    made: list[Report] = []
    counts = {"": count(lambda: made.append(command(a, b)))}
    draws = {Content.BLOCKS, Content.DOCUMENT} if command is not check else frozenset(Content) - {Content.RECORDS}
    for renderer in own_renderers():
        if renderer.draws in draws or (renderer.draws is Content.RECORDS and made[0].records):
            counts[renderer.name] = count(lambda r=renderer: sum(map(len, r.pieces(made[0]))))  # type: ignore[misc]
    return counts


def grows_in_a_straight_line(command: Command, problem: Callable[[Path, int], tuple[Path, Path]], folder: Path) -> None:
    made: list[dict[str, int]] = []
    for n in (FEW, FEW, FEW * TIMES):  # the first run imports, and fills tables
        own = folder / f"{len(made)}"
        own.mkdir()
        made.append(work(calls, command, *problem(own, n)))
    _, few, many = made
    assert {name: many[name] / count for name, count in few.items() if many[name] > MOST * count} == {}


@pytest.mark.parametrize("command", [inspect, headers, check, diff], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("other", OTHERS)
def test_calls_grow_with_the_number_of_tensors(command: Command, kind: str, other: str, tmp_path: Path) -> None:
    def problem(folder: Path, n: int) -> tuple[Path, Path]:
        names = [NAMES[kind](i) for i in range(n)]
        a = write(folder / "a.safetensors", names, 1)
        return a, write(folder / "b.safetensors", [OTHERS[other](name) for name in names], 2)

    if command is not diff and other != "same names":
        pytest.skip("B is not looked at")
    grows_in_a_straight_line(command, problem, tmp_path)


# -- files that are more than names and values -------------------------------------------------------------


def optimizer_state(folder: Path, n: int) -> tuple[Path, Path]:
    """Weights, and Adam's two figures and a counter of each."""
    paths = []
    for seed, path in enumerate((folder / "a.pt", folder / "b.pt")):
        torch.manual_seed(seed)
        model = {f"layers.{i}.weight": torch.randn(2, 4) for i in range(n)}
        state = {
            i: {"step": torch.tensor(5.0), "exp_avg": torch.randn(2, 4), "exp_avg_sq": torch.rand(2, 4)}
            for i in range(n)
        }
        groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "params": list(range(n))}]
        torch.save({"model": model, "optimizer": {"state": state, "param_groups": groups}}, path)
        paths.append(path)
    return paths[0], paths[1]


def tied_web(folder: Path, n: int) -> tuple[Path, Path]:
    """A few storages with many names each; in B the names go round."""
    stored = [torch.randn(2, 4) for _ in range(5)]
    torch.save({f"blocks.{i}.weight": stored[i % 5] for i in range(n)}, folder / "a.pt")
    torch.save({f"blocks.{i}.weight": stored[(i + 1) % 5] for i in range(n)}, folder / "b.pt")
    return folder / "a.pt", folder / "b.pt"


def equal_values(folder: Path, n: int) -> tuple[Path, Path]:
    """Copies: every tensor of both files has the same values, under unrelated names."""
    value = torch.randn(20, 20)
    torch.save({NAMES["no family"](i): value.clone() for i in range(n)}, folder / "a.pt")
    torch.save({OTHERS["unrelated names"](NAMES["no family"](i)): value.clone() for i in range(n)}, folder / "b.pt")
    return folder / "a.pt", folder / "b.pt"


def shards(folder: Path, n: int) -> tuple[Path, Path]:
    """Models of n files with two tensors each."""
    made = []
    for seed, name in enumerate(("a", "b")):
        (folder / name).mkdir()
        index = {}
        for i in range(n):
            names = [f"layers.{i}.a.weight", f"layers.{i}.b.weight"]
            file = write(folder / name / f"model-{i + 1:05}-of-{n:05}.safetensors", names, 1000 * seed + i)
            index.update(dict.fromkeys(names, file.name))
        text = json.dumps({"metadata": {"total_size": 64 * n}, "weight_map": index})
        (folder / name / "model.safetensors.index.json").write_text(text)
        made.append(folder / name)
    return made[0], made[1]


@pytest.mark.parametrize("command", [inspect, headers, check, diff], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "problem", [optimizer_state, tied_web, equal_values, shards], ids=lambda f: f.__name__.replace("_", " ")
)
def test_calls_grow_with_what_a_checkpoint_holds(
    command: Command, problem: Callable[[Path, int], tuple[Path, Path]], tmp_path: Path
) -> None:
    grows_in_a_straight_line(command, problem, tmp_path)


def hyperparameters(folder: Path, n: int) -> tuple[Path, Path]:
    """A config of n keys of its own, and some that everybody knows."""
    known = {"learning_rate": 0.1, "batch_size": 8, "weight_decay": 0.01}
    path = folder / "config.json"
    path.write_text(json.dumps({**known, "layers": {f"block_{i}": {"rate": i, "lr": i / 7} for i in range(n)}}))
    return path, path


def trials(folder: Path, n: int) -> tuple[Path, Path]:
    """n candidates that nevergrad tried."""
    lines = [{"lr": i / 7, "dim": i, "#parametrization": "Dict", "#loss": 1 / (i + 1)} for i in range(n)]
    path = folder / "log.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, path


def runs(folder: Path, n: int) -> tuple[Path, Path]:
    """A folder of n folders with a config each."""
    for i in range(n):
        (folder / f"run{i}").mkdir()
        (folder / f"run{i}" / "config.yaml").write_text(f"learning_rate: {i / 7}\nbatch_size: {i}\n")
    return folder, folder


@pytest.mark.parametrize("problem", [hyperparameters, trials, runs], ids=lambda f: f.__name__)
def test_calls_grow_with_the_number_of_hyperparameters(
    problem: Callable[[Path, int], tuple[Path, Path]], tmp_path: Path
) -> None:
    grows_in_a_straight_line(hparams, problem, tmp_path)


def steps(folder: Path, n: int) -> tuple[Path, Path]:
    """n checkpoints of one run."""
    for i in range(n):
        write(folder / f"step-{i}.safetensors", ["a.weight", "b.weight"], i)
    return folder, folder


def of_files(a: Path, b: Path) -> Report:
    paths = [str(path) for path in sorted(a.iterdir())]
    report = inspectcli.check(paths)
    assert [file.path for file in report.files] == paths
    return present_check(report, CheckView())


def overview(a: Path, b: Path) -> Report:
    return present(inspectcli.inspect(sorted(a.iterdir())), View(brief=True))


def of_a_run(a: Path, b: Path) -> Report:
    return present_trajectory(trajectory(str(a), Options()))


@pytest.mark.parametrize("command", [overview, of_files, of_a_run], ids=lambda f: f.__name__)
def test_calls_grow_with_the_number_of_files(command: Command, tmp_path: Path) -> None:
    grows_in_a_straight_line(command, steps, tmp_path)
