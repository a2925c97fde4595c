"""Run of `pinspect diff`: open two checkpoints, match their tensors, compare them, and classify the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from inspectcli.commands.diff import content, copies, match, resized, slices
from inspectcli.commands.diff.compare import SAME, Comparison, Status, Tools, compare
from inspectcli.commands.diff.difference import Tolerance
from inspectcli.commands.diff.match import Match, Matching
from inspectcli.commands.diff.metadata import changes
from inspectcli.commands.diff.rank import rank_of_difference
from inspectcli.commands.diff.result import Asked, DiffReport, Prefix, Side, TensorDiff
from inspectcli.commands.diff.verdict import classify
from inspectcli.errors import PinspectError
from inspectcli.measure.workers import Progress, WorkerPool
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.arithmetic import unravel
from inspectcli.tensors.layout import Layout
from inspectcli.tensors.model import Checkpoint, TensorRef, aliases


@dataclass(frozen=True, slots=True)
class Options:
    """What is compared, and how.

    Attributes:
        tolerance: which values count as equal.
        rounding_allowed: a rounded copy counts as equal.
        names_strict: a prefix on all names counts as a difference.
        metadata_strict: differing metadata count as a difference.
        rank: find the rank of the difference of matrices.
        mapped: names in A -> names in B, given by the user.
        wanted: tells by name which tensors to compare; None for all.
    """

    tolerance: Tolerance = Tolerance()  # noqa: RUF009  (immutable)
    rounding_allowed: bool = False
    names_strict: bool = False
    metadata_strict: bool = False
    rank: bool = False
    mapped: Mapping[str, str] = field(default_factory=dict)
    wanted: Callable[[str], bool] | None = None

    @property
    def asked(self) -> Asked:
        return Asked(self.rounding_allowed, self.names_strict, self.metadata_strict, bool(self.tolerance))


def diff(
    a: object,
    b: object,
    *,
    atol: float = 0.0,
    rtol: float = 0.0,
    allow_rounding: bool = False,
    strict_names: bool = False,
    strict_metadata: bool = False,
    rank: bool = False,
    mapped: Mapping[str, str] | None = None,
) -> DiffReport:
    """Compare two checkpoints: every value of every tensor, and the metadata.

    Args:
        a, b: paths, checkpoints from `open_checkpoint`, live `nn.Module`s or state dicts.
        atol, rtol: values are close if |a - b| <= atol + rtol * max(|a|, |b|).
        allow_rounding: a copy rounded to bf16, f16 or fp8 counts as the same.
        strict_names: a wrapper's prefix on all names counts as a difference.
        strict_metadata: differing metadata count as a difference.
        rank: find the rank of the difference of matrices, such as that of a merged LoRA.
        mapped: names in A -> names in B.

    Returns:
        A report: `.same` tells whether all is equal, `.verdict` what the differences amount to.

    Raises:
        PinspectError: one of them cannot be opened, or changed while it was read. A tensor that cannot be read has a
            `problem` instead.

    >>> report = diff("fixtures/mlp.pt", "fixtures/mlp.safetensors")
    >>> report.same, report.verdict.text
    (True, 'Same weights, bit for bit')
    """
    from inspectcli.formats import open_location

    options = Options(Tolerance(atol, rtol), allow_rounding, strict_names, strict_metadata, rank, mapped or {})
    left = opened(a)
    again = left.location if b is left else None
    right = open_location(again) if again is not None and again.exists() else opened(b)
    report = diff_checkpoints(left, right, options)
    ensure_unchanged((*left.sources, *right.sources))
    return report


def opened(target: object) -> Checkpoint:
    """Return the checkpoint at a path or of a live model; a checkpoint is returned as it is."""
    if isinstance(target, Checkpoint):
        return target
    if isinstance(target, str | os.PathLike):
        from inspectcli.formats import open_checkpoint

        return open_checkpoint(target)
    from inspectcli.formats.live import from_live

    return from_live(target)


def diff_checkpoints(
    a: Checkpoint,
    b: Checkpoint,
    options: Options = Options(),
    progress: Progress | None = None,
) -> DiffReport:
    """Compare two opened checkpoints."""
    tools = Tools()
    wanted = options.wanted
    left, right = ([r for r in c.tensors if wanted is None or wanted(r.name)] for c in (a, b))
    made = match.by_names(left, right, options.mapped)
    if wanted is not None:
        _complete(made, a, b)
    if not _is_listed_alike(made):
        content.by_content(made, tools)
        match.by_module(made)
        slices.by_slices(made, tools)
        content.state_by_values(made, tools, positions=a.format != b.format)
        match.by_position(made)
        match.by_order(made)
    content.resolve_layouts(made, tools)
    matches = _in_file_order(made, left)
    found = _all_compared(matches, options, progress)
    notes = _ties(a, b)
    found = [_noted(row, notes) for row in found]
    origins = copies.sources(matches, found, left, tools, "b")
    ends = copies.sources(matches, found, right, tools, "a")
    tensors = tuple(
        row._replace(copy_of=origin, kept_in=end) for row, origin, end in zip(found, origins, ends, strict=True)
    )
    metadata = tuple(changes(a, b))
    return DiffReport(
        a=_side(a),
        b=_side(b),
        verdict=classify(tensors, metadata),
        tensors=tensors,
        metadata=metadata,
        prefixes=tuple(map(Prefix.of, made.prefixes)),
        asked=options.asked,
    )


def _complete(made: Matching, a: Checkpoint, b: Checkpoint) -> None:
    """Add the counterparts of tensors that the filter accepts: it may accept the name on one side only."""
    if not (made.left or made.right):
        return
    whole = match.by_names(a.tensors, b.tensors, {})
    known_a, known_b = {id(r) for r in made.left}, {id(r) for r in made.right}
    made.prefixes = made.prefixes or whole.prefixes
    made.take([m for m in whole.pairs if id(m.a) in known_a or id(m.b) in known_b])


def _is_listed_alike(made: Matching) -> bool:
    return not (made.left and made.right)


def _in_file_order(made: Matching, left: Sequence[TensorRef]) -> list[Match]:
    """Return the matches in A's order, followed by the tensors that only B has."""
    order = {id(ref): i for i, ref in enumerate(left)}
    places = {ref.name: i for i, ref in enumerate(left)}
    matches = [*made.pairs, *(Match(ref, None) for ref in made.left)]
    # A part of a tensor stands where the tensor does.
    matches.sort(key=lambda m: order.get(id(m.a), places.get(m.a.name, len(order)) if m.a else len(order)))
    return [*matches, *(Match(None, ref) for ref in made.right)]


