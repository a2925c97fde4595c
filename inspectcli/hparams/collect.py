"""A file, or a folder with all that training left in it -> HParams: what was set, where it stands, what disagrees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inspectcli.display.text import natural_key
from inspectcli.errors import NotReadableError, PinspectError
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams.base import HParamRow, Kind, Selection, Store, Trial
from inspectcli.hparams.merge import Finding, HParamValue, conflicts, merge_rows, missing
from inspectcli.hparams.shapes import ShapeFact, contradictions, infer_from_shapes
from inspectcli.hparams.sources.checkpoint import SOURCE as CHECKPOINT
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
        findings: where they disagree.
        missing: important ones that are nowhere.
    """

    folder: str
    stores: tuple[tuple[str, Store], ...]
    entries: Mapping[str, HParamValue]
    told: tuple[ShapeFact, ...]
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

    path: str
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
    name = os.fspath(path)
    choice = Selection(study, run, trial)
    notes: list[str] = []
    if os.path.isdir(name):
        read = list(_folder(name, choice, notes))
        if not read:
            raise NotReadableError("no store of hyperparameters in this folder", "name a checkpoint or a config", name)
    else:
        first = _one(name, choice)
        read = [first, *(_beside(name, choice, notes) if neighbors and _is_model(first) else ())]
    runs = _runs(name, read)
    if choice.run and len(runs) > 1:
        runs = [r for r in runs if r.folder == choice.run] or runs
    # The run of the folder itself counts before those below it; later ones before earlier ones.
    entries: dict[str, HParamValue] = {}
    for found in sorted(runs, key=lambda r: (bool(r.folder), r.folder)):
        for key, entry in found.entries.items():
            entries.setdefault(key, entry)
    notes += [note for found in runs for _, store in found.stores for note in store.notes]
    return HParams(name, tuple(runs), tuple(dict.fromkeys(notes)), None, entries)


def _one(path: str, choice: Selection) -> _Read:
    """One file, or one folder that is a tool's as a whole."""
    if not os.path.exists(path):
        raise NotReadableError("no such file or directory", "check the spelling, or list the folder", path)
    try:
        head = b"" if os.path.isdir(path) else head_of(path)
        source = find_source(path, head)
        if source is CHECKPOINT:
            return _checkpoint(path)
        if source is None:
            return _checkpoint(path)  # whose error says what the file looks like
        return _Read(path, source.read(path, head, choice))
    except PinspectError as error:
        raise error.at(path) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=path) from None


def _checkpoint(path: str) -> _Read:
    """A checkpoint's rows, and its tensors' shapes; a pickle without tensors has rows only."""
    from inspectcli.formats import open_checkpoint
    from inspectcli.hparams.sources.checkpoint import of_checkpoint

    checkpoint = open_checkpoint(path)
    notes = tuple(f"it would run code when loaded: {h.what} ({h.where})" for h in checkpoint.hazards[:3])
    return _Read(path, Store(tuple(of_checkpoint(checkpoint)), notes=notes), checkpoint.tensors)


def _is_model(read: _Read) -> bool:
    return bool(read.tensors)


