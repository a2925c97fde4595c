"""A file, or a folder with all that training left in it -> runs: what was set, where it stands, what disagrees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from inspectcli.display.text import listed, natural_key
from inspectcli.errors import NotReadableError, PinspectError, UnsupportedFormatError, UsageError
from inspectcli.formats import open_location
from inspectcli.formats.discovery import is_part_of_a_model
from inspectcli.formats.folder import model_suffixes
from inspectcli.formats.torch.legacy import open_pickle
from inspectcli.formats.torch.legacy import sniff as is_pickle
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams._trials import SHOWN
from inspectcli.hparams.base import HEAD, HParamFile, HParamRow, Kind, Selection, Store
from inspectcli.hparams.conflicts import Conflict, conflicts
from inspectcli.hparams.merge import HParamValue, merge_rows, missing
from inspectcli.hparams.neighbors import BELONGS, neighbors
from inspectcli.hparams.privacy import without_secrets
from inspectcli.hparams.shapes import ShapeFact, infer_from_shapes
from inspectcli.hparams.sources.checkpoint import SOURCE as CHECKPOINT
from inspectcli.hparams.sources.checkpoint import store_of
from inspectcli.storage import Location
from inspectcli.storage.names import relative
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.model import TensorRef

#: Folders are looked through this deep, and this many files of them.
MAX_DEPTH = 6
MAX_FILES = 2000

#: Files that say nothing of how something was trained, whatever they hold.
_NOT_STORES = re.compile(
    r"""(tokenizer|vocab|merges|special_tokens_map|added_tokens|preprocessor_config|processor_config|package)(_config)?
    \.json|.*\.index\.json|(requirements|environment)\.(txt|ya?ml)|pyproject\.toml|setup\.py|truth\.json|.*\.lock\.json
    |multirun\.yaml|wandb-(summary|metadata)\.json|.*\.ipynb|.*\.md(?<!README\.md)|.*\.pyc|rng_state.*""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Run:
    """The stores of one training.

    Attributes:
        folder: its name below the folder that was asked for; empty for that one itself.
        stores: (file, what it says).
        entries: what is known by name.
        from_tensors: sizes that the shapes of the tensors tell.
        models: the files that hold tensors.
        conflicts: where they disagree.
        not_recorded: important ones that are nowhere.
    """

    folder: str
    stores: tuple[tuple[str, Store], ...]
    entries: Mapping[str, HParamValue]
    from_tensors: tuple[ShapeFact, ...]
    models: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    not_recorded: tuple[str, ...]

    @property
    def rows(self) -> tuple[HParamRow, ...]:
        return tuple(row for _, store in self.stores for row in store.rows)


def collect(location: Location, choice: Selection, beside: bool, notes: list[str]) -> list[Run]:
    """The trainings that left something at a place.

    Args:
        location: a file; or a folder, of which every store is read.
        choice: which study, run or trial, where a store holds many.
        beside: look beside a checkpoint for the configs of known tools too.
        notes: what could not be read is added here.

    Raises:
        PinspectError: the file cannot be read, is no store that is known, or the choice is not in it.
    """
    if location.is_folder():
        refused: list[PinspectError] = []
        read = list(_folder(location, choice, notes, refused))
        if not read and refused:  # there are stores, but not what was chosen
            raise refused[0].at(str(location))
        if not read:
            raise NotReadableError(
                "no store of hyperparameters in this folder", "name a checkpoint or a config", str(location)
            )
    else:
        first = _one(location, choice)
        read = [first, *(_beside(location, choice, notes) if beside and first.tensors else ())]
    runs = _runs(location, read)
    if choice.run and len(runs) > 1:
        named = [r for r in runs if choice.run in (r.folder, r.folder.rpartition("/")[2])]
        runs = named or [r for r in runs if any(t.chosen for _, s in r.stores for t in s.trials)]
        if not runs:
            found = listed([r.folder or "." for r in _runs(location, read)], SHOWN)
            raise UsageError(f"no run {choice.run!r}: found {found}", path=str(location))
    return runs


def conflicts_beside(
    location: Location, tensors: Sequence[TensorRef], rows: Sequence[HParamRow]
) -> tuple[Conflict, ...]:
    """What the rows of an opened checkpoint, its tensors and the configs beside it contradict."""
    file = HParamFile(location, Store(tuple(rows)), tuple(tensors))
    return _run("", [file, *_beside(location, Selection(), [])]).conflicts


def _one(location: Location, choice: Selection) -> HParamFile:
    """One file, or one folder that is a tool's as a whole."""
    try:
        head = head_of(location)
        source = find_source(location, head)
        if source is CHECKPOINT:
            return _checkpoint(location, choice)
        if source is None:
            return _unknown(location, head, choice)
        return HParamFile(location, _discreet(source.read(location, head, choice), choice))
    except PinspectError as error:
        raise error.at(str(location)) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=str(location)) from None


