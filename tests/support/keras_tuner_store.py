"""What tests write of keras tuner."""

from __future__ import annotations

from typing import Any

SPACE = [
    {"class_name": "Float", "config": {"name": "lr", "min_value": 1e-4, "max_value": 0.01, "sampling": "log"}},
    {"class_name": "Int", "config": {"name": "units", "min_value": 32, "max_value": 128, "step": 32}},
    {"class_name": "Choice", "config": {"name": "activation", "values": ["relu", "tanh"]}},
    {"class_name": "Fixed", "config": {"name": "seed", "value": 1}},
]  # fmt: skip


def trial(number: int, score: float | None, direction: str, status: str = "COMPLETED") -> dict[str, Any]:
    values = {"lr": 0.001 * (number + 1), "units": 64, "activation": "tanh", "seed": 1}
    metrics = {
        "loss": {"direction": "min", "observations": [{"value": [7.0], "step": 0}]},
        "val_x": {"direction": direction, "observations": [{"value": [score, score], "step": 0}] if score else []},
    }
    return {
        "trial_id": str(number), "hyperparameters": {"space": SPACE, "values": values},
        "metrics": {"metrics": metrics}, "score": score, "status": status,
    }  # fmt: skip
