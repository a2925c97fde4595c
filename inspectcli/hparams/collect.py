"""A file, or a folder with all that training left in it -> HParams: what was set, where it stands, what disagrees."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inspectcli.errors import NotReadableError, PinspectError
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams.base import HParamRow, Kind, Selection, Store, Trial
from inspectcli.hparams.merge import Finding, HParamValue, conflicts, merge_rows, missing
from inspectcli.hparams.shapes import ShapeFact, contradictions, infer_from_shapes
from inspectcli.hparams.sources.checkpoint import SOURCE as CHECKPOINT
from inspectcli.storage import Location, locate
from inspectcli.storage.names import relative
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.model import TensorRef

#: Folders are looked through this deep, and this many files of them.
MAX_DEPTH = 6
MAX_FILES = 2000

#: Folders whose files belong to the run around them.
_BELONGS = re.compile(
    r"""\.hydra|weights|checkpoints?|ckpts?|models?_?ckpts?|checkpoint-\d+|vis_data|\d{8}_\d{6}|global_step\d+
    |(epoch|step)[_=-].*|dvclive|mlruns|wandb|\d{10}\.\d+""",
    re.VERBOSE,
)
#: Files that say nothing of how something was trained, whatever they hold.
_NOT_STORES = re.compile(
    r"""(tokenizer|vocab|merges|special_tokens_map|added_tokens|preprocessor_config|processor_config|package)(_config)?
    \.json|.*\.index\.json|(requirements|environment)\.(txt|ya?ml)|pyproject\.toml|setup\.py|truth\.json|.*\.lock\.json
    |wandb-(summary|metadata)\.json|.*\.ipynb|.*\.md(?<!README\.md)|.*\.pyc|rng_state.*""",
    re.VERBOSE | re.IGNORECASE,
)
#: What to look for beside a checkpoint that was named by itself.
_NEIGHBORS = (
    "config.json", "generation_config.json", "adapter_config.json", "training_args.bin", "trainer_state.json",
    "hparams.yaml", "args.yaml", "config.yaml", "ds_config.json", "params.json", "params.yaml", "dvc.lock",
    ".hydra/config.yaml", ".hydra/overrides.yaml", "README.md",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """The stores of one training.

    Attributes:
        folder: its name below the folder that was asked for; empty for that one itself.
        stores: (file, what it says).
        entries: what is known by name.
        told: what the tensors say.
        models: the files that hold tensors.
        findings: where they disagree.
        missing: important ones that are nowhere.
    """

    folder: str
    stores: tuple[tuple[str, Store], ...]
    entries: Mapping[str, HParamValue]
    told: tuple[ShapeFact, ...]
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]

    @property
    def rows(self) -> tuple[HParamRow, ...]:
        return tuple(row for _, store in self.stores for row in store.rows)


@dataclass(frozen=True, slots=True)
class HParams(Mapping[str, object]):
    """The hyperparameters of a path: a mapping from canonical name to value.

    Attributes:
        path: what was asked for.
        runs: one for each training that left something there; mostly one.
        notes: what could not be read, and what was not looked at.
        nonfinite: whether NaN was found in the weights: None if nobody looked.
    """

    path: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    nonfinite: bool | None = None
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
        return tuple(finding for run in self.runs for finding in run.findings)

    def current(self, name: str) -> object:
        """What it is by now; the configured value where nothing tells."""
        entry = self._entries[name]
        return entry.value if entry.current is None else entry.current

    def provenance(self, name: str) -> tuple[HParamRow, ...]:
        """Every place that says it: raw key, value, file, locator, tool; the one that counts first."""
        entry = self._entries[name]
        return (entry.row, *(row for row in entry.rows if row is not entry.row))


class _Read(NamedTuple):
    """What one file gave."""

    location: Location
    store: Store
    tensors: tuple[TensorRef, ...] = ()


def read_hparams(
    path: str | os.PathLike[str], *, study: str = "", run: str = "", trial: str = "", neighbors: bool = True
) -> HParams:
    """The hyperparameters that a checkpoint, a config, a database or a run's folder holds. Nothing is run or imported.

    Args:
        path: a file; or a folder, of which every store is read.
        study, run, trial: which one, where a store holds many; without it the best completed one.
        neighbors: look beside a checkpoint for the configs of known tools too.

    >>> hparams = read_hparams("fixtures/lightning.ckpt")
    >>> hparams["learning_rate"]
    0.01
    >>> hparams.provenance("learning_rate")[0].origin.locator
    'hyper_parameters'

    Raises:
        PinspectError: the file cannot be read, is no store that is known, or the choice is not in it.
    """
    location = locate(path)
    choice = Selection(study, run, trial)
    notes: list[str] = []
    if location.is_folder():
        read = list(_folder(location, choice, notes))
        if not read:
            raise NotReadableError(
                "no store of hyperparameters in this folder", "name a checkpoint or a config", str(location)
            )
    else:
        first = _one(location, choice)
        read = [first, *(_beside(location, choice, notes) if neighbors and _is_model(first) else ())]
    runs = _runs(location, read)
    if choice.run and len(runs) > 1:
        runs = [r for r in runs if r.folder == choice.run] or runs
    # The run of the folder itself counts before those below it; later ones before earlier ones.
    entries: dict[str, HParamValue] = {}
    for found in sorted(runs, key=lambda r: (bool(r.folder), r.folder)):
        for key, entry in found.entries.items():
            entries.setdefault(key, entry)
    notes += [note for found in runs for _, store in found.stores for note in store.notes]
    return HParams(str(location), tuple(runs), tuple(dict.fromkeys(notes)), None, entries)


def _one(location: Location, choice: Selection) -> _Read:
    """One file, or one folder that is a tool's as a whole."""
    try:
        head = head_of(location)
        source = find_source(location, head)
        if source is CHECKPOINT:
            return _checkpoint(location)
        if source is None:
            return _checkpoint(location)  # whose error says what the file looks like
        return _Read(location, source.read(location, head, choice))
    except PinspectError as error:
        raise error.at(str(location)) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=str(location)) from None


