"""Advice on hyperparameters: usual ranges, how much each matters, and sources. Advice is never a finding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from inspectcli.display.text import setting
from inspectcli.hparams.merge import HParamValue

PLAYBOOK = "Deep Learning Tuning Playbook"
DEFAULTS = "defaults of PyTorch, Keras and Transformers"
KERAS_TUNER = "KerasTuner's guide"
PRACTICE = "introductions to hyperparameters"
PEFT_DOCS = "PEFT's and Microsoft's LoRA documentation"


class Advice(NamedTuple):
    """What is known of one hyperparameter.

    Attributes:
        name: canonical.
        low, high: typically between these; None where there is no range.
        sensitivity: how much results hang on it: high, medium, low, none.
        moves: whether a schedule moves it: static or dynamic.
        text: a sentence.
        source: where the range comes from.
    """

    name: str
    low: float | None
    high: float | None
    sensitivity: str
    moves: str
    text: str
    source: str


_ALL = (
    Advice("learning_rate", 1e-5, 1e-1, "high", "dynamic",
           "typically searched on a log scale; SGD 0.01 to 0.1, Adam 1e-5 to 1e-2, LoRA 5e-6 to 2e-4", PRACTICE),
    Advice("lr_scheduler", None, None, "medium", "dynamic", "typically cosine or linear decay", PLAYBOOK),
    Advice("warmup_steps", None, None, "medium", "static",
           "typically at most 10 % of all steps; without any first", PLAYBOOK),
    Advice("batch_size", 8, 1024, "medium", "static",
           "typically 32, 64, 128 or 256, the largest that fits; with another, tune the learning rate again", PLAYBOOK),
    Advice("num_layers", None, None, "high", "static",
           "typically 1 to 4 in small networks, tens in deep ones; part of the question, not of the tuning", PRACTICE),
    Advice("hidden_units", 8, 16384, "medium", "static",
           "typically 64, 128, 256 or 512 in each layer", PRACTICE),
    Advice("architecture", None, None, "high", "static",
           "typically one that is known to work for this kind of data", PLAYBOOK),
    Advice("hidden_size", 32, 16384, "medium", "static",
           "typically a power of two, and a multiple of the number of heads", KERAS_TUNER),
    Advice("weight_decay", 1e-4, 1e-1, "medium", "static",
           "typically 1e-4 to 1e-2; 0.1 for large language models; 0 switches it off", DEFAULTS),
    Advice("l1", 1e-6, 1e-2, "medium", "static", "typically 1e-5 to 1e-3", PRACTICE),
    Advice("l2", 1e-4, 1e-2, "medium", "static", "typically 1e-4 to 1e-2", PRACTICE),
    Advice("dropout", 0.0, 0.5, "low", "static",
           "typically 0.2 to 0.5; 0.1 in transformers; 0 in large pretraining", PRACTICE),
    Advice("attention_dropout", 0.0, 0.5, "low", "static", "typically 0 to 0.1", DEFAULTS),
    Advice("optimizer", None, None, "medium", "static", "typically the one most used for this kind of model", PLAYBOOK),
    Advice("momentum", 0.5, 0.999, "medium", "static", "typically 0.9", DEFAULTS),
    Advice("adam_epsilon", 1e-10, 1e-3, "low", "static", "typically 1e-8 (PyTorch) or 1e-7 (Keras)", DEFAULTS),
    Advice("bn_momentum", None, None, "low", "dynamic",
           "typically 0.1 in PyTorch (weight of the new value), 0.99 in Keras and 0.9 in ONNX (weight of the old one)",
           DEFAULTS),
    Advice("ema_decay", 0.9, 0.99999, "low", "dynamic", "typically 0.99 to 0.9999", DEFAULTS),
    Advice("gradient_clip", 0.1, 40, "low", "static",
           "typically 1.0, near the 90th percentile of the gradients' norms", PLAYBOOK),
    Advice("gradient_accumulation_steps", None, None, "low", "static",
           "typically 1: more saves memory, never time", PLAYBOOK),
    Advice("epochs", None, None, "medium", "static",
           "typically 1 to 3 for fine-tuning, tens to hundreds from scratch", DEFAULTS),
    Advice("max_steps", None, None, "medium", "static", "typically as many as the budget allows", PLAYBOOK),
    Advice("label_smoothing", 0.0, 0.2, "low", "static", "typically 0 to 0.1", DEFAULTS),
    Advice("lora_rank", 4, 256, "medium", "static", "typically 8, 16, 32 or 64", PEFT_DOCS),
    Advice("lora_alpha", 4, 512, "medium", "static", "typically the rank, or twice the rank", PEFT_DOCS),
    Advice("seed", None, None, "none", "static", "any; record it, and repeat with others", PRACTICE),
)  # fmt: skip

ADVICE = {advice.name: advice for advice in _ALL}


#: Usual learning rates by the optimizer's class, in lower case.
_RATES = {
    "sgd": (1e-2, 1e-1),
    **dict.fromkeys("adam adamw nadam radam adamax rmsprop".split(), (1e-5, 1e-2)),
}
_SENSITIVITY = ("high", "medium", "low", "none")

#: Which to look at where NaN came up, the first one first, and what to do about it.
REMEDIES = (
    ("learning_rate", "lower it"),
    ("gradient_clip", "clip the gradients"),
    ("warmup_steps", "warm up longer"),
    ("precision", "use more bits"),
    ("adam_epsilon", "raise it"),
)

#: How values are searched, and with what.
METHODS = (
    "to search: a grid for two or three values, random or quasi-random search for more, Bayesian optimization where a "
    "trial is expensive, architecture search where the network itself is in question; with Optuna, Ray Tune or W&B"
)


def usual_rate(optimizer: object) -> tuple[float, float]:
    """Between which learning rates of an optimizer are mostly chosen; of one that is not known, those of all."""
    name = re.sub(r"[^a-z].*", "", str(optimizer).rpartition(".")[2].lower())
    return _RATES.get(name, (1e-5, 1e-1))


def outside(entry: HParamValue, optimizer: object = None) -> str:
    """`above the usual 1e-05 to 0.1`; empty if inside, or nothing is known. Zero switches a thing off."""
    advice = ADVICE.get(entry.name)
    if advice is None or advice.low is None or advice.high is None or entry.layered or entry.row.unresolved:
        return ""
    value = entry.value[0] if isinstance(entry.value, list) and len(entry.value) == 1 else entry.value
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        return ""
    low, high = usual_rate(optimizer) if entry.name == "learning_rate" else (advice.low, advice.high)
    span = f"the usual {setting(low)} to {setting(high)}"
    return f"above {span}" if value > high else f"below {span}" if value < low else ""


def beside(entries: Mapping[str, HParamValue]) -> list[tuple[HParamValue, Advice, str]]:
    """(entry, what is known, what is odd about its value) for each that something is known of; what matters first."""
    optimizer = entries["optimizer"].value if "optimizer" in entries else None
    known = [(e, ADVICE[n], outside(e, optimizer)) for n, e in entries.items() if n in ADVICE]
    return sorted(known, key=lambda item: _SENSITIVITY.index(item[1].sensitivity))


def on_nonfinite(entries: Mapping[str, HParamValue]) -> str:
    """What to change first where weights became NaN or Inf, with the values in force."""
    parts = []
    for name, remedy in REMEDIES:
        entry = entries.get(name)
        value = None if entry is None else entry.value if entry.value is not None else entry.current
        parts.append(f"{name} ({'not recorded' if value is None else setting(value)}): {remedy}")
    return f"first {'; then '.join(parts)}"
