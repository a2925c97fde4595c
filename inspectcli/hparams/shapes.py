"""What the tensors say of how a model was built: sizes by shape.

The number of heads is not told by shapes; neither are stride, padding, epsilon or momentum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inspectcli.tensors.model import TRAINING_STATE, Kind, TensorRef

_BLOCK = re.compile(r"(?:^|(.*?)\.)(layers|layer|h|blk|blocks|block)\.([0-9]{1,9})\.(.+)")
_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|token_embd|tok_emb|embed_in|token_embedding|shared)\.weight$"
)
_POSITIONS = re.compile(r"(^|\.)(wpe|position_embeddings|position_embedding|pos_emb)\.weight$")
_WIDE = re.compile(
    r"(mlp|ffn|feed_forward|intermediate)\.(up_proj|gate_proj|fc1|c_fc|fc_in|w1|dense_h_to_4h|dense|lin1)\.weight$"
    r"|ffn_(up|gate)\.weight$|\.fc1\.weight$|intermediate\.dense\.weight$"
    r"|DenseReluDense\.wi(_[01])?\.weight$|block_sparse_moe\.experts\.0\.w1\.weight$"
)
_TYPES = re.compile(r"(^|\.)token_type_embeddings?\.weight$")
_EXPERT = re.compile(r"(.*)\.experts\.([0-9]{1,6})\.")
_FUSED_EXPERTS = re.compile(r"\.experts\.(gate_up_proj|down_proj)$")
_GRID = re.compile(r"(^|\.)(position_embeddings?|pos_embed)$")
_EXTRA_TOKENS = re.compile(r"(^|\.)(cls_token|class_token|dist_token|distillation_token|register_tokens)$")
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
    for ref in _named(model, _TYPES):
        yield ShapeFact("type_vocab_size", ref.shape[0], ref.name, _shape(ref))
        break
    yield from _ranks(model)
    yield from _experts(model)
    yield from _image(model)
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
    parts = {part: [s for s in numbers if part in s.split(".")] for part in ("encoder", "decoder")}
    if len(numbers) == 2 and all(len(found) == 1 for found in parts.values()):
        for part, name in (("encoder", "num_layers"), ("decoder", "num_decoder_layers")):
            stack = parts[part][0]
            n = len(numbers[stack])
            if set(numbers[stack]) == set(range(n)):
                yield ShapeFact(name, n, first[stack], f"{stack}.0 to {stack}.{n - 1}")
        return
    stacks = sorted(numbers, key=lambda p: -sum(numbers[p].values()))
    if stacks and (len(stacks) == 1 or not re.search(r"decoder", " ".join(stacks))):
        stack = stacks[0]
        n = len(numbers[stack])
        if set(numbers[stack]) == set(range(n)) and min(numbers[stack].values()) > 1:
            yield ShapeFact("num_layers", n, first[stack], f"{stack}.0 to {stack}.{n - 1}")


def _experts(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    """Experts of the first layer that has some, one by one or in one tensor."""
    prefix, numbers, name = "", set(), ""
    for ref in model:
        match = _EXPERT.match(ref.name)
        if match and (not prefix or match[1] == prefix):
            prefix, name = match[1], name or ref.name
            numbers.add(int(match[2]))
        elif not prefix and len(ref.shape) == 3 and _FUSED_EXPERTS.search(ref.name):
            yield ShapeFact("num_experts", ref.shape[0], ref.name, _shape(ref))
            return
    if numbers and numbers == set(range(len(numbers))):
        yield ShapeFact("num_experts", len(numbers), name, f"{prefix}.experts.0 to {len(numbers) - 1}")


def _image(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    """The side of the image of a vision transformer: its positions are the patches of a square, and a few tokens."""
    patch = next((r for r in model if _PATCHES.search(r.name) and len(r.shape) == 4 and r.shape[2] == r.shape[3]), None)
    grid = next((r for r in model if _GRID.search(r.name) and len(r.shape) == 3 and r.shape[0] == 1), None)
    extra = [r for r in model if _EXTRA_TOKENS.search(r.name) and len(r.shape) == 3]
    if patch is None or grid is None or not extra or grid.shape[2] != patch.shape[0]:
        return
    yield ShapeFact("hidden_size", grid.shape[2], grid.name, _shape(grid))
    patches = grid.shape[1] - sum(ref.shape[1] for ref in extra)
    side = math.isqrt(max(patches, 0))
    if side and side * side == patches:
        yield ShapeFact("image_size", side * patch.shape[2], grid.name, _shape(grid))


def _ranks(model: Sequence[TensorRef]) -> Iterator[ShapeFact]:
    found: dict[int, TensorRef] = {}
    for ref in model:
        if _LORA_DOWN.search(ref.name) and len(ref.shape) >= 2:
            found.setdefault(ref.shape[0], ref)
    if found:
        ranks = sorted(found)
        tensor = found[ranks[-1]]
        yield ShapeFact("lora_rank", ranks[0] if len(ranks) == 1 else ranks, tensor.name, _shape(tensor))
