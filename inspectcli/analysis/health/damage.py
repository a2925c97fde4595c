"""Damage (PI1xx): zeros where a write stopped, codes without their scale, a bit of an exponent that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import OF_LAYER, Part
from inspectcli.display.text import significant
from inspectcli.measure.least import Least, LeastMagnitudes
from inspectcli.measure.whole_numbers import WholeNumbers
from inspectcli.measure.zero_runs import ZeroRuns

#: Whole numbers up to this one are ternary weights, one-hot codes, small filters.
_FEW_CODES = 8
#: Values of which the smallest says something, and of which all are whole numbers by no chance.
_LEAST = 256
#: The smallest of n values is about the root mean square over n. Below this share of it, a random one lies once in a
#: hundred thousand tensors; the next one then lies above the other share.
_LOST, _NORMAL = 1e-5, 1e-3
#: What a bit of an exponent multiplies by. Smaller ones do not take a value out of the crowd.
_BITS = (2.0**32, 2.0**64, 2.0**128, 2.0**256, 2.0**512)
#: Leaves of what stands beside integer codes: then they are a quantized layer.
_SCALES = ("scale", "scales", "zero_point", "zeros", "absmax", "amax")


class _Hole(NamedTuple):
    """A run of zeros: where it begins, how long it is, and what that means."""

    first: int
    size: int
    words: str


@rule("PI107", "zero-run", Severity.WARNING, needs=(ZeroRuns,))
def zero_run(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight has a run of zeros that ends or begins within a row, or a half of zeros at its end.

    Why it matters: a write that stopped, a disk that was full or a sector that was lost leaves such zeros. A loader
    takes them for weights.

    What it rests on: 16 zeros and more that follow one another in the file, in a tensor with next to no other zeros
    (less than 1 %). Whole rows, columns and kernels of zeros may be pruned or padded units, and are left alone here;
    only where half of the rows of a layer or more, at its end, are zeros, and those of its siblings are not, they
    are told. Masks, tables of zeros, identities and pruned weights have more than four runs, or other zeros.

    What to do: compare the file's checksum with its origin, and fetch or save it again.
    """
    for tensor in subject.unique:
        runs = tensor.get(ZeroRuns)
        if runs is None or not runs.long or not tensor.role.is_weight or tensor.role.kind is Part.LORA_B:
            continue
        hole = next(_holes(subject, tensor, runs.long), None)
        if hole is not None:
            last, total = hole.first + hole.size - 1, tensor.ref.numel
            others = runs.others + sum(size for _, size in runs.long) - hole.size
            yield RuleHit(
                tensor.name,
                f"{hole.size:,} zeros in a row {hole.words} (values {hole.first:,} to {last:,} of {total:,}), "
                f"{_count(others)} elsewhere",
                {"first": hole.first, "count": hole.size, "others": others},
            )


def _count(others: int) -> str:
    return f"{others:,}" if others else "none"


def _holes(subject: RuleContext, tensor: TensorFacts, runs: Iterable[tuple[int, int]]) -> Iterator[_Hole]:
    shape, total = tensor.ref.shape, tensor.ref.numel
    units = [unit for axis in range(1, len(shape)) if (unit := prod(shape[axis:])) > 1]
    for first, size in runs:
        if size == total or (first == 0 and units and 2 * size == units[0]):  # all, or the sines of position 0
            continue
        is_last = first + size == total
        if not any(first % unit == 0 and (first + size) % unit == 0 for unit in units):
            yield _Hole(first, size, "at the end" if is_last else "within the tensor")
        elif is_last and 2 * size >= total and first % units[0] == 0 and _is_lost_half(subject, tensor):
            yield _Hole(first, size, "at the end")


def _is_lost_half(subject: RuleContext, tensor: TensorFacts) -> bool:
    """Return whether rows at the end are no design: of a layer of a trained model, and of none of its siblings."""
    if not subject.trained or not OF_LAYER.search(tensor.role.leaf) or tensor.role.kind is Part.EMBEDDING:
        return False
    siblings = [other for other in subject.siblings.get(tensor.name, ()) if other is not tensor]
    return not any(_has_half(other) for other in siblings)


def _has_half(tensor: TensorFacts) -> bool:
    s = tensor.stats
    return s is not None and 2 * s.zeros >= s.count


@rule("PI108", "integer-codes", Severity.WARNING, needs=(WholeNumbers,))
def integer_codes(subject: RuleContext) -> Iterable[RuleHit]:
    """A weight of a floating type holds nothing but whole numbers.

    Why it matters: these are the codes of a quantized tensor, whose scale was not applied: the layer's output is a
    hundred times too large.

    What it rests on: all values are whole, and the largest is above 8. Ternary weights, one-hot tables and small
    filters are below that; codes with a scale beside them are a quantized layer, and are left alone.

    What to do: convert the model again, with a tool that multiplies the codes by their scales.
    """
    for tensor in subject.unique:
        s = tensor.stats
        if s is None or not tensor.get(WholeNumbers) or not tensor.role.is_weight or tensor.ref.numel < _LEAST:
            continue
        if s.abs_max is None or s.abs_max <= _FEW_CODES or s.low == s.high or _has_scale(subject, tensor):
            continue
        siblings = subject.siblings.get(tensor.name, ())
        are_all = len(siblings) > 1 and all(other.get(WholeNumbers) for other in siblings)
        if OF_LAYER.search(tensor.role.leaf) or (len(siblings) > 1 and not are_all):
            yield RuleHit(
                tensor.name,
                f"all {s.count:,} values are whole numbers, from {s.low:,.0f} to {s.high:,.0f}",
                {"min": s.low, "max": s.high, "count": s.count},
            )


def _has_scale(subject: RuleContext, tensor: TensorFacts) -> bool:
    return any(
        other.endswith(_SCALES) for other in subject.modules.get(tensor.role.module, {}) if other != tensor.role.leaf
    )


@rule("PI109", "lost-exponent", Severity.NOTE, needs=(LeastMagnitudes,))
def lost_exponent(subject: RuleContext) -> Iterable[RuleHit]:
    """One value of a weight is far smaller than every other one.

    Why it matters: a bit of its exponent was cleared, by failing memory or a damaged file. One such value does little
    harm; what did it may have harmed others that do not show.

    What it rests on: of n values, the smallest is about the n-th part of their root mean square, and this one is below
    a hundred-thousandth of that, while the next one is where it belongs, and one bit of the exponent would put this one
    among the others. Values that decayed are many, and are left alone. It happens by chance, in less than one of a
    hundred thousand tensors; bits that were set, or cleared in a smaller exponent, cannot be told from healthy values.
    Weights of more than a million values are not looked at.

    What to do: compare the file's checksum with its origin.
    """
    for tensor in subject.unique:
        s = tensor.stats
        least = tensor.get(LeastMagnitudes)
        if s is None or least is None or not tensor.role.is_weight or s.nonfinite or s.finite - s.zeros < _LEAST:
            continue
        largest = float(s.abs_max or 0)
        if _is_lost(least, tensor.rms / (s.finite - s.zeros)) and _was(least.first, least.second, largest):
            yield RuleHit(
                tensor.name,
                f"the smallest magnitude is {significant(least.first, 2)}, the next one {significant(least.second, 2)}",
                {"smallest": least.first, "next": least.second},
            )


def _was(value: float, low: float, high: float) -> bool:
    """Return whether one bit of the exponent, set, puts a value among the others."""
    return any(low <= value * factor <= high for factor in _BITS)


def _is_lost(least: Least, expected: float) -> bool:
    return 0 < least.first < _LOST * expected and least.second > _NORMAL * expected