def _checkpoint(location: Location) -> _Read:
    """A checkpoint's rows, and its tensors' shapes; a pickle without tensors has rows only."""
    from inspectcli.formats import open_location
    from inspectcli.hparams.sources.checkpoint import of_checkpoint

    checkpoint = open_location(location)
    notes = tuple(f"it would run code when loaded: {h.what} ({h.where})" for h in checkpoint.hazards[:3])
    read = _Read(location, Store(tuple(of_checkpoint(checkpoint)), notes=notes), checkpoint.tensors)
    ensure_unchanged(checkpoint.sources)
    return read


def _is_model(read: _Read) -> bool:
    return bool(read.tensors)


def _beside(location: Location, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    """Configs of known tools in the folder of a checkpoint, and in the one above `checkpoints/` or `weights/`."""
    folder = location.parent
    folders = [folder, *([folder.join("..")] if _BELONGS.fullmatch(folder.name) else ())]
    itself = location.identity()
    for place in folders:
        for name in _NEIGHBORS:
            candidate = place.join(name)
            if candidate.is_file() and candidate.identity() != itself and _worth(candidate):
                yield from _try(candidate, choice, notes)


def _worth(location: Location) -> bool:
    """Most README.md are no model cards: told apart before all sources are imported to ask them."""
    return location.suffix != ".md" or b"raining hyperparameters" in head_of(location)


def _try(location: Location, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    """A neighbor: what is wrong with it is a note."""
    try:
        if find_source(location, head_of(location)) is None:
            return
        read = _one(location, choice)
    except PinspectError as error:
        if error.code not in ("unsupported-format", "usage"):
            notes.append(f"{location.name} was not read: {error.message}")
        return
    if read.store.rows or read.store.trials or read.tensors:
        yield read


# -- folders --------------------------------------------------------------------------------------------


def _folder(top: Location, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    left = MAX_FILES
    for candidate in _candidates(top, 0):
        left -= 1
        if left < 0:
            notes.append(f"only the first {MAX_FILES:,} files were looked at")
            return
        yield from _try(candidate, choice, notes)


def _candidates(folder: Location, depth: int) -> Iterator[Location]:
    """Files that may be stores, and folders that are a tool's as a whole."""
    from inspectcli.formats.folder import model_suffixes

    if find_source(folder, b"") is not None:
        yield folder
        return
    try:
        names = sorted((entry.name for entry in folder.list()), key=_natural)
    except NotReadableError:
        return
    suffixes = model_suffixes()
    files = [n for n in names if folder.join(n).is_file() and not _NOT_STORES.fullmatch(n)]
    for name in _newest(files, lambda name: name.lower().endswith(suffixes)):
        if not folder.join(name).is_link():
            yield folder.join(name)
    inner = [n for n in names if folder.join(n).is_folder() and (not n.startswith(".") or n == ".hydra")]
    for name in _newest(inner, lambda name: _CHECKPOINT_FOLDER.fullmatch(name) is not None):
        if depth < MAX_DEPTH and not folder.join(name).is_link():
            yield from _candidates(folder.join(name), depth + 1)


_CHECKPOINT_FOLDER = re.compile(r"(checkpoint|global_step|epoch|step)[-_=]?\d+.*")


def _newest(names: Sequence[str], is_checkpoint: Callable[[str], bool]) -> list[str]:
    """Of the checkpoints of one run, which differ in their numbers only, the last one."""
    last = {re.sub(r"\d+", "#", name): name for name in names if is_checkpoint(name)}
    return [n for n in names if not is_checkpoint(n) or last[re.sub(r"\d+", "#", n)] == n]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


# -- runs -----------------------------------------------------------------------------------------------


def _runs(top: Location, read: Sequence[_Read]) -> list[Run]:
    """Files together that belong to one training."""
    groups: dict[str, list[_Read]] = {}
    for item in read:
        groups.setdefault(_run_folder(top, item.location), []).append(item)
    return [_run(folder, items) for folder, items in groups.items()]


def _run_folder(top: Location, location: Location) -> str:
    """The folder that a file's run is named by, below `top`."""
    if not top.is_folder():
        return ""
    parts = relative(str(location), str(top)).split("/")
    parts = parts if location.is_folder() else parts[:-1]
    while parts and _BELONGS.fullmatch(parts[-1]):
        parts.pop()
    return "" if parts in ([], ["."]) else "/".join(parts)


def _run(folder: str, items: Sequence[_Read]) -> Run:
    stores = tuple((str(item.location), item.store) for item in items)
    entries = merge_rows(row for item in items for row in item.store.rows)
    single = merge_rows(row for item in items if not item.store.trials for row in item.store.rows)
    tensors = tuple(ref for item in items for ref in item.tensors)
    told = tuple(infer_from_shapes(tensors))
    models = tuple(str(item.location) for item in items if item.tensors)
    findings = (*contradictions(told, entries, tensors), *conflicts(single, frozenset(models)))
    training = any(e.row.kind is Kind.STATIC for e in entries.values())
    return Run(folder, stores, entries, told, models, findings, tuple(missing(entries)) if training else ())
