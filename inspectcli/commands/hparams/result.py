"""What `pinspect hparams` knows of a path, as plain data: a mapping from canonical name to value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inspectcli.analysis.findings import Finding
from inspectcli.analysis.health.hyperparameters import findings
from inspectcli.hparams.base import HParamRow, Trial
from inspectcli.hparams.collect import Run
from inspectcli.hparams.merge import HParamValue


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
    def findings(self) -> tuple[Finding, ...]:
        """Where two places contradict each other, run by run."""
        return tuple(finding for run in self.runs for finding in findings(run.conflicts))

    def current(self, name: str) -> object:
        """What it is by now; the configured value where nothing tells."""
        entry = self._entries[name]
        return entry.value if entry.current is None else entry.current

    def provenance(self, name: str) -> tuple[HParamRow, ...]:
        """Every place that says it: raw key, value, file, locator, tool; the one that counts first."""
        entry = self._entries[name]
        return (entry.row, *(row for row in entry.rows if row is not entry.row))
