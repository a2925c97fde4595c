"""Config files of tools that have no reader of their own: any YAML, JSON, TOML, or Python source of literals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from inspectcli.hparams._config import config_rows, load, set_aside, syntax_of, unwrapped
from inspectcli.hparams._tree import MAX_DEPTH, decode_text, dotted
from inspectcli.hparams._tree import rows as tree_rows
from inspectcli.hparams.base import HParamRow, HParamSource, Kind, Origin, Selection, Store
from inspectcli.hparams.names import hparam, scope_of
from inspectcli.storage.location import Location

#: Keys at the top of a config, or its file's name, that tell the tool that wrote it; the first that fits.
_TOOLS: tuple[tuple[str, frozenset[str], str], ...] = (
    ("", frozenset({"compute_environment", "distributed_type"}), "accelerate"),
    ("", frozenset({"lr0", "lrf", "imgsz"}), "ultralytics"),
    ("", frozenset({"default_hooks", "train_dataloader"}), "mmengine"),
    ("", frozenset({"optim_wrapper"}), "mmengine"),
    ("", frozenset({"seed_everything", "trainer"}), "pytorch-lightning"),
    ("hparams.yaml", frozenset(), "pytorch-lightning"),
    ("", frozenset({"aa", "smoothing", "drop_path"}), "timm"),
    ("", frozenset({"_class_name"}), "diffusers"),
    ("", frozenset({"dim", "n_layers", "n_heads", "norm_eps"}), "llama"),
)
#: In a file that no known tool wrote, what lies below more dicts than this may be about anything.
_KNOWN_DEPTH = 3
#: What the keys at the top of such a tool's file describe.
_SCOPES = {"diffusers": "model", "llama": "model"}


def _sweep(tree: object) -> bool:
    """A search's own config, of W&B: https://docs.wandb.ai/guides/sweeps/sweep-config-keys."""
    return isinstance(tree, Mapping) and "method" in tree and isinstance(tree.get("parameters"), Mapping)


def _sweep_rows(tree: Mapping[str, object], file: str) -> list[HParamRow]:
    """A row for each parameter: one that is searched has its choices, or its ends, as value."""
    rows: list[HParamRow] = []
    for key, told in leaves_of_sweep(tree["parameters"]):
        origin = Origin(file, f"parameters.{key}", "wandb")
        scope = scope_of(key.split(".")[:-1], "train")
        last = key.rpartition(".")[2]
        if "value" in told:
            rows.append(hparam(last, told["value"], origin, scope))
            continue
        choices = told.get("values")
        ends = [told[end] for end in ("min", "max") if end in told] or [told[m] for m in ("mu", "sigma") if m in told]
        how = str(told.get("distribution", "choice" if isinstance(choices, list) else "uniform"))
        example = choices[0] if isinstance(choices, list) and choices else ends[0] if ends else None
        row = hparam(last, example, origin, scope)
        value = choices if isinstance(choices, list) else ends
        rows.append(replace(row, name=row.name or last, value=value, kind=Kind.STATIC, note=f"searched: {how}",
                            unresolved=True, searched=True))  # fmt: skip
    rows.append(hparam("method", tree["method"], Origin(file, "", "wandb"), "config"))
    return rows


def leaves_of_sweep(tree: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(dotted name, what is told of it); parameters may be nested in `parameters`."""
    for key, told in tree.items() if isinstance(tree, Mapping) and depth < MAX_DEPTH else ():
        if isinstance(told, Mapping) and isinstance(told.get("parameters"), Mapping):
            yield from leaves_of_sweep(told["parameters"], f"{prefix}{key}.", depth + 1)
        elif isinstance(told, Mapping):
            yield f"{prefix}{key}", told


def _all_text(tree: object) -> bool:
    """SageMaker writes every value as JSON in a string."""
    return isinstance(tree, Mapping) and len(tree) > 1 and all(isinstance(value, str) for value in tree.values())


def sniff(location: Location, head: bytes) -> bool:
    return bool(syntax_of(location, head))


def read(location: Location, head: bytes, choice: Selection) -> Store:
    tree = load(location, head)
    if not isinstance(tree, Mapping | list):
        return Store(notes=(f"{location.name} holds no settings",))
    if isinstance(tree, Mapping) and _sweep(tree):
        return Store(tuple(_sweep_rows(tree, str(location))))
    syntax = syntax_of(location, head)
    tree = unwrapped(tree)
    if syntax == "json" and isinstance(tree, Mapping) and _all_text(tree):
        return Store(tuple(tree_rows(tree, str(location), syntax, decode=decode_text)))
    tool = tool_of(location.name, tree)
    rows = config_rows(
        tree,
        str(location),
        tool or syntax,
        scope=_SCOPES.get(tool, "config"),
        known_depth=MAX_DEPTH if tool else _KNOWN_DEPTH,
    )
    rows = set_aside(rows)
    return Store(tuple(dotted(rows, "") if syntax == "python" else rows))


def tool_of(name: str, tree: object) -> str:
    """Who wrote a config; empty if nothing tells."""
    keys = set(tree) if isinstance(tree, Mapping) else set()
    return next((tool for file, wanted, tool in _TOOLS if wanted <= keys and file in ("", name)), "")


SOURCE = HParamSource("config", sniff, read, generic=True)
