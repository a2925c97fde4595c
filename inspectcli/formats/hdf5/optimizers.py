"""Variables of Keras's optimizers: their names by order of creation, and by the names that legacy files give them.

iteration, learning_rate unless a schedule gives it, moving averages, accumulated gradients, then the slots of each
trained variable. https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inspectcli.formats.hdf5.config import Optimizer

Shape = tuple[int, ...]
#: Slots that are made for one variable after the other.
Slots = tuple[str, ...]

#: Optimizer in lower case -> its slots. Those of one tuple alternate, those of the next stand behind all of them.
_SLOTS: Mapping[str, Slots] = {
    "adam": ("momentum", "velocity"),
    "adamw": ("momentum", "velocity"),
    "nadam": ("momentum", "velocity"),
    "lamb": ("momentum", "velocity"),
    "schedulefreeadamw": ("momentum", "velocity"),
    "adamax": ("momentum", "norm"),
    "sgd": ("momentum",),
    "lion": ("momentum",),
    "rmsprop": ("velocity",),
    "adagrad": ("accumulator",),
    "ftrl": ("accumulator", "linear"),
    "adadelta": ("accumulated_grad", "accumulated_delta_var"),
}
_ADAPTIVE = frozenset({"adafactor", "muon"})
#: What legacy files call a slot -> what Keras 3 calls it.
_WORDS = {"m": "momentum", "v": "velocity", "vhat": "velocity_hat", "u": "norm"}
_SLOT_WORDS = sorted(
    {slot for slots in _SLOTS.values() for slot in slots}
    | {"velocity_hat", "average_gradient", "average", "gradient_accumulator"},
    key=len,
    reverse=True,
)
_COUNTERS = {"iteration": "iteration", "iterations": "iteration", "iter": "iteration", "learning_rate": "learning_rate"}
_LOSS_SCALE = "loss_scale"
_HEADS: tuple[Slots, ...] = (("iteration", "learning_rate"), ("iteration",))


@dataclass(frozen=True, slots=True)
class Run:
    """Trained variables that stand together, in the order of the model.

    Attributes:
        variables: name and shape of each.
        ordered: whether theirs is the order in which they were made; the parts of a class of the user's are listed by
            the alphabet.
    """

    variables: tuple[tuple[str, Shape], ...]
    ordered: bool = True


def by_order(optimizer: Optimizer, shapes: Sequence[Shape], trained: Sequence[Run]) -> list[str | None]:
    """Return the names of an optimizer's variables, in its order; None for each that stays numbered.

    Slots are named only if every shape agrees. Of parts whose order is unknown, those of a shape of its own are.
    """
    for heads in _HEADS:
        outer: Slots = ()
        if optimizer.inner is not None:
            outer = tuple(f"{_LOSS_SCALE}.{n}" for n in ("iteration", "learning_rate", "step_counter", "dynamic_scale"))
        start = (*outer, *heads)
        named = _slots(optimizer.inner or optimizer, shapes[len(start) :], trained)
        if named is not None and len(start) <= len(shapes) and all(shape == () for shape in shapes[: len(start)]):
            return [*start, *named]
    return [None] * len(shapes)


def _slots(optimizer: Optimizer, shapes: Sequence[Shape], trained: Sequence[Run]) -> list[str | None] | None:
    kind, config = optimizer.class_name.lower().replace("_", ""), optimizer.config
    named: list[str | None] = []
    at = 0
    for slots in _before(config):
        n = sum(len(run.variables) for run in trained) * len(slots)
        found = _alternating(slots, shapes[at : at + n], trained)
        if found is None:
            return None
        named, at = named + found, at + n
    rest = shapes[at:]
    if kind in _ADAPTIVE:
        found = _by_shape(_adafactor if kind == "adafactor" else _muon, rest, trained)
        return None if found is None else named + found
    if kind not in _SLOTS:
        return None
    for slots in _own(kind, config):
        n = sum(len(run.variables) for run in trained) * len(slots)
        found = _alternating(slots, rest[:n], trained)
        if found is None:
            return None
        named, rest = named + found, rest[n:]
    if kind == "nadam" and rest == [()]:
        return [*named, "u_product"]
    return named if not rest else None


def _before(config: Mapping[str, object]) -> Iterator[Slots]:
    if config.get("use_ema") is True:
        yield ("average",)
    if config.get("gradient_accumulation_steps"):
        yield ("gradient_accumulator",)


def _own(kind: str, config: Mapping[str, object]) -> Iterator[Slots]:
    if kind == "sgd" and not config.get("momentum", True):
        return
    yield _SLOTS[kind]
    if config.get("amsgrad") is True:
        yield ("velocity_hat",)
    if kind == "rmsprop" and config.get("momentum"):
        yield ("momentum",)
    if kind == "rmsprop" and config.get("centered") is True:
        yield ("average_gradient",)


def _alternating(slots: Slots, shapes: Sequence[Shape], trained: Sequence[Run]) -> list[str | None] | None:
    """Name slots that alternate variable by variable; None if the shapes do not agree."""
    named: list[str | None] = []
    at, step = 0, len(slots)
    for run in trained:
        n = len(run.variables) * step
        owners = _owners(run, shapes[at : at + n : step])
        if owners is None or any(
            list(shapes[at + k : at + n : step]) != list(shapes[at : at + n : step]) for k in range(step)
        ):
            return None
        named += [f"{owner}.{slot}" if owner else None for owner in owners for slot in slots]
        at += n
    return named if at == len(shapes) else None


def _owners(run: Run, shapes: Sequence[Shape]) -> list[str | None] | None:
    """Return the variable of each slot, None where several fit; or None if the shapes are not those of the run."""
    known = [shape for _, shape in run.variables]
    if run.ordered:
        return [name for name, _ in run.variables] if list(shapes) == known else None
    count = Counter(known)
    if Counter(shapes) != count:
        return None
    names = {shape: name for name, shape in run.variables}
    return [names[shape] if count[shape] == 1 else None for shape in shapes]


def _by_shape(slots_of, shapes: Sequence[Shape], trained: Sequence[Run]) -> list[str | None] | None:  # type: ignore[no-untyped-def]
    """Name the slots of an optimizer that keeps others for a vector than for a matrix."""
    if not all(run.ordered or len(run.variables) < 2 for run in trained):
        return None
    wanted = [(f"{name}.{slot}", s) for run in trained for name, shape in run.variables for slot, s in slots_of(shape)]
    return [name for name, _ in wanted] if [shape for _, shape in wanted] == list(shapes) else None


def _adafactor(shape: Shape) -> list[tuple[str, Shape]]:
    row, column = (shape[:-1], (*shape[:-2], shape[-1])) if len(shape) > 1 else ((), ())
    return [("row", row), ("column", column), ("velocity", shape)]


def _muon(shape: Shape) -> list[tuple[str, Shape]]:
    """Muon trains matrices and leaves the rest to Adam; an embedding too, which then does not agree."""
    return [("momentum", shape)] if 1 < len(shape) < 5 else [("momentum", shape), ("velocity", shape)]


# -- by the names of a legacy file ----------------------------------------------------------------------


def by_name(weights: Sequence[str], variables: Mapping[str, str], scaled: bool) -> list[str | None]:
    """Return the names of an optimizer's variables from those in a legacy file; None where that is not certain.

    `adam/sequential_dense_kernel_momentum` (Keras 3), `Adam/m/dense/kernel:0` (TF-Keras), `Adam/dense/kernel/m:0`
    (Keras 2 and before).

    Args:
        weights: the file's names.
        variables: path of each of the model's variables -> its name here. Paths that two share are left out.
        scaled: whether the optimizer is in a LossScaleOptimizer.
    """
    flat = {path.replace("/", "_"): name for path, name in variables.items()}
    named = [_one(re.sub(r":\d+$", "", weight).split("/"), variables, flat, scaled) for weight in weights]
    count = Counter(named)
    return [name if count[name] == 1 else None for name in named]


def _one(parts: list[str], variables: Mapping[str, str], flat: Mapping[str, str], scaled: bool) -> str | None:
    if parts[-1] in _COUNTERS or (scaled and parts[0].startswith("loss_scale")):
        leaf = _COUNTERS.get(parts[-1], parts[-1])
        return f"{_LOSS_SCALE}.{leaf}" if scaled and parts[0].startswith("loss_scale") else leaf
    if len(parts) == 1:
        return "u_product" if parts == ["variable"] else None
    if len(parts) == 2:
        for slot in _SLOT_WORDS:
            if parts[1].endswith(f"_{slot}") and (name := flat.get(parts[1][: -len(slot) - 1])):
                return f"{name}.{slot}"
    for at in (0, 1):  # in a LossScaleOptimizer without the optimizer's own name: `m/dense/kernel`
        word = _WORDS.get(parts[at], parts[at]) if len(parts) > at + 1 else ""
        if word in _SLOT_WORDS and (name := variables.get("/".join(parts[at + 1 :]))):
            return f"{name}.{word}"
    for start in range(min(3, len(parts) - 1)):
        if name := variables.get("/".join(parts[start:-1])):
            return f"{name}.{_WORDS.get(parts[-1], parts[-1])}"
    return None
