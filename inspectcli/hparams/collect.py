"""A file, or a folder with all that training left in it -> runs: what was set, where it stands, what disagrees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inspectcli.display.text import natural_key
from inspectcli.errors import NotReadableError, PinspectError
from inspectcli.formats import open_location
from inspectcli.formats.discovery import is_part_of_a_model
from inspectcli.formats.folder import model_suffixes
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams.base import HParamFile, HParamRow, Kind, Selection, Store
from inspectcli.hparams.conflicts import Conflict, conflicts
from inspectcli.hparams.merge import HParamValue, merge_rows, missing
from inspectcli.hparams.neighbors import BELONGS, neighbors
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
    |wandb-(summary|metadata)\.json|.*\.ipynb|.*\.md(?<!README\.md)|.*\.pyc|rng_state.*""",
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
        read = list(_folder(location, choice, notes))
        if not read:
            raise NotReadableError(
                "no store of hyperparameters in this folder", "name a checkpoint or a config", str(location)
            )
    else:
        first = _one(location, choice)
        read = [first, *(_beside(location, choice, notes) if beside and first.tensors else ())]
    runs = _runs(location, read)
    if choice.run and len(runs) > 1:
        runs = [r for r in runs if r.folder == choice.run] or runs
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
            return _checkpoint(location)
        if source is None:
            return _checkpoint(location)  # whose error says what the file looks like
        return HParamFile(location, source.read(location, head, choice))
    except PinspectError as error:
        raise error.at(str(location)) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=str(location)) from None


def _checkpoint(location: Location) -> HParamFile:
    """A checkpoint's rows, and its tensors' shapes; a pickle without tensors has rows only."""
    checkpoint = open_location(location)
    read = HParamFile(location, store_of(checkpoint), checkpoint.tensors)
    ensure_unchanged(checkpoint.sources)
    return read


def _beside(location: Location, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
    for candidate in neighbors(location):
        if _worth(candidate):
            yield from _try(candidate, choice, notes)


def _worth(location: Location) -> bool:
    """Most README.md are no model cards: told apart before all sources are imported to ask them."""
    return location.suffix != ".md" or b"raining hyperparameters" in head_of(location)


def _try(location: Location, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
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


def _folder(top: Location, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
    left = MAX_FILES
    for candidate in _candidates(top, 0):
        left -= 1
        if left < 0:
            notes.append(f"only the first {MAX_FILES:,} files were looked at")
            return
        yield from _try(candidate, choice, notes)


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
