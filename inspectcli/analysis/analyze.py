"""From scanned tensors to verdicts and findings: roles, initializers and rules, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.analysis.facts import InitMatch, TensorFacts
from inspectcli.analysis.findings import Finding, Rule, Severity, own_rules
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.roles import Roles
from inspectcli.analysis.training import TrainingJudgment, after, judge, tempered
from inspectcli.contract import RANK
from inspectcli.tensors.model import Checkpoint

if TYPE_CHECKING:
    from inspectcli.hparams.base import HParamRow
    from inspectcli.measure.scan import ScannedTensor


class Analysis(NamedTuple):
    """What is said of one checkpoint.

    Attributes:
        verdicts: name -> which initializer its numbers look like.
        findings: worst first, then in the order of the file.
        trained: whether the model was trained; unknown if values were not read.
    """

    verdicts: Mapping[str, InitMatch]
    findings: tuple[Finding, ...]
    trained: TrainingJudgment = TrainingJudgment()


def chosen(rules: Sequence[Rule] | None) -> Sequence[Rule]:
    """The rules; for None the package's own that run by default."""
    return [rule for rule in own_rules() if rule.default] if rules is None else rules


def analyze(
    checkpoint: Checkpoint,
    scanned: Sequence[ScannedTensor],
    read: bool = True,
    rules: Sequence[Rule] | None = None,
    hyperparameters: tuple[HParamRow, ...] = (),
) -> Analysis:
    """Judge what `scan` gave.

    Args:
        checkpoint: with the tensors that were scanned.
        scanned: one for each of them, in the same order.
        read: whether values were read; without them, only rules about the header run.
        rules: those to run; None for the package's own that run by default.
        hyperparameters: the rows that the file itself holds.
    """
    roles = Roles(checkpoint)
    tensors = tuple(
        TensorFacts(s.ref, roles.of(s.ref), s.alias_of, s.stats, s.sampled, s.problem, results=s.results)
        for s in scanned
    )
    verdicts: Mapping[str, InitMatch] = {}
    trained = TrainingJudgment()
    if read:
        from inspectcli.analysis.initializers.recognize import recognize

        found_first = recognize(checkpoint, tensors)
        tensors = tuple(tensor._replace(verdict=found_first.get(tensor.name)) for tensor in tensors)
        trained = judge(checkpoint, tensors)
        verdicts = {name: tempered(verdict, trained) for name, verdict in found_first.items()}
        tensors = tuple(tensor._replace(verdict=verdicts.get(tensor.name)) for tensor in tensors)
        trained = after(trained)
    subject = RuleContext(checkpoint, tensors, read, hyperparameters, trained if read else None)
    found = [finding for r in chosen(rules) if read or not r.reads_values for finding in r.run(subject)]
    wrong = {f.tensor for f in found if f.severity is Severity.ERROR}
    # Values that are wrong overflow in float16 too: a note beside an error adds nothing.
    told = [f for f in found if f.tensor is None or f.severity is not Severity.NOTE or f.tensor not in wrong]
    return Analysis(verdicts, tuple(sorted(told, key=lambda f: RANK[f.severity])), trained)