def _side(checkpoint: Checkpoint) -> Side:
    from inspectcli.commands.inspect.run import totals

    counted = totals(checkpoint.tensors)
    return Side(
        checkpoint.path,
        checkpoint.format,
        checkpoint.size,
        counted.tensors,
        counted.unique_model_parameters,
        checkpoint.writer,
        checkpoint.hazards,
    )


# -- tied tensors ---------------------------------------------------------------------------------------


def _ties(a: Checkpoint, b: Checkpoint) -> dict[tuple[str, str], str]:
    """Return (side, name) -> the first tensor to which it is tied on that side."""
    made = {}
    for side, checkpoint in (("a", a), ("b", b)):
        for position, first in aliases(checkpoint.tensors).items():
            made[side, checkpoint.tensors[position].name] = first
    return made


def _noted(row: TensorDiff, ties: Mapping[tuple[str, str], str]) -> TensorDiff:
    in_a, in_b = ties.get(("a", row.a or "")), ties.get(("b", row.b or ""))
    if row.a is None or row.b is None:
        first, side = (in_a, "A") if row.b is None else (in_b, "B")
        return row._replace(note=f"tied to {first} in {side}", tied=True) if first else row
    if bool(in_a) != bool(in_b):
        return row._replace(note=f"tied to {in_a} in A only" if in_a else f"tied to {in_b} in B only")
    return row._replace(tied=bool(in_a))


# -- all pairs ------------------------------------------------------------------------------------------


def _all_compared(matches: Sequence[Match], options: Options, progress: Progress | None) -> list[TensorDiff]:
    """Return a row for each match. Pairs are compared by several threads."""
    rows = [_listed(m) for m in matches]
    pairs = [i for i, m in enumerate(matches) if m.a is not None and m.b is not None]
    # HDF5 is decoded by one child process for each file, a dataset at a time.
    decoded = [i for i in pairs if _is_decoded(matches[i])]
    jobs = [[i] for i in pairs if not _is_decoded(matches[i])] + ([decoded] if decoded else [])
    crew = WorkerPool(((sum(_nbytes(matches[i]) for i in job), job) for job in jobs), progress)

    def worker() -> Callable[[list[int]], None]:
        tools = Tools(progress=crew.advance)

        def do(job: list[int]) -> None:
            for i in job:
                rows[i] = _compared(matches[i], options, tools)

        return do

    crew.run(worker)
    return rows


def _nbytes(m: Match) -> int:
    return sum(ref.nbytes for ref in (m.a, m.b) if ref is not None)


def _is_decoded(m: Match) -> bool:
    return any(s.codec.is_serial for ref in (m.a, m.b) if ref is not None for s in ref.segments)