def _beside(path: str, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    """Configs of known tools in the folder of a checkpoint, and in the one above `checkpoints/` or `weights/`."""
    folder = os.path.dirname(path)
    folders = [folder]
    if _BELONGS.fullmatch(os.path.basename(os.path.abspath(folder or "."))):
        folders.append(os.path.join(folder, os.pardir))
    for place in folders:
        for name in _NEIGHBORS:
            candidate = os.path.join(place, name)
            if os.path.isfile(candidate) and not os.path.samefile(candidate, path) and _worth(candidate):
                yield from _try(candidate, choice, notes)


def _worth(path: str) -> bool:
    """Most README.md are no model cards: told apart before all sources are imported to ask them."""
    return not path.endswith(".md") or b"raining hyperparameters" in head_of(path)


def _try(path: str, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    """A neighbor: what is wrong with it is a note."""
    try:
        head = b"" if os.path.isdir(path) else head_of(path)
        if find_source(path, head) is None:
            return
        read = _one(path, choice)
    except PinspectError as error:
        if error.code not in ("unsupported-format", "usage"):
            notes.append(f"{os.path.basename(path)} was not read: {error.message}")
        return
    if read.store.rows or read.store.trials or read.tensors:
        yield read


# -- folders --------------------------------------------------------------------------------------------


def _folder(top: str, choice: Selection, notes: list[str]) -> Iterator[_Read]:
    left = MAX_FILES
    for path in _candidates(top, 0):
        left -= 1
        if left < 0:
            notes.append(f"only the first {MAX_FILES:,} files were looked at")
            return
        yield from _try(path, choice, notes)


def _candidates(folder: str, depth: int) -> Iterator[str]:
    """Files that may be stores, and folders that are a tool's as a whole."""
    if find_source(folder, b"") is not None:
        yield folder
        return
    try:
        names = sorted(os.listdir(folder), key=natural_key)
    except OSError:
        return
    files = [n for n in names if os.path.isfile(os.path.join(folder, n)) and not _NOT_STORES.fullmatch(n)]
    for name in _newest(files):
        if not os.path.islink(os.path.join(folder, name)):
            yield os.path.join(folder, name)
    inner = [n for n in names if os.path.isdir(os.path.join(folder, n)) and (not n.startswith(".") or n == ".hydra")]
    for name in _newest(inner, folders=True):
        path = os.path.join(folder, name)
        if depth < MAX_DEPTH and not os.path.islink(path):
            yield from _candidates(path, depth + 1)


_CHECKPOINT_FILE = re.compile(r".*\.(ckpt|pt|pth|pth\.tar|bin|safetensors|h5|hdf5|keras)", re.IGNORECASE)
_CHECKPOINT_FOLDER = re.compile(r"(checkpoint|global_step|epoch|step)[-_=]?\d+.*")


def _newest(names: Sequence[str], folders: bool = False) -> list[str]:
    """Of the checkpoints of one run, which differ in their numbers only, the last one."""
    pattern = _CHECKPOINT_FOLDER if folders else _CHECKPOINT_FILE
    last = {re.sub(r"\d+", "#", name): name for name in names if pattern.fullmatch(name)}
    return [n for n in names if not pattern.fullmatch(n) or last[re.sub(r"\d+", "#", n)] == n]


# -- runs -----------------------------------------------------------------------------------------------


def _runs(top: str, read: Sequence[_Read]) -> list[Run]:
    """Files together that belong to one training."""
    groups: dict[str, list[_Read]] = {}
    for item in read:
        groups.setdefault(_run_folder(top, item.path), []).append(item)
    return [_run(folder, items) for folder, items in groups.items()]


def _run_folder(top: str, path: str) -> str:
    """The folder that a file's run is named by, below `top`."""
    if not os.path.isdir(top):
        return ""
    parts = os.path.relpath(path, top).replace(os.sep, "/").split("/")
    parts = parts if os.path.isdir(path) else parts[:-1]
    while parts and _BELONGS.fullmatch(parts[-1]):
        parts.pop()
    return "" if parts in ([], ["."]) else "/".join(parts)


def _run(folder: str, items: Sequence[_Read]) -> Run:
    stores = tuple((item.path, item.store) for item in items)
    entries = merge_rows(row for item in items for row in item.store.rows)
    single = merge_rows(row for item in items if not item.store.trials for row in item.store.rows)
    tensors = tuple(ref for item in items for ref in item.tensors)
    told = tuple(infer_from_shapes(tensors))
    models = frozenset(item.path for item in items if item.tensors)
    findings = (*contradictions(told, entries, tensors), *conflicts(single, models))
    training = any(e.row.kind is Kind.STATIC for e in entries.values())
    return Run(folder, stores, entries, told, findings, tuple(missing(entries)) if training else ())
