"""The optimizer's memory (PI309 to PI311): moments that cannot be, parameters it has forgotten, impossible rates."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.optimizer import groups, states
from inspectcli.display.text import listed, setting, significant
from inspectcli.tensors.model import Kind

#: Means and sums of squares, and largest magnitudes, of torch's optimizers; of optax and of Keras' Adam.
_SQUARES = re.compile(
    r"(^|[._/])(exp_avg_sq(_row|_col)?|max_exp_avg_sq|square_avg|exp_inf|nu|adam\w*/(\w+/)*\w*velocity(_\d+)?)(:0)?$"
)
#: Share of the parameters of one role that have a state, from which one without is not frozen like its kind.
_USUAL = 0.75


@rule("PI309", "negative-moment", Severity.ERROR)
def negative_moment(subject: RuleContext) -> Iterable[RuleHit]:
    """A mean of squares in the optimizer's state is negative.

    Why it matters: its root is NaN: the first step after resuming makes every weight of the tensor NaN. No training
    makes it negative: the file was damaged, or the moments were exchanged in a conversion.

    What it rests on: the smallest value of `exp_avg_sq` and its relatives, which are sums of squares. Exact.

    What to do: resume from an earlier checkpoint, or keep the weights and start with a new optimizer state.
    """
    for tensor in subject.unique:
        s = tensor.stats
        if tensor.ref.kind is not Kind.OPTIMIZER or s is None or s.low is None or s.low >= 0:
            continue
        if not _SQUARES.search(tensor.name):
            continue
        first = subject.by_name.get(tensor.name.replace("exp_avg_sq", "exp_avg"))
        is_exchanged = first is not None and first is not tensor and first.stats is not None and _is_square(first)
        remark = ", and the first moment has no negative value: they look exchanged" if is_exchanged else ""
        message = f"the smallest mean of squares is {significant(s.low, 4)}: expected 0 or more{remark}"
        yield RuleHit(tensor.name, message, {"min": s.low, "exchanged": is_exchanged})


def _is_square(tensor: TensorFacts) -> bool:
    s = tensor.stats
    return s is not None and s.low is not None and s.high is not None and s.low >= 0 and s.high > 0


@rule("PI310", "forgotten-parameter", Severity.WARNING)
def forgotten_parameter(subject: RuleContext) -> Iterator[RuleHit]:
    """The optimizer has no state of a parameter, or has it at step 0, though it has one of its neighbors.

    Why it matters: the optimizer was given the parameter, and never stepped it; or its state was lost, and the first
    steps after resuming are too large.

    What it rests on: `param_groups` against the state. Parameters that are frozen have none: so another parameter of
    the same layer or block must have one, and three quarters of the parameters of the same role. An optimizer without
    any state is left alone.

    What to do: see whether the parameter gets a gradient; else start with a new optimizer state.
    """
    known = {state.parameter.name: state for state in states(subject)}
    if not known:
        return
    listed = {i for group in groups(subject.checkpoint) for i in group.params}
    parameters = [t for t in subject.tensors if t.ref.kind is Kind.PARAMETER and not t.alias_of]
    given = [tensor for i, tensor in enumerate(parameters) if i in listed]
    if len(given) == len(listed):
        missing = [tensor for tensor in given if tensor.name not in known]
        yield from _told(_unlike_their_kind(given, missing), len(given), "without a state")
    steps = {name: _step(state.figures.get("step")) for name, state in known.items()}
    if any(step for step in steps.values()):
        waiting = [known[name].parameter for name, step in steps.items() if step == 0]
        yield from _told(waiting, len(known), "at step 0, while others have been stepped")


def _step(tensor: TensorFacts | None) -> float | None:
    s = tensor.stats if tensor is not None else None
    return s.high if s is not None else None


def _told(tensors: Sequence[TensorFacts], of: int, what: str) -> Iterator[RuleHit]:
    if tensors:
        names = [tensor.name for tensor in tensors]
        verb = "is" if len(names) == 1 else "are"
        yield RuleHit(
            names[0] if len(names) == 1 else None,
            f"{len(names):,} of {of:,} parameters {verb} {what}: {listed(names)}",
            {"count": len(names), "of": of, "names": names[:10]},
        )


def _unlike_their_kind(given: Sequence[TensorFacts], missing: Sequence[TensorFacts]) -> list[TensorFacts]:
    """Those without a state beside others of their block that have one, in a role that has one as a rule."""
    without = {tensor.name for tensor in missing}
    kinds = Counter(tensor.role.kind for tensor in given)
    have = [tensor for tensor in given if tensor.name not in without]
    stepped, alive = Counter(tensor.role.kind for tensor in have), {_block(tensor) for tensor in have}
    return [t for t in missing if _block(t) in alive and stepped[t.role.kind] >= _USUAL * kinds[t.role.kind]]


def _block(tensor: TensorFacts) -> str:
    """The name up to its last number, `h.3`; of a layer without one, the layer."""
    numbered = re.match(r"(.*[._/]\d+|\d+)[._/]", tensor.name)
    return numbered[1] if numbered else tensor.role.module or tensor.name


@rule("PI311", "impossible-rate", Severity.ERROR, reads=False)
def impossible_rate(subject: RuleContext) -> Iterator[RuleHit]:
    """A learning rate of the optimizer is NaN, infinite or negative.

    Why it matters: the next step makes every weight NaN, or climbs instead of descending.

    What it rests on: `param_groups`. A rate of 0, as at the end of a schedule, is left alone.

    What to do: set the learning rate before resuming, and look at the schedule that computed it.
    """
    rates = [(i, group.lr) for i, group in enumerate(groups(subject.checkpoint))]
    for i, rate in rates:
        if not math.isfinite(rate) or rate < 0:
            message = f"the learning rate of parameter group {i} is {setting(rate)}"
            yield RuleHit(None, message, {"group": i, "lr": rate}, name="learning_rate")
