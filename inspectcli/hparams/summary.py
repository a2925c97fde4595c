"""The few hyperparameters that `pinspect MODEL` shows with its summary."""

from __future__ import annotations

from inspectcli.errors import PinspectError
from inspectcli.hparams.merge import IMPORTANT, merge_rows
from inspectcli.hparams.sources.checkpoint import of_checkpoint
from inspectcli.tensors.model import Checkpoint

SHOWN = 10


def important(checkpoint: Checkpoint) -> tuple[tuple[str, object, object], ...]:
    """(name, configured value, current one) of the most important that the file holds; none if they cannot be read."""
    try:
        entries = merge_rows(row for row in of_checkpoint(checkpoint) if not row.private)
    except (PinspectError, RecursionError):
        return ()
    known = [entries[n] for n in IMPORTANT if n in entries]
    told = [e for e in known if not e.layered and not isinstance(e.value, bool)]
    told = [e for e in told if e.value is not None or e.current is not None]
    return tuple((e.name, e.value, e.current) for e in told[:SHOWN])
