"""Incomplete models (PI42x): what blocks, config, naming and the files beside a file tell of a part that is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.blocks import block_lists, deficient
from inspectcli.analysis.health.structure import is_partial
from inspectcli.display.text import is_or_are, listed, plural
from inspectcli.encodings.files import names_in, object_beside
from inspectcli.errors import PinspectError
from inspectcli.formats.discovery import is_part_of_a_model
from inspectcli.formats.folder import INDEX_SUFFIX, SHARD
from inspectcli.hparams.shapes import infer_from_shapes
from inspectcli.storage.names import file_name
from inspectcli.tensors.model import TRAINING_STATE, TensorRef

#: Blocks from which a whole module that one of them lacks is no pattern.
_MANY = 4


def _model(subject: RuleContext) -> list[TensorRef]:
    return [ref for ref in subject.checkpoint.tensors if ref.kind not in TRAINING_STATE]


# -- blocks -----------------------------------------------------------------------------------------------


@rule("PI422", "tensor-missing-in-block", Severity.WARNING, reads=False)
def tensor_missing_in_block(subject: RuleContext) -> Iterator[RuleHit]:
    """A block lacks a tensor that the other blocks of its list have.

    Why it matters: a loader that is not strict draws it anew, and only prints a warning. A conversion that renames
    tensors loses one like this.

    What it rests on: the names of at least three blocks. All others have the tensor, and those before and behind are
    alike; or the block is like the others, in shapes too, but for biases, scales or normalizations. First and last
    blocks that lack a whole layer, blocks of several kinds in turn, and adapters of some layers are left alone.

    What to do: look for the tensor in the checkpoint that this one was made from.
    """
    if is_part_of_a_model(subject.checkpoint.path):
        return
    of_all = subject.checkpoint.tensors
    without_adapters = {} if is_partial(subject) else block_lists(ref for ref in of_all if "lora_" not in ref.name)
    for prefix, blocks in block_lists(of_all).items():
        lacking = {n: sorted(names) for n, names in deficient(without_adapters.get(prefix, {})).items()}
        lacking |= _lacking({n: frozenset(rest for rest, _ in made) for n, made in blocks.items()})
        start = f"{prefix}." if prefix else ""
        for number, missing in sorted(lacking.items()):
            names = [f"{start}{number}.{rest}" for rest in missing]
            yield RuleHit(
                None,
                f"{start}{number} lacks {listed(names)}: the other {len(blocks) - 1:,} blocks have "
                f"{'it' if len(names) == 1 else 'them'}",
                {"block": f"{start}{number}", "missing": names[:10], "count": len(names)},
            )


def _lacking(blocks: Mapping[int, frozenset[str]]) -> Iterator[tuple[int, list[str]]]:
    """Numbers of blocks that lack something which both neighbors and all others have, with what that is."""
    if len(blocks) < 3:
        return
    holders: dict[str, int] = {}
    for rests in blocks.values():
        for rest in rests:
            holders[rest] = holders.get(rest, 0) + 1
    everywhere_else = {rest for rest, n in holders.items() if n == len(blocks) - 1}
    for number, rests in blocks.items():
        before, after = blocks.get(number - 1), blocks.get(number + 1)
        if before is None or after is None:
            continue
        missing = sorted((everywhere_else & before & after) - rests)
        layers = {rest.rpartition(".")[0] for rest in before} - {""}
        alike = before == after == rests | {*missing} and 2 * len(missing) < len(before)
        if missing and alike and len(layers) > 2:
            held = {_container(rest) for rest in rests}
            if len(blocks) >= _MANY or all(_container(rest) and _container(rest) in held for rest in missing):
                yield number, missing


def _container(rest: str) -> str:
    """`mlp` of `mlp.up_proj.weight`."""
    return ".".join(rest.split(".")[:-2])


# -- config.json ------------------------------------------------------------------------------------------

#: Classes of transformers that have a head over the vocabulary.
_WITH_HEAD = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_HEAD = re.compile(
    r"(^|\.)(lm_head|embed_out|output|output_layer|output_projection|lm_head_\w+|predictions|head|heads|score|decoder"
    r"|logits?|classifier|codec_head|proj_out)(\.\w+)*$"
)
_TABLE = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|shared|embed_in|word_embedding|embeddings?)\.weight$"
)
_OWN_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")


@rule("PI423", "head-missing", Severity.WARNING, reads=False)
def head_missing(subject: RuleContext) -> Iterator[RuleHit]:
    """The config says that head and embedding are not tied, and the file holds no head.

    Why it matters: transformers draws the head anew, prints a warning, and the model answers at random.

    What to do: look for `lm_head.weight` in the checkpoint that this one was made from, or set `tie_word_embeddings`
    if the model is tied.
    """
    config = subject.config
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if config.get("tie_word_embeddings") is not False or not any(_WITH_HEAD.search(str(name)) for name in names):
        return
    refs = _model(subject)
    if is_part_of_a_model(subject.checkpoint.path) or not any(_TABLE.search(ref.name) for ref in refs):
        return
    if not any(_HEAD.search(ref.name) for ref in refs):
        yield RuleHit(
            None,
            f"no head (lm_head.weight): tie_word_embeddings of config.json is false, for {names[0]}",
            {"architecture": str(names[0])},
        )


@rule("PI424", "tied-head-differs", Severity.WARNING)
def tied_head_differs(subject: RuleContext) -> Iterator[RuleHit]:
    """The config says that head and embedding are tied, and the file holds a head with other values.

    Why it matters: loaders that tie use the table for both, others use the head: the same files give two models.

    What to do: set `tie_word_embeddings` to false if the head was trained on its own, else remove it from the file.
    """
    if subject.config.get("tie_word_embeddings") is not True:
        return
    heads = [tensor for tensor in subject.unique if _OWN_HEAD.search(tensor.name)]
    tables = [tensor for tensor in subject.unique if _TABLE.search(tensor.name)]
    for head in heads:
        alike = [table for table in tables if table.ref.shape == head.ref.shape and table.ref.dtype == head.ref.dtype]
        if alike and not any(_same_figures(head, table) for table in alike):
            yield RuleHit(
                head.name,
                f"other values than {alike[0].name}, to which tie_word_embeddings of config.json ties it",
                {"table": alike[0].name},
            )


def _same_figures(a: TensorFacts, b: TensorFacts) -> bool:
    """Whether nothing tells two tensors apart: equal values have equal figures."""
    if a.stats is None or b.stats is None:
        return True
    return (a.stats.low, a.stats.high, a.stats.zeros, a.stats.l2) == (
        b.stats.low,
        b.stats.high,
        b.stats.zeros,
        b.stats.l2,
    )


@rule("PI425", "rows-beyond-vocabulary", Severity.WARNING, reads=False)
def rows_beyond_vocabulary(subject: RuleContext) -> Iterator[RuleHit]:
    """The embedding has more rows than `vocab_size` of the config.

    Why it matters: transformers builds a table of `vocab_size` rows and refuses the one in the file. The tokenizer was
    extended, and the config was not saved with the model.

    What to do: set `vocab_size` to the number of rows, or save the model with `save_pretrained`.
    """
    config = subject.config
    stated = config.get("vocab_size")
    if type(stated) is not int or not isinstance(config.get("model_type"), str):
        return
    fact = next((f for f in infer_from_shapes(_model(subject)) if f.name == "vocab_size"), None)
    if fact is not None and isinstance(fact.value, int) and fact.value > stated:
        yield RuleHit(
            fact.tensor,
            f"{fact.value:,} rows, but vocab_size of config.json is {stated:,}",
            {"rows": fact.value, "vocab_size": stated},
        )


# -- adapters ---------------------------------------------------------------------------------------------

_SIDE = re.compile(r"(?<=lora_)(A|B|a|b|down|up|embedding_A|embedding_B)(?=[._]|$)|(?<=hada_w[12]_|lokr_w[12]_)(a|b)$")
_OTHER = {
    "A": "B", "B": "A", "a": "b", "b": "a", "down": "up", "up": "down",
    "embedding_A": "embedding_B", "embedding_B": "embedding_A",
}  # fmt: skip
_PEFT_PREFIX = "base_model.model."
_PEFT_NAMES = re.compile(r"lora_|ia3_|lokr_|hada_|vera_|oft_")


@rule("PI426", "half-an-update", Severity.WARNING, reads=False)
def half_an_update(subject: RuleContext) -> Iterator[RuleHit]:
    """An adapter holds one of the two matrices of a layer, and not the other.

    Why it matters: an update is the product of both. A loader leaves the layer without it, or stops.

    What to do: save the adapter again; look for a filter on names that kept one of the two.
    """
    if is_part_of_a_model(subject.checkpoint.path):
        return
    names = {ref.name for ref in _model(subject)}
    for name in sorted(names):
        found = _SIDE.search(name)
        if found is None:
            continue
        other = name[: found.start()] + _OTHER[found[0]] + name[found.end() :]
        if other not in names:
            yield RuleHit(name, f"without its other half {other}", {"missing": other})


@rule("PI427", "adapter-prefix", Severity.WARNING, reads=False)
def adapter_prefix(subject: RuleContext) -> Iterator[RuleHit]:
    """The names of a PEFT adapter do not begin with `base_model.model.`, or begin with it twice.

    Why it matters: PEFT finds none of its keys, prints a warning, and runs the base model without the adapter.

    What to do: rename the tensors so that each name begins with the prefix once; `PeftModel.save_pretrained` writes it.
    """
    checkpoint = subject.checkpoint
    if not file_name(checkpoint.path).startswith("adapter_model."):
        return
    if not object_beside(checkpoint.location, "adapter_config.json").get("peft_type"):
        return
    names = [ref.name for ref in _model(subject) if _PEFT_NAMES.search(ref.name)]
    twice = [name for name in names if name.startswith(2 * _PEFT_PREFIX)]
    without = [name for name in names if not name.startswith("base_model.")]
    for found, what in ((twice, f"begin with {_PEFT_PREFIX} twice"), (without, f"begin without {_PEFT_PREFIX}")):
        if found:
            yield RuleHit(
                None,
                f"{len(found):,} of {plural(len(names), 'name')} {what}: {listed(found, 2)}",
                {"count": len(found), "of": len(names)},
            )


#: What wrappers put before every name, and who does.
_WRAPPERS = {"_orig_mod": "torch.compile", "module": "DataParallel or DDP"}


@rule("PI428", "wrapped-names", Severity.NOTE, reads=False)
def wrapped_names(subject: RuleContext) -> Iterator[RuleHit]:
    """All names begin with the name of a wrapper: the state dict is of the wrapper, not of the model.

    Why it matters: `load_state_dict` of the model finds none of its names, and `from_pretrained` draws all weights
    anew.

    What to do: save the state dict of the model inside the wrapper, or remove the prefix from the names.
    """
    names = [ref.name.split(".") for ref in _model(subject)]
    if len(names) < 2:
        return
    depth = 0
    while all(len(parts) > depth + 1 and parts[depth] == names[0][depth] for parts in names):
        wrapper = _WRAPPERS.get(names[0][depth])
        if wrapper is not None:
            prefix = names[0][depth] + "."
            yield RuleHit(
                None, f"all {len(names):,} names have {prefix}, of {wrapper}", {"prefix": prefix, "count": len(names)}
            )
            return
        depth += 1


# -- files ------------------------------------------------------------------------------------------------


@rule("PI432", "shard-missing", Severity.WARNING, reads=False)
def shard_missing(subject: RuleContext) -> Iterator[RuleHit]:
    """The name of a shard says how many there are, and not all of them lie beside it. There is no index.

    Why it matters: the layers of the missing shards stay as they were initialized, or nothing loads at all.

    What to do: get the missing shards, and the index that belongs to them.
    """
    location = subject.checkpoint.location
    found = SHARD.search(location.name) if location is not None else None
    if location is None or found is None:
        return
    try:
        names = names_in(location.parent)
    except PinspectError:
        return
    stem, end, total = location.name[: found.start()], f".{found[2]}", int(found[1])
    if f"{stem}{end}{INDEX_SUFFIX}" in names:
        return
    kind = stem, found[1], found[2]
    there = sorted(n for n in names if (m := SHARD.search(n)) and (n[: m.start()], m[1], m[2]) == kind)
    missing = total - len(there)
    if missing > 0 and location.name == there[0]:
        wanted = [f"{stem}-{i:05d}-of-{found[1]}{end}" for i in range(1, total + 1)]
        absent = [name for name in wanted if name not in names]
        yield RuleHit(
            None,
            f"{missing:,} of {total:,} shards {is_or_are(missing)} missing, and there is no index: {listed(absent)}",
            {"missing": missing, "expected": total, "shards": absent[:10]},
        )
