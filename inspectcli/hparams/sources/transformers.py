"""What Hugging Face transformers leaves: config.json, generation_config.json, trainer_state.json, the model card.

`training_args.bin` is a pickle, and read as a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.encodings.files import read_file, read_json
from inspectcli.errors import DamagedFileError
from inspectcli.hparams._config import config_rows
from inspectcli.hparams._tree import decode_text
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Priority, Selection, Store
from inspectcli.hparams.names import hparam

TOOL = "transformers"

_MODEL = re.compile(rb'"(model_type|architectures)"\s*:')
_VERSION = re.compile(rb'"transformers_version"\s*:')
_TRAINER = re.compile(rb'"(log_history|is_world_process_zero|is_hyper_param_search)"\s*:')
_CARD = re.compile(rb"^#+ Training hyperparameters\s*$", re.MULTILINE | re.IGNORECASE)

#: Keys that one architecture uses in its own way.
_OWN_WAY = {
    "distilbert": {"hidden_dim": "intermediate_size", "dim": "hidden_size"},
    "whisper": {"d_model": "hidden_size"},
}


def sniff(path: str, head: bytes) -> bool:
    if head.lstrip()[:1] == b"{":
        return bool(_VERSION.search(head) or _TRAINER.search(head) or _MODEL.search(head))
    return bool(_CARD.search(head))


def read(path: str, head: bytes, choice: Selection) -> Store:
    if head.lstrip()[:1] != b"{":
        return _log(card_rows(read_file(path).decode("utf-8", "replace"), path))
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise DamagedFileError("a JSON text that is no object: expected a config")
    if "log_history" in tree or "is_world_process_zero" in tree:
        return _log(state_rows(tree, path))
    if "model_type" in tree or "architectures" in tree:
        return Store(tuple(model_rows(tree, path)))
    return Store(tuple(config_rows(tree, path, TOOL, scope="generation")))


def model_rows(tree: Mapping[str, object], file: str) -> Iterator[HParamRow]:
    """config.json. What equals the default of the architecture may be left out of it."""
    own = _OWN_WAY.get(str(tree.get("model_type")), {})
    for row in config_rows(tree, file, TOOL, scope="model"):
        if not row.source.locator and row.raw_key in own:
            yield replace(row, name=own[row.raw_key])
        elif row.raw_key in _GENERATION and row.name is None:
            yield replace(row, kind=Kind.SETTING)
        else:
            yield row


_GENERATION = frozenset(
    """max_length min_length do_sample early_stopping num_beams temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict diversity_penalty
    chunk_size_feed_forward output_attentions output_hidden_states return_dict_in_generate is_decoder is_encoder_decoder
    pretraining_tp rope_type type model_type num_beam_groups torchscript problem_type""".split()
)


def state_rows(tree: Mapping[str, object], file: str) -> Iterator[HParamRow]:
    """trainer_state.json: how far training is, and the schedule as far as it was logged."""
    origin = Origin(file, "", TOOL)
    for key, value in tree.items():
        if key == "log_history":
            yield from _last_rate(value, file)
        elif key == "trial_params" and isinstance(value, Mapping):
            yield from config_rows(value, file, TOOL, "trial_params")
        elif key in ("epoch", "global_step"):
            row = hparam(key, value, origin, "checkpoint")
            yield replace(row, current=value)
        elif isinstance(value, Mapping | list):
            yield HParamRow(None, key, value, None, Kind.SETTING, origin)
        else:
            yield hparam(key, value, origin, "train")


def _last_rate(history: object, file: str) -> Iterator[HParamRow]:
    entries = history if isinstance(history, list) else []
    for index in range(len(entries) - 1, -1, -1):
        value = entries[index].get("learning_rate") if isinstance(entries[index], Mapping) else None
        if isinstance(value, int | float):
            place = Origin(file, f"log_history[{index}]", TOOL)
            yield HParamRow("learning_rate.current", "learning_rate", value, value, Kind.DYNAMIC, place)
            return


def _log(rows: Iterator[HParamRow]) -> Store:
    """A store of what was written down while training went on, or afterwards."""
    return Store(tuple(replace(row, priority=Priority.LOG) for row in rows))


# -- the model card -------------------------------------------------------------------------------------

_SECTION = re.compile(r"^#+ Training hyperparameters\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_BULLET = re.compile(r"^[-*] (\w+): (.*)$", re.MULTILINE)
_ASSIGNED = re.compile(r"(betas|epsilon|momentum|weight_decay)=(\([^)]*\)|[^\s,]+)")


def card_rows(text: str, file: str) -> Iterator[HParamRow]:
    """The bullets that the Trainer writes into README.md."""
    origin = Origin(file, "Training hyperparameters", TOOL)
    for section in _SECTION.findall(text):
        for key, value in _BULLET.findall(section):
            if key == "optimizer":
                yield from _card_optimizer(value, origin)
            elif key.startswith("distributed_type") or key == "num_devices":
                yield HParamRow(None, key, decode_text(value), None, Kind.SETTING, origin)
            else:
                decoded = decode_text(value)
                yield hparam(key, decoded, origin, "train", stored=value if decoded is not value else "")


def _card_optimizer(text: str, origin: Origin) -> Iterator[HParamRow]:
    """`Use OptimizerNames.ADAMW_TORCH with betas=(0.9,0.95) and epsilon=1e-07`, or `Adam with betas=...`."""
    name = text.split(" with ")[0].removeprefix("Use ").removeprefix("OptimizerNames.")
    name = name.lower() if name.isupper() else name
    yield HParamRow("optimizer", "optimizer", name, None, Kind.STATIC, origin, stored=text)
    for key, value in _ASSIGNED.findall(text):
        yield hparam(key, decode_text(value), replace(origin, locator=f"{origin.locator}.optimizer"), "optimizer")


SOURCE = HParamSource(TOOL, sniff, read)
