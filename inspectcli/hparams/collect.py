"""A file, or a folder with all that training left in it -> runs: what was set, where it stands, what disagrees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inspectcli.display.text import natural_key
from inspectcli.errors import NotReadableError, PinspectError
from inspectcli.formats.discovery import is_part_of_a_model
from inspectcli.hparams import find_source, head_of
from inspectcli.hparams.base import HParamFile, HParamRow, Kind, Selection, Store
from inspectcli.hparams.conflicts import Conflict, conflicts
from inspectcli.hparams.merge import HParamValue, merge_rows, missing
from inspectcli.hparams.neighbors import BELONGS, neighbors
from inspectcli.hparams.shapes import ShapeFact, infer_from_shapes
from inspectcli.hparams.sources.checkpoint import SOURCE as CHECKPOINT
from inspectcli.hparams.sources.checkpoint import store_of
from inspectcli.tensors.model import Checkpoint

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
        conflicts: where they disagree.
        not_recorded: important ones that are nowhere.
    """

    folder: str
    stores: tuple[tuple[str, Store], ...]
    entries: Mapping[str, HParamValue]
    from_tensors: tuple[ShapeFact, ...]
    conflicts: tuple[Conflict, ...]
    not_recorded: tuple[str, ...]

    @property
    def rows(self) -> tuple[HParamRow, ...]:
        return tuple(row for _, store in self.stores for row in store.rows)


def collect(path: str, choice: Selection, beside: bool, notes: list[str]) -> list[Run]:
    """The trainings that left something at a path.

    Args:
        path: a file; or a folder, of which every store is read.
        choice: which study, run or trial, where a store holds many.
        beside: look beside a checkpoint for the configs of known tools too.
        notes: what could not be read is added here.

    Raises:
        PinspectError: the file cannot be read, is no store that is known, or the choice is not in it.
    """
    if os.path.isdir(path):
        read = list(_folder(path, choice, notes))
        if not read:
            raise NotReadableError("no store of hyperparameters in this folder", "name a checkpoint or a config", path)
    else:
        first = _one(path, choice)
        read = [first, *(_beside(path, choice, notes) if beside and first.tensors else ())]
    runs = _runs(path, read)
    if choice.run and len(runs) > 1:
        runs = [r for r in runs if r.folder == choice.run] or runs
    return runs


def conflicts_beside(checkpoint: Checkpoint, rows: Sequence[HParamRow]) -> tuple[Conflict, ...]:
    """What the rows of an opened checkpoint, its tensors and the configs beside it contradict."""
    file = HParamFile(checkpoint.path, Store(tuple(rows)), checkpoint.tensors)
    return _run("", [file, *_beside(checkpoint.path, Selection(), [])]).conflicts


def _one(path: str, choice: Selection) -> HParamFile:
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
        return HParamFile(path, source.read(path, head, choice))
    except PinspectError as error:
        raise error.at(path) from None
    except RecursionError:
        raise PinspectError("nested too deeply to be read", path=path) from None


def _checkpoint(path: str) -> HParamFile:
    """A checkpoint's rows, and its tensors' shapes; a pickle without tensors has rows only."""
    from inspectcli.formats import open_checkpoint

    checkpoint = open_checkpoint(path)
    return HParamFile(path, store_of(checkpoint), checkpoint.tensors)


def _beside(path: str, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
    for candidate in neighbors(path):
        if _worth(candidate):
            yield from _try(candidate, choice, notes)


def _worth(path: str) -> bool:
    """Most README.md are no model cards: told apart before all sources are imported to ask them."""
    return not path.endswith(".md") or b"raining hyperparameters" in head_of(path)


def _try(path: str, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
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


def _folder(top: str, choice: Selection, notes: list[str]) -> Iterator[HParamFile]:
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


def _runs(top: str, read: Sequence[HParamFile]) -> list[Run]:
    """Files together that belong to one training."""
    groups: dict[str, list[HParamFile]] = {}
    for item in read:
        groups.setdefault(_run_folder(top, item.path), []).append(item)
    return [_run(folder, items) for folder, items in groups.items()]


def _run_folder(top: str, path: str) -> str:
    """The folder that a file's run is named by, below `top`."""
    if not os.path.isdir(top):
        return ""
    parts = os.path.relpath(path, top).replace(os.sep, "/").split("/")
    parts = parts if os.path.isdir(path) else parts[:-1]
    while parts and BELONGS.fullmatch(parts[-1]):
        parts.pop()
    return "" if parts in ([], ["."]) else "/".join(parts)


def _run(folder: str, files: Sequence[HParamFile]) -> Run:
    values = merge_rows(row for file in files for row in file.store.rows)
    # A part of a model tells no sizes.
    tensors = [ref for file in files if not is_part_of_a_model(file.path) for ref in file.tensors]
    facts = tuple(infer_from_shapes(tensors))
    training = any(value.row.kind is Kind.STATIC for value in values.values())
    return Run(
        folder=folder,
        stores=tuple((file.path, file.store) for file in files),
        entries=values,
        from_tensors=facts,
        conflicts=tuple(conflicts(values, facts, tensors, files)),
        not_recorded=tuple(missing(values)) if training else (),
    )
