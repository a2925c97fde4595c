"""What tests write of optuna."""

from __future__ import annotations

import json
from typing import Any


def distribution(name: str, **attributes: object) -> str:
    return json.dumps({"name": name, "attributes": attributes})


FLOAT = distribution("FloatDistribution", low=1e-5, high=0.1, log=True, step=None)
INT = distribution("IntDistribution", low=64, high=512, log=False, step=64)
CATEGORY = distribution("CategoricalDistribution", choices=[32, "auto", None, True])
OPERATIONS: list[dict[str, Any]] = [
    {"op_code": 0, "study_name": "tune", "directions": [2]},
    {"op_code": 4, "study_id": 0},
    {"op_code": 5, "trial_id": 0, "param_name": "lr", "param_value_internal": 0.01, "distribution": FLOAT},
    {"op_code": 5, "trial_id": 0, "param_name": "hidden", "param_value_internal": 128.0, "distribution": INT},
    {"op_code": 6, "trial_id": 0, "state": 1, "values": [0.5]},
    {"op_code": 4, "study_id": 0},
    {"op_code": 5, "trial_id": 1, "param_name": "lr", "param_value_internal": 0.02, "distribution": FLOAT},
    {"op_code": 5, "trial_id": 1, "param_name": "bs", "param_value_internal": 0, "distribution": CATEGORY},
    {"op_code": 6, "trial_id": 1, "state": 1, "values": [0.9]},
    {"op_code": 4, "study_id": 0},
    {"op_code": 5, "trial_id": 2, "param_name": "lr", "param_value_internal": 0.03, "distribution": FLOAT},
    {"op_code": 6, "trial_id": 2, "state": 2, "values": [2.0]},
]
