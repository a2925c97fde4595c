"""Stores of many trials or runs: which one is meant, and what the user is told about the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from inspectcli.display.text import listed, plural, significant
from inspectcli.errors import UsageError
from inspectcli.hparams.base import HParamRow, Selection, Store, Trial

#: Names of an error message or note that are listed.
SHOWN = 8


class Words(NamedTuple):
    """What a tool calls its two levels, and the options that choose."""

    study: str
    trial: str


STUDIES = Words("study", "trial")
EXPERIMENTS = Words("experiment", "run")


@dataclass(frozen=True, slots=True)
class Study:
    """Trials that compete, oldest first.

    Attributes:
        name: may be empty where there is only one.
        trials: with their rows; `best` and `chosen` are set here.
        complete: names of those that ran to their end.
        minimize: whether a small objective is good; None if there is no objective to compare by.
        objective: its name, if known.
    """

    name: str
    trials: tuple[Trial, ...]
    complete: frozenset[str] = frozenset()
    minimize: bool | None = None
    objective: str = ""

    def best(self) -> Trial | None:
        """The best completed one; the first of several."""
        if self.minimize is None:
            return None
        ranked = [t for t in self.trials if t.name in self.complete and _number(t.objective)]
        key: Callable[[Trial], float] = lambda t: t.objective or 0.0  # noqa: E731
        return (min if self.minimize else max)(ranked, key=key, default=None)

    @property
    def label(self) -> str:
        if self.minimize is None:
            return self.objective
        return f"{self.objective or 'objective'}, {'minimize' if self.minimize else 'maximize'}"


def _number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def choose(studies: Sequence[Study], choice: Selection, words: Words, notes: Iterable[str] = ()) -> Store:
    """A store that shows the trial that was asked for, or the best completed one, or the latest.

    Raises:
        UsageError: what was asked for is not there.
    """
    studies = [study for study in studies if study.trials]
    if not studies:
        return Store(notes=(*notes, f"no {words.trial} is recorded"))
    wanted = choice.trial or choice.run
    study = _study(studies, choice, wanted, words)
    best = study.best()
    chosen = _named(study, wanted, words) if wanted else best or _latest(study)
    said = [*notes]
    if len(studies) > 1:
        names = listed([s.name or "(no name)" for s in studies], SHOWN)
        said.append(f"{plural(len(studies), words.study)}: {names}; shown is {study.name!r}: --study chooses another")
    if len(study.trials) > 1:
        said.append(_which(study, chosen, best, bool(wanted), words))
    elif chosen.state and chosen.name not in study.complete:
        said.append(f"the only {words.trial}, {chosen.name}, is not complete: {chosen.state}")
    shown = [study] if choice.study else studies
    winners = {id(s.best()) for s in shown}
    searched = words is STUDIES
    trials = tuple(
        replace(t, best=id(t) in winners, chosen=t is chosen, rows=_searched(t.rows) if searched else t.rows)
        for s in shown
        for t in s.trials
    )
    return Store(
        _searched(chosen.rows) if searched else chosen.rows,
        trials if len(trials) > 1 else (),
        tuple(said),
        objective=study.label,
    )


def _searched(rows: tuple[HParamRow, ...]) -> tuple[HParamRow, ...]:
    """What a study chose is a hyperparameter, whatever it is called."""
    if all(row.name is not None for row in rows):
        return rows
    return tuple(row if row.name is not None else replace(row, searched=True) for row in rows)


def _study(studies: Sequence[Study], choice: Selection, wanted: str, words: Words) -> Study:
    if choice.study:
        found = [s for s in studies if s.name == choice.study]
        if not found:
            raise UsageError(f"no {words.study} {choice.study!r}: found {listed([s.name for s in studies], SHOWN)}")
        return found[0]
    holders = [s for s in studies if any(wanted in (t.name, t.label) for t in s.trials)] if wanted else []
    finished = [s for s in studies if s.complete]
    return (holders or finished or list(studies))[-1]


def _named(study: Study, wanted: str, words: Words) -> Trial:
    """By its name, or the beginning or end of it if only one has that."""
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: name.startswith(wanted),
        lambda name: name.endswith(wanted),
    )
    for test in tests:
        found = [t for t in study.trials if test(t.name) or (t.label and test(t.label))]
        if found:
            break
    if len(found) == 1:
        return found[0]
    raise UsageError(f"no {words.trial} {wanted!r}: found {listed([t.label or t.name for t in study.trials], SHOWN)}")


def _latest(study: Study) -> Trial:
    finished = [t for t in study.trials if t.name in study.complete]
    return (finished or list(study.trials))[-1]


def _which(study: Study, chosen: Trial, best: Trial | None, asked: bool, words: Words) -> str:
    count = f"{plural(len(study.trials), words.trial)}, {len(study.complete):,} complete"
    if chosen is best and not asked:
        why = f"the best ({study.label}: {significant(chosen.objective or 0.0, 6)})"
    elif asked:
        why = "the best" if chosen is best else "as asked"
    elif study.complete:
        why = "the latest complete one"
    else:
        why = "the latest, not complete"
    return f"{count}; shown is {words.trial} {chosen.name}, {why}: --{words.trial} chooses another"
