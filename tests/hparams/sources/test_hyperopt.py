from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from support.stores import by_key, by_name, claimed, read, truncations

from inspectcli.errors import PinspectError
from inspectcli.hparams.base import Selection
from inspectcli.hparams.sources import hyperopt


class _Trials(dict[str, Any]):
    """Pickled as a `hyperopt.base.Trials` that was given this state."""


class _Pickler(pickle._Pickler):
    """Python's own pickler, which can write a class that is not installed."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, _Trials):
            super().save(obj, save_persistent_id)
            return
        self.write(pickle.GLOBAL + b"hyperopt.base\nTrials\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        super().save(dict(obj))
        self.write(pickle.BUILD)


def store(path: Path) -> Path:
    def trial(number: int, loss: float | None, lr: float, state: int = 2) -> dict[str, Any]:
        result = {"status": "fail"} if loss is None else {"status": "ok", "loss": loss}
        vals = {"lr": [lr], "batch_size": [1], "skipped": []}
        return {"state": state, "tid": number, "result": result, "misc": {"vals": vals}}

    trials = [trial(0, 2.0, 0.5), trial(1, 1.0, 0.1), trial(2, None, 0.7), trial(3, 0.5, 0.9, state=1)]
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(_Trials(_dynamic_trials=trials))
    path.write_bytes(stream.getvalue())
    return path


def test_the_best_trial(tmp_path: Path) -> None:
    found = read(hyperopt, store(tmp_path / "trials.pkl"))
    assert by_name(found) == {"learning_rate": 0.1}
    assert [(r.name, r.raw_key, r.value, r.source.locator) for r in found.rows] == [
        ("learning_rate", "lr", 0.1, "_dynamic_trials[1].misc.vals"),
        (None, "batch_size", 1, "_dynamic_trials[1].misc.vals"),
    ]
    assert [(t.name, t.state, t.objective) for t in found.trials] == [
        ("0", "DONE", 2.0),
        ("1", "DONE", 1.0),
        ("2", "DONE", None),
        ("3", "RUNNING", 0.5),
    ]
    assert by_name(read(hyperopt, tmp_path / "trials.pkl", Selection(trial="2"))) == {"learning_rate": 0.7}


def test_damage(tmp_path: Path) -> None:
    whole = store(tmp_path / "trials.pkl").read_bytes()
    path, rng = tmp_path / "broken.pkl", random.Random(0)
    damaged = [bytearray(whole) for _ in range(300)]
    for data in damaged:
        data[rng.randrange(40, len(data))] = rng.randrange(256)
    for data in (*truncations(whole, 200), *map(bytes, damaged)):
        path.write_bytes(data)
        if claimed(hyperopt, path):
            try:
                read(hyperopt, path)
            except PinspectError:
                continue


def test_what_the_library_writes(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("hyperopt", reason="needs hyperopt: pip install 'inspectcli[stores]'")
    trials = library.Trials()
    space = {"lr": library.hp.loguniform("lr", -8, -1), "opt": library.hp.choice("opt", ["adam", "sgd"])}
    best = library.fmin(lambda a: a["lr"], space, library.rand.suggest, 6, trials=trials, show_progressbar=False)
    path = tmp_path / "trials.pkl"
    path.write_bytes(pickle.dumps(trials))
    assert by_key(read(hyperopt, path)) == best
    assert by_name(read(hyperopt, path)) == {"learning_rate": best["lr"]}
