"""pinspect: what is in a neural-network checkpoint, is it healthy, was it trained.

import inspectcli
report = inspectcli.inspect("model.pt")                    # every figure, as data
inspectcli.diff("before.pt", "after.safetensors").verdict  # what changed
checkpoint = inspectcli.open_checkpoint("model.pt")        # headers only
weights = checkpoint["fc1.weight"].numpy()                 # one tensor
hparams = inspectcli.read_hparams("runs/exp3")             # what was set before training
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspectcli.comparison.result import DiffReport as DiffReport
    from inspectcli.comparison.run import diff as diff
    from inspectcli.errors import PinspectError as PinspectError
    from inspectcli.formats import open_checkpoint as open_checkpoint
    from inspectcli.gate import CheckReport as CheckReport
    from inspectcli.gate import check as check
    from inspectcli.hparams.collect import HParams as HParams
    from inspectcli.hparams.collect import read_hparams as read_hparams
    from inspectcli.model import Checkpoint as Checkpoint
    from inspectcli.model import TensorRef as TensorRef
    from inspectcli.overview import InspectReport as InspectReport
    from inspectcli.overview import inspect as inspect

__version__ = "0.1.0"

#: Public name -> the module that has it; imported on first use, so that start-up stays light.
_HOMES = {
    "CheckReport": "inspectcli.gate",
    "Checkpoint": "inspectcli.model",
    "DiffReport": "inspectcli.comparison.result",
    "HParams": "inspectcli.hparams.collect",
    "InspectReport": "inspectcli.overview",
    "PinspectError": "inspectcli.errors",
    "TensorRef": "inspectcli.model",
    "check": "inspectcli.gate",
    "diff": "inspectcli.comparison.run",
    "inspect": "inspectcli.overview",
    "open_checkpoint": "inspectcli.formats",
    "read_hparams": "inspectcli.hparams.collect",
}

__all__ = [
    "CheckReport",
    "Checkpoint",
    "DiffReport",
    "HParams",
    "InspectReport",
    "PinspectError",
    "TensorRef",
    "check",
    "diff",
    "inspect",
    "open_checkpoint",
    "read_hparams",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'inspectcli' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
