"""Hyperparameters (PI6xx): where what was set contradicts the tensors, another file, or itself. Headers are enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inspectcli.analysis.findings import Finding, RuleHit, Severity, registered, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.hparams.conflicts import Conflict, Disagreement


@rule("PI601", "config-against-tensors", Severity.WARNING, reads=False)
def config_against_tensors(subject: RuleContext) -> Iterator[RuleHit]:
    """A configuration states a size that the shapes of the tensors deny.

    Why it matters: the configuration belongs to another model, or the weights were exported wrongly: a loader refuses
    them, or fills the gap with random numbers.

    What to do: find the configuration that was saved with these weights.
    """
    return _hits(subject, Disagreement.TENSORS)


@rule("PI602", "stores-disagree", Severity.WARNING, reads=False)
def stores_disagree(subject: RuleContext) -> Iterator[RuleHit]:
    """Two files of one training give different values for one hyperparameter.

    Why it matters: the training used one of them at most, and who repeats it with the other gets another model.

    What to do: find out which of the two the training really used.
    """
    return _hits(subject, Disagreement.STORES)


@rule("PI603", "other-initial-rate", Severity.WARNING, reads=False)
def other_initial_rate(subject: RuleContext) -> Iterator[RuleHit]:
    """The optimizer began with another learning rate than the configuration gives.

    Why it matters: the run was resumed with another rate, or scaled it by the number of processes: the configuration
    does not repeat it.

    What to do: look into the log of the run, and write down the rate that it used.
    """
    return _hits(subject, Disagreement.OPTIMIZER)


@rule("PI604", "heads-do-not-divide", Severity.WARNING, reads=False)
def heads_do_not_divide(subject: RuleContext) -> Iterator[RuleHit]:
    """The number of attention heads does not divide the hidden size.

    Why it matters: no attention layer can be built from these two numbers: one of them is of another model.

    What to do: find the configuration that was saved with these weights.
    """
    return _hits(subject, Disagreement.HEADS)


@rule("PI605", "optimizer-against-state", Severity.WARNING, reads=False)
def optimizer_against_state(subject: RuleContext) -> Iterator[RuleHit]:
    """The configuration names another optimizer, or other settings of it, than its saved state has.

    Why it matters: the training used what the state says: who repeats it with the configuration gets another model, and
    loading the state overrides the configuration without a word.

    What to do: write down the optimizer that was used, or resume without this state.
    """
    return _hits(subject, Disagreement.STATE)


#: What contradicts what -> the code of the rule that finds it.
_CODES = {
    Disagreement.TENSORS: "PI601",
    Disagreement.STORES: "PI602",
    Disagreement.OPTIMIZER: "PI603",
    Disagreement.HEADS: "PI604",
    Disagreement.STATE: "PI605",
}


def findings(conflicts: Iterable[Conflict]) -> Iterator[Finding]:
    """What the rules say of conflicts, wherever they were found: between the files of a run, say."""
    return (registered(_CODES[conflict.kind]).finding(_hit(conflict)) for conflict in conflicts)


def _hits(subject: RuleContext, kind: Disagreement) -> Iterator[RuleHit]:
    return (_hit(conflict) for conflict in subject.conflicts if conflict.kind is kind)


def _hit(conflict: Conflict) -> RuleHit:
    return RuleHit(conflict.tensor, conflict.message, conflict.figures, name=conflict.name)
