"""What `pinspect hparams` knows of a path, or of two, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from inspectcli.analysis.findings import Finding
from inspectcli.analysis.health.hyperparameters import findings
from inspectcli.contract import EXIT_CLEAN, EXIT_FOUND
from inspectcli.document import report_document, written
from inspectcli.hparams.advice import Advice, beside
from inspectcli.hparams.base import HParamRow, Kind, Trial
from inspectcli.hparams.collect import Run
from inspectcli.hparams.merge import HParamValue, agree
from inspectcli.hparams.privacy import MASK
from inspectcli.hparams.shapes import ShapeFact

#: More trials than this are listed only if that is asked for.
MAX_TRIALS = 100


@dataclass(frozen=True, slots=True)
class HParams(Mapping[str, object]):
    """The hyperparameters of a path: a mapping from canonical name to value.

    Attributes:
        path: what was asked for.
        runs: one for each training that left something there; mostly one.
        notes: what could not be read, and what was not looked at.
    """

    path: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    _entries: Mapping[str, HParamValue] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> object:
        entry = self._entries[name]
        return entry.current if entry.value is None else entry.value

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def rows(self) -> tuple[HParamRow, ...]:
        """Every value at every place."""
        return tuple(row for run in self.runs for row in run.rows)

    @property
    def entries(self) -> Mapping[str, HParamValue]:
        """What is known by name; of several runs the first that says it."""
        return self._entries

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        return tuple(f for run in self.runs for path, store in run.stores for f in (store.files or (path,)))

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for run in self.runs for _, store in run.stores for trial in store.trials)

    @property
    def hazards(self) -> tuple[FileHazard, ...]:
        """What in its checkpoints would act on a careless loader."""
        stores = (stored for run in self.runs for stored in run.stores)
        return tuple(FileHazard(*hazard, path) for path, store in stores for hazard in store.hazards)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Where two places contradict each other, run by run."""
        return tuple(finding for run in self.runs for finding in findings(run.conflicts))

    @property
    def exit_code(self) -> int:
        """1 if two places contradict each other, else 0."""
        return EXIT_FOUND if self.findings else EXIT_CLEAN

    def current(self, name: str) -> object:
        """What it is by now; the configured value where nothing tells."""
        entry = self._entries[name]
        return entry.value if entry.current is None else entry.current

    def provenance(self, name: str) -> tuple[HParamRow, ...]:
        """Every place that says it: raw key, value, file, locator, tool; the one that counts first."""
        entry = self._entries[name]
        return (entry.row, *(row for row in entry.rows if row is not entry.row))

    @property
    def advice(self) -> tuple[AdviceItem, ...]:
        """What is usual for each that something is known of, run by run; what matters most first."""
        known = (item for run in self.runs for item in beside(run.entries))
        return tuple(AdviceItem.of(*item) for item in known)

    def report(self, everything: bool = False, all_trials: bool = True, advice: bool = False) -> HParamsReport:
        """What programs are given; paths, hosts, users and captions are masked unless everything is asked for.

        Args:
            everything: settings and private values too.
            all_trials: every trial, or of many only the best ones and the one that is shown.
            advice: what is usual, too.
        """
        trials = self.trials
        notes = self.notes
        if not all_trials and len(trials) > MAX_TRIALS:
            notes = (*notes, f"the best of {len(trials):,} trials and the one shown are listed: --trials lists all")
            trials = tuple(trial for trial in trials if trial.best or trial.chosen)
        return HParamsReport(
            path=self.path,
            hyperparameters=tuple(visible(self.rows, everything)),
            files=tuple(dict.fromkeys(self.files)),
            runs=tuple(run.folder for run in self.runs),
            not_recorded=tuple(dict.fromkeys(name for run in self.runs for name in run.not_recorded)),
            from_tensors=tuple(fact for run in self.runs for fact in run.from_tensors),
            findings=self.findings,
            trials=tuple(TrialReport.of(trial, everything) for trial in trials),
            notes=notes,
            hazards=self.hazards,
            advice=self.advice if advice else (),
        )

    def document(self, everything: bool = False, all_trials: bool = True, advice: bool = False) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("hparams", self.report(everything, all_trials, advice))


# -- what programs are given ----------------------------------------------------------------------------


class FileHazard(NamedTuple):
    """What would act on a careless loader, and in which file it is.

    Attributes:
        what: what it would do.
        where: the place inside the file.
        kind: what acts: `code` in a pickle, a `layer` of a Keras config, another `file` that is read.
        file: the checkpoint.
    """

    what: str
    where: str
    kind: str
    file: str


class TrialReport(NamedTuple):
    """One of the trials or runs of a store.

    Attributes:
        name: what `--trial` or `--run` selects it by.
        study: the study or experiment it belongs to.
        state: as the tool says it.
        objective: its final value, if it has a number.
        best: whether it is the best completed one of its study.
        chosen: whether its values are those of the report.
        values: by canonical name, or by key where that is not known.
        label: what a person called it, which selects it as well.
        objectives: all of them, where there are several.
    """

    name: str
    study: str
    state: str
    objective: float | None
    best: bool
    chosen: bool
    values: Mapping[str, object]
    label: str = ""
    objectives: tuple[float, ...] = ()

    @staticmethod
    def of(trial: Trial, everything: bool) -> TrialReport:
        values = {row.name or row.raw_key: row.value for row in visible(trial.rows, everything)}
        return TrialReport(
            trial.name, trial.study, trial.state, trial.objective, trial.best, trial.chosen, values, trial.label,
            trial.objectives,
        )  # fmt: skip


