"""What a config states of a model and its tensors deny, beyond sizes: tied weights, adapters, Keras layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from inspectcli.hparams._pickled import one_number
from inspectcli.hparams.base import HParamFile, HParamRow
from inspectcli.hparams.merge import HParamValue, agree
from inspectcli.tensors.model import TRAINING_STATE, Kind, TensorRef

#: Bytes that are compared at three places of two tensors, and tensors of one element that are read.
_SAMPLE = 4096
_MAX_READ = 64

_INPUT = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_ANY_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|output_layer|head|score|decoder|predictions\S*)\.\S*$")
_LORA = re.compile(r"(?:^|\.)([\w-]+)\.lora_(?:A|B|magnitude_vector)\b")
_ALPHA = re.compile(r"\.alpha$")


class Denied(NamedTuple):
    """A stated value that tensors deny.

    Attributes:
        row: that states it.
        found: what the tensors have.
        tells: how they tell it.
        tensor: the one that does.
    """

    row: HParamRow
    found: object
    tells: str
    tensor: str | None = None


def denied(
    values: Mapping[str, HParamValue], tensors: Sequence[TensorRef], files: Sequence[HParamFile]
) -> Iterator[Denied]:
    """All of a run; `tensors` are of whole models."""
    model = [ref for ref in tensors if ref.kind not in TRAINING_STATE]
    yield from _tied(values, model, files)
    yield from _targets(values, model)
    yield from _alphas(values, model)
    yield from _dora(values, model)
    for file in files:
        if any(row.source.tool == "keras" for row in file.store.rows[:1]):
            yield from _keras_layers(file)
            yield from _keras_slots(file)


# -- tied embeddings ------------------------------------------------------------------------------------


def _tied(
    values: Mapping[str, HParamValue], model: Sequence[TensorRef], files: Sequence[HParamFile]
) -> Iterator[Denied]:
    """https://huggingface.co/docs/transformers/main_classes/configuration: `tie_word_embeddings`."""
    value = values.get("tie_embeddings")
    if value is None or value.row.source.tool != "transformers" or not isinstance(value.value, bool):
        return
    first = next((ref for ref in model if _INPUT.search(ref.name)), None)
    last = next((ref for ref in model if _OUTPUT.search(ref.name)), None)
    if first is None:
        return
    if value.value and last is not None and first.shape == last.shape and _differ(first, last):
        yield Denied(value.row, False, f"{last.name} differs from {first.name}", last.name)
    alone = last is None and not any(_ANY_HEAD.search(ref.name) for ref in model)
    if not value.value and alone and _is_causal(files):
        yield Denied(value.row, True, "there is no lm_head: a loader makes one at random", first.name)


def _is_causal(files: Sequence[HParamFile]) -> bool:
    named = (row.value for file in files for row in file.store.rows if row.raw_key in ("architectures", "0"))
    lists = [value if isinstance(value, list) else [value] for value in named]
    return any(str(name).endswith("ForCausalLM") for listed in lists for name in listed)


