"""What optimizers and schedulers leave in a checkpoint: param_groups, their own settings, and what class they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.formats.torch.optimizers import MARKS, optimizer_class, param_groups
from inspectcli.hparams.base import HParamRow, Kind, Origin, Priority, Reach
from inspectcli.hparams.names import hparam

Tree = Mapping[str, object]

_INFERRED = "told by the keys of its state"

#: Keys of a scheduler's state -> its class; the first that fits.
_SCHEDULERS: tuple[tuple[set[str], str], ...] = (
    ({"_schedulers", "_milestones"}, "SequentialLR"),
    ({"_schedulers"}, "ChainedScheduler"),
    ({"total_steps", "_schedule_phases"}, "OneCycleLR"),
    ({"max_lrs", "step_ratio"}, "CyclicLR"),
    ({"patience", "num_bad_epochs"}, "ReduceLROnPlateau"),
    ({"T_0", "T_mult"}, "CosineAnnealingWarmRestarts"),
    ({"T_max", "eta_min"}, "CosineAnnealingLR"),
    ({"start_factor", "end_factor"}, "LinearLR"),
    ({"milestones", "gamma"}, "MultiStepLR"),
    ({"step_size", "gamma"}, "StepLR"),
    ({"power", "total_iters"}, "PolynomialLR"),
    ({"factor", "total_iters"}, "ConstantLR"),
    ({"gamma", "base_lrs"}, "ExponentialLR"),
)


#: What these schedules keep as base rates is not the rate that the optimizer was made with.
_BASES = {"CyclicLR": "lr_min", "OneCycleLR": "lr_warmup_start"}


def is_optimizer(node: object) -> bool:
    groups = node.get("param_groups") if isinstance(node, Mapping) else None
    return isinstance(groups, list) and bool(groups) and all(isinstance(g, Mapping) for g in groups)


def is_scheduler(node: object) -> bool:
    if not isinstance(node, Mapping):
        return False
    keys = set(node)
    return ("last_epoch" in keys and bool(keys & {"base_lrs", "_last_lr", "_schedulers", "num_bad_epochs"})) or bool(
        "last_step" in keys and keys & {"base_values", "_last_value"}
    )


def optimizer_rows(node: Tree, file: str, tool: str, locator: str) -> Iterator[HParamRow]:
    """The first group in full, of the others what differs; the class; the step."""
    groups = list(param_groups(node))
    place = f"{locator}.param_groups" if locator else "param_groups"
    for index, group in enumerate(groups):
        origin = Origin(file, f"{place}[{index}]", tool)
        for key, value in group.items():
            if index == 0 or (key != "params" and value != groups[0].get(key, value)):
                row = _group_row(key, value, group, origin)
                note = f"group {index + 1} of {len(groups)}"
                yield replace(row, note=note, reach=Reach.GROUP) if index else row
    states = node.get("state")
    each = [s for s in states.values() if isinstance(s, Mapping)] if isinstance(states, Mapping) else []
    if groups:
        yield from _class_row(groups[0], {k for s in each for k in s}, Origin(file, f"{place}[0]", tool))
    yield from _step_row(states, Origin(file, f"{locator}.state" if locator else "state", tool))


def _group_row(key: str, value: object, group: Tree, origin: Origin) -> HParamRow:
    began = Priority.OPTIMIZER
    if key in ("momentum", "betas") and {"max_momentum", "base_momentum"} <= group.keys():
        # OneCycleLR and CyclicLR move it from step to step; what it was before is not kept.
        return HParamRow(f"{key}.current", key, value, value, Kind.DYNAMIC, origin, priority=began)
    if key == "initial_lr" and "max_lr" in group:
        # OneCycleLR sets the rates itself, whatever the optimizer was made with.
        return HParamRow("lr_warmup_start", key, value, None, Kind.STATIC, origin, priority=began)
    if key == "max_lr":
        return HParamRow("max_lr", key, value, None, Kind.STATIC, origin, "the schedule's peak", priority=began)
    if key == "params":
        n = len(value) if isinstance(value, list) else 0
        return HParamRow(None, key, f"{n} parameters", None, Kind.SETTING, origin, priority=began)
    if key == "lr" and "initial_lr" in group:
        return HParamRow("learning_rate.current", key, value, value, Kind.DYNAMIC, origin, priority=began)
    row = hparam(key, value, origin, "optimizer", priority=began)
    if key == "initial_lr":
        return replace(row, current=group.get("lr"))
    return row


def _class_row(group: Tree, state_keys: set[str], origin: Origin) -> Iterator[HParamRow]:
    name = optimizer_class(group, state_keys)
    if name == "Adam" and group.get("decoupled_weight_decay") is None:
        name = "Adam or AdamW"
    if name:
        key = "decoupled_weight_decay" if name in ("Adam", "AdamW") else ", ".join(_marks(group))
        yield HParamRow("optimizer", key, name, None, Kind.STATIC, origin, _INFERRED, priority=Priority.INFERRED)


def _marks(group: Tree) -> list[str]:
    return next((sorted(m.group) for m in MARKS if m.group <= group.keys()), [])


def _step_row(states: object, origin: Origin) -> Iterator[HParamRow]:
    if not isinstance(states, Mapping):
        return
    for key, state in states.items():
        step = state.get("step") if isinstance(state, Mapping) else None
        if isinstance(step, int | float) and not isinstance(step, bool):
            value = int(step) if float(step).is_integer() else step
            place = replace(origin, locator=f"{origin.locator}.{key}")
            yield HParamRow("step.current", "step", value, value, Kind.DYNAMIC, place)
            return


def scheduler_rows(node: Tree, file: str, tool: str, locator: str, part: bool = False) -> Iterator[HParamRow]:
    """Its settings, the configured and the current learning rates, and the class; `part` of another schedule."""
    origin = Origin(file, locator, tool)
    about_lr = node.get("param_name", "lr") == "lr"  # mmengine schedules momentum with the same keys
    for key, value in node.items():
        if key in ("base_lrs", "base_values", "max_lrs", "_last_lr", "_last_value") and isinstance(value, list):
            if about_lr and not (part and key.startswith("_last")):
                name = "max_lr" if key == "max_lrs" else _BASES.get(_class(node), "learning_rate")
                yield from _rates(key, value, replace(origin, locator=f"{locator}.{key}" if locator else key), name)
        elif key == "total_iters" and _class(node) in ("LinearLR", "ConstantLR"):
            # The part of a schedule, not the length of the run.
            name = "warmup_steps" if _rises(node) else ""
            yield HParamRow(name or None, key, value, None, Kind.STATIC, origin)
        elif key == "_schedulers":
            for index, inner in enumerate(_listed(value)):
                if isinstance(inner, Mapping):
                    place = f"{locator}._schedulers[{index}]".lstrip(".")
                    yield from scheduler_rows(inner, file, tool, place, part=True)
        elif key == "milestones" and isinstance(value, Mapping):
            yield hparam(key, sorted(_number(k) for k in value), origin, "scheduler")
        elif about_lr or key == "param_name":
            row = hparam(key, value, origin, "scheduler")
            own = key in ("eps", "last_epoch", "verbose", "threshold", "mode") or key.startswith("_")
            yield replace(row, name=None, kind=Kind.SETTING) if own else row
    name = _class(node)
    if name and about_lr and not part:
        key = ", ".join(next(sorted(m) for m, n in _SCHEDULERS if n == name))
        called = _composed(name, _listed(node.get("_schedulers")))
        yield HParamRow("lr_scheduler", key, called, None, Kind.STATIC, origin, _INFERRED, priority=Priority.INFERRED)


def _class(node: Tree) -> str:
    return next((n for marks, n in _SCHEDULERS if marks <= set(node)), "")


def _composed(name: str, parts: list[object]) -> str:
    """`SequentialLR: LinearLR, then CosineAnnealingLR`."""
    names = [(_class(part) if isinstance(part, Mapping) else "") or "LambdaLR" for part in parts[:8]]
    return f"{name}: {(', then ' if name == 'SequentialLR' else ', ').join(names)}" if names else name


def _rises(node: Tree) -> bool:
    """Whether it leads up to the full rate: a warmup."""
    first, last = node.get("start_factor", node.get("factor")), node.get("end_factor", 1.0)
    return isinstance(first, int | float) and isinstance(last, int | float) and first < last


def _rates(key: str, values: list[object], origin: Origin, name: str) -> Iterator[HParamRow]:
    now = key.startswith("_last")
    for index, value in enumerate(values):
        if index and value == values[0]:
            continue
        if now:
            yield HParamRow("learning_rate.current", str(index), value, value, Kind.DYNAMIC, origin)
        else:
            began = Priority.OPTIMIZER
            yield HParamRow(name, str(index), value, None, Kind.STATIC, origin, priority=began)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(key: str) -> float:
    try:
        return int(key)
    except ValueError:
        return 0
