"""The smaller tools: a run of each as the tool writes it, damage, and the tool itself where it is installed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.stores import by_key, by_name, claimed, read, truncations
from support.trackers_store import a_comet, a_neptune, a_nevergrad, a_smac, an_ax, clearml_task, written, zipped

from inspectcli.errors import PinspectError
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import ax, clearml, comet, guild, neptune, nevergrad, sacred, smac, trackio


def a_clearml(tmp: Path) -> Path:
    return written(tmp / "task.json", json.dumps(clearml_task()))


def a_zipped_clearml(tmp: Path) -> Path:
    return zipped(tmp / "offline-1.zip", task__json=json.dumps(clearml_task()), log__jsonl="")


def a_guild(tmp: Path) -> Path:
    for name, lr, started in (("aaa", 0.1, "2"), ("bbb", 0.5, "1")):
        attributes = tmp / "runs" / name / ".guild" / "attrs"
        for key, text in (("flags", f"lr: {lr}\nn_layers: 3\n"), ("exit_status", "0"), ("started", started)):
            written(attributes / key, text)
        for key in ("cmd", "id", "initialized"):
            written(attributes / key, "x")
    return tmp / "runs"


def a_sacred(tmp: Path) -> Path:
    for number, lr, status in ((2, 0.5, "COMPLETED"), (10, 0.1, "COMPLETED"), (11, 0.7, "FAILED")):
        run = tmp / "runs" / str(number)
        written(run / "config.json", json.dumps({"lr": lr, "model": {"n_layers": 3}}))
        written(run / "run.json", json.dumps({"status": status}))
        written(run / "cout.txt", "")
    return tmp / "runs"


def a_trackio(tmp: Path) -> Path:
    db = sqlite3.connect(tmp / "p.db")
    config = json.dumps({"lr": 0.1, "model": {"n_layers": 3}, "_Username": "u"})
    db.executescript(
        f"""
        CREATE TABLE metrics (id INTEGER, run_name TEXT, step INTEGER, metrics TEXT);
        CREATE TABLE system_metrics (id INTEGER, run_name TEXT, metrics TEXT);
        CREATE TABLE configs (id INTEGER, run_id TEXT, run_name TEXT, config TEXT);
        INSERT INTO configs VALUES (1, 'i', 'r1', '{{"lr": 0.5}}'), (2, 'j', 'r2', CAST('{config}' AS BLOB));
        """
    )
    db.close()
    return tmp / "p.db"


STORES: list[tuple[ModuleType, Callable[[Path], Path]]] = [
    (comet, a_comet), (neptune, a_neptune), (clearml, a_clearml), (clearml, a_zipped_clearml), (guild, a_guild),
    (sacred, a_sacred), (trackio, a_trackio), (nevergrad, a_nevergrad), (ax, an_ax), (smac, a_smac),
]  # fmt: skip


@pytest.mark.parametrize(("module", "write"), STORES)
def test_what_was_set(tmp_path: Path, module: ModuleType, write: Callable[[Path], Path]) -> None:
    store = read(module, write(tmp_path))
    static = {name: value for name, value in by_name(store).items() if not name.endswith(".current")}
    assert static == {"learning_rate": 0.1, "num_layers": 3}
    assert {row.source.tool for row in store.rows} == {module.TOOL}


@pytest.mark.parametrize(
    ("module", "write"), [pair for pair in STORES if pair[1] not in (a_neptune, a_guild, a_sacred)]
)
def test_every_truncation(tmp_path: Path, module: ModuleType, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    for data in truncations(path.read_bytes(), 50):
        path.write_bytes(data)
        try:
            if claimed(module, path):
                read(module, path)
        except PinspectError:
            pass


@pytest.mark.parametrize(("module", "write"), STORES)
def test_nobody_else_claims_it(tmp_path: Path, module: ModuleType, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    for other in {pair[0] for pair in STORES} - {module}:
        assert not claimed(other, path)


def test_where_it_stands(tmp_path: Path) -> None:
    made = {}
    for module, write in STORES:
        folder = tmp_path / f"{module.TOOL}-{write.__name__}"
        folder.mkdir()
        (row,) = (row for row in read(module, write(folder)).rows if row.name == "learning_rate")
        made[write.__name__] = (row.raw_key, row.source.locator)
    assert made == {
        "a_comet": ("lr", "messages.json:parameter_msg"),
        "a_neptune": ("p/lr", "AssignFloat"),
        "a_clearml": ("lr", "hyperparams.General"),
        "a_zipped_clearml": ("lr", "task.json:hyperparams.General"),
        "a_guild": ("lr", ""),
        "a_sacred": ("lr", ""),
        "a_trackio": ("lr", "configs[run_name=r2].config"),
        "a_nevergrad": ("lr", "[1]"),
        "an_ax": ("lr", "experiment.trials.1.generator_run.arms[0].parameters"),
        "a_smac": ("lr", "configs.2"),
    }


def test_current_values(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    assert by_name(read(comet, a_comet(tmp_path)))["step.current"] == 9
    assert by_name(read(neptune, a_neptune(tmp_path / "n")))["learning_rate.current"] == 0.05


def test_a_folder_of_smac_is_its_history(tmp_path: Path) -> None:
    path = a_smac(tmp_path)
    written(tmp_path / "scenario.json", '{"seed": 3, "_meta": {"model": {"n_estimators": 10}}}')
    store = read(smac, tmp_path)
    assert by_name(store) == {"learning_rate": 0.1, "num_layers": 3}
    assert store.files == (str(path),)


def test_text_stays_text_where_its_type_is_recorded(tmp_path: Path) -> None:
    assert by_key(read(clearml, a_clearml(tmp_path)))["note"] == "7"


@pytest.mark.parametrize(
    ("module", "write", "wanted"),
    [
        (guild, a_guild, Selection(run="bbb")),
        (sacred, a_sacred, Selection(run="2")),
        (trackio, a_trackio, Selection(run="r1")),
        (nevergrad, a_nevergrad, Selection(trial="0")),
        (ax, an_ax, Selection(trial="0")),
        (smac, a_smac, Selection(trial="1")),
    ],
)
def test_one_that_was_asked_for(
    tmp_path: Path, module: ModuleType, write: Callable[[Path], Path], wanted: Selection
) -> None:
    assert by_name(read(module, write(tmp_path), wanted))["learning_rate"] == 0.5


def test_a_broken_run_is_a_note(tmp_path: Path) -> None:
    runs = a_sacred(tmp_path)
    (runs / "10" / "config.json").write_text("{")
    store = read(sacred, runs)
    assert by_name(store)["learning_rate"] == 0.5
    assert store.notes[0].startswith("10/config.json: config.json is not JSON")


def test_a_zip_bomb_in_a_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", experiment__json="{}", messages__json=" " * (40 << 20))
    with pytest.raises(PinspectError, match="zip bomb"):
        read(comet, path)


def test_what_sacred_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("sacred", reason="needs sacred: pip install 'inspectcli[stores]'")
    observers: Any = pytest.importorskip("sacred.observers", reason="needs sacred: pip install 'inspectcli[stores]'")
    experiment = library.Experiment("e", save_git_info=False, base_dir=str(tmp_path))
    experiment.observers.append(observers.FileStorageObserver(str(tmp_path / "runs")))
    experiment.add_config({"lr": 0.01, "batch_size": 32, "model": {"n_layers": 3}, "seed": 5})
    experiment.main(lambda lr: lr)
    experiment.run()
    assert by_key(read(sacred, tmp_path / "runs")) == {"lr": 0.01, "batch_size": 32, "n_layers": 3, "seed": 5}


def test_what_trackio_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    library: Any = pytest.importorskip("trackio", reason="needs trackio: pip install 'inspectcli[stores]'")
    library.init(project="p", name="r1", config={"lr": 0.01, "model": {"n_layers": 3}}, embed=False)
    library.log({"loss": 0.1})
    library.finish()
    (path,) = tmp_path.rglob("p.db")
    assert by_key(read(trackio, path)) == {"lr": 0.01, "n_layers": 3}


def test_what_nevergrad_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("nevergrad", reason="needs nevergrad: pip install 'inspectcli[stores]'")
    space = library.p.Instrumentation(lr=library.p.Log(lower=1e-4, upper=0.1), batch_size=library.p.Choice([32, 64]))
    optimizer = library.optimizers.OnePlusOne(space, budget=12)
    path = tmp_path / "log.json"
    optimizer.register_callback("tell", library.callbacks.ParametersLogger(str(path), append=False))
    tried: dict[float, int] = {}

    def loss(lr: float, batch_size: int) -> float:
        tried[lr] = batch_size
        return lr

    optimizer.minimize(loss)
    best = min(tried)
    assert by_key(read(nevergrad, path)) == {"lr": best, "batch_size": tried[best]}


def test_what_ax_writes(tmp_path: Path) -> None:
    reason = "needs ax-platform: pip install ax-platform"
    service: Any = pytest.importorskip("ax.service.ax_client", reason=reason)
    client = service.AxClient(verbose_logging=False, random_seed=1)
    space = [{"name": "lr", "type": "range", "bounds": [1e-4, 1e-1], "log_scale": True, "value_type": "float"}]
    client.create_experiment(
        name="e", parameters=space, objectives={"acc": service.ObjectiveProperties(minimize=False)}
    )
    tried = []
    for _ in range(3):
        parameters, index = client.get_next_trial()
        client.complete_trial(index, raw_data={"acc": (parameters["lr"], 0.0)})
        tried.append(parameters["lr"])
    path = tmp_path / "ax.json"
    client.save_to_json_file(str(path))
    assert by_key(read(ax, path)) == {"lr": max(tried)}


def test_what_smac_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("smac", reason="needs smac: pip install smac")
    space: Any = pytest.importorskip("ConfigSpace", reason="needs smac: pip install smac")
    scenario = library.Scenario(
        space.ConfigurationSpace({"lr": (1e-4, 1e-1), "n_layers": (1, 4)}),
        n_trials=4, deterministic=True, output_directory=tmp_path,
    )  # fmt: skip
    tuner = library.HyperparameterOptimizationFacade(scenario, lambda config, seed=0: config["lr"], overwrite=True)
    best = tuner.optimize()
    (path,) = tmp_path.rglob("runhistory.json")
    assert by_key(read(smac, path)) == dict(best)


def test_what_comet_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("comet_ml", reason="needs comet_ml: pip install comet_ml")
    experiment = library.OfflineExperiment(
        workspace="w", project_name="p", offline_directory=str(tmp_path), log_env_host=False, log_env_details=False,
        log_code=False, auto_output_logging=False, display_summary_level=0,
    )  # fmt: skip
    experiment.log_parameters({"lr": 0.01, "model": {"n_layers": 3}, "opt": "adam", "nesterov": True})
    experiment.end()
    (path,) = tmp_path.glob("*.zip")
    assert by_name(read(comet, path)) == {"learning_rate": 0.01, "num_layers": 3, "optimizer": "adam", "nesterov": True}


def test_what_neptune_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("neptune", reason="needs neptune: pip install neptune")
    monkeypatch.chdir(tmp_path)
    run = library.init_run(mode="offline", project="a/b", capture_stdout=False, capture_stderr=False, git_ref=False)
    run["parameters"] = {"lr": 0.01, "model": {"n_layers": 3}, "opt": "adam", "nesterov": True}
    run["train/lr"].append(0.005)
    run.stop()
    (folder,) = (tmp_path / ".neptune" / "offline").iterdir()
    assert by_name(read(neptune, folder)) == {
        "learning_rate": 0.01, "num_layers": 3, "optimizer": "adam", "nesterov": True, "learning_rate.current": 0.005,
    }  # fmt: skip


@pytest.mark.parametrize(("module", "write"), STORES)
def test_found_among_all_sources(tmp_path: Path, module: ModuleType, write: Callable[[Path], Path]) -> None:
    path = str(write(tmp_path))
    head = b"" if os.path.isdir(path) else head_of(path)
    source = find_source(path, head)
    assert source is not None
    assert source.name == module.TOOL


def test_a_log_is_found_whatever_stands_at_its_ninth_byte(tmp_path: Path) -> None:
    path = str(a_neptune(tmp_path) / "data-10.log")
    assert head_of(path)[8:9] == b"{"  # as in a safetensors file
    source = find_source(path, head_of(path))
    assert source is not None
    assert source.name == "neptune"
