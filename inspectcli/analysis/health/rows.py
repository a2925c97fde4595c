"""Rows (PI2xx): rows of a weight that are equal, and rows of another size than all others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.scale import outlier
from inspectcli.analysis.roles import OF_LAYER, Part, is_position_table
from inspectcli.display.text import significant
from inspectcli.measure.again import again
from inspectcli.measure.row_marks import RowHashes, RowMarks, RowSizes
from inspectcli.tensors.arithmetic import median

_ROWS = 8
#: Times the median row. Trained rows differ by some tens, tables by some hundreds.
_FAR = 1e3
#: A row of such a size has values that are so many times the usual ones of the tensor.
_SUSPECT = 100.0
#: At most so many rows of a hundred are far out; more are another kind of row.
_SHARE = 0.1
#: Keys and values of grouped heads are repeated where all heads are to have their own.
_REPEATED = re.compile(r"(^|[._])(k|v|kv|key|value|to_k|to_v|qkv|wk|wv|\w*qkv\w*)(_proj)?([._]|$)", re.IGNORECASE)


@rule("PI208", "equal-rows", Severity.WARNING, needs=(RowMarks,))
def equal_rows(subject: RuleContext) -> Iterable[RuleHit]:
    """Half of the rows of a weight, or more, repeat other rows bit for bit.

    Why it matters: units with equal weights compute one number, and training from here leaves them equal. A tensor
    that was broadcast, or a part that was written twice, looks like this.

    What it rests on: the values of all rows that are not zeros, eight at least. Where the siblings in other blocks are
    alike it is a design, and so is the repetition of keys and values of grouped heads, and one filter for every
    channel: a note. Tables are left alone, whose new rows may begin at one mean, and what is not
    named a weight, as the state matrix of Mamba.

    What to do: compare with the model that it was converted from, or with an earlier checkpoint.
    """
    for tensor in subject.unique:
        if tensor.role.kind not in (Part.WEIGHT, Part.RNN_WEIGHT) or is_position_table(tensor.name):
            continue
        if not OF_LAYER.search(tensor.role.leaf) or not _seem_equal(tensor):
            continue
        found = again(tensor.ref, RowHashes)
        if found is None or found.rows < _ROWS or 2 * found.different > found.rows:
            continue
        what = "all one row" if found.different == 1 else f"{found.different:,} different ones"
        yield RuleHit(
            tensor.name,
            f"{found.rows:,} rows are {what}",
            {"rows": found.rows, "different": found.different},
            severity=Severity.NOTE if _is_design(subject, tensor) else Severity.WARNING,
        )


def _seem_equal(tensor: TensorFacts) -> bool:
    marks, s = tensor.get(RowMarks), tensor.stats
    return (
        marks is not None
        and s is not None
        and s.low != s.high
        and marks.rows >= _ROWS // 2
        and 2 * marks.different <= marks.rows + 1
    )


def _is_design(subject: RuleContext, tensor: TensorFacts) -> bool:
    shape = tensor.ref.shape
    siblings = [other for other in subject.siblings.get(tensor.name, ()) if other is not tensor]
    return (
        not subject.trained
        or (len(shape) > 2 and shape[1] == 1)
        or bool(_REPEATED.search(tensor.name))
        or any(map(_seem_equal, siblings))
    )


@rule("PI209", "row-out-of-scale", Severity.WARNING)
def row_out_of_scale(subject: RuleContext) -> Iterable[RuleHit]:
    """A row of a weight is more than a thousand times the others.

    Why it matters: its unit drowns all others, or overflows in half precision. It was scaled by hand, by a conversion
    with a wrong scale for one channel, or has diverged alone.

    What it rests on: the root mean square of each row against the median of all rows that are not zeros. In trained
    layers the largest row is some tens of it; below a thousand nothing is said, for tables of rare words come close.
    Columns are not looked at.

    What to do: compare the row with an earlier checkpoint, or with the model that it was converted from.
    """
    for tensor in subject.unique:
        if not tensor.role.is_weight or tensor.ref.stored_shape is not None or not _has_far_values(tensor):
            continue
        if outlier(tensor) is not None:  # one value, and no row
            continue
        sizes = again(tensor.ref, RowSizes)
        if sizes is None:
            continue
        of_rows = [float(x) for x in sizes if x > 0]
        if len(of_rows) < _ROWS:
            continue
        usual = median(of_rows)
        far = [i for i, x in enumerate(sizes) if x > _FAR * usual]
        if far and len(far) <= max(1, _SHARE * len(of_rows)):
            ratio = float(sizes[far[0]]) / usual
            size = significant(float(sizes[far[0]]), 3)
            more = f", and {len(far) - 1:,} more" if far[1:] else ""
            yield RuleHit(
                tensor.name,
                f"row {far[0]:,} has root mean square {size}, {ratio:,.0f} times the median row{more}",
                {"row": far[0], "rows": len(far), "ratio": ratio},
            )


def _has_far_values(tensor: TensorFacts) -> bool:
    """Return whether a row may be far out: its values are beyond those of nearly the whole tensor."""
    s, sampled, shape = tensor.stats, tensor.sampled, tensor.ref.shape
    if s is None or sampled is None or s.nonfinite or s.abs_max is None or len(shape) < 2 or shape[0] < _ROWS:
        return False
    if len(sampled.knots) < 3 or s.count // shape[0] < 2:
        return False
    usual = max(abs(sampled.q25), abs(sampled.q75))
    return usual > 0 and s.abs_max > _SUSPECT * usual
