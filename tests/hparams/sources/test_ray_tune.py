from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.ray_tune_store import STATE, experiment, trial
from support.stores import by_key, by_name, claimed, places, read

from inspectcli.errors import UsageError
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import ray_tune


def test_an_experiment(tmp_path: Path) -> None:
    store = read(ray_tune, experiment(tmp_path / "exp"))
    assert by_name(store) == {"learning_rate": 0.2, "hidden_size": 128}
    assert {place for place in places(store) if place[0] == "learning_rate"} == {
        ("learning_rate", "", "params.json"),
        ("learning_rate", "", "params.pkl"),
        ("learning_rate", "[-1].config", "result.json"),
        ("learning_rate", "trial_data[1][0].config", STATE),
    }
    assert [(t.name, t.state, t.objective, t.best) for t in store.trials] == [
        ("t_0", "TERMINATED", 2.0, False),
        ("t_1", "TERMINATED", 1.0, True),
        ("t_2", "ERROR", 9.0, False),
    ]
    assert [Path(f).name for f in store.files] == [STATE, "params.json", "params.pkl", "result.json"]
    assert by_name(read(ray_tune, tmp_path / "exp", Selection(trial="t_2")))["learning_rate"] == 0.3
    with pytest.raises(UsageError, match="no trial 'x': found t_0, t_1, t_2"):
        read(ray_tune, tmp_path / "exp", Selection(trial="x"))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (None, "3 trials, 2 complete; shown is trial t_1, the latest complete one: --trial chooses another"),
        ("loss", "3 trials, 2 complete; shown is trial t_1, the best (loss, minimize: 1): --trial chooses another"),
    ],
)
def test_by_what_the_best_is_found(tmp_path: Path, metric: str | None, said: str) -> None:
    assert read(ray_tune, experiment(tmp_path / "exp", metric)).notes == (said,)


@pytest.mark.parametrize(
    ("metric", "small"),
    [
        ("loss", True),
        ("val/loss", True),
        ("eval-rmse", True),
        ("mean_accuracy", False),
        ("episode_reward_mean", False),
        ("x", None),
    ],
)
def test_the_direction_is_told_by_the_name(metric: str, small: bool | None) -> None:
    assert ray_tune.is_loss(metric) is small


def test_the_state_alone(tmp_path: Path) -> None:
    path = experiment(tmp_path / "exp") / STATE
    copy = tmp_path / STATE
    copy.write_bytes(path.read_bytes())
    store = read(ray_tune, copy)
    assert by_name(store) == {"learning_rate": 0.1, "hidden_size": 128}  # of equals, the first
    assert store.rows[0].source.locator == "trial_data[0][0].config"


def test_broken_files_are_notes(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "exp")
    (folder / "t_1" / "params.json").write_text("{")
    (folder / "t_1" / "params.pkl").write_bytes(b"\x80\x04cos\nsystem\n(S'touch PWNED'\ntR.")
    result = folder / "t_1" / "result.json"
    result.write_text(result.read_text() + '{"loss": 0.')  # killed while it wrote
    (folder / "experiment_state-2026-02-02_00-00-00.json").write_text("[")
    store = read(ray_tune, folder)
    assert by_name(store)["learning_rate"] == 0.2
    assert [note.split(":")[0] for note in store.notes[:2]] == [
        "experiment_state-2026-02-02_00-00-00.json",
        "t_1/params.json",
    ]
    assert not Path("PWNED").exists()


def test_one_trial(tmp_path: Path) -> None:
    trial(tmp_path / "t", 0.1, 1.0)
    assert by_name(read(ray_tune, tmp_path / "t")) == {"learning_rate": 0.1, "hidden_size": 128}
    for name in ("params.json", "params.pkl", "result.json"):
        assert by_key(read(ray_tune, tmp_path / "t" / name)) == {"lr": 0.1, "hidden": 128}


def test_the_params_of_others(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"dim": 4096, "n_heads": 32}')
    assert not claimed(ray_tune, tmp_path / "params.json")
    assert not claimed(ray_tune, tmp_path)


def test_a_number_that_is_no_number_in_a_report(tmp_path: Path) -> None:
    trial(tmp_path / "t", 0.1, float("nan"))
    assert by_key(read(ray_tune, tmp_path / "t" / "result.json")) == {"lr": 0.1, "hidden": 128}


def test_what_the_library_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("ray", reason="needs ray: pip install 'ray[tune]'")
    tune: Any = pytest.importorskip("ray.tune", reason="needs ray: pip install 'ray[tune]'")

    def train(config: dict[str, Any]) -> None:
        tune.report({"loss": config["lr"]})

    library.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        found = tune.Tuner(
            train,
            param_space={"lr": tune.grid_search([0.3, 0.1, 0.2]), "model": {"hidden": 64}},
            tune_config=tune.TuneConfig(metric="loss", mode="min"),
            run_config=tune.RunConfig(storage_path=str(tmp_path), name="exp", verbose=0),
        ).fit()
    finally:
        library.shutdown()
    store = read(ray_tune, tmp_path / "exp")
    best = found.get_best_result().config
    assert by_name(store) == {"learning_rate": best["lr"], "hidden_size": best["model"]["hidden"]}
    assert sorted(t.objective or 0 for t in store.trials) == [0.1, 0.2, 0.3]
