"""From rows of many places to one value for each name: which one counts, what it is by now, and where they disagree."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from inspectcli.display.text import setting
from inspectcli.hparams._tree import decode_text
from inspectcli.hparams.base import HParamRow, Kind, Priority, Reach


class HParamValue(NamedTuple):
    """What is known under one canonical name.

    Attributes:
        name: without `.current` and without an index.
        value: the configured value; None if only the current one is known.
        current: where training has got to, if that is told.
        row: the one that `value` is taken from.
        rows: all.
        layered: whether `value` lists the distinct values of several layers.
    """

    name: str
    value: object
    current: object
    row: HParamRow
    rows: tuple[HParamRow, ...]
    layered: bool = False


class Finding(NamedTuple):
    """Two places that cannot both be right.

    Attributes:
        code: PI601 a config contradicts the tensors; PI602 two stores disagree; PI603 the optimizer began with another
            learning rate than configured; PI604 sizes that do not divide.
        name: of the hyperparameter.
        message: both values with both places.
        advice: what to do.
    """

    code: str
    name: str
    message: str
    advice: str


#: The order in which people read them; what is not here comes after, by name.
ORDER = """
learning_rate lr_unet lr_text_encoder lr_scheduler warmup_steps warmup_epochs warmup_ratio lr_min lr_final_factor
lr_gamma lr_decay_rate lr_step_size lr_decay_steps lr_milestones lr_t_max optimizer betas momentum nesterov adam_epsilon
weight_decay batch_size batch_size_total gradient_accumulation_steps gradient_clip epochs max_steps epoch step precision
seed loss dropout attention_dropout embedding_dropout drop_path label_smoothing mixup cutmix l1 l2 bn_momentum norm_eps
num_layers hidden_size hidden_units intermediate_size num_heads num_kv_heads head_dim vocab_size context_length
activation rope_theta num_experts image_size patch_size kernel_size stride padding num_classes tie_embeddings lora_rank
lora_alpha lora_dropout lora_target_modules
""".split()

_PLACE = {name: index for index, name in enumerate(ORDER)}

#: The ten that matter most, where they are known; the first that there are.
IMPORTANT = """
learning_rate lr_scheduler batch_size batch_size_total epochs max_steps optimizer weight_decay dropout num_layers
hidden_size num_heads lora_rank momentum gradient_clip warmup_steps seed precision activation context_length vocab_size
""".split()

#: Without these a training cannot be repeated; each with what may stand in for it.
NEEDED = (
    ("learning_rate", ("lr_unet",)),
    ("batch_size", ("batch_size_total", "max_tokens")),
    ("epochs", ("max_steps",)),
    ("optimizer", ()),
    ("seed", ()),
)

#: Only of these is a difference between two stores a mistake: others are said of several things in one run.
_COMPARED = frozenset(
    """learning_rate batch_size batch_size_total epochs weight_decay momentum betas gradient_clip seed optimizer
    gradient_accumulation_steps warmup_steps warmup_epochs warmup_ratio num_layers hidden_size intermediate_size
    num_heads num_kv_heads vocab_size context_length lora_rank lora_alpha adam_epsilon label_smoothing""".split()
)

_INDEXED = re.compile(r"(.+)\[(\d+)\]")


def base_name(name: str) -> tuple[str, int | None, bool]:
    """`betas[1]` -> (`betas`, 1, False); `learning_rate.current` -> (`learning_rate`, None, True)."""
    current = name.endswith(".current")
    name = name.removesuffix(".current")
    match = _INDEXED.fullmatch(name)
    return (match[1], int(match[2]), current) if match else (name, None, current)


def merge_rows(rows: Iterable[HParamRow]) -> dict[str, HParamValue]:
    """One entry for each name, in the order people read them."""
    groups: dict[str, list[HParamRow]] = {}
    for row in rows:
        if row.name is not None:
            groups.setdefault(base_name(row.name)[0], []).append(row)
    made = {name: _entry(name, group) for name, group in groups.items()}
    return dict(sorted(made.items(), key=lambda item: (_PLACE.get(item[0], len(_PLACE)), item[0])))


_RANK = attrgetter("rank")


def _entry(name: str, group: Sequence[HParamRow]) -> HParamValue:
    static = [row for row in group if not base_name(row.name or "")[2]]
    moving = [row for row in group if base_name(row.name or "")[2]]
    current = next((r.value if r.current is None else r.current for r in sorted(moving, key=_RANK)), None)
    if current is None:
        current = next((row.current for row in static if row.current is not None), None)
    if not static:
        return HParamValue(name, None, current, moving[0], tuple(group))
    best = min(static, key=_RANK)
    value, layered = _value(best, static)
    return HParamValue(name, value, current, best, tuple(group), layered)


def _value(best: HParamRow, static: Sequence[HParamRow]) -> tuple[object, bool]:
    """The value of the best row; of an indexed name all of its file, of layers the distinct ones."""
    same = [row for row in static if row.origin.file == best.origin.file]
    if base_name(best.name or "")[1] is not None:
        indexed = {base_name(row.name or "")[1]: row.value for row in same if base_name(row.name or "")[1] is not None}
        return [indexed[i] for i in sorted(i for i in indexed if i is not None)], best.reach is Reach.LAYER
    if best.reach is Reach.LAYER:
        distinct: list[object] = []
        for row in same:
            if row.value not in distinct:
                distinct.append(row.value)
        return (distinct if len(distinct) > 1 else best.value), len(distinct) > 1
    return _unwrapped(best.name, best.value), False


def _unwrapped(name: str | None, value: object) -> object:
    """fairseq keeps one rate as a list of one, and betas as text."""
    if isinstance(value, list) and len(value) == 1 and name in ("learning_rate", "gradient_accumulation_steps"):
        return value[0]
    if isinstance(value, str) and name == "betas":
        return decode_text(value)
    return value


# -- where they disagree --------------------------------------------------------------------------------


def conflicts(entries: Mapping[str, HParamValue], models: frozenset[str] = frozenset()) -> list[Finding]:
    """Static values of one name that differ between files, or between a config and its optimizer.

    Several checkpoints in one folder may be of several runs: where they differ among themselves, nothing is said.
    """
    found = []
    for entry in entries.values():
        if entry.name in _COMPARED:
            found += _between_files(entry, models)
            if entry.name == "learning_rate":
                found += _began_otherwise(entry)
    return found


def _between_files(entry: HParamValue, models: frozenset[str]) -> list[Finding]:
    told: list[HParamRow] = []
    by_file: dict[str, list[HParamRow]] = {}
    for row in entry.rows:
        if is_comparable(row):
            by_file.setdefault(row.origin.file, []).append(row)
    for rows in by_file.values():
        first = min(map(_RANK, rows))
        best = [row for row in rows if row.rank == first]
        if best and all(agree(r.value, best[0].value) for r in best):
            told.append(best[0])
    of_models = [row for row in told if row.origin.file in models]
    if not all(agree(row.value, of_models[0].value) for row in of_models):
        told = [row for row in told if row.origin.file not in models]
    for other in told[1:]:
        if other.name == told[0].name and not agree(told[0].value, other.value):
            text = f"{_said(told[0])}, but {_said(other)}"
            return [Finding("PI602", entry.name, text, "Find out which of the two the training really used.")]
    return []


def is_comparable(row: HParamRow) -> bool:
    """Whether another value elsewhere would contradict it."""
    return row.kind is Kind.STATIC and row.is_set and row.reach is Reach.RUN and row.priority < Priority.INFERRED


def _began_otherwise(entry: HParamValue) -> list[Finding]:
    """A config's rate against `initial_lr` of the same file: they differ if a run was resumed with another rate."""
    for row in entry.rows:
        if row.raw_key != "initial_lr" or row.priority is not Priority.OPTIMIZER or not is_comparable(row):
            continue
        file = row.origin.file
        of_groups = [r.value for r in entry.rows if r.raw_key == "initial_lr" and r.origin.file == file]
        configured = [
            r for r in entry.rows if r.origin.file == file and is_comparable(r) and r.priority is Priority.STATED
        ]
        # Rates by layer, or several configured ones: nothing can be said.
        if len(set(map(str, of_groups))) != 1 or not configured:
            return []
        if not all(agree(r.value, configured[0].value) for r in configured) or agree(configured[0].value, row.value):
            return []
        text = f"{_said(configured[0])}, but {_said(row)}"
        return [Finding("PI603", entry.name, text, "The run was resumed with another rate, or scaled it: see its log.")]
    return []


