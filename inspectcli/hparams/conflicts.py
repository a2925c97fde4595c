"""Where hyperparameters contradict each other, or what the tensors say. What each is worth is for the rules to say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from inspectcli.display.text import setting
from inspectcli.hparams.base import HParamFile, HParamRow, Kind, Priority, Reach
from inspectcli.hparams.merge import HParamValue, agree, merge_rows
from inspectcli.hparams.shapes import ShapeFact
from inspectcli.storage.names import file_name
from inspectcli.tensors.model import TensorRef

_QUERY = re.compile(r"(q_proj|attn_q)\.weight$")
_KEY = re.compile(r"(k_proj|attn_k)\.weight$")


class Disagreement(Enum):
    """What contradicts what."""

    TENSORS = "a value and the tensors"
    STORES = "two stores"
    OPTIMIZER = "a configured learning rate and the one that the optimizer began with"
    HEADS = "the number of heads and the hidden size"


class Conflict(NamedTuple):
    """Two places that cannot both be right.

    Attributes:
        kind: what contradicts what.
        name: the canonical name of the hyperparameter.
        message: both values, and where they stand.
        figures: the values of the message.
        tensor: the one whose shape contradicts.
    """

    kind: Disagreement
    name: str
    message: str
    figures: Mapping[str, object]
    tensor: str | None = None


def conflicts(
    values: Mapping[str, HParamValue],
    facts: Sequence[ShapeFact],
    tensors: Sequence[TensorRef],
    files: Sequence[HParamFile],
) -> Iterator[Conflict]:
    """All conflicts of one training.

    Args:
        values: what the files say, by name.
        facts: what the tensors say.
        tensors: of whole models.
        files: what was read. What a store of several trials says of one of them is not compared with other stores.
    """
    yield from _with_tensors(values, facts, tensors)
    single = merge_rows(row for file in files if not file.store.trials for row in file.store.rows)
    models = frozenset(str(file.location) for file in files if file.tensors)
    for value in single.values():
        if value.name in _COMPARED:
            yield from _between_files(value, models)
            if value.name == "learning_rate":
                yield from _began_otherwise(value)


# -- with the tensors -----------------------------------------------------------------------------------


def _with_tensors(
    values: Mapping[str, HParamValue], facts: Sequence[ShapeFact], tensors: Sequence[TensorRef]
) -> Iterator[Conflict]:
    for fact in facts:
        value = values.get(fact.name)
        if value is not None and _is_denied(value, fact):
            yield Conflict(
                Disagreement.TENSORS,
                fact.name,
                f"{_place(value.row)} is {setting(value.value)}, "
                f"but the tensors say {setting(fact.value)} ({fact.shape})",
                {"stated": value.value, "tensors": fact.value},
                fact.tensor,
            )
    yield from _heads(values, tensors)


def _is_denied(value: HParamValue, fact: ShapeFact) -> bool:
    stated = value.value
    if type(stated) is not int or len({str(r.value) for r in value.rows if r.name == fact.name and r.value}) > 1:
        return False
    if fact.name == "vocab_size":  # rows may be padded, but none can be missing
        return isinstance(fact.value, int) and fact.value < stated
    if fact.name == "lora_rank":
        ranks = fact.value if isinstance(fact.value, list) else [fact.value]
        return stated not in ranks
    return stated != fact.value


def _heads(values: Mapping[str, HParamValue], tensors: Sequence[TensorRef]) -> Iterator[Conflict]:
    """q_proj must have heads x head_dim rows, k_proj kv_heads x head_dim; the hidden size must divide."""
    heads, hidden, kv, dim = (_integer(values, n) for n in ("num_heads", "hidden_size", "num_kv_heads", "head_dim"))
    if not heads or not hidden:
        return
    stated = f"{_place(values['num_heads'].row)} is {heads}"
    if not dim and hidden % heads:
        figures = {"num_heads": heads, "hidden_size": hidden}
        text = f"{stated}, which does not divide the hidden size {hidden}"
        yield Conflict(Disagreement.HEADS, "num_heads", text, figures)
        return
    size = dim or hidden // heads
    for pattern, n in ((_QUERY, heads), (_KEY, kv or heads)):
        ref = next((ref for ref in tensors if len(ref.shape) == 2 and pattern.search(ref.name)), None)
        if ref is not None and (ref.shape[0] % size or ref.shape[0] // size != n):
            text = (
                f"{stated} with {n} x {size} = {n * size} rows, but the tensor has {ref.shape[0]} ({list(ref.shape)})"
            )
            figures = {"stated": n * size, "tensors": ref.shape[0]}
            yield Conflict(Disagreement.TENSORS, "num_heads", text, figures, ref.name)
            return


def _integer(values: Mapping[str, HParamValue], name: str) -> int:
    value = values.get(name)
    return value.value if value is not None and type(value.value) is int else 0


# -- with each other ------------------------------------------------------------------------------------

#: Only of these is a difference between two stores a mistake: others are said of several things in one run.
_COMPARED = frozenset(
    """learning_rate batch_size batch_size_total epochs weight_decay momentum betas gradient_clip seed optimizer
    gradient_accumulation_steps warmup_steps warmup_epochs warmup_ratio num_layers hidden_size intermediate_size
    num_heads num_kv_heads vocab_size context_length lora_rank lora_alpha adam_epsilon label_smoothing""".split()
)


def is_comparable(row: HParamRow) -> bool:
    """Whether another value elsewhere would contradict it."""
    return row.kind is Kind.STATIC and row.is_set and row.reach is Reach.RUN and row.priority < Priority.INFERRED


def _between_files(value: HParamValue, models: frozenset[str]) -> Iterator[Conflict]:
    """Two files that differ. Several checkpoints may be of several runs: where they differ among themselves, nothing
    is said of them."""
    stated: list[HParamRow] = []
    by_file: dict[str, list[HParamRow]] = {}
    for row in value.rows:
        if is_comparable(row):
            by_file.setdefault(row.source.file, []).append(row)
    for rows in by_file.values():
        first = min(row.rank for row in rows)
        best = [row for row in rows if row.rank == first]
        if all(agree(row.value, best[0].value) for row in best):
            stated.append(best[0])
    of_models = [row for row in stated if row.source.file in models]
    if not all(agree(row.value, of_models[0].value) for row in of_models):
        stated = [row for row in stated if row.source.file not in models]
    for other in stated[1:]:
        if other.name == stated[0].name and not agree(stated[0].value, other.value):
            yield _differing(Disagreement.STORES, value.name, stated[0], other)
            return


def _began_otherwise(value: HParamValue) -> Iterator[Conflict]:
    """A config's rate against `initial_lr` of the same file: they differ if a run was resumed with another rate."""
    comparable = [row for row in value.rows if is_comparable(row)]
    began = next((r for r in comparable if r.raw_key == "initial_lr" and r.priority is Priority.OPTIMIZER), None)
    if began is None:
        return
    file = began.source.file
    of_groups = {str(r.value) for r in value.rows if r.raw_key == "initial_lr" and r.source.file == file}
    configured = [r for r in comparable if r.source.file == file and r.priority is Priority.STATED]
    # Rates by layer, or several configured ones: nothing can be said.
    if len(of_groups) != 1 or not configured:
        return
    if all(agree(r.value, configured[0].value) for r in configured) and not agree(configured[0].value, began.value):
        yield _differing(Disagreement.OPTIMIZER, value.name, configured[0], began)


def _differing(kind: Disagreement, name: str, first: HParamRow, other: HParamRow) -> Conflict:
    text = f"{_place(first)} is {setting(first.value)}, but {_place(other)} is {setting(other.value)}"
    return Conflict(kind, name, text, {"values": [first.value, other.value]})


def _place(row: HParamRow) -> str:
    """`optimizer.lr of config.yaml`."""
    key = f"{row.source.locator}.{row.raw_key}" if row.source.locator else row.raw_key
    return f"{key} of {file_name(row.source.file)}"
