"""Hyperparameters inside checkpoints: what trainers store beside the weights. Nothing is unpickled or imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

from inspectcli.errors import PinspectError
from inspectcli.formats import open_location
from inspectcli.hparams._config import config_rows, set_aside
from inspectcli.hparams._pickled import Module, plain
from inspectcli.hparams._python import assignments
from inspectcli.hparams._torch_state import is_optimizer, is_scheduler, optimizer_rows, scheduler_rows
from inspectcli.hparams._tree import MAX_LEAVES, Attributes, dotted, flag_unresolved, leaves
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Priority, Reach, Selection, Store
from inspectcli.hparams.merge import agree
from inspectcli.hparams.names import hparam, scope_of
from inspectcli.storage.location import Location
from inspectcli.tensors.model import Checkpoint

Tree = Mapping[str, object]

_MAGICS = (b"PK\x03\x04", b"\x80", b"\x89HDF", b"}q", b"(dp", b"ccollections")

#: Top-level keys that hold no configuration, only what happened.
_NOT_CONFIG = frozenset(
    """loops callbacks state_dict model_state_dict train_results train_metrics optimizer_history extra_state git metrics
    history message_hub rng_state rng_states random_states best_fitness ema updates amp_scaler scaler task_state
    criterion hook_msgs dataset_meta""".split()
)
#: What a file must have at its top, and who writes such; the first that fits.
_WRITERS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"pytorch-lightning_version"}), "pytorch-lightning"),
    (frozenset({"hyper_parameters"}), "pytorch-lightning"),
    (frozenset({"train_args", "train_results"}), "ultralytics"),
    (frozenset({"model_args", "iter_num"}), "nanoGPT"),
    (frozenset({"last_optimizer_state"}), "fairseq"),
    (frozenset({"arch", "state_dict", "args"}), "timm"),
)


def sniff(location: Location, head: bytes) -> bool:
    tar = head[257:262] == b"ustar"
    return head.startswith(_MAGICS) or head[8:9] == b"{" or tar


def read(location: Location, head: bytes, choice: Selection) -> Store:
    return store_of(open_location(location))


def store_of(checkpoint: Checkpoint) -> Store:
    """What an opened checkpoint says, and what it would do to a careless loader."""
    notes = tuple(f"it would run code when loaded: {h.what} ({h.where})" for h in checkpoint.hazards[:3])
    return Store(tuple(of_checkpoint(checkpoint)), notes=notes, hazards=checkpoint.hazards)


def of_checkpoint(checkpoint: Checkpoint) -> list[HParamRow]:
    """The rows of an opened checkpoint. Of a sharded model: of all its files."""
    if checkpoint.format.startswith("keras") or checkpoint.format == "hdf5":
        from inspectcli.hparams._keras import keras_rows

        return list(keras_rows(checkpoint))
    if checkpoint.format == "safetensors":
        from inspectcli.hparams._safetensors import metadata_rows

        return metadata_rows(checkpoint)
    if checkpoint.files or checkpoint.format in ("npz", "npy"):
        return []
    single = {ref.name: ref for ref in checkpoint.tensors if ref.numel == 1}
    return torch_rows(plain(checkpoint.objects, single), checkpoint.path)


def torch_rows(top: object, file: str) -> list[HParamRow]:
    """The rows of what a torch file or a pickle holds."""
    made: list[HParamRow] = []
    for row in _Torch(file, _writer(top)).visit(top, "", (), "checkpoint"):
        made.append(row)
        if len(made) >= MAX_LEAVES:
            break
    return set_aside(_settle_rates(made))


def _writer(top: object) -> str:
    if not isinstance(top, Mapping):
        return "torch"
    cls = str(top.get("__class__", ""))
    if cls.endswith("TrainingArguments"):
        return "transformers"
    if cls.startswith(("sklearn.", "xgboost.", "lightgbm.")):
        return "scikit-learn" if cls.startswith("sklearn.") else cls.partition(".")[0]
    meta = top.get("meta")
    if isinstance(meta, Mapping) and ("mmengine_version" in meta or "mmcv_version" in meta):
        return "mmengine"
    return next((tool for keys, tool in _WRITERS if keys <= set(top)), "torch")


class _Torch:
    def __init__(self, file: str, tool: str) -> None:
        self.file = file
        self.tool = tool

    def visit(self, node: object, locator: str, parents: tuple[str, ...], scope: str) -> Iterator[HParamRow]:
        if isinstance(node, Module):
            yield from self.module(node, locator)
        elif is_optimizer(node):
            yield from optimizer_rows(node, self.file, self.tool, locator)  # type: ignore[arg-type]
        elif is_scheduler(node):
            yield from scheduler_rows(node, self.file, self.tool, locator)  # type: ignore[arg-type]
        elif isinstance(node, Mapping):
            yield from self.mapping(node, locator, parents, scope)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                if isinstance(value, Mapping):
                    yield from self.visit(value, f"{locator}[{index}]", parents, scope)

    def mapping(self, node: Tree, locator: str, parents: tuple[str, ...], scope: str) -> Iterator[HParamRow]:
        if isinstance(node, Attributes):
            locator = f"{locator}.__dict__" if locator else "__dict__"
            scope = "config" if scope == "checkpoint" else scope
            if str(node.get("__class__", "")).startswith("sklearn."):
                yield from self.estimator(node, locator)
                return
        for key, value in node.items():
            place = f"{locator}.{key}" if locator else key
            inner = "config" if scope == "checkpoint" else scope
            if not parents and key in _NOT_CONFIG:
                yield from self.settings(value, key, locator)
            elif key == "cfg" and isinstance(value, str) and "=" in value:
                yield from self.source_text(value, place)
            elif _holds_dicts(value):
                yield from self.visit(value, place, (*parents, key), inner)
            else:
                # mmengine and mmcv keep their progress in `meta`.
                about = "checkpoint" if parents == ("meta",) else scope_of(parents, scope)
                row = flag_unresolved(hparam(key, value, Origin(self.file, locator, self.tool), about))
                if row.kind is Kind.DYNAMIC and value == -1:  # ultralytics strips its finished files
                    row = replace(row, name=None, kind=Kind.SETTING)
                yield replace(row, current=row.value) if row.kind is Kind.DYNAMIC else row

    def estimator(self, node: Tree, locator: str) -> Iterator[HParamRow]:
        """scikit-learn: an attribute that ends in `_` was learned, one that begins with it is its own affair.

        https://scikit-learn.org/stable/developers/develop.html#estimated-attributes
        """
        origin = Origin(self.file, locator, self.tool)
        for key, value in node.items():
            if key.endswith("_") or key.startswith("_"):
                yield HParamRow(None, key, value, None, Kind.SETTING, origin)
            elif isinstance(value, Mapping):
                yield from self.visit(value, f"{locator}.{key}", (key,), "config")
            elif key == "learning_rate" and isinstance(value, str):
                yield HParamRow("lr_scheduler", key, value, None, Kind.STATIC, origin)
            else:
                yield hparam(key, value, origin, "sklearn")

    def settings(self, value: object, key: str, locator: str) -> Iterator[HParamRow]:
        """What is no configuration: listed when everything is asked for; ultralytics logs its rates there."""
        rates = value.get("lr/pg0") if isinstance(value, Mapping) else None
        if isinstance(rates, list) and rates:
            place = Origin(self.file, f"{locator}.{key}".lstrip("."), self.tool)
            yield HParamRow("learning_rate.current", "lr/pg0", rates, rates[-1], Kind.DYNAMIC, place, "one an epoch")
        if isinstance(value, Mapping | list) and value:
            for leaf in leaves(value, f"{locator}.{key}" if locator else key):
                yield HParamRow(
                    None, leaf.key, leaf.value, None, Kind.SETTING, Origin(self.file, leaf.locator, self.tool)
                )
        else:
            yield HParamRow(None, key, value, None, Kind.SETTING, Origin(self.file, locator, self.tool))

    def source_text(self, text: str, locator: str) -> Iterator[HParamRow]:
        """mmengine keeps its config as Python source."""
        try:
            tree = assignments(text)
        except PinspectError:
            yield HParamRow(None, locator, text, None, Kind.SETTING, Origin(self.file, "", self.tool), "", "", True)
            return
        yield from dotted(config_rows(tree, self.file, self.tool), f"{locator} (python source)")

    def module(self, node: Module, path: str) -> Iterator[HParamRow]:
        """The attributes of a whole pickled module, and of those in it."""
        origin = Origin(self.file, f"{node.cls}.__dict__", self.tool)
        scope = module_scope(node.cls)
        note, reach = (f"module {path}", Reach.LAYER) if path else ("", Reach.RUN)
        inner = node.get("_modules")
        for key, value in node.items():
            if key in ("_modules", "_parameters", "_buffers") and value:
                continue
            if _holds_dicts(value):
                for leaf in leaves({key: value}, origin.locator):
                    place = Origin(self.file, leaf.locator, self.tool)
                    yield HParamRow(None, leaf.key, leaf.value, None, Kind.SETTING, place, note)
            elif key.startswith("_") or key == "training":
                yield HParamRow(None, key, value, None, Kind.SETTING, origin, note)
            else:
                yield hparam(key, value, origin, scope, note, reach=reach)
        for name, child in inner.items() if isinstance(inner, Mapping) else ():
            if isinstance(child, Module):
                yield from self.module(child, f"{path}.{name}" if path else name)


def module_scope(cls: str) -> str:
    """What the attributes of a layer class describe: `p` of a Dropout, `momentum` of a BatchNorm."""
    word = cls.lower()
    if "dropout" in word or "droppath" in word:
        return "dropout"
    return "norm" if "norm" in word else "module"


def _holds_dicts(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and any(_holds_dicts(v) for v in value)


def _settle_rates(made: list[HParamRow]) -> list[HParamRow]:
    """Tell the rates that were set from those that training has come to.

    A group's `lr` is the set one, unless a config gives that, or a schedule moved it that does not keep where it began.
    """
    schedules = [str(row.value) for row in made if row.name == "lr_scheduler"]
    configured = [row for row in made if row.name == "learning_rate" and not _of_group(row)]
    if any(_MOVES_SILENTLY.search(name) for name in schedules):
        settled = [_as_current(row) if _of_group(row) else row for row in made]
    elif configured and any(_of_group(row) and row.reach is Reach.GROUP for row in made) and _layered(made, configured):
        settled = [
            replace(row, reach=Reach.GROUP, note=row.note or "group 1") if _of_group(row) else row for row in made
        ]
    else:
        settled = [_as_current(row) if configured and _of_group(row) else row for row in made]
    if any("CyclicLR" in name for name in schedules):  # it writes its lower end where others keep the set rate
        settled = [
            replace(row, name="lr_min") if row.raw_key == "initial_lr" and row.name == "learning_rate" else row
            for row in settled
        ]
    moving = [row for row in settled if row.name == "learning_rate.current"]
    # What a scheduler set last is nearer to now than a group that was saved before it.
    now = next((row.current for row in sorted(moving, key=attrgetter("rank"))), None)
    if now is None:
        return settled
    return [replace(r, current=now) if r.name == "learning_rate" and r.current is None else r for r in settled]


#: Of these schedules a file keeps the current rate only.
_MOVES_SILENTLY = re.compile("ReduceLROnPlateau|CyclicLR|OneCycleLR")


def _layered(made: list[HParamRow], configured: list[HParamRow]) -> bool:
    """Whether groups have rates of their own, and nothing moved: the configured one is still among them."""
    return any(_of_group(row) and agree(row.value, of.value) for row in made for of in configured[:4])


def _of_group(row: HParamRow) -> bool:
    return row.name == "learning_rate" and row.raw_key == "lr" and row.priority is Priority.OPTIMIZER


def _as_current(row: HParamRow) -> HParamRow:
    return replace(row, name="learning_rate.current", kind=Kind.DYNAMIC, current=row.value)


SOURCE = HParamSource("checkpoint", sniff, read, generic=True)
