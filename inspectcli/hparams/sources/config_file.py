"""Config files of tools that have no reader of their own: any YAML, JSON, TOML, or Python source of literals."""

from __future__ import annotations

from collections.abc import Mapping

from inspectcli.hparams._config import config_rows, load, syntax_of
from inspectcli.hparams._tree import MAX_DEPTH, dotted
from inspectcli.hparams.base import HParamSource, Selection, Store
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


def sniff(location: Location, head: bytes) -> bool:
    return bool(syntax_of(location, head))


def read(location: Location, head: bytes, choice: Selection) -> Store:
    tree = load(location, head)
    if not isinstance(tree, Mapping | list):
        return Store(notes=(f"{location.name} holds no settings",))
    syntax = syntax_of(location, head)
    tool = tool_of(location.name, tree)
    rows = config_rows(
        tree,
        str(location),
        tool or syntax,
        scope=_SCOPES.get(tool, "config"),
        known_depth=MAX_DEPTH if tool else _KNOWN_DEPTH,
    )
    return Store(tuple(dotted(rows, "") if syntax == "python" else rows))


def tool_of(name: str, tree: object) -> str:
    """Who wrote a config; empty if nothing tells."""
    keys = set(tree) if isinstance(tree, Mapping) else set()
    return next((tool for file, wanted, tool in _TOOLS if wanted <= keys and file in ("", name)), "")


SOURCE = HParamSource("config", sniff, read, generic=True)
