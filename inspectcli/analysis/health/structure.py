"""Structure (PI4xx): contradictions between files, index and names. Headers are enough for most rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from inspectcli.analysis.facts import TensorFacts
from inspectcli.analysis.findings import RuleHit, Severity, rule
from inspectcli.analysis.health.base import RuleContext
from inspectcli.analysis.health.blocks import gaps
from inspectcli.analysis.health.copies import Copies, copies, rounded_copies
from inspectcli.analysis.roles import OF_LAYER, Part
from inspectcli.display.text import is_or_are, listed, runs
from inspectcli.formats.discovery import is_part_of_a_model
from inspectcli.pickles.nodes import Dict
from inspectcli.storage.names import file_name
from inspectcli.tensors.dtypes import NumberClass
from inspectcli.tensors.model import TRAINING_STATE
from inspectcli.tensors.names import pattern

#: DeepSpeed's file of a model under ZeRO-3, in which every parameter is an empty placeholder.
_ZERO_FILE = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt$")
_WEIGHT = re.compile(r"(^|_)(weight|kernel|embeddings)$")
#: Weights that training of an adapter saves beside its own, and that lose their values first.
_ENDS = re.compile(r"(^|[._])(embed\w*|\w*embeddings?|wte|lm_head|\w*head|classifier|score)\.", re.IGNORECASE)


def _of_files(subject: RuleContext, what: str) -> Iterator[RuleHit]:
    """Yield the findings of one kind that the reader of the format made."""
    for defect in subject.checkpoint.defects:
        if defect.what == what:
            yield RuleHit(defect.tensors[0] if len(defect.tensors) == 1 else None, defect.message, defect.figures)


@rule("PI401", "missing-shard", Severity.ERROR, reads=False)
def missing_shard(subject: RuleContext) -> Iterator[RuleHit]:
    """The index names a shard that is not there.

    Why it matters: a loader stops, or leaves the layers of that shard as they were initialized.

    What to do: download the missing shard into the same folder, or save the model again.
    """
    yield from _of_files(subject, "missing-shard")


@rule("PI402", "extra-shard", Severity.WARNING, reads=False)
def extra_shard(subject: RuleContext) -> Iterator[RuleHit]:
    """A shard with the model's name lies in the folder, and the index does not name it.

    Why it matters: it is left over from another save. Tools that load all shards of a folder mix two models.

    What to do: delete the shards that the index does not name, or save the model again into an empty folder.
    """
    yield from _of_files(subject, "extra-shard")


@rule("PI403", "index-mismatch", Severity.ERROR, reads=False)
def index_mismatch(subject: RuleContext) -> Iterator[RuleHit]:
    """The index places a tensor in a shard that does not hold it.

    Why it matters: index and shards are from different saves. A loader that goes by the index does not find the tensor.

    What to do: get index and shards from one save, or rewrite the index from the shards.
    """
    yield from _of_files(subject, "index-mismatch")


@rule("PI404", "not-in-index", Severity.WARNING, reads=False)
def not_in_index(subject: RuleContext) -> Iterator[RuleHit]:
    """A shard holds a tensor that the index does not name, or names elsewhere.

    Why it matters: loaders that go by the index skip it, others load it: the same files give two models.

    What to do: rewrite the index from the shards, or remove the tensor from the shard.
    """
    yield from _of_files(subject, "not-in-index")


@rule("PI405", "total-size", Severity.WARNING, reads=False)
def total_size(subject: RuleContext) -> Iterator[RuleHit]:
    """`metadata.total_size` of the index is not the number of bytes that the shards hold.

    Why it matters: loaders plan memory by it; and a shard may be from another save, or of another element type.

    What to do: rewrite the index from the shards, after making sure that they are from one save.
    """
    yield from _of_files(subject, "total-size")


@rule("PI406", "duplicate-content", Severity.WARNING)
def duplicate_content(subject: RuleContext) -> Iterator[RuleHit]:
    """Tensors under different names hold the same values, and are not tied.

    Why it matters: trained layers are never equal. A conversion wrote one of them twice, in place of another; or tied
    tensors were saved as copies, and will be trained separately after loading. Deliberate copies (averages, target
    networks), constants and small tensors are left alone. An embedding and head saved twice, layers that are not
    trained yet, and tensors that are no weights by their names (the state matrix of Mamba begins alike in all layers)
    are only a note.

    What it rests on: a hash of all values. Of siblings in other blocks also of the values rounded to bfloat16.

    What to do: compare with the model that it was converted from, and tie the tensors if they are one by design.
    """
    for found in copies(subject):
        first, tensors = found.groups[0][0], len(found.groups)
        elements = sum(group[0].ref.numel for group in found.groups)
        others = listed(found.places[1:])
        what = f"equal to {others}, and not tied: {elements:,} values"
        if tensors > 1:
            what = f"{tensors:,} tensors of {found.places[0]} are equal to those of {others}, and not tied: " + (
                f"{elements:,} values"
            )
        yield RuleHit(
            first.name,
            f"{what}, {len(found.places)} times",
            {"tensors": tensors, "values": elements, "places": list(found.places)},
            severity=_severity(found),
        )
    for original, copy in rounded_copies(subject):
        yield RuleHit(
            copy.name,
            f"equal to {original.name} when both are rounded to bfloat16: {copy.ref.numel:,} values",
            {"values": copy.ref.numel, "places": [original.name, copy.name]},
            severity=Severity.WARNING if subject.trained else Severity.NOTE,
        )


def _severity(found: Copies) -> Severity:
    """Return WARNING for what training cannot have made: equal blocks, equal parts of one layer; else NOTE."""
    tensors = [group[0] for group in found.groups]
    if any(tensor.role.kind is Part.EMBEDDING for tensor in tensors):
        return Severity.NOTE
    if all(tensor.verdict is not None and tensor.verdict.strength.value != "moved" for tensor in tensors):
        return Severity.NOTE  # untrained layers copied from one another, as nn.TransformerEncoder makes them
    if not any(OF_LAYER.search(tensor.role.leaf) for tensor in tensors):
        return Severity.NOTE
    blocks = len({pattern(module) for module in found.modules}) == 1
    parents = {module.rpartition(".")[0] for module in found.modules}
    return Severity.WARNING if blocks or (len(parents) == 1 and parents != {""}) else Severity.NOTE


@rule("PI407", "mixed-dtypes", Severity.WARNING, reads=False)
def mixed_dtypes(subject: RuleContext) -> Iterator[RuleHit]:
    """A tensor has another floating point type than the same tensor of the other blocks.

    Why it matters: a block was converted and the others were not, or it comes from elsewhere. Recipes that keep norms
    or routers in float32 do so in every block, and quantized blocks beside plain ones are a recipe too: both are left
    alone.

    What to do: cast the model to one type before saving, or document why this block differs.
    """
    groups: dict[tuple[object, ...], list[TensorFacts]] = {}
    for tensor in subject.tensors:
        ref = tensor.ref
        plain = ref.dtype.family is NumberClass.FLOAT and ref.dtype.bits >= 16
        if plain and ref.numel and tensor.role.kind not in _NO_WEIGHTS:
            groups.setdefault((pattern(tensor.name), ref.shape, tensor.role.kind), []).append(tensor)
    odd: dict[tuple[str, str], list[TensorFacts]] = {}
    for group in groups.values():
        common = Counter(tensor.ref.dtype.name for tensor in group).most_common(1)[0][0]
        for tensor in group:
            if tensor.ref.dtype.name != common:
                odd.setdefault((tensor.ref.dtype.name, common), []).append(tensor)
    for (dtype, common), tensors in odd.items():
        names = [tensor.name for tensor in tensors]
        more = f", like {len(names) - 1:,} more: {listed(names[1:])}" if names[1:] else ""
        yield RuleHit(
            names[0],
            f"element type {dtype}, expected {common} as in the other blocks{more}",
            {"dtype": dtype, "expected": common, "tensors": len(names), "names": names[:10]},
        )


_NO_WEIGHTS = frozenset({Part.CONSTANT, Part.QUANTIZATION, Part.STATE})


@rule("PI408", "block-gap", Severity.WARNING, reads=False)
def block_gap(subject: RuleContext) -> Iterator[RuleHit]:
    """A number is missing among the blocks of a model.

    Why it matters: a loader that is not strict leaves that block as it was initialized. Blocks that were removed at
    the end, and numbers of layers without parameters, are left alone.

    What to do: look for the missing block in the model that this one was made from, or renumber the blocks if it was
    removed on purpose.
    """
    if is_partial(subject):
        return
    tensors = [ref for ref in subject.checkpoint.tensors if "lora_" not in ref.name]
    for gap in gaps(tensors):
        missing = [n for n in gap.missing if not _is_shared(subject, gap.prefix, n)]
        if missing:
            where = gap.prefix or "the model"
            noun = "block" if len(missing) == 1 else "blocks"
            yield RuleHit(
                None,
                f"{where} lacks {noun} {runs(missing)}: found {runs(gap.present)}",
                {"prefix": gap.prefix, "missing": missing, "found": len(gap.present)},
            )


def is_partial(subject: RuleContext) -> bool:
    """Whether the file holds some blocks of a model on purpose."""
    return any(_is_part(path) for path in (subject.checkpoint.path, *_only_file(subject)))


def _is_part(path: str) -> bool:
    """Whether it holds some blocks of a model on purpose: a shard, an adapter."""
    return is_part_of_a_model(path) or file_name(path).startswith("adapter_")


def _only_file(subject: RuleContext) -> Sequence[str]:
    return subject.checkpoint.files if len(subject.checkpoint.files) == 1 else ()


def _is_shared(subject: RuleContext, prefix: str, number: int) -> bool:
    """Return whether `safetensors.torch.save_model` noted that this block shares the tensors of another one."""
    noted = subject.checkpoint.objects
    block = f"{prefix}.{number}." if prefix else f"{number}."
    return isinstance(noted, dict) and any(isinstance(key, str) and key.startswith(block) for key in noted)


@rule("PI409", "unreadable-tensor", Severity.ERROR, reads=False)
def unreadable_tensor(subject: RuleContext) -> Iterator[RuleHit]:
    """The values of a tensor cannot be read: cut off, changed since they were written, or outside the file.

    Why it matters: nothing is known of these values, and a loader may read something else in their place.

    What to do: get the file again, and compare its checksum with the publisher's.
    """
    missing = {name for d in subject.checkpoint.defects if d.what == "missing-shard" for name in d.tensors}
    for tensor in subject.tensors:
        if tensor.problem and tensor.name not in missing:
            yield RuleHit(tensor.name, tensor.problem, {"bytes": tensor.ref.nbytes}, tensor.ref.cure)


@rule("PI410", "empty-parameter", Severity.ERROR, reads=False)
def empty_parameter(subject: RuleContext) -> Iterator[RuleHit]:
    """Weights have the shape [0]: placeholders of DeepSpeed's ZeRO-3, saved in place of the values.

    Why it matters: under ZeRO-3 every process holds a part of each weight, and `state_dict()` holds none. A model saved
    like this has lost its weights. In DeepSpeed's own checkpoints the values are in files beside this one, in the
    optimizer states. A few empty weights among others are a design (e3nn has them), and are left alone unless they are
    an embedding or a head.

    What to do: save with `stage3_gather_16bit_weights_on_model_save`, or run `zero_to_fp32.py` on the
    checkpoint folder.
    """
    weights = [tensor for tensor in subject.tensors if _is_weight(tensor)]
    empty = [tensor.name for tensor in weights if tensor.ref.shape == (0,)]
    most = 2 * len(empty) >= len(weights)
    if not most:
        empty = [name for name in empty if _ENDS.search(name)]
    if not empty:
        return
    severity = Severity.NOTE if _is_deepspeed(subject) else Severity.ERROR if most else Severity.WARNING
    yield RuleHit(
        empty[0] if len(empty) == 1 else None,
        f"{len(empty):,} of {len(weights):,} weights {is_or_are(len(empty))} empty, shape [0]: {listed(empty)}",
        {"empty": len(empty), "weights": len(weights)},
        severity=severity,
    )


def _is_weight(tensor: TensorFacts) -> bool:
    ref = tensor.ref
    return (
        ref.kind not in TRAINING_STATE
        and ref.dtype.family is NumberClass.FLOAT
        and bool(_WEIGHT.search(tensor.role.leaf))
    )


def _is_deepspeed(subject: RuleContext) -> bool:
    """Return whether DeepSpeed wrote the values into files beside this one."""
    held = subject.checkpoint.objects
    return bool(_ZERO_FILE.search(subject.checkpoint.path)) or (
        isinstance(held, Dict) and held.get("ds_version") is not None and held.get("param_shapes") is not None
    )