def _listed(m: Match) -> TensorDiff:
    """Return the row of a match, as far as headers tell."""
    ref = m.b if m.b is not None else m.a
    assert ref is not None
    return TensorDiff(
        a=None if m.a is None else m.a.name,
        b=None if m.b is None else m.b.name,
        status=Status.ADDED if m.a is None else Status.REMOVED if m.b is None else None,
        how_matched=m.how,
        kind=ref.kind,
        shape_a=None if m.a is None else m.a.shape,
        shape_b=None if m.b is None else m.b.shape,
        dtype_a=None if m.a is None else m.a.dtype.name,
        dtype_b=None if m.b is None else m.b.dtype.name,
        layout="" if m.layout is None else m.layout.words,
        part=m.part,
    )


def _compared(m: Match, options: Options, tools: Tools) -> TensorDiff:
    row = _listed(m)
    a, b = m.a, m.b
    assert a is not None
    assert b is not None
    problem = a.problem or b.problem or _without_values(a, b)
    if problem:
        return row._replace(problem=problem)
    try:
        if m.layout is None and a.shape != b.shape:
            return _reshaped(row, a, b, options, tools)
        found = compare(a, b, m.layout, options.tolerance, tools)
        row = _with_figures(row, found, options)
        if options.rank and found.status in (Status.CHANGED, Status.WITHIN_TOLERANCE):
            row = _with_rank(row, a, b, m.layout, tools)
    except PinspectError as error:
        return row._replace(problem=f"{error.path}: {error.message}" if error.path else error.message)
    return row


def _without_values(a: TensorRef, b: TensorRef) -> str:
    """Return that nothing was compared, of tensors of which a file has only the shape and the type."""
    sides = [side for side, ref in (("A", a), ("B", b)) if not ref.has_values]
    if not sides:
        return ""
    return f"{' and '.join(sides)} {'hold' if len(sides) > 1 else 'holds'} no values of it, only its shape and type"


def _reshaped(row: TensorDiff, a: TensorRef, b: TensorRef, options: Options, tools: Tools) -> TensorDiff:
    """Return the row of tensors of different shapes; of equally many elements, with a comparison in C order."""
    row = row._replace(status=Status.RESHAPED)
    grown = resized.overlap(a, b)
    if grown is not None:
        found = compare(grown.a, grown.b, None, options.tolerance, tools)
        row = _with_figures(row, found, options)._replace(status=Status.RESHAPED)
        return row._replace(part=grown.words, note=resized.described(grown, found.status in SAME, tools))
    if a.numel != b.numel or a.strides or b.strides or a.held != a.numel or b.held != b.numel:
        return row
    found = compare(a, b, None, options.tolerance, tools)
    note = "same values in the same order" if found.status in (Status.IDENTICAL, Status.EQUAL_VALUES) else ""
    return _with_figures(row, found, options)._replace(status=Status.RESHAPED, note=note)


def _with_figures(row: TensorDiff, found: Comparison, options: Options) -> TensorDiff:
    f = found.figures
    row = row._replace(status=found.status, nan_a=found.nan, nan_b=found.nan, zero_signs=found.zero_signs)
    if f is None:
        same = found.status in (Status.IDENTICAL, Status.EQUAL_VALUES)
        if not same:
            return row
        correlation = 1.0 if found.varied else None
        equal = row._replace(max_abs=0.0, l2=0.0, rel_l2=0.0, cosine=1.0, changed=0, changed_fraction=0.0)
        return equal._replace(correlation=correlation)
    some = f.finite > 0
    rounded = found.rounded
    return row._replace(
        max_abs=f.max_abs,
        max_abs_index=_index(found.max_at, row.shape_a),
        l2=f.l2,
        rel_l2=f.rel_l2,
        cosine=f.cosine,
        correlation=f.correlation,
        changed=f.changed,
        changed_fraction=f.changed_fraction,
        mean_a=f.mean_a if some else None,
        mean_b=f.mean_b if some else None,
        std_a=f.std_a if some else None,
        std_b=f.std_b if some else None,
        norm_a=f.a.norm,
        norm_b=f.b.norm,
        nan_a=f.nan_a,
        nan_b=f.nan_b,
        nonfinite_changed=f.nonfinite,
        nonfinite_index=_index(found.nonfinite_at, row.shape_a),
        within_tolerance=f.beyond == 0 if options.tolerance else None,
        rounded_to="" if rounded is None else rounded.dtype,
        rounded_side="" if rounded is None else rounded.side,
        rounded_via="" if rounded is None else rounded.via,
    )


def _index(place: int | None, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if place is None or shape is None else unravel(place, shape)


def _with_rank(row: TensorDiff, a: TensorRef, b: TensorRef, permutation: Layout | None, tools: Tools) -> TensorDiff:
    found = rank_of_difference(a, b, permutation, tools)
    return row if found is None else row._replace(rank=found.rank, rank_at_least=found.at_least)
