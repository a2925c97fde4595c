"""Was it trained? One judgment from all that tells: counters, optimizer, norms, biases, and weights as drawn or not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from inspectcli.analysis.facts import InitMatch, Strength, TensorFacts
from inspectcli.analysis.roles import Part
from inspectcli.tensors.model import Checkpoint, Kind
from inspectcli.words import Word

#: Share of the weights that must be as drawn, or not, to tell without other evidence.
_MOST = 0.9
_HALF = 0.5
#: Fewest weights that tell by themselves that a model was trained.
_FEWEST = 3
_NORM = re.compile(r"norm|(^|[._/])(bn|ln|gn)[\w]*($|[._/])|_(bn|ln)($|[._/])", re.IGNORECASE)


class Answer(Word):
    """Whether a model was trained."""

    TRAINED = "trained"
    NOT_TRAINED = "not-trained"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TrainingJudgment:
    """Whether the model was trained, and what tells.

    Attributes:
        answer: trained, not-trained, or unknown.
        evidence: what tells, for or against, the strongest first; weights that moved, of a trained model, last.
        weights: number of weights that are not constants, tied ones and moving averages left out.
        moved: how many of them fit no initializer.
        as_drawn: how many look as an initializer drew them.
        moved_share: moved over moved and as drawn; null if there are neither. What is unknown does not count.
    """

    answer: Answer = Answer.UNKNOWN
    evidence: tuple[str, ...] = ()
    weights: int = 0
    moved: int = 0
    as_drawn: int = 0
    moved_share: float | None = None

    @property
    def is_trained(self) -> bool:
        return self.answer is Answer.TRAINED


class _Sign(NamedTuple):
    """A fact that tells for training, or that nothing was trained."""

    is_for: bool
    words: str


def judge(checkpoint: Checkpoint, tensors: Sequence[TensorFacts]) -> TrainingJudgment:
    """Judge one checkpoint; without verdicts on its tensors, only by what the file says of itself."""
    own = [t for t in tensors if not t.alias_of and t.ref.kind is not Kind.EMA]
    verdicts = [t.verdict for t in own if t.role.is_weight and t.verdict is not None and t.verdict.is_drawn]
    moved = sum(v.strength is Strength.MOVED for v in verdicts)
    as_drawn = sum(v.is_as_drawn for v in verdicts)
    signs = list(_signs(checkpoint, own))
    answer = _answer(signs, moved, as_drawn)
    told = [s.words for s in signs if answer is Answer.UNKNOWN or s.is_for is (answer is Answer.TRAINED)]
    if answer is Answer.TRAINED and moved:
        told.append(
            "1 weight fits no known initializer" if moved == 1 else f"{moved:,} weights fit no known initializer"
        )
    known = moved + as_drawn
    return TrainingJudgment(answer, tuple(told), len(verdicts), moved, as_drawn, moved / known if known else None)


def tempered(verdict: InitMatch, judgment: TrainingJudgment) -> InitMatch:
    """Say `unknown` of what fits no initializer, where nothing else shows that the model was trained."""
    if judgment.is_trained or verdict.strength is not Strength.MOVED or verdict.rows is not None:
        return verdict
    return verdict._replace(strength=Strength.UNKNOWN)


def after(judgment: TrainingJudgment) -> TrainingJudgment:
    """The judgment with its counts as they are once verdicts are tempered."""
    if judgment.is_trained or not judgment.moved:
        return judgment
    return replace(judgment, moved=0, moved_share=0.0 if judgment.as_drawn else None)


def _answer(signs: Iterable[_Sign], moved: int, as_drawn: int) -> Answer:
    known = moved + as_drawn
    share = moved / known if known else 0.0
    found = {sign.is_for for sign in signs}
    if True in found:
        return Answer.TRAINED if moved or not as_drawn else Answer.UNKNOWN
    if False in found:  # norms as created: weights of another kind than the table knows are no training
        return Answer.NOT_TRAINED if as_drawn and share < _HALF else Answer.UNKNOWN
    if share > _HALF:
        return Answer.TRAINED if moved >= _FEWEST else Answer.UNKNOWN
    return Answer.NOT_TRAINED if as_drawn and share <= 1 - _MOST else Answer.UNKNOWN


def _signs(checkpoint: Checkpoint, tensors: Sequence[TensorFacts]) -> Iterator[_Sign]:
    batches = [s.high for t in tensors if t.role.kind is Part.COUNTER and (s := t.stats) is not None and s.high]
    if batches:
        most = int(max(batches))
        yield _Sign(True, f"batch norms saw {most:,} batch{'' if most == 1 else 'es'}")
    steps = checkpoint.training.step
    if steps is not None and steps > 0:
        yield _Sign(True, f"the file is from step {steps:,}")
    epoch = checkpoint.training.epoch
    if not steps and epoch is not None and epoch > 0:
        yield _Sign(True, f"the file is from epoch {epoch:,}")
    yield from _of_norms(tensors)
    yield from _of_biases(tensors)


def _of_norms(tensors: Sequence[TensorFacts]) -> Iterator[_Sign]:
    shifts = (Part.NORM_SHIFT, Part.RUNNING_MEAN)
    shifted = {(t.role.module, t.ref.numel) for t in tensors if t.role.kind in shifts}
    scales = [
        t
        for t in tensors
        if t.role.kind is Part.NORM_SCALE
        and (
            (t.role.module, t.ref.numel) in shifted or _NORM.search(t.role.module)
        )  # other layers hold vectors called `weight`
        and t.stats is not None
        and t.stats.finite > 1
    ]
    off = sum(not _is_constant(t) and not _is_about_one(t) for t in scales)
    if scales and 2 * off > len(scales):
        yield _Sign(True, f"{off:,} of {len(scales):,} norms are off 1" if len(scales) > 1 else "the norm is off 1")
    still = sum(t.stats is not None and t.stats.low == t.stats.high == 1 for t in scales)
    if still and not off:
        yield _Sign(False, f"{still:,} norms are at 1" if still > 1 else "1 norm is at 1")


def _of_biases(tensors: Sequence[TensorFacts]) -> Iterator[_Sign]:
    """Biases that begin at 0 and have left it; those that are drawn say nothing here."""
    vectors = [
        t for t in tensors if t.role.kind in (Part.BIAS, Part.NORM_SHIFT) and t.stats is not None and t.stats.finite > 1
    ]
    zero = sum(t.stats is not None and t.stats.low == t.stats.high == 0 for t in vectors)
    off = sum(t.verdict is not None and t.verdict.strength is Strength.MOVED for t in vectors)
    if off > 1 and 2 * off > len(vectors):
        yield _Sign(True, f"{off:,} of {len(vectors):,} biases are off their start")
    elif zero > 1 and zero == len(vectors):
        yield _Sign(False, f"all {zero:,} biases are 0")


def _is_constant(tensor: TensorFacts) -> bool:
    return tensor.stats is not None and tensor.stats.low == tensor.stats.high


def _is_about_one(tensor: TensorFacts) -> bool:
    """Return whether a scale may be a draw from N(1, small), as GANs begin their norms."""
    s, sampled = tensor.stats, tensor.sampled
    if s is None or sampled is None or sampled.kurtosis is None or s.finite < 16:
        return False
    centered = abs(s.mean - 1) < 4 * s.std / math.sqrt(s.finite)
    return centered and abs(sampled.kurtosis - 3) < 4 * math.sqrt(24 / s.finite)
