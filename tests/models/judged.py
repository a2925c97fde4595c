"""Write a file with the library people use, and see what the rules say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch

from inspectcli.analysis.findings import Finding, Rule, all_rules
from inspectcli.commands.inspect.run import inspect_path

Tensors = Mapping[str, torch.Tensor]


def write(path: Path, tensors: object, metadata: dict[str, str] | None = None) -> Path:
    """With safetensors where the name says so, else with torch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        assert isinstance(tensors, Mapping)
        safetensors.torch.save_file(dict(tensors), path, metadata)
    else:
        torch.save(tensors, path)
    return path


def rules(*prefixes: str) -> Sequence[Rule]:
    """Those whose code begins so; of whole families, those that run by default."""
    return [r for r in all_rules() if r.code in prefixes or (r.default and r.code.startswith(prefixes))]


def findings(path: Path, *prefixes: str, read: bool = True) -> tuple[Finding, ...]:
    """What the rules of these codes or families say of a file; all rules that run by default, if none is named."""
    return inspect_path(str(path), read=read, rules=rules(*prefixes or ("PI",))).findings


def codes(found: Iterable[Finding]) -> list[str]:
    return sorted(f.code for f in found)