class AdviceItem(NamedTuple):
    """What is usual for one hyperparameter.

    Attributes:
        name: canonical.
        value: what it is here.
        sensitivity: how much results hang on it: high, medium, low, none.
        moves: whether a schedule moves it: static or dynamic.
        remark: what is odd about the value; empty if nothing is.
        typical: what is usual, a sentence.
        source: where that comes from.
    """

    name: str
    value: object
    sensitivity: str
    moves: str
    remark: str
    typical: str
    source: str

    @staticmethod
    def of(entry: HParamValue, known: Advice, odd: str) -> AdviceItem:
        value = entry.current if entry.value is None else entry.value
        return AdviceItem(entry.name, value, known.sensitivity, known.moves, odd, known.text, known.source)


@written(also=("exit_code",))
@dataclass(frozen=True, slots=True)
class HParamsReport:
    """What `pinspect hparams PATH --format json` prints.

    Attributes:
        path: what was asked for.
        hyperparameters: every value at every place, those that are shown.
        files: those that were read.
        runs: the folders of the trainings that were found, below the path; empty for the path itself.
        not_recorded: important ones that are nowhere.
        from_tensors: sizes that the shapes of the tensors tell.
        findings: where two places contradict each other.
        trials: all of them, where a store holds many.
        notes: what could not be read, and what was not looked at.
        hazards: what in the checkpoints would act on a careless loader.
        advice: what is usual, if that is asked for.
    """

    path: str
    hyperparameters: tuple[HParamRow, ...]
    files: tuple[str, ...]
    runs: tuple[str, ...]
    not_recorded: tuple[str, ...]
    from_tensors: tuple[ShapeFact, ...]
    findings: tuple[Finding, ...]
    trials: tuple[TrialReport, ...]
    notes: tuple[str, ...]
    hazards: tuple[FileHazard, ...]
    advice: tuple[AdviceItem, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 if two places contradict each other, else 0."""
        return EXIT_FOUND if self.findings else EXIT_CLEAN


def visible(rows: Iterable[HParamRow], everything: bool) -> Iterator[HParamRow]:
    """The rows that are shown, private values masked."""
    for row in rows:
        if is_visible(row, everything):
            masked = row.private and not everything
            yield replace(row, value=MASK, stored="") if masked else row


def is_visible(row: HParamRow, everything: bool) -> bool:
    """By default: what has a name; and numbers, which give nobody away."""
    if everything or row.searched:
        return True
    if row.kind is Kind.SETTING:
        return False
    return row.name is not None or not _has_text(row.value)


def _has_text(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_text, value))
    return isinstance(value, str | dict)


# -- two sets -------------------------------------------------------------------------------------------


class ValuePair(NamedTuple):
    """A value in both sets.

    Attributes:
        a: in the first.
        b: in the second.
    """

    a: object
    b: object


@written(also=("exit_code",))
@dataclass(frozen=True, slots=True)
class HParamsDiff:
    """Two sets of hyperparameters: the same data as `pinspect hparams A B --format json`.

    Attributes:
        a: path of the first set.
        b: path of the second.
        changed: those with different values.
        only_in_a: those that the second set lacks.
        only_in_b: those that the first set lacks.
        same: those with the same value in both.
        notes: what could not be read, and what was not looked at.
        hazards: what in the checkpoints would act on a careless loader.
    """

    a: str
    b: str
    changed: Mapping[str, ValuePair]
    only_in_a: Mapping[str, object]
    only_in_b: Mapping[str, object]
    same: Mapping[str, object]
    notes: tuple[str, ...] = ()
    hazards: tuple[FileHazard, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if the sets are the same, else 1."""
        return EXIT_FOUND if self.changed or self.only_in_a or self.only_in_b else EXIT_CLEAN

    def document(self) -> dict[str, Any]:
        """The JSON object of schema `pinspect/1`."""
        return report_document("hparams", self)


def compare(first: HParams, second: HParams, everything: bool = False) -> HParamsDiff:
    """What was changed from one set to another, and what only one of them has."""
    a, b = _known(first, everything), _known(second, everything)
    both = {name: agree(value, b[name]) for name, value in a.items() if name in b}
    return HParamsDiff(
        a=first.path,
        b=second.path,
        changed={name: ValuePair(a[name], b[name]) for name, agreed in both.items() if not agreed},
        only_in_a={name: value for name, value in a.items() if name not in b},
        only_in_b={name: value for name, value in b.items() if name not in a},
        same={name: a[name] for name, agreed in both.items() if agreed},
        notes=(*first.notes, *second.notes),
        hazards=(*first.hazards, *second.hazards),
    )


def _known(found: HParams, everything: bool) -> dict[str, object]:
    """Name -> configured value; and numbers without a name under their keys."""
    made = {
        name: MASK if entry.row.private and not everything else entry.value
        for name, entry in found.entries.items()
        if entry.value is not None
    }
    for row in found.rows:
        if row.name is None and is_visible(row, everything) and row.value not in (None, [], ""):
            made.setdefault(f"{row.source.locator}.{row.raw_key}".lstrip("."), row.value)
    return made
