"""From a path to HParams."""

from __future__ import annotations

import os

from inspectcli.commands.hparams.result import HParams
from inspectcli.hparams.base import Selection
from inspectcli.hparams.collect import collect
from inspectcli.hparams.merge import HParamValue
from inspectcli.storage import locate


def read_hparams(
    path: str | os.PathLike[str],
    *,
    study: str = "",
    run: str = "",
    trial: str = "",
    neighbors: bool = True,
    secrets: bool = False,
) -> HParams:
    """The hyperparameters that a checkpoint, a config, a database or a run's folder holds. Nothing is run or imported.

    Args:
        path: a file; or a folder, of which every store is read.
        study, run, trial: which one, where a store holds many; without it the best completed one.
        neighbors: look beside a checkpoint for the configs of known tools too.
        secrets: give tokens, keys and passwords as they are; else they are masked.

    >>> hparams = read_hparams("fixtures/lightning.ckpt")
    >>> hparams["learning_rate"]
    0.01
    >>> hparams.provenance("learning_rate")[0].source.locator
    'hyper_parameters'

    Raises:
        PinspectError: the file cannot be read, is no store that is known, or the choice is not in it.
    """
    location = locate(path)
    notes: list[str] = []
    runs = collect(location, Selection(study, run, trial, secrets), neighbors, notes)
    # The run of the folder itself counts before those below it; later ones before earlier ones.
    entries: dict[str, HParamValue] = {}
    for found in sorted(runs, key=lambda r: (bool(r.folder), r.folder)):
        for key, entry in found.entries.items():
            entries.setdefault(key, entry)
    notes += [note for found in runs for _, store in found.stores for note in store.notes]
    return HParams(str(location), tuple(runs), tuple(dict.fromkeys(notes)), entries)
