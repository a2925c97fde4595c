"""What tests write of trackers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any


def lines(*objects: object) -> str:
    return "".join(json.dumps(o) + "\n" for o in objects)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return path


def a_comet(tmp: Path) -> Path:
    def message(name: str, value: object, source: str = "manual") -> dict[str, object]:
        return {
            "type": "parameter_msg",
            "payload": {"param": {"paramName": name, "paramValue": value, "source": source}},
        }

    other = {"type": "metric_msg", "payload": {"metric": {"metricName": "loss"}}}
    messages = lines(
        message("lr", 0.5), other, message("lr", 0.1), message("model|n_layers", 3), message("curr_step", 9)
    )
    return zipped(tmp / "x.zip", experiment__json="{}", messages__json=messages)


def a_neptune(tmp: Path) -> Path:
    def assign(kind: str, value: object, *path: str) -> dict[str, object]:
        return {"obj": {"type": f"Assign{kind}", "path": list(path), "value": value}, "version": 1}

    log = {"obj": {"type": "LogFloats", "path": ["train", "lr"], "values": [{"value": 0.05}]}, "version": 9}
    folder = tmp / "run__1"
    written(folder / "metadata.json", '{"mode": "offline"}')
    written(folder / "data-1.log", lines(assign("Float", 0.5, "p", "lr"), assign("String", "u", "sys", "owner")))
    text = lines(assign("Float", 0.1, "p", "lr"), assign("Int", 3, "p", "model", "n_layers"), log)
    written(folder / "data-10.log", text)
    return folder


def clearml_task() -> dict[str, Any]:
    entries = {"lr": ("float", "0.1"), "model/n_layers": ("int", "3"), "note": ("str", "7")}
    general = {key: {"name": key, "type": kind, "value": text} for key, (kind, text) in entries.items()}
    return {"id": "offline-1", "hyperparams": {"General": general}}


def a_nevergrad(tmp: Path) -> Path:
    def told(loss: float, lr: float) -> dict[str, object]:
        extra = {"#parametrization": "Dict()", "#loss": loss, "lr#sigma": 1.0, "n_layers.indices": [0]}
        return {**extra, "lr": lr, "n_layers": 3}

    return written(tmp / "log.json", lines(told(2.0, 0.5), told(1.0, 0.1), told(3.0, 0.7)))


def an_ax(tmp: Path) -> Path:
    def trial(lr: float, state: str = "COMPLETED") -> dict[str, Any]:
        arms = [{"__type": "Arm", "parameters": {"lr": lr, "n_layers": 3}}]
        return {"__type": "Trial", "status": {"name": state}, "generator_run": {"arms": arms}}

    def data(mean: float) -> list[Any]:
        frame = {"metric_name": {"0": "other", "1": "acc"}, "mean": {"0": 99.0, "1": mean}}
        return [[0, {"__type": "Data", "df": {"__type": "DataFrame", "value": json.dumps(frame)}}]]

    experiment = {
        "__type": "Experiment",
        "search_space": {},
        "name": "e",
        "optimization_config": {"objective": {"metric": {"name": "acc"}, "minimize": False}},
        "trials": {"0": trial(0.5), "1": trial(0.1), "2": trial(0.7, "FAILED")},
        "data_by_trial": {"__type": "OrderedDict", "value": [[i, data(m)] for i, m in enumerate((0.1, 0.9, 1.0))]},
    }
    return written(tmp / "ax.json", json.dumps({"_type": "AxClient", "experiment": experiment}))


def a_smac(tmp: Path) -> Path:
    runs = [(1, 2.0, 1), (2, 1.0, 1), (2, 2.0, 1), (3, 0.5, 2)]  # 2: crashed
    data = [{"config_id": i, "cost": cost, "status": status} for i, cost, status in runs]
    configs = {str(i): {"lr": lr, "n_layers": 3} for i, lr in ((1, 0.5), (2, 0.1), (3, 0.7))}
    return written(tmp / "runhistory.json", json.dumps({"stats": {"submitted": 4}, "data": data, "configs": configs}))
