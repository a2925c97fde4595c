"""What the tensors say of how a model was built: sizes by shape. Compared with what a config says.

The number of heads is not told by shapes; neither are stride, padding, epsilon or momentum.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from inspectcli.display.text import setting
from inspectcli.hparams.merge import Finding, HParamValue
from inspectcli.tensors.model import TRAINING_STATE, Kind, TensorRef

_BLOCK = re.compile(r"(?:^|(.*?)\.)(layers|layer|h|blk|blocks|block)\.([0-9]{1,9})\.(.+)")
_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|token_embd|tok_emb|embed_in|token_embedding)\.weight$"
)
_POSITIONS = re.compile(r"(^|\.)(wpe|position_embeddings|position_embedding|pos_emb)\.weight$")
_WIDE = re.compile(
    r"(mlp|ffn|feed_forward|intermediate)\.(up_proj|gate_proj|fc1|c_fc|fc_in|w1|dense_h_to_4h|dense|lin1)\.weight$"
    r"|ffn_(up|gate)\.weight$|\.fc1\.weight$|intermediate\.dense\.weight$"
)
_LORA_DOWN = re.compile(r"lora_(A|a|down)(\.\w+)*?(\.weight)?$")
_PATCHES = re.compile(r"patch_embed(dings?)?\.(proj|projection)\.weight$")
_QUERY = re.compile(r"(q_proj|attn_q)\.weight$")
_KEY = re.compile(r"(k_proj|attn_k)\.weight$")


class ShapeFact(NamedTuple):
    """A size that a tensor's shape tells.

    Attributes:
        name: canonical.
        value: what it is.
        tensor: the tensor that tells it.
        text: its shape, or how many blocks there are.
    """

    name: str
    value: object
    tensor: str
    text: str


def infer_from_shapes(tensors: Sequence[TensorRef]) -> list[ShapeFact]:
    """What can be told, each name once."""
    model = [t for t in tensors if t.kind not in TRAINING_STATE and t.kind is not Kind.EMA and not t.packed]
    made: dict[str, ShapeFact] = {}
    for told in _told(model):
        made.setdefault(told.name, told)
    return list(made.values())


def _told(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    hidden = 0
    for ref in _named(model, _EMBEDDING):
        hidden = ref.shape[1]
        yield ShapeFact("vocab_size", ref.shape[0], ref.name, _shape(ref))
        yield ShapeFact("hidden_size", hidden, ref.name, _shape(ref))
        break
    yield from _layers(model)
    for ref in _named(model, _WIDE):
        if hidden and hidden in ref.shape:
            wide = ref.shape[1] if ref.shape[0] == hidden else ref.shape[0]
            yield ShapeFact("intermediate_size", wide, ref.name, _shape(ref))
            break
    for ref in _named(model, _POSITIONS):
        yield ShapeFact("context_length", ref.shape[0], ref.name, _shape(ref))
        break
    yield from _ranks(model)
    for ref in model:
        if _PATCHES.search(ref.name) and len(ref.shape) == 4 and ref.shape[2] == ref.shape[3]:
            yield ShapeFact("patch_size", ref.shape[2], ref.name, _shape(ref))
            break


def _named(model: Sequence[TensorRef], pattern: re.Pattern[str]) -> Iterator[TensorRef]:
    return (ref for ref in model if len(ref.shape) == 2 and pattern.search(ref.name))


def _shape(ref: TensorRef) -> str:
    return f"[{', '.join(map(str, ref.shape))}]"


def _layers(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    """The repeated block with the most tensors; its numbers must be 0, 1, 2, ... without a gap."""
    numbers: dict[str, dict[int, int]] = {}
    first: dict[str, str] = {}
    for ref in model:
        match = _BLOCK.match(ref.name)
        if match:
            prefix = f"{match[1]}.{match[2]}" if match[1] else match[2]
            of = numbers.setdefault(prefix, {})
            of[int(match[3])] = of.get(int(match[3]), 0) + 1
            first.setdefault(prefix, ref.name)
    # A decoder beside an encoder, or adapters: nothing is said of several stacks of one size.
    stacks = sorted(numbers, key=lambda p: -sum(numbers[p].values()))
    if stacks and (len(stacks) == 1 or not re.search(r"decoder", " ".join(stacks))):
        stack = stacks[0]
        n = len(numbers[stack])
        if set(numbers[stack]) == set(range(n)) and min(numbers[stack].values()) > 1:
            yield ShapeFact("num_layers", n, first[stack], f"{stack}.0 to {stack}.{n - 1}")


def _ranks(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    found: dict[int, TensorRef] = {}
    for ref in model:
        if _LORA_DOWN.search(ref.name) and len(ref.shape) >= 2:
            found.setdefault(ref.shape[0], ref)
    if found:
        ranks = sorted(found)
        tensor = found[ranks[-1]]
        yield ShapeFact("lora_rank", ranks[0] if len(ranks) == 1 else ranks, tensor.name, _shape(tensor))


# -- against the config ---------------------------------------------------------------------------------

_ADVICE = "The config belongs to another model, or the weights were exported wrongly: a loader would refuse or guess."


def contradictions(
    told: Sequence[ShapeFact], entries: Mapping[str, HParamValue], tensors: Sequence[TensorRef]
) -> list[Finding]:
    """What the config says and the tensors deny, naming both places."""
    found = []
    for item in told:
        entry = entries.get(item.name)
        if entry is not None and _denied(item, entry):
            place = f"{entry.row.origin.locator}.{entry.row.raw_key}".lstrip(".")
            text = (
                f"{place} of {_base(entry)} is {setting(entry.value)}, "
                f"but {item.tensor} says {setting(item.value)} ({item.text})"
            )
            found.append(Finding("PI601", item.name, text, _ADVICE))
    return found + _heads(entries, tensors)


def _base(entry: HParamValue) -> str:
    return entry.row.origin.file.replace("\\", "/").rpartition("/")[2]


def _denied(told: ShapeFact, entry: HParamValue) -> bool:
    value = entry.value
    if type(value) is not int or len({str(r.value) for r in entry.rows if r.name == told.name and r.value}) > 1:
        return False
    if told.name == "vocab_size":  # rows may be padded, but none can be missing
        return isinstance(told.value, int) and told.value < value
    if told.name == "lora_rank":
        ranks = told.value if isinstance(told.value, list) else [told.value]
        return value not in ranks
    return value != told.value


def _heads(entries: Mapping[str, HParamValue], tensors: Sequence[TensorRef]) -> list[Finding]:
    """q_proj must have heads x head_dim rows, k_proj kv_heads x head_dim; the hidden size must divide."""
    heads, hidden, kv, dim = (_integer(entries, n) for n in ("num_heads", "hidden_size", "num_kv_heads", "head_dim"))
    if not heads or not hidden:
        return []
    row = entries["num_heads"].row
    place = f"{row.origin.locator}.{row.raw_key}".lstrip(".") + f" of {_base(entries['num_heads'])}"
    if not dim and hidden % heads:
        text = f"{place} is {heads}, which does not divide the hidden size {hidden}"
        return [Finding("PI604", "num_heads", text, _ADVICE)]
    size = dim or hidden // heads
    for pattern, n in ((_QUERY, heads), (_KEY, kv or heads)):
        for ref in _named(tensors, pattern):
            if ref.shape[0] % size or ref.shape[0] // size != n:
                text = (
                    f"{place} is {heads} with {n} x {size} = {n * size} rows, but {ref.name} has {ref.shape[0]}"
                    f" ({_shape(ref)})"
                )
                return [Finding("PI601", "num_heads", text, _ADVICE)]
            break
    return []


def _integer(entries: Mapping[str, HParamValue], name: str) -> int:
    entry = entries.get(name)
    return entry.value if entry is not None and type(entry.value) is int else 0
