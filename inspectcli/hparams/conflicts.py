"""Where hyperparameters contradict each other, or what the tensors say. What each is worth is for the rules to say."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from inspectcli.display.text import setting
from inspectcli.hparams.against_tensors import denied
from inspectcli.hparams.base import HParamFile, HParamRow, Kind, Priority, Reach
from inspectcli.hparams.merge import HParamValue, agree, base_name, merge_rows
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
    STATE = "what was configured of the optimizer and what its state says"
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
    for row, found, tells, tensor in denied(values, tensors, files):
        text = f"{_place(row)} is {setting(row.value)}, but the tensors say {setting(found)} ({tells})"
        yield Conflict(
            Disagreement.TENSORS, row.name or row.raw_key, text, {"stated": row.value, "tensors": found}, tensor
        )
    single = merge_rows(row for file in files if not file.store.trials for row in file.store.rows)
    models = frozenset(str(file.location) for file in files if file.tensors)
    yield from against_state(single, {name for file in files for name in _oddities(file.store.rows)})
    for value in single.values():
        if value.name in _COMPARED:
            yield from _between_files(value, models)
            if value.name == "learning_rate":
                yield from _began_otherwise(value)


# -- with the tensors -----------------------------------------------------------------------------------


def _with_tensors(
    values: Mapping[str, HParamValue], facts: Sequence[ShapeFact], tensors: Sequence[TensorRef]
) -> Iterator[Conflict]:
    kind = values.get("architecture")
    exact = kind is not None and kind.row.source.tool == "transformers" and kind.value in _EXACT
    for fact in facts:
        # ALBERT and its kin have embeddings narrower than their layers.
        narrow = fact.name == "hidden_size" and "embedding_size" in values and "embed" in fact.tensor
        value = values.get("embedding_size" if narrow else fact.name)
        if value is not None and _is_denied(value, fact, exact):
            yield Conflict(
                Disagreement.TENSORS,
                fact.name,
                f"{_place(value.row)} is {setting(value.value)}, "
                f"but the tensors say {setting(fact.value)} ({fact.shape})",
                {"stated": value.value, "tensors": fact.value},
                fact.tensor,
            )
    yield from _heads(values, tensors)


#: Of these types of transformers a model has as many embeddings as the config says, neither more nor less.
_EXACT = frozenset(
    """llama mistral mixtral qwen2 qwen3 gemma gemma2 phi phi3 gpt2 gpt_neo gpt_neox gptj opt bloom bert roberta
    distilbert electra albert t5 bart mbart pegasus falcon stablelm olmo starcoder2 granite""".split()
)


def _is_denied(value: HParamValue, fact: ShapeFact, exact: bool) -> bool:
    stated = value.value
    if type(stated) is not int or len({str(r.value) for r in value.rows if r.name == value.name and r.value}) > 1:
        return False
    if fact.name == "vocab_size" and not exact:  # rows may be padded, but none can be missing
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
            name = "num_kv_heads" if pattern is _KEY and kv else "num_heads"
            stated = f"{_place(values[name].row)} is {n}"
            text = (
                f"{stated} with {n} x {size} = {n * size} rows, but the tensor has {ref.shape[0]} ({list(ref.shape)})"
            )
            figures = {"stated": n * size, "tensors": ref.shape[0]}
            yield Conflict(Disagreement.TENSORS, name, text, figures, ref.name)
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
        if is_comparable(row) and not _may_have_moved(row):
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


def _may_have_moved(row: HParamRow) -> bool:
    """A group's `lr` is what it was when the file was written; `initial_lr` is what it began with.

    What else the state says is compared by itself.
    """
    told = row.priority is Priority.OPTIMIZER
    return told and (row.raw_key == "lr" or base_name(row.name or "")[0] in _STATE_NAMES)


# -- the optimizer's state ------------------------------------------------------------------------------

#: Spellings of configs -> the classes that an optimizer's state can be told to be of. What is not here is not compared.
_FAMILIES = {
    "adam": "adam", "fusedadam": "adam adamw", "adamw": "adamw", "adamwhf": "adamw adam", "adamwtorch": "adamw",
    "adamwfused": "adamw", "adamwtorchfused": "adamw", "adamwapexfused": "adam adamw", "sgd": "sgd", "momentum": "sgd",
    "sgdmomentum": "sgd", "nesterov": "sgd", "msgd": "sgd", "rmsprop": "rmsprop", "adagrad": "adagrad",
    "adadelta": "adadelta", "adamax": "adamax", "nadam": "nadam", "radam": "radam", "adafactor": "adafactor",
    "lbfgs": "lbfgs", "rprop": "rprop", "asgd": "asgd",
}  # fmt: skip
_STATE_NAMES = ("optimizer", "betas", "momentum", "weight_decay")


def _oddities(rows: Sequence[HParamRow]) -> Iterator[str]:
    """What makes a trainer use other values than the configured ones, as its documentation says."""
    for row in rows:
        key = row.raw_key.lower()
        if row.source.tool == "ultralytics" or key in ("nbs", "lr0"):  # decay is scaled, momentum warmed up
            yield from ("weight_decay", "momentum")
        elif _DECAY_MOVES.search(key):
            yield "weight_decay"


_DECAY_MOVES = re.compile(r"(weight_decay|wd)_(end|final|incr|sched\w*|style)|(final|end)_(weight_decay|wd)")


def against_state(values: Mapping[str, HParamValue], moved: Collection[str]) -> Iterator[Conflict]:
    """The optimizer's class and settings, configured and as its state has them.

    Several optimizers, groups or configured values: one that agrees is enough.

    Args:
        values: what the files say, by name.
        moved: names that trainers of this run change on the way.
    """
    for name in _STATE_NAMES:
        value = values.get(name)
        if value is None or name in moved:
            continue
        of_state = [row for row in value.rows if _is_of_state(row)]
        files = {row.source.file for row in of_state}
        stated = [row for row in value.rows if row.priority is Priority.STATED and is_comparable(row)]
        inside = [row for row in stated if row.source.file in files]
        if len(files) != 1 or not stated:
            continue
        pair = _denied(name, inside or stated, of_state)
        if pair is not None:
            yield _differing(Disagreement.STATE, name, *pair)


def _is_of_state(row: HParamRow) -> bool:
    told = Priority.INFERRED if row.name == "optimizer" else Priority.OPTIMIZER
    return row.priority is told and row.kind is Kind.STATIC and row.value is not None


def _denied(
    name: str, stated: Sequence[HParamRow], of_state: Sequence[HParamRow]
) -> tuple[HParamRow, HParamRow] | None:
    """A configured row that no row of the state agrees with, and one of the state."""
    for at in sorted({base_name(row.name or "")[1] for row in stated}, key=str):
        rows = [row for row in stated if base_name(row.name or "")[1] == at]
        if name == "optimizer":
            known = [_families(str(row.value)) for row in rows]
            found = [_families(str(row.value)) for row in of_state]
            if all(known) and all(found) and not any(k & f for k in known for f in found):
                return rows[0], of_state[0]
        elif all(agree(row.value, rows[0].value) for row in rows):
            there = [_element(row, at) for row in of_state]
            if there and not any(value is None or agree(rows[0].value, value) for value in there):
                return rows[0], of_state[0]
    return None


def _element(row: HParamRow, at: int | None) -> object:
    """A value, or that of the pair of betas that is meant."""
    if at is None:
        return row.value
    return row.value[at] if isinstance(row.value, list | tuple) and at < len(row.value) else None


def _families(name: str) -> frozenset[str]:
    """`torch.optim.AdamW` -> {adamw}; `Adam or AdamW` -> both; empty for a name that is not known."""
    found: set[str] = set()
    for word in name.split(" or "):
        last = re.sub(r"[(<].*", "", word).rstrip("'> ").rpartition(".")[2]
        plain = re.sub(r"[^a-z]", "", re.sub(r"paged|8bit|32bit|_?bnb", "", last.lower()))
        if plain not in _FAMILIES:
            return frozenset()
        found.update(_FAMILIES[plain].split())
    return frozenset(found)


def _differing(kind: Disagreement, name: str, first: HParamRow, other: HParamRow) -> Conflict:
    a, b = apart(first.source.file, other.source.file)
    text = f"{_place(first, a)} is {setting(first.value)}, but {_place(other, b)} is {setting(other.value)}"
    return Conflict(kind, name, text, {"values": [first.value, other.value]})


def apart(first: str, other: str) -> tuple[str, str]:
    """The names of two files; of one name, with the folders that tell them apart.

    >>> apart("run/args.bin", "run/checkpoint-6/args.bin")
    ('run/args.bin', 'checkpoint-6/args.bin')
    """
    a, b = (re.split(r"[/\\]", path) for path in (first, other))
    if first == other or a[-1] != b[-1]:
        return file_name(first), file_name(other)
    n = next((n for n in range(1, min(len(a), len(b)) + 1) if a[-n:] != b[-n:]), max(len(a), len(b)))
    return "/".join(a[-n:]), "/".join(b[-n:])


def _place(row: HParamRow, file: str = "") -> str:
    """`optimizer.lr of config.yaml`."""
    key = f"{row.source.locator}.{row.raw_key}" if row.source.locator else row.raw_key
    return f"{key} of {file or file_name(row.source.file)}"
