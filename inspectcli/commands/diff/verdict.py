"""Verdict on the differences: one sentence that claims no more than its evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from inspectcli.commands.diff import copies
from inspectcli.commands.diff.adapters import DOWN, adapter_name, is_adapter, module_key
from inspectcli.commands.diff.compare import SAME, Status
from inspectcli.commands.diff.match import How
from inspectcli.commands.diff.metadata import Changed
from inspectcli.commands.diff.result import Correlation, DiffVerdict, TensorDiff, VerdictCode
from inspectcli.display.text import listed, plural, significant
from inspectcli.tensors.model import Kind

#: Least number of values: smaller tensors correlate by chance.
LEAST_VALUES = 32
#: Correlations above and below which tensors were, and were not, trained from one base; neither occurs by chance.
RELATED, UNRELATED = 0.3, 0.1
_SIGMAS_RELATED, _SIGMAS_UNRELATED = 5.0, 3.0
#: Relative change that fine-tuning rarely exceeds.
LITTLE = 0.3
#: Share of the values that must support a verdict.
_MOST = 0.5


class Tally(NamedTuple):
    """The tensors of the model by the result of their comparison."""

    pairs: tuple[TensorDiff, ...]
    added: tuple[TensorDiff, ...]
    removed: tuple[TensorDiff, ...]
    state: tuple[TensorDiff, ...]

    @property
    def same(self) -> tuple[TensorDiff, ...]:
        return tuple(t for t in self.pairs if t.status in SAME)

    @property
    def compared(self) -> tuple[TensorDiff, ...]:
        return tuple(t for t in self.pairs if t.status is not Status.RESHAPED)

    @property
    def reshaped(self) -> tuple[TensorDiff, ...]:
        return tuple(t for t in self.pairs if t.status is Status.RESHAPED)

    @property
    def changed(self) -> tuple[TensorDiff, ...]:
        return tuple(t for t in self.pairs if t.status in (Status.CHANGED, Status.WITHIN_TOLERANCE))


def tally(tensors: Iterable[TensorDiff]) -> Tally:
    """Sort the tensors of a comparison by their results."""
    model = [t for t in tensors if not t.is_state]
    return Tally(
        pairs=tuple(t for t in model if t.a is not None and t.b is not None),
        added=tuple(t for t in model if t.status is Status.ADDED),
        removed=tuple(t for t in model if t.status is Status.REMOVED),
        state=tuple(t for t in tensors if t.is_state),
    )


def classify(tensors: Sequence[TensorDiff], metadata: Sequence[Changed]) -> DiffVerdict:
    """Return the verdict on a comparison, with its evidence."""
    t = tally(tensors)
    code, text = next(found for rule in _RULES if (found := rule(t)) is not None)
    beside = _beside(t, metadata) if code in _ABOUT_EQUAL else ""
    correlation = _correlation(t)
    return DiffVerdict(code, text + beside, tuple(_evidence(t, metadata, correlation)), correlation)


# -- the rules: the first that fits decides -----------------------------------------------------------------

Claim = tuple[VerdictCode, str] | None


def _unreadable(t: Tally) -> Claim:
    bad = [x for x in (*t.pairs, *t.state) if x.problem]
    if not bad:
        return None
    return VerdictCode.NOT_COMPARED, f"Not compared: {plural(len(bad), 'tensor')} could not be read"


def _nothing(t: Tally) -> Claim:
    if t.pairs or t.added or t.removed:
        return None
    return (VerdictCode.NO_WEIGHTS, "No weights on either side" + ("; training state only" if t.state else ""))


def _equal(t: Tally) -> Claim:
    if t.added or t.removed or len(t.same) < len(t.pairs):
        return None
    parts = [x for x in t.pairs if x.how_matched is How.SLICE]
    if parts:
        counts = Counter(x.b for x in parts)
        wholes = {("b", x.b) if counts[x.b] > 1 else ("a", x.a) for x in parts}
        text = f"Same weights, fused or stacked otherwise: {plural(len(parts), 'tensor')} of one side"
        return VerdictCode.OTHER_LAYOUT, f"{text} stand as slices of {plural(len(wholes), 'tensor')} of the other"
    renamed = _renamed(t)
    if renamed:
        turned = " and layout" if any(x.layout for x in t.pairs) else ""
        return VerdictCode.OTHER_NAMES, f"Same weights, other names{turned}"
    if all(x.status is Status.IDENTICAL for x in t.pairs):
        return VerdictCode.SAME, "Same weights, bit for bit"
    types = sorted({(x.dtype_a, x.dtype_b) for x in t.pairs if x.dtype_a != x.dtype_b}, key=str)
    if types:
        told = ", ".join(f"{a} as {b}" for a, b in types[:3])
        return VerdictCode.OTHER_TYPE, f"Same weights, stored in another type: {told}"
    signs = sum(x.zero_signs for x in t.pairs)
    if signs and all(x.zero_signs or x.status is Status.IDENTICAL for x in t.pairs):
        return VerdictCode.OTHER_ZEROS, f"Equal values; the sign of {plural(signs, 'zero')} differs (+0 and -0)"
    return VerdictCode.OTHER_LAYOUT, "Same weights, stored in another layout"


def _rounded(t: Tally) -> Claim:
    rounded = [x for x in t.pairs if x.status is Status.EQUAL_ROUNDED]
    if t.added or t.removed or not rounded or len(t.same) + len(rounded) < len(t.pairs):
        return None
    sides = {x.rounded_side for x in rounded}
    types = sorted({_type_of_cast(x) for x in rounded})
    names = ", other names" if _renamed(t) else ""
    if "both" in sides:
        # What moved by less than the coarser type's step cannot be told from a rounding.
        pairs = sorted({f"{x.dtype_a} in A, {x.dtype_b} in B" for x in rounded if x.rounded_side == "both"})
        return VerdictCode.ROUNDED, f"Same weights within two roundings{names}: {'; '.join(pairs)}"
    side = "" if sides == {"b"} else "; A is the rounded one" if sides == {"a"} else "; some in A, some in B"
    return VerdictCode.ROUNDED, f"Same weights rounded to {' and '.join(types)}{names}{side}"


def _type_of_cast(x: TensorDiff) -> str:
    """`f16`, `f16 by way of bf16`, `bf16 in A and f16 in B`."""
    if x.rounded_side == "both":
        return f"{x.dtype_a} in A and {x.dtype_b} in B"
    return f"{x.rounded_to} by way of {x.rounded_via}" if x.rounded_via else x.rounded_to


def _overflowed(t: Tally) -> Claim:
    """Claim a cast that made infinities or NaN of finite values, and changed nothing else."""
    broken = [x for x in t.changed if x.rounded_to and x.nonfinite_changed]
    alike = len(t.same) + sum(x.status is Status.EQUAL_ROUNDED for x in t.pairs)
    if t.added or t.removed or not broken or alike + len(broken) < len(t.pairs):
        return None
    types = sorted({x.rounded_to for x in broken})
    parts = []
    for side, other in (("a", "A"), ("b", "B")):
        lost = [x for x in broken if x.rounded_side == side]
        if lost:
            n = sum(x.nonfinite_changed for x in lost)
            verb = "is" if n == 1 else "are"
            where = listed([x.name for x in lost], 3, "tensor")
            parts.append(f"{plural(n, 'finite value')} {verb} Inf or NaN in {other} ({where})")
    return VerdictCode.OVERFLOWED, f"Cast to {' and '.join(types)} with overflow: {'; '.join(parts)}"


def _close(t: Tally) -> Claim:
    alike = (*SAME, Status.EQUAL_ROUNDED, Status.WITHIN_TOLERANCE)
    if t.added or t.removed or not all(x.status in alike for x in t.pairs):
        return None
    return VerdictCode.WITHIN_TOLERANCE, "Same weights within the tolerance"


def _more_or_less(t: Tally) -> Claim:
    """Claim that all tensors on both sides are equal, and that one side or each has more."""
    if not t.pairs or len(t.same) < len(t.pairs) or not _shares_most(t):
        return None
    parts = [f"{side} has {plural(len(x), 'tensor')} more" for side, x in (("A", t.removed), ("B", t.added)) if x]
    names = ", other names" if _renamed(t) else ""
    moved = f" ({told})" if (told := _moves(t)) else ""
    return VerdictCode.AND_MORE, f"Same weights{names} in what both have; {', '.join(parts)}{moved}"


def _moved(t: Tally) -> Claim:
    """Claim that tensors of A stand elsewhere in B, if nothing else shows a common base."""
    rest = t._replace(pairs=tuple(x for x in t.changed if not (x.copy_of or x.kept_in)))
    told = _moves(t)
    if not told or kinship(rest) is True:
        return None
    others = f"; {plural(len(rest.pairs), 'other tensor')} changed" if rest.pairs else ""
    return VerdictCode.MOVED, f"Weights moved, bit for bit: {told}; {_untouched(t)}{others}{_structure(t)}"


def _moves(t: Tally) -> str:
    """Return which modules stand elsewhere; empty if none does."""
    moved = [x for x in (*t.pairs, *t.added, *t.removed) if x.copy_of or x.kept_in]
    return listed(copies.in_words(copies.moves(moved)), 3, "move", "; ") if moved else ""


def _resized(t: Tally) -> Claim:
    """Claim that the only difference is the length of some tensors."""
    resized = [x for x in t.reshaped if x.part]
    alike = [x for x in t.pairs if x.status in SAME or (x.part and x.changed == 0)]
    if t.added or t.removed or not resized or len(alike) < len(t.pairs):
        return None
    where = listed([x.name for x in resized], 3, "tensor")
    return VerdictCode.RESIZED, f"Same weights in what both have; another length of {where} ({resized[0].note})"


def _adapter(t: Tally) -> Claim:
    """Claim that one side is an adapter, by its names, for weights of the other."""
    for side, other, own, base in (("B", "A", t.added, t.removed), ("A", "B", t.removed, t.added)):
        if not own or not is_adapter(x.name for x in own):
            continue
        known = {module_key(x.name) for x in base}
        tensors = [(x, name) for x in own if (name := adapter_name(x.name)) is not None]
        targets = {name.target for _, name in tensors}
        ranks = sorted({x.shape[0] for x, name in tensors if name.what in DOWN and x.shape})
        found = len(targets & known)
        if not found:
            continue
        rank = f", of rank {', '.join(map(str, ranks[:4]))}" if ranks else ""
        missing = f"; {len(targets) - found:,} of its targets are not in {other}" if found < len(targets) else ""
        text = f"{side} is an adapter for {plural(found, 'weight')} of {other}{rank}{missing}"
        return VerdictCode.ADAPTER, text
    return None


def _other_names(t: Tally) -> Claim:
    """Claim that the shapes are the same in the same order, of models whose values are no proof of kinship."""
    ordered = sum(x.how_matched is How.ORDER for x in t.pairs)
    if not ordered or 2 * ordered < len(t.pairs) or kinship(t) is True:
        return None
    smaller, other = (t.added, "A") if len(t.added) <= len(t.removed) else (t.removed, "B")
    n, side = len(t.pairs) + len(smaller), "B" if other == "A" else "A"
    text = f"Other names for the same shapes: {len(t.pairs):,} of {plural(n, 'tensor')} of {side} fit {other} in order"
    return VerdictCode.OTHER_NAMES_SAME_SHAPES, f"{text}; {len(t.same):,} equal, {len(t.changed):,} changed"


def _no_names(t: Tally) -> Claim:
    """Claim that the names do not tell which tensors belong together, though the shapes are alike."""
    if _shares_most(t):
        return None
    a, b = (Counter(x.shape for x in side) for side in (t.removed, t.added))
    common, larger = (a & b).total(), max(a.total(), b.total())
    if 2 * common < larger or not common:
        return None
    text = f"Other names: {common:,} of {plural(larger, 'tensor')} have a shape that the other side has too"
    return VerdictCode.OTHER_NAMES_SAME_SHAPES, f"{text}, but nothing tells which belong together"


def _replaced(t: Tally) -> Claim:
    """Claim that what changed is unrelated to what was there, of models that share the rest."""
    changed = t._replace(pairs=t.changed)
    if not t.same or kinship(t) is not True or kinship(changed) is not False:
        return None
    where = listed([x.name for x in t.changed], 3, "tensor")
    n, verb = plural(len(t.changed), "tensor"), "holds" if len(t.changed) == 1 else "hold"
    text = f"Partly replaced: {_untouched(t)}; {n} of the same names {verb} unrelated values ({where})"
    return VerdictCode.PARTLY_REPLACED, text + _structure(t)


def _architecture(t: Tally) -> Claim:
    if _shares_most(t):
        return None
    n, common = len(t.pairs) + max(len(t.added), len(t.removed)), len(t.compared)
    tensors = plural(n, "tensor")
    return VerdictCode.DIFFERENT_ARCHITECTURES, f"Different architectures: {common:,} of {tensors} can be compared"


def _fine_tune(t: Tally) -> Claim:
    if kinship(t) is not True or not _moved_little(t):
        return None
    structure = _structure(t)
    largest = _largest(t.changed)
    where = f", largest change in {largest.name}" if largest else ""
    return VerdictCode.FINE_TUNE, f"Fine-tune of the same base: {_untouched(t)}{where}{structure}"


def _untouched(t: Tally) -> str:
    rounded = [x for x in t.pairs if x.status is Status.EQUAL_ROUNDED]
    text = f"{len(t.same) + len(rounded):,} of {plural(len(t.pairs), 'tensor')} untouched"
    return (
        f"{text} but for rounding to {' and '.join(sorted({_type_of_cast(x) for x in rounded}))}" if rounded else text
    )


def _relatives(t: Tally) -> Claim:
    """Claim a likeness of values that changed by as much as their size: no proof of a common base."""
    if kinship(t) is not True:
        return None
    return VerdictCode.RELATED, f"Related values, much changed: {_untouched(t)}; they may share a base{_structure(t)}"


def _strangers(t: Tally) -> Claim:
    if kinship(t) is not False:
        return None
    structure = _structure(t)
    if structure:
        return VerdictCode.SIMILAR_ARCHITECTURE, f"Different models of similar architectures{structure}"
    return VerdictCode.DIFFERENT, "Different models of the same architecture"


def _unsure(t: Tally) -> Claim:
    largest = _largest(t.changed)
    where = f", largest change in {largest.name}" if largest else ""
    return (
        VerdictCode.CHANGED,
        f"Same architecture{_structure(t)}: {_untouched(t)}{where}; the values do not say whether they share a base",
    )


_RULES: tuple[Callable[[Tally], Claim], ...] = (
    _unreadable, _nothing, _equal, _rounded, _overflowed, _close, _more_or_less, _moved, _resized, _adapter,
    _other_names, _no_names, _architecture, _replaced, _fine_tune, _relatives, _strangers, _unsure,
)  # fmt: skip

#: Verdicts whose sentence must mention other differences.
_ABOUT_EQUAL = frozenset(
    {
        VerdictCode.NO_WEIGHTS,
        VerdictCode.SAME,
        VerdictCode.OTHER_NAMES,
        VerdictCode.OTHER_TYPE,
        VerdictCode.OTHER_LAYOUT,
        VerdictCode.OTHER_ZEROS,
        VerdictCode.ROUNDED,
        VerdictCode.WITHIN_TOLERANCE,
        VerdictCode.AND_MORE,
    }
)


def _renamed(t: Tally) -> bool:
    return any(x.how_matched not in (How.NAME, How.PREFIX, How.SEPARATOR, How.WRAPPER, How.PLACE) for x in t.pairs)


def _shares_most(t: Tally) -> bool:
    """Return whether most values of the larger side have a counterpart in a tensor of the same shape."""
    common = sum(x.numel for x in t.compared)
    sides = (sum(x.numel for x in t.added), sum(x.numel for x in t.removed))
    reshaped = sum(x.numel for x in t.reshaped)
    return common > 0 and common >= _MOST * (common + reshaped + max(sides))


def _structure(t: Tally) -> str:
    parts = [
        f"{len(x):,} {word}" for x, word in ((t.added, "added"), (t.removed, "removed"), (t.reshaped, "reshaped")) if x
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _largest(changed: Sequence[TensorDiff]) -> TensorDiff | None:
    """Return the tensor with the largest relative change; one that was zero in A comes first."""
    return max(changed, key=relative_change, default=None)


def relative_change(t: TensorDiff) -> float:
    """Return ||a - b|| / ||a||, for sorting; infinite if ||a|| is 0, or if NaN or infinities changed."""
    if t.changed and t.rel_l2 is None:
        return math.inf
    return math.inf if t.nonfinite_changed else t.rel_l2 or 0.0


def kinship(t: Tally) -> bool | None:
    """Return whether the values come from one base; None if they do not tell.

    Independent models do not correlate after subtracting the means (scales of normalizations are near 1 everywhere). A
    tensor that is bit-identical and not constant was copied.
    """
    related = unrelated = total = 0
    for x in t.compared:
        n = x.numel
        if x.kind is Kind.BUFFER or n < LEAST_VALUES:
            continue
        if x.status in (*SAME, Status.EQUAL_ROUNDED):
            # Untrained tensors may be constant, and tell nothing then.
            if x.correlation is not None:
                related, total = related + n, total + n
            continue
        if x.correlation is None:
            continue
        total += n
        sigmas = abs(x.correlation) * math.sqrt(n)
        related += n * (x.correlation > RELATED and sigmas > _SIGMAS_RELATED)
        unrelated += n * (abs(x.correlation) < UNRELATED or sigmas < _SIGMAS_UNRELATED)
    if not total:
        return None
    return True if related > _MOST * total else False if unrelated > _MOST * total else None


def _moved_little(t: Tally) -> bool:
    """Return whether most values are in tensors that changed little, relative to the larger side."""
    little = sum(x.numel for x in t.compared if (x.l2 or 0.0) <= LITTLE * max(x.norm_a or 0.0, x.norm_b or 0.0))
    return little > _MOST * sum(x.numel for x in t.compared)


# -- evidence -------------------------------------------------------------------------------------------


def _beside(t: Tally, metadata: Sequence[Changed]) -> str:
    parts = []
    differing = [x for x in t.state if not x.is_same]
    if differing:
        kinds, statuses = {x.kind for x in differing}, {x.status for x in t.state}
        what = "optimizer state" if kinds == {Kind.OPTIMIZER} else "training state"
        alone = {(Status.REMOVED,): "A", (Status.ADDED,): "B"}.get(tuple(statuses))  # type: ignore[arg-type]
        parts.append(f"{alone} alone has {what}" if alone else f"the {what} differs")
    if metadata:
        parts.append(f"metadata differs in {metadata[0].key}" if len(metadata) == 1 else "metadata differs")
    return "; " + "; ".join(parts) if parts else ""


def _correlation(t: Tally) -> Correlation | None:
    values = [x for x in t.changed if x.correlation is not None and x.numel >= LEAST_VALUES]
    if not values:
        return None
    weight = sum(x.numel for x in values)
    return Correlation(sum((x.correlation or 0.0) * x.numel for x in values) / weight, len(values))


def correlation_sentence(correlation: Correlation) -> str:
    """`the 3 tensors of 32 or more values that changed correlate by 0.98`."""
    tensors, mean = plural(correlation.tensors, "tensor"), significant(correlation.mean, 3)
    return f"the {tensors} of {LEAST_VALUES} or more values that changed correlate by {mean}"


def _evidence(t: Tally, metadata: Sequence[Changed], correlation: Correlation | None) -> Iterable[str]:
    if t.pairs:
        yield f"{len(t.same):,} of {plural(len(t.pairs), 'tensor')} on both sides have equal values"
    for found, what in ((t.added, "only in B"), (t.removed, "only in A"), (t.reshaped, "of another shape")):
        if found:
            yield f"{plural(len(found), 'tensor')} {what}"
    if correlation is not None:
        yield correlation_sentence(correlation)
    if t.state:
        differing = sum(not x.is_same for x in t.state)
        yield f"training state: {differing:,} of {plural(len(t.state), 'tensor')} differ"
    if metadata:
        yield f"{plural(len(metadata), 'key')} of metadata differ"
