"""Nevergrad's ParametersLogger: a JSON object a line, with the optimizer's own figures behind a `#`.

https://github.com/facebookresearch/nevergrad/blob/1.0.12/nevergrad/optimization/callbacks.py
"""

from __future__ import annotations

from inspectcli.encodings.files import first_object, json_lines, read_file
from inspectcli.errors import DamagedFileError
from inspectcli.hparams._tree import rows
from inspectcli.hparams._trials import STUDIES, Study, choose
from inspectcli.hparams.base import HParamSource, Selection, Store, Trial
from inspectcli.storage.location import Location

TOOL = "nevergrad"


def _sniff(location: Location, head: bytes) -> bool:
    first = first_object(head)
    return "#parametrization" in first and "#loss" in first


def _read(location: Location, head: bytes, choice: Selection) -> Store:
    """One line is one candidate that was tried; `batch_size.indices` is how a choice is held inside."""
    trials: list[Trial] = []
    notes: list[str] = []
    try:
        for number, line in enumerate(json_lines(read_file(location), location.name)):
            loss = line.get("#loss")
            values = {k: v for k, v in line.items() if "#" not in k and not k.endswith(".indices")}
            found = tuple(rows(values, str(location), TOOL, f"[{number}]"))
            objective = float(loss) if isinstance(loss, int | float) else None
            trials.append(Trial(str(number), "told", "", objective, rows=found))
    except DamagedFileError as error:
        if not trials:
            raise
        notes.append(f"read up to the damage: {error.message}")
    study = Study("", tuple(trials), frozenset(t.name for t in trials), True, "loss")
    return choose([study], choice, STUDIES, notes)


SOURCE = HParamSource(TOOL, _sniff, _read)
