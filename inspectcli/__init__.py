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
    from inspectcli.commands.check.result import CheckReport as CheckReport
    from inspectcli.commands.check.run import check as check
    from inspectcli.commands.diff.result import DiffReport as DiffReport
    from inspectcli.commands.diff.run import diff as diff
    from inspectcli.commands.hparams.result import HParams as HParams
    from inspectcli.commands.hparams.run import read_hparams as read_hparams
    from inspectcli.commands.inspect.result import InspectReport as InspectReport
    from inspectcli.commands.inspect.run import inspect as inspect
    from inspectcli.errors import PinspectError as PinspectError
    from inspectcli.formats import open_checkpoint as open_checkpoint
    from inspectcli.plugins import use_plugins as use_plugins
    from inspectcli.tensors.model import Checkpoint as Checkpoint
    from inspectcli.tensors.model import TensorRef as TensorRef

__version__ = "0.1.0"

#: Public name -> the module that has it; imported on first use, so that start-up stays light.
_HOMES = {
    "CheckReport": "inspectcli.commands.check.result",
    "Checkpoint": "inspectcli.tensors.model",
    "DiffReport": "inspectcli.commands.diff.result",
    "HParams": "inspectcli.commands.hparams.result",
    "InspectReport": "inspectcli.commands.inspect.result",
    "PinspectError": "inspectcli.errors",
    "TensorRef": "inspectcli.tensors.model",
    "check": "inspectcli.commands.check.run",
    "diff": "inspectcli.commands.diff.run",
    "inspect": "inspectcli.commands.inspect.run",
    "open_checkpoint": "inspectcli.formats",
    "read_hparams": "inspectcli.commands.hparams.run",
    "use_plugins": "inspectcli.plugins",
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
    "use_plugins",
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
