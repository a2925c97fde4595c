"""What tests write of ray tune."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

STATE = "experiment_state-2026-01-01_00-00-00.json"


def trial(folder: Path, lr: float, *losses: float) -> dict[str, Any]:
    """A trial's folder, and what the state says of it."""
    folder.mkdir(parents=True)
    config = {"lr": lr, "model": {"hidden": 128}}
    (folder / "params.json").write_text(json.dumps(config, indent=2))
    (folder / "params.pkl").write_bytes(pickle.dumps(config))
    reports = [{"loss": loss, "training_iteration": i, "config": config} for i, loss in enumerate(losses)]
    (folder / "result.json").write_text("".join(json.dumps(report) + "\n" for report in reports))
    return {"trial_id": folder.name, "relative_logdir": folder.name, "config": config, "status": "TERMINATED"}


def experiment(path: Path, metric: str | None = "loss") -> Path:
    trials = [trial(path / "t_0", 0.1, 3.0, 2.0), trial(path / "t_1", 0.2, 5.0, 1.0), trial(path / "t_2", 0.3)]
    trials[2]["status"] = "ERROR"
    data = [[json.dumps(t), json.dumps({"last_result": {"loss": 9.0}})] for t in trials]
    (path / STATE).write_text(json.dumps({"trial_data": data, "runner_data": {"_metric": metric}, "stats": {}}))
    return path
