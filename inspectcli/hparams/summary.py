"""What other commands ask of an opened checkpoint: its rows, the few that matter most, what contradicts what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from inspectcli.errors import PinspectError
from inspectcli.tensors.model import Checkpoint

if TYPE_CHECKING:
    from inspectcli.hparams.base import HParamRow
    from inspectcli.hparams.conflicts import Conflict
    from inspectcli.hparams.merge import HParamValue

#: Values that stand in the summary of a checkpoint.
SHOWN = 10


def rows_of(checkpoint: Checkpoint) -> tuple[HParamRow, ...]:
    """What the file itself holds, but for what is private; nothing if that cannot be read."""
    if _is_bare(checkpoint.objects):
        return ()
    from inspectcli.hparams.sources.checkpoint import of_checkpoint

    try:
        return tuple(row for row in of_checkpoint(checkpoint) if not row.private)
    except (PinspectError, RecursionError):
        return ()


def _is_bare(objects: object) -> bool:
    """Whether there is nothing but tensors: not worth an import."""
    from inspectcli.pickles.nodes import Dict, Object

    if isinstance(objects, Object) and objects.entries is not None:
        objects = objects.entries
    if isinstance(objects, Dict):
        return all(isinstance(v, Object) and v.path.startswith("torch._utils._rebuild") for v in objects.values)
    return not objects or (isinstance(objects, dict) and set(objects) <= {"format"})


def important(rows: Iterable[HParamRow]) -> tuple[HParamValue, ...]:
    """The most important values of those that are known."""
    from inspectcli.hparams.merge import IMPORTANT, merge_rows

    values = merge_rows(rows)
    known = [values[name] for name in IMPORTANT if name in values]
    told = [value for value in known if not value.layered and not isinstance(value.value, bool)]
    return tuple(value for value in told if value.value is not None or value.current is not None)[:SHOWN]


def conflicts(checkpoint: Checkpoint, rows: Sequence[HParamRow]) -> tuple[Conflict, ...]:
    """Where the rows of a checkpoint, the configs of known tools beside it and its tensors contradict each other."""
    from inspectcli.hparams.neighbors import neighbors

    in_memory = checkpoint.format == "memory"
    if not rows and (in_memory or not any(True for _ in neighbors(checkpoint.path))):
        return ()
    from inspectcli.hparams.collect import conflicts_beside

    try:
        return conflicts_beside(checkpoint, rows)
    except RecursionError:
        return ()
