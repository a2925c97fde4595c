"""What the tensors say of how a model was built: sizes by shape.

The number of heads is not told by shapes; neither are stride, padding, epsilon or momentum.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class ShapeFact(NamedTuple):
    """A size that a tensor's shape tells.

    Attributes:
        name: canonical.
        value: what it is.
        tensor: the tensor that tells it.
        shape: its shape, or the first and the last of the blocks.
    """

    name: str
    value: object
    tensor: str
    shape: str


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
        if match and "lora_" not in ref.name:  # an adapter may be of some layers only
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
