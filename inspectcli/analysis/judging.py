"""From scanned tensors to verdicts and findings: roles, initialisers and rules, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.analysis.health.base import RANK, Finding, Look, Rule, Severity, Subject, own_rules
from inspectcli.analysis.roles import Roles
from inspectcli.tensors.model import Checkpoint

if TYPE_CHECKING:
    from inspectcli.analysis.initializers.recognise import Verdict
    from inspectcli.measure.scan import ScannedTensor


class Judgement(NamedTuple):
    """What is said of one checkpoint.

    Attributes:
        verdicts: name -> which initialiser its numbers look like.
        findings: worst first, then in the order of the file.
    """

    verdicts: Mapping[str, Verdict]
    findings: tuple[Finding, ...]


def judge(
    checkpoint: Checkpoint, scanned: Sequence[ScannedTensor], read: bool = True, rules: Sequence[Rule] | None = None
) -> Judgement:
    """Judge what `scan` gave.

    Args:
        checkpoint: with the tensors that were scanned.
        scanned: one for each of them, in the same order.
        read: whether values were read; without them, only rules about the header run.
        rules: those to run; None for the package's own that run by default.
    """
    roles = Roles(checkpoint)
    looks = tuple(Look(s.ref, roles.of(s.ref), s.alias_of, s.stats, s.sampled, s.problem) for s in scanned)
    verdicts: Mapping[str, Verdict] = {}
    if read:
        from inspectcli.analysis.initializers.recognise import recognise

        verdicts = recognise(checkpoint, looks)
        looks = tuple(look._replace(verdict=verdicts.get(look.name)) for look in looks)
    subject = Subject(checkpoint, looks, read)
    chosen = [r for r in own_rules() if r.default] if rules is None else rules
    found = [finding for r in chosen if read or not r.reads for finding in r.run(subject)]
    wrong = {f.tensor for f in found if f.severity is Severity.ERROR}
    # Values that are wrong overflow in float16 too: a note beside an error adds nothing.
    told = [f for f in found if f.tensor is None or f.severity is not Severity.NOTE or f.tensor not in wrong]
    return Judgement(verdicts, tuple(sorted(told, key=lambda f: RANK[f.severity])))
