from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.stores import by_key, by_name, claimed, places, read

from inspectcli.errors import UsageError
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import mlflow

LIBRARY = "needs mlflow: pip install 'inspectcli[stores]'"

TEXTS = {
    "lr": ("0.001", 0.001), "batch_size": ("32", 32), "layers": ("[64, 32]", [64, 32]), "none": ("None", None),
    "flag": ("True", True), "opt": ("Adam", "Adam"), "model/hidden dim": ("128", 128), "text": ("0x__", "0x__"),
    "tiny": ("1e-05", 1e-5), "nested": ("{'a': 1}", {"a": 1}), "call": ("__import__('os').x()", "__import__('os').x()"),
}  # fmt: skip


def run(folder: Path, name: str, params: dict[str, str], status: str = "3", start: str = "1") -> Path:
    base = folder / name
    for key, text in params.items():
        path = base / "params" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (base / "metrics").mkdir(parents=True)
    (base / "metrics" / "lr").write_text("1700000000 0.5 0\n1700000001 0.25 7\n")
    (base / "meta.yaml").write_text(f"lifecycle_stage: active\nstart_time: {start}\nstatus: {status}\n")
    return base


def test_every_kind_of_text(tmp_path: Path) -> None:
    base = run(tmp_path / "mlruns" / "0", "abc", {key: text for key, (text, _) in TEXTS.items()})
    store = read(mlflow, base)
    assert by_key(store) == {**{key: value for key, (_, value) in TEXTS.items() if key != "lr"}, "lr": 0.25}
    stored = {row.raw_key: row.stored for row in store.rows if row.source.locator == "file content"}
    assert stored == {key: text for key, (text, _) in TEXTS.items()}
    assert by_name(store)["learning_rate"] == 0.001
    assert by_name(store)["learning_rate.current"] == 0.25
    assert by_name(store)["hidden_size"] == 128


def test_a_single_file_of_a_run(tmp_path: Path) -> None:
    base = run(tmp_path / "mlruns" / "0", "abc", {"model/hidden dim": "128"})
    (row,) = read(mlflow, base / "params" / "model" / "hidden dim").rows
    assert (row.name, row.raw_key, row.value, row.source.locator) == (
        "hidden_size",
        "model/hidden dim",
        128,
        "file content",
    )


def test_params_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "lr").write_text("1")
    (tmp_path / "metrics").mkdir()
    assert not claimed(mlflow, tmp_path / "params" / "lr")
    assert not claimed(mlflow, tmp_path)


def test_runs_and_experiments(tmp_path: Path) -> None:
    top = tmp_path / "mlruns"
    (top / "0").mkdir(parents=True)
    (top / "0" / "meta.yaml").write_text("name: Default\n")
    run(top / "1", "aaa", {"lr": "0.1"}, start="2")
    run(top / "1", "bbb", {"lr": "0.2"}, start="1")
    run(top / "1", "ccc", {"lr": "0.3"}, status="1", start="3")
    run(top / "2", "ddd", {"lr": "0.4"})
    (top / "1" / "meta.yaml").write_text("name: 'first one'\n")
    (top / "2" / "meta.yaml").write_text("name: second\n")
    deleted = run(top / "2", "eee", {"lr": "0.5"})
    (deleted / "meta.yaml").write_text("lifecycle_stage: deleted\n")
    store = read(mlflow, top)
    assert by_name(store)["learning_rate"] == 0.4
    assert [(t.study, t.name, t.state, t.chosen) for t in store.trials] == [
        ("first one", "bbb", "FINISHED", False),
        ("first one", "aaa", "FINISHED", False),
        ("first one", "ccc", "RUNNING", False),
        ("second", "ddd", "FINISHED", True),
    ]
    assert by_name(read(mlflow, top, Selection(study="first one")))["learning_rate"] == 0.1
    assert by_name(read(mlflow, top, Selection(run="ccc")))["learning_rate"] == 0.3
    assert by_name(read(mlflow, top / "1"))["learning_rate"] == 0.1
    with pytest.raises(UsageError, match="no run 'eee'"):
        read(mlflow, top, Selection(run="eee"))


def test_a_file_that_is_too_long_is_a_note(tmp_path: Path) -> None:
    base = run(tmp_path / "mlruns" / "0", "abc", {"lr": "0.1", "long": "x" * (mlflow.MAX_VALUE + 1)})
    store = read(mlflow, base)
    assert by_name(store)["learning_rate"] == 0.1
    assert store.notes == ("abc: params/long: 65,537 bytes: at most 65,536 are read of such a file",)


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    base = run(tmp_path / "mlruns" / "0", "abc", {"lr": "0.1"})
    (base / "params" / "stolen").symlink_to(secret)
    (base / "params" / "loop").symlink_to(base)
    assert set(by_key(read(mlflow, base))) == {"lr"}


def database(path: Path) -> Path:
    db = sqlite3.connect(path)
    db.executescript(
        """
        CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
        CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, experiment_id INTEGER, start_time INTEGER,
            lifecycle_stage TEXT);
        CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE latest_metrics (key TEXT, value FLOAT, step INTEGER, run_uuid TEXT);
        INSERT INTO experiments VALUES (0, 'Default'), (1, 'mine');
        INSERT INTO runs VALUES ('r2', 'two', 'FINISHED', 1, 20, 'active'), ('r1', 'one', 'FINISHED', 1, 10, 'active'),
            ('r3', 'three', 'FINISHED', 1, 30, 'deleted');
        INSERT INTO params VALUES ('lr', '0.1', 'r1'), ('lr', '0.2', 'r2'), ('layers', '[64, 32]', 'r2'),
            ('lr', '9', 'r3');
        INSERT INTO latest_metrics VALUES ('lr', 0.05, 4, 'r2'), ('loss', 1.0, 4, 'r2');
        """
    )
    db.close()
    return path


def test_a_database(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    store = read(mlflow, path)
    assert by_name(store) == {"learning_rate": 0.2, "hidden_units": [64, 32], "learning_rate.current": 0.05}
    assert ("learning_rate", "params[run_uuid=r2]", "mlflow.db") in places(store)
    assert [t.name for t in store.trials] == ["r1", "r2"]
    assert by_name(read(mlflow, path, Selection(run="r1"))) == {"learning_rate": 0.1}


# -- written by the library -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "files"])
def test_what_the_library_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    library: Any = pytest.importorskip("mlflow", reason=LIBRARY)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("mlflow.db" if kind == "sqlite" else "mlruns")
    library.set_tracking_uri(f"sqlite:///{path}" if kind == "sqlite" else path.as_uri())
    library.set_experiment("mine")
    hparams = {
        "learning_rate": 0.001,
        "batch_size": 32,
        "optimizer": "Adam",
        "layers": [64, 32],
        "model/hidden dim": 128,
    }
    with library.start_run():
        library.log_params({**hparams, "learning_rate": 0.5})
    with library.start_run():
        library.log_params(hparams)
        library.log_metric("lr", 0.0005, step=3)
    store = read(mlflow, path)
    assert by_key(store) == {**hparams, "lr": 0.0005}
    assert len(store.trials) == 2
    assert store.notes == (
        "2 runs, 2 complete; shown is run "
        + next(t.name for t in store.trials if t.chosen)
        + ", the latest complete one: --run chooses another",
    )
