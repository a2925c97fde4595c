"""What `pinspect diff` knows of two checkpoints, as plain data: the `pinspect/1` object of the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from inspectcli.commands.diff.compare import SAME, Status
from inspectcli.commands.diff.match import How
from inspectcli.commands.diff.metadata import Changed
from inspectcli.commands.diff.names import Rewrite
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_FOUND
from inspectcli.document import report_document, written
from inspectcli.tensors.model import TRAINING_STATE, Hazard, Kind
from inspectcli.words import Word


@written(
    quiet=(
        "layout", "rounded_to", "rounded_side", "rounded_via", "zero_signs", "tied", "copy_of", "kept_in", "part",
        "rank", "rank_at_least", "note", "problem", "nonfinite_index",
        "within_tolerance",
    )
)  # fmt: skip
class TensorDiff(NamedTuple):
    """One tensor: on both sides, or on one.

    Attributes:
        a: its name in A; None if it is not there.
        b: its name in B; None if it is not there.
        status: what became of it; None if it could not be read: see `problem`.
        how_matched: by what; empty for a tensor of one side only.
        kind: what it is for.
        shape_a: in A.
        shape_b: in B.
        dtype_a: element type in A.
        dtype_b: element type in B.
        layout: how the elements lie in B, in words; empty if as in A.
        max_abs: largest |a - b| of finite values.
        max_abs_index: where in A.
        l2: ||a - b||.
        rel_l2: ||a - b|| / ||a||.
        cosine: of the two as vectors; 1 of two zero tensors.
        correlation: the cosine after the means are taken away.
        changed: values that differ.
        changed_fraction: their share.
        mean_a: mean of the finite values in A.
        mean_b: mean of the finite values in B.
        std_a: their standard deviation in A.
        std_b: their standard deviation in B.
        norm_a: ||a||.
        norm_b: ||b||.
        nan_a: NaN in A.
        nan_b: NaN in B.
        nonfinite_changed: places where one side is NaN or infinite, and the other is not the same.
        nonfinite_index: the first of them.
        within_tolerance: whether all values are close; None if no tolerance was given.
        rounded_to: the element type of the cast that makes one side the other. With `nonfinite_changed`, finite
            values became infinite or NaN in it: no rounding.
        rounded_side: `a` or `b`, the side that was cast; `both` if each holds the same values in its own rounding.
        rounded_via: the element type to which they were cast before that.
        zero_signs: places where one side holds +0 and the other -0, of equal values.
        tied: whether it is another tensor's second name on every side that has it: its elements are counted there.
        copy_of: the tensor of A, another one than `a`, whose values stand here in B, bit for bit.
        kept_in: the tensor of B, another one than `b`, that holds the values that A has here, bit for bit.
        part: what the figures are of, if not of the whole: the rows that both sides have, or a slice of a tensor that
            holds several of the other side.
        rank: of the difference, above the rounding of the stored values.
        rank_at_least: whether the rank may be larger: no more were looked for.
        note: what else a reader should know: tied tensors.
        problem: why it could not be compared.
    """

    a: str | None
    b: str | None
    status: Status | None
    how_matched: How
    kind: Kind
    shape_a: tuple[int, ...] | None = None
    shape_b: tuple[int, ...] | None = None
    dtype_a: str | None = None
    dtype_b: str | None = None
    layout: str = ""
    max_abs: float | None = None
    max_abs_index: tuple[int, ...] | None = None
    l2: float | None = None
    rel_l2: float | None = None
    cosine: float | None = None
    correlation: float | None = None
    changed: int | None = None
    changed_fraction: float | None = None
    mean_a: float | None = None
    mean_b: float | None = None
    std_a: float | None = None
    std_b: float | None = None
    norm_a: float | None = None
    norm_b: float | None = None
    nan_a: int = 0
    nan_b: int = 0
    nonfinite_changed: int = 0
    nonfinite_index: tuple[int, ...] | None = None
    within_tolerance: bool | None = None
    rounded_to: str = ""
    rounded_side: str = ""
    rounded_via: str = ""
    zero_signs: int = 0
    tied: bool = False
    copy_of: str = ""
    kept_in: str = ""
    part: str = ""
    rank: int | None = None
    rank_at_least: bool = False
    note: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """As B has it, and A if B does not."""
        return self.b if self.b is not None else self.a or ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shape_b if self.shape_b is not None else self.shape_a or ()

    @property
    def dtype(self) -> str:
        return self.dtype_b or self.dtype_a or ""

    @property
    def numel(self) -> int:
        """Elements, of the larger side."""
        return max(prod(shape) for shape in (self.shape_a, self.shape_b) if shape is not None)

    @property
    def is_state(self) -> bool:
        """Whether it belongs to the training, not to the model."""
        return self.kind in TRAINING_STATE

    @property
    def is_same(self) -> bool:
        return self.status in SAME


class Side(NamedTuple):
    """One of the two checkpoints.

    Attributes:
        path: what was named.
        format: how it is stored: `torch-zip`, `safetensors`, ...
        size: bytes of all its files.
        tensors: number of them.
        parameters: elements of the model, tied ones once.
        writer: the library that wrote it, as far as known.
        hazards: what would act on a careless loader.
    """

    path: str
    format: str
    size: int
    tensors: int
    parameters: int
    writer: str = ""
    hazards: tuple[Hazard, ...] = ()


class Prefix(NamedTuple):
    """A change of prefix that explains many names.

    Attributes:
        a: what stands before them in A; empty if nothing.
        b: what stands before them in B; empty if nothing.
    """

    a: str
    b: str

    @staticmethod
    def of(rewrite: Rewrite) -> Prefix:
        return Prefix(".".join(rewrite.before), ".".join(rewrite.after))

    @property
    def is_wrapper(self) -> bool:
        """Whether one side only adds a prefix."""
        return not (self.a and self.b)


class VerdictCode(Word):
    """What the differences amount to, for programs."""

    SAME = "same-weights"
    OTHER_NAMES = "same-weights-other-names"
    OTHER_TYPE = "same-weights-other-type"
    OTHER_LAYOUT = "same-weights-other-layout"
    OTHER_ZEROS = "same-weights-other-zeros"  # the sign of zero differs
    ROUNDED = "same-weights-rounded"
    OVERFLOWED = "cast-with-overflow"
    AND_MORE = "same-weights-and-more"
    WITHIN_TOLERANCE = "same-within-tolerance"
    MOVED = "weights-moved"
    RESIZED = "same-weights-resized"
    ADAPTER = "adapter"
    OTHER_NAMES_SAME_SHAPES = "other-names-same-shapes"
    PARTLY_REPLACED = "partly-replaced"
    FINE_TUNE = "fine-tune"
    RELATED = "related-models"
    DIFFERENT = "different-models"
    SIMILAR_ARCHITECTURE = "different-models-similar-architecture"
    DIFFERENT_ARCHITECTURES = "different-architectures"
    CHANGED = "changed"  # the values do not say whether they share a base
    NO_WEIGHTS = "no-weights"
    NOT_COMPARED = "not-compared"


class Correlation(NamedTuple):
    """How alike the values are that changed.

    Attributes:
        mean: of the tensors' correlations, each weighted by its number of values.
        tensors: how many are large enough to tell.
    """

    mean: float
    tensors: int


class DiffVerdict(NamedTuple):
    """What the differences amount to.

    Attributes:
        code: for programs.
        text: one sentence, no more certain than the evidence.
        evidence: what it rests on, a sentence each.
        correlation: how alike the values are that changed; None if too few did.
    """

    code: VerdictCode
    text: str
    evidence: tuple[str, ...] = ()
    correlation: Correlation | None = None


class Asked(NamedTuple):
    """What counts as a difference.

    Attributes:
        rounding_allowed: whether a rounded copy counts as the same.
        names_strict: whether a wrapper's prefix on all names counts as a difference.
        metadata_strict: whether differing metadata count as a difference.
        tolerance: whether close values count as the same.
    """

    rounding_allowed: bool = False
    names_strict: bool = False
    metadata_strict: bool = False
    tolerance: bool = False


@written(also=("exit_code", "same", "counts"))
@dataclass(frozen=True)
class DiffReport:
    """What `diff` returns: the same data as `pinspect diff --format json`.

    Attributes:
        a: the first checkpoint.
        b: the second.
        verdict: what the differences amount to.
        tensors: in A's order, those only in B at the end.
        metadata: keys besides the tensors that differ.
        prefixes: changes of prefix that explain most names.
        asked: what counts as a difference.
    """

    a: Side
    b: Side
    verdict: DiffVerdict
    tensors: tuple[TensorDiff, ...]
    metadata: tuple[Changed, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    asked: Asked = Asked()  # noqa: RUF009  (immutable)

    @property
    def same(self) -> bool:
        """Whether every tensor has an equal one on the other side, under the same name."""
        return (
            all(self.is_equal(t) for t in self.tensors)
            and self.names_agree
            and not (self.asked.metadata_strict and self.metadata)
        )

    def is_equal(self, tensor: TensorDiff) -> bool:
        """Whether a tensor counts as equal: rounded and close ones do if that was asked for."""
        return (
            tensor.is_same
            or (self.asked.tolerance and bool(tensor.within_tolerance))
            or (self.asked.rounding_allowed and tensor.status is Status.EQUAL_ROUNDED)
        )

    @property
    def names_agree(self) -> bool:
        """Whether all names are the same, but for wrappers' parts or the container's separator."""
        allowed = (How.NAME,) if self.asked.names_strict else (How.NAME, How.SEPARATOR, How.WRAPPER, How.PLACE)
        model = [t for t in self.tensors if not t.is_state]
        rest = [t for t in self.tensors if t.is_state]
        # Formats name the state of an optimizer in ways of their own: equal values are enough.
        of_state = allowed if self.asked.names_strict else (*allowed, How.CONTENT)
        if all(t.how_matched in allowed for t in model) and all(t.how_matched in of_state for t in rest):
            return True
        return not self.asked.names_strict and (
            len(self.prefixes) == 1
            and self.prefixes[0].is_wrapper
            and all(t.how_matched is How.PREFIX for t in model)
            and all(t.how_matched in (*allowed, How.PREFIX, How.CONTENT) for t in rest)
        )

    @property
    def problems(self) -> tuple[TensorDiff, ...]:
        """Tensors that could not be compared."""
        return tuple(t for t in self.tensors if t.problem)

    @property
    def exit_code(self) -> int:
        """2 if a tensor could not be compared, 0 if all is the same, else 1."""
        return EXIT_FAILED if self.problems else EXIT_CLEAN if self.same else EXIT_FOUND

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of tensors by status."""
        made = {status.value: 0 for status in Status}
        for tensor in self.tensors:
            if tensor.status is not None:
                made[tensor.status.value] += 1
        return made

    def __getitem__(self, name: str) -> TensorDiff:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, TensorDiff]:
        """By the name on either side; of equal names the first row counts."""
        return {name: row for row in reversed(self.tensors) for name in (row.a, row.b) if name is not None}

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("diff", self)