#: First bytes of a database; what reads one is imported only then.
_SQLITE = b"SQLite format 3\x00"


def _unknown(location: Location, head: bytes, choice: Selection) -> HParamFile:
    """No source knows it: the error says what it looks like."""
    if head.startswith(_SQLITE):
        from inspectcli.encodings.sqlite import Database

        with Database(location) as database:
            database.tables()  # raises if it is damaged
        raise NotReadableError("a database, but of no tool that is known here", "name one of Optuna or MLflow")
    return _checkpoint(location, choice)


def _discreet(store: Store, choice: Selection) -> Store:
    """The store, with what gives access masked, unless it is asked for."""
    if choice.secrets:
        return store
    trials = tuple(replace(t, rows=tuple(map(_masked, t.rows))) for t in store.trials)
    return replace(store, rows=tuple(map(_masked, store.rows)), trials=trials)


def _masked(row: HParamRow) -> HParamRow:
    value = without_secrets(row.raw_key, row.value, row.source.locator)
    if value is row.value or value == row.value:
        return row
    return replace(row, value=value, current=None, stored="", note="")


def _checkpoint(location: Location, choice: Selection) -> HParamFile:
    """A checkpoint's rows, and its tensors' shapes; a pickle without tensors has rows only."""
    try:
        checkpoint = open_location(location)
    except UnsupportedFormatError:
        if not is_pickle(location.open(), location.head(HEAD)):
            raise
        checkpoint = open_pickle(location)  # settings, without a tensor beside them
    read = HParamFile(location, _discreet(store_of(checkpoint), choice), checkpoint.tensors)
    ensure_unchanged(checkpoint.sources)
    return read


def _beside(location: Location, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
    for candidate in neighbors(location):
        if _worth(candidate):
            yield from _try(candidate, choice, notes, [])


def _worth(location: Location) -> bool:
    """Most README.md are no model cards: told apart before all sources are imported to ask them."""
    return location.suffix != ".md" or b"raining hyperparameters" in head_of(location)


def _try(location: Location, choice: Selection, notes: list[str], refused: list[PinspectError]) -> Iterator[HParamFile]:
    """A neighbor: what is wrong with it is a note; that it lacks what was chosen goes to `refused`."""
    try:
        if find_source(location, head_of(location)) is None:
            return
        read = _one(location, choice)
    except PinspectError as error:
        if error.code == "usage":
            refused.append(error)
        elif error.code != "unsupported-format":
            notes.append(f"{location.name} was not read: {error.message}")
        return
    if read.store.rows or read.store.trials or read.tensors:
        yield read


# -- folders --------------------------------------------------------------------------------------------


def _folder(top: Location, choice: Selection, notes: list[str], refused: list[PinspectError]) -> Iterator[HParamFile]:
    left = MAX_FILES
    for candidate in _candidates(top, 0):
        left -= 1
        if left < 0:
            notes.append(f"only the first {MAX_FILES:,} files were looked at")
            return
        yield from _try(candidate, choice, notes, refused)


def _candidates(folder: Location, depth: int) -> Iterator[Location]:
    """Files that may be stores, and folders that are a tool's as a whole."""
    if find_source(folder, b"") is not None:
        yield folder
        return
    try:
        names = sorted((entry.name for entry in folder.list()), key=natural_key)
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


# -- runs -----------------------------------------------------------------------------------------------


def _runs(top: Location, read: Sequence[HParamFile]) -> list[Run]:
    """Files together that belong to one training."""
    groups: dict[str, list[HParamFile]] = {}
    for item in read:
        groups.setdefault(_run_folder(top, item.location), []).append(item)
    return [_run(folder, items) for folder, items in groups.items()]


def _run_folder(top: Location, location: Location) -> str:
    """The folder that a file's run is named by, below `top`."""
    if not top.is_folder():
        return ""
    parts = relative(str(location), str(top)).split("/")
    parts = parts if location.is_folder() else parts[:-1]
    while parts and BELONGS.fullmatch(parts[-1]):
        parts.pop()
    return "" if parts in ([], ["."]) else "/".join(parts)


def _run(folder: str, files: Sequence[HParamFile]) -> Run:
    values = merge_rows(row for file in files for row in file.store.rows)
    # A part of a model tells no sizes.
    tensors = [ref for file in files if not is_part_of_a_model(file.location.name) for ref in file.tensors]
    facts = tuple(infer_from_shapes(tensors))
    training = any(value.row.kind is Kind.STATIC for value in values.values())
    return Run(
        folder=folder,
        stores=tuple((str(file.location), file.store) for file in files),
        entries=values,
        from_tensors=facts,
        models=tuple(str(file.location) for file in files if file.tensors),
        conflicts=tuple(conflicts(values, facts, tensors, files)),
        not_recorded=tuple(missing(values)) if training else (),
    )
