"""From rows of many places to one value for each name: which one counts, and what it is by now."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from inspectcli.hparams._tree import decode_text
from inspectcli.hparams.base import HParamRow, Reach


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


#: The order in which people read them; what is not here comes after, by name.
ORDER = """
learning_rate lr_unet lr_text_encoder lr_scheduler warmup_steps warmup_epochs warmup_ratio lr_min lr_final_factor
max_lr lr_warmup_start
lr_gamma lr_decay_rate lr_step_size lr_decay_steps lr_milestones lr_values lr_t_max
optimizer betas momentum nesterov adam_epsilon
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
    same = [row for row in static if row.source.file == best.source.file]
    if base_name(best.name or "")[1] is not None:
        indexed = {base_name(row.name or "")[1]: row.value for row in same if base_name(row.name or "")[1] is not None}
        return [indexed[i] for i in sorted(i for i in indexed if i is not None)], best.reach is Reach.LAYER
    if best.reach is Reach.LAYER:
        distinct: dict[Hashable, object] = {}
        for row in same:
            distinct.setdefault(_key(row.value), row.value)
        return (list(distinct.values()) if len(distinct) > 1 else best.value), len(distinct) > 1
    return _unwrapped(best.name, best.value), False


def _key(value: Any) -> Hashable:
    return repr(value) if isinstance(value, list | tuple | dict) else value


def _unwrapped(name: str | None, value: object) -> object:
    """fairseq keeps one rate as a list of one, and betas as text."""
    if isinstance(value, list) and len(value) == 1 and name in ("learning_rate", "gradient_accumulation_steps"):
        return value[0]
    if isinstance(value, str) and name == "betas":
        return decode_text(value)
    return value


# -- values --------------------------------------------------------------------------------------------


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