def _differ(a: TensorRef, b: TensorRef) -> bool:
    """Whether samples of their bytes do; False where they cannot be read at once."""
    if a.dtype is not b.dtype or a.problem or b.problem or len(a.segments) != 1 or len(b.segments) != 1:
        return False
    one, two = a.segments[0], b.segments[0]
    size = min(one.nbytes, two.nbytes)
    if not one.codec.is_plain or not two.codec.is_plain or (one.source is two.source and one.offset == two.offset):
        return False
    for at in {0, size // 2, max(size - _SAMPLE, 0)}:
        n = min(_SAMPLE, size - at)
        if one.source.read_at(one.offset + at, n) != two.source.read_at(two.offset + at, n):
            return True
    return False


# -- adapters -------------------------------------------------------------------------------------------


def _targets(values: Mapping[str, HParamValue], model: Sequence[TensorRef]) -> Iterator[Denied]:
    """PEFT's list of modules: one that has matrices must be in it; a name that fits nothing may be in it."""
    value = values.get("lora_target_modules")
    if value is None or value.row.source.tool != "peft" or not isinstance(value.value, list):
        return
    listed = {str(name).rpartition(".")[2] for name in value.value}
    modules: dict[str, str] = {}
    for ref in model:
        match = _LORA.search(ref.name)
        if match:
            modules.setdefault(match[1], ref.name)
    extra = {name: tensor for name, tensor in modules.items() if name not in listed}
    if extra and listed:
        name, tensor = next(iter(extra.items()))
        yield Denied(value.row, sorted(modules), f"{name} has matrices", tensor)


def _alphas(values: Mapping[str, HParamValue], model: Sequence[TensorRef]) -> Iterator[Denied]:
    """sd-scripts keeps the alpha of each module beside its matrices, and loaders scale by that."""
    value = values.get("lora_alpha")
    if value is None or not isinstance(value.value, int | float):
        return
    refs = [ref for ref in model if ref.numel == 1 and _ALPHA.search(ref.name)][:_MAX_READ]
    found = {number: ref for ref in refs if isinstance(number := one_number(ref), int | float)}
    if found and not any(agree(value.value, number) for number in found):
        number, ref = next(iter(found.items()))
        yield Denied(value.row, number, "the alpha of its modules", ref.name)


def _dora(values: Mapping[str, HParamValue], model: Sequence[TensorRef]) -> Iterator[Denied]:
    value = values.get("lora_dora")
    if value is None or not isinstance(value.value, bool) or not any("lora_A" in ref.name for ref in model):
        return
    magnitude = next((ref.name for ref in model if "lora_magnitude_vector" in ref.name), None)
    if value.value is not (magnitude is not None):
        yield Denied(value.row, not value.value, "magnitude vectors" if magnitude else "no magnitude vector", magnitude)


# -- Keras ----------------------------------------------------------------------------------------------

#: Columns of a kernel for each unit: the gates of a recurrent layer.
_GATES = {"Dense": 1, "SimpleRNN": 1, "LSTM": 4, "GRU": 3}
#: Arrays that an optimizer keeps for each weight.
#: https://github.com/keras-team/keras/tree/v3.9.0/keras/src/optimizers
_SLOTS = {"sgd": 0, "rmsprop": 1, "adam": 2, "adamw": 2, "nadam": 2, "adamax": 2, "adagrad": 1, "adadelta": 2,
          "ftrl": 2, "lion": 1, "lamb": 2}  # fmt: skip


def _keras_layers(file: HParamFile) -> Iterator[Denied]:
    """The units and filters of a layer against its kernel, found by the layer's name."""
    kernels = {ref.name: ref for ref in file.tensors if ref.name.endswith(".kernel")}
    held = {ref.name for ref in file.tensors}
    layers: dict[str, dict[str, HParamRow]] = {}
    for row in file.store.rows:
        if row.raw_key in ("name", "units", "filters", "use_bias") and row.source.locator.endswith("].config"):
            layers.setdefault(row.source.locator, {})[row.raw_key] = row
    for told in layers.values():
        name = told.get("name")
        kernel = kernels.get(f"{name.value}.kernel") if name is not None else None
        size = told.get("units") or told.get("filters")
        if kernel is None or size is None or type(size.value) is not int:
            continue
        layer = size.note.partition(" ")[0]
        gates = 1 if size.raw_key == "filters" and layer.startswith("Conv") else _GATES.get(layer, 0)
        if "Transpose" not in layer and gates and kernel.shape[-1] != size.value * gates:
            yield Denied(size, kernel.shape[-1] // gates, f"{kernel.name} {list(kernel.shape)}", kernel.name)
        bias = told.get("use_bias")
        there = f"{kernel.name.removesuffix('kernel')}bias"
        if layer == "Dense" and bias is not None and isinstance(bias.value, bool) and bias.value != (there in held):
            yield Denied(bias, there in held, f"{there} is {'there' if there in held else 'not there'}", kernel.name)


def _keras_slots(file: HParamFile) -> Iterator[Denied]:
    """How many arrays of each shape the optimizer keeps, for each weight of that shape."""
    rows = {row.raw_key: row for row in file.store.rows if ".optimizer" in row.source.locator}
    stated = next((r for r in file.store.rows if r.name == "optimizer"), None)
    if stated is None or not stated.source.locator.startswith("config.json"):  # Keras 2 kept others, in .h5
        return
    named = str(stated.value).lower()
    slots = _SLOTS.get(named)
    if slots is None:
        return
    given = {key: other.value for key, other in rows.items()}
    slots += (named in ("sgd", "rmsprop") and bool(given.get("momentum"))) + bool(given.get("centered"))
    slots += bool(given.get("amsgrad")) + bool(given.get("use_ema")) + bool(given.get("gradient_accumulation_steps"))
    arrays = [ref for ref in file.tensors if ref.kind is Kind.OPTIMIZER and ref.shape]
    kept = Counter(ref.shape for ref in arrays)
    weights = Counter(ref.shape for ref in file.tensors if ref.kind is Kind.PARAMETER)
    odd = next((s for s, n in kept.items() if (slots == 0 or n % slots or n > slots * max(weights[s], 1))), None)
    if odd is not None and all(shape in weights for shape in kept):
        has = f"{kept[odd]} arrays of the shape {list(odd)} for {weights[odd]} such weights, not {slots} for each"
        yield Denied(stated, "another one", has, next(ref.name for ref in arrays if ref.shape == odd))
