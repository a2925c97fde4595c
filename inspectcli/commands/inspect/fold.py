"""Which tensors of a checkpoint look alike, and which of them must be seen apart."""

from __future__ import annotations

from collections.abc import Sequence

from inspectcli.commands.inspect.result import TensorRow
from inspectcli.display.fold import Fold, far, fold_by, usual

#: A figure may lie this many times above or below its siblings' median before the member is shown apart.
STD_RATIO = 3.0
MAX_RATIO = 6.0


def fold(rows: Sequence[TensorRow]) -> list[Fold[TensorRow]]:
    """Lines of a checkpoint's tensors: members have one shape, type and kind, and figures like their siblings'."""
    return fold_by(rows, lambda row: (row.shape, row.dtype, row.kind, row.note), _alone, odd_ones)


def _alone(row: TensorRow) -> bool:
    return bool(row.alias_of or row.problem)


def odd_ones(rows: Sequence[TensorRow]) -> list[str]:
    """For each sibling why it must be seen by itself, or an empty text."""
    still = [_as_drawn(row) for row in rows]
    apart = 2 * sum(still) < len(rows)
    reasons = [
        _odd_alone(row) or ("as initialized" if alike and apart else "") for row, alike in zip(rows, still, strict=True)
    ]
    sound = [row for row, why in zip(rows, reasons, strict=True) if not why]
    stds = usual([row.stats.std for row in sound if row.stats and row.stats.std is not None])
    peaks = usual([float(row.stats.abs_max) for row in sound if row.stats and row.stats.abs_max is not None])
    for i, row in enumerate(rows):
        if reasons[i] or row.stats is None:
            continue
        reasons[i] = far("std", row.stats.std, stds, STD_RATIO) or far(
            "largest |value|", row.stats.abs_max, peaks, MAX_RATIO
        )
    return reasons


def _odd_alone(row: TensorRow) -> str:
    stats = row.stats
    if stats is None:
        return ""
    if stats.nonfinite:
        return "NaN or Inf"
    return ""


def _as_drawn(row: TensorRow) -> bool:
    """Whether its drawn numbers are those of an initializer."""
    return row.init is not None and row.init.strength == "untouched" and row.init.family != "constant"
