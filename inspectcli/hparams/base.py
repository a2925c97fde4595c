"""What a hyperparameter store is: rows with their provenance, and how a source of them is recognized and read.

A source is a module of this folder with a `SOURCE`; it is found by being there. Its `sniff` decides by content, its
`read` gives a `Store`. Values are plain Python data (numbers, text, None, lists, dicts), raw and unescaped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from inspectcli.document import written
from inspectcli.storage.location import Location
from inspectcli.tensors.model import Hazard, TensorRef
from inspectcli.words import Word

#: Bytes of the head that `sniff` is given.
HEAD = 65536


class Kind(Word):
    """What a value is for."""

    STATIC = "static"  # set before training and left alone
    DYNAMIC = "dynamic"  # where training has got to: the current learning rate, the step
    INFERENCE = "inference"  # for use after training: sampling temperature
    AUGMENTATION = "augmentation"  # how the data is varied
    SETTING = "setting"  # no hyperparameter: paths, workers, token ids, initializers


class Priority(IntEnum):
    """How directly a place says a value; of several places the lowest counts."""

    STATED = 0  # set there: in a config, or by a scheduler in its last step
    OPTIMIZER = 1  # what the optimizer began with
    LOG = 2  # written down while training went on, or afterwards
    INFERRED = 3  # nobody wrote it: the keys of a state dict tell


class Reach(Word):
    """What of a training a value holds for."""

    RUN = "run"  # all of it
    GROUP = "group"  # a parameter group other than the first
    LAYER = "layer"  # one layer, module or node
    UNKNOWN = "unknown"  # it lies deep in a file that no known tool wrote


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands.

    Attributes:
        file: the file, as a path that can be opened.
        locator: the place inside, without the key itself: `hyper_parameters`, `optimizer.param_groups[0]`, or empty
            for the top of the file.
        tool: who writes such files: `pytorch-lightning`, `optuna`.
    """

    file: str
    locator: str
    tool: str


@written(quiet=("stored", "private", "priority", "reach", "unresolved", "searched"))
@dataclass(frozen=True, slots=True)
class HParamRow:
    """One value at one place.

    Attributes:
        name: canonical name (`learning_rate`); None where the key is ambiguous or unknown: then it is `raw_key` alone.
            A dynamic one ends in `.current`.
        raw_key: the key as the file has it.
        value: as stored; decoded where the store knows text only (see `stored`).
        current: what it is by now, where the same store says so.
        kind: hyperparameter or not, and of what sort.
        source: where it stands.
        note: what a reader should know (`per device`, `of the whole job`).
        stored: the text on disk, where `value` was decoded from it.
        private: a path, host, user or caption: shown masked unless everything is asked for.
        priority: how directly this place says it.
        reach: what of the training it holds for.
        unresolved: whether the value stands for another one that is not in the file, or is not used.
        searched: whether a study chose it: then it is shown whatever it is called.
    """

    name: str | None
    raw_key: str
    value: object
    current: object
    kind: Kind
    source: Origin
    note: str = ""
    stored: str = ""
    private: bool = False
    priority: Priority = Priority.STATED
    reach: Reach = Reach.RUN
    unresolved: bool = False
    searched: bool = False

    @property
    def is_set(self) -> bool:
        return self.value is not None and not self.unresolved

    @property
    def rank(self) -> tuple[bool, bool, Priority]:
        """The lowest counts: what is set, of the whole run, and said most directly."""
        return not self.is_set, self.reach is Reach.GROUP, self.priority


class Selection(NamedTuple):
    """What the user selected.

    Attributes:
        study, run, trial: which one; empty for the best completed trial, or the only run.
        secrets: whether tokens, keys and passwords are given as they are.
    """

    study: str = ""
    run: str = ""
    trial: str = ""
    secrets: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the trials or runs of a store.

    Attributes:
        name: what `--trial` or `--run` selects it by.
        state: as the tool says it: `COMPLETE`, `TERMINATED`.
        study: the study or experiment it belongs to.
        objective: its final value, if it has a number.
        best: whether it is the best completed one of its study.
        rows: its values.
        chosen: whether `Store.rows` are its rows.
        label: another name that selects it: what a person called the run.
        objectives: all of them, where there are several.
    """

    name: str
    state: str = ""
    study: str = ""
    objective: float | None = None
    best: bool = False
    rows: tuple[HParamRow, ...] = ()
    chosen: bool = False
    label: str = ""
    objectives: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """What one file (or a tool's folder) says.

    Attributes:
        rows: in the order of the file; of the chosen trial where it holds many.
        trials: all of them, where it holds many.
        notes: sentences for the user: how many trials there are, what could not be read.
        files: the files that were read, if not just the one that was named.
        objective: what the trials' objective is called and its direction: `loss, minimize`.
        hazards: what in a checkpoint would act on a careless loader.
    """

    rows: tuple[HParamRow, ...] = ()
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    objective: str = ""
    hazards: tuple[Hazard, ...] = ()


class HParamFile(NamedTuple):
    """What one file gave.

    Attributes:
        location: of the file, or of the folder that is a tool's as a whole.
        store: what it says.
        tensors: of a checkpoint, their descriptions.
    """

    location: Location
    store: Store
    tensors: tuple[TensorRef, ...] = ()


@dataclass(frozen=True, slots=True)
class HParamSource:
    """One kind of store.

    Attributes:
        name: the tool's name, as in `Origin.tool`.
        sniff: whether a file is of this kind: (location, its first HEAD bytes) -> bool. It may look at siblings' names.
        read: (location, head, choice) -> Store.
            Raises PinspectError (without the path) for a broken file or a choice that is not there.
        folder: whether a folder as a whole is this tool's (`mlruns/`, a Ray experiment). `read` is then given the
            folder with an empty head, and the files below it are not looked at one by one.
        generic: tried after all others: plain YAML, JSON, TOML.
    """

    name: str
    sniff: Callable[[Location, bytes], bool]
    read: Callable[[Location, bytes, Selection], Store]
    folder: Callable[[Location], bool] | None = None
    generic: bool = False