def _said(row: HParamRow) -> str:
    place = f"{row.origin.locator}.{row.raw_key}" if row.origin.locator else row.raw_key
    return f"{place} of {os.path.basename(row.origin.file)} is {setting(row.value)}"


def agree(a: object, b: object) -> bool:
    """Whether two stores mean the same: numbers by their value, classes by their name."""
    a, b = _comparable_value(a), _comparable_value(b)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6) or a == b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(agree, a, b))
    if isinstance(a, str) and isinstance(b, str):
        return a in b or b in a
    return a == b


def _comparable_value(value: object) -> object:
    if isinstance(value, list | tuple):
        return _comparable_value(value[0]) if len(value) == 1 else list(value)
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else math.inf
    if isinstance(value, str):
        decoded = decode_text(value)
        if decoded is not value and not isinstance(decoded, str):
            return _comparable_value(decoded)
        last = re.sub(r"\(.*", "", value).rpartition(".")[2]
        return re.sub(r"[^a-z0-9]", "", last.lower()).removesuffix("torch").removesuffix("8bit")
    return value


def missing(entries: Mapping[str, HParamValue]) -> list[str]:
    """The important ones that are nowhere."""

    def known(name: str) -> bool:
        entry = entries.get(name)
        return entry is not None and (entry.value is not None or entry.current is not None)

    return [name for name, others in NEEDED if not known(name) and not any(map(known, others))]
