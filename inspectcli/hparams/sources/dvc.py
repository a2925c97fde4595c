"""DVC: `params.yaml`, and `dvc.lock` with the values of the last run of each stage.

https://doc.dvc.org/user-guide/project-structure/dvcyaml-files#dvclock-file
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from inspectcli.encodings.files import parse_json, read_file, siblings
from inspectcli.encodings.yaml import load_yaml
from inspectcli.hparams._tree import rows
from inspectcli.hparams.base import HParamRow, HParamSource, Selection, Store
from inspectcli.storage.location import Location

TOOL = "dvc"

_PARAMS = ("params.yaml", "params.yml", "params.json")


def _sniff_params(location: Location, head: bytes) -> bool:
    """The file has no mark of its own: DVC's files lie beside it, or it is DVCLive's."""
    if location.name not in _PARAMS:
        return False
    beside = siblings(location)
    if beside & {"dvc.yaml", "dvc.lock", ".dvc", ".dvcignore"}:
        return True
    return location.parent.name == "dvclive"


def _read_params(location: Location, head: bytes, choice: Selection) -> Store:
    data, name = read_file(location), location.name
    document = parse_json(data, name) if name.endswith(".json") else load_yaml(data, name)
    return Store(tuple(rows(document, str(location), TOOL)))


def _sniff_lock(location: Location, head: bytes) -> bool:
    if location.name != "dvc.lock" and not re.match(rb"schema: *['\"]?2\.\d", head):
        return False
    return re.search(rb"^ *(cmd|stages):", head, re.MULTILINE) is not None


def _read_lock(location: Location, head: bytes, choice: Selection) -> Store:
    document = load_yaml(read_file(location), location.name)
    return Store(tuple(_locked(document, str(location))))


def _locked(document: object, path: str) -> Iterator[HParamRow]:
    """`stages.NAME.params.FILE` holds dotted keys; in the first schema the stages were at the top."""
    if not isinstance(document, Mapping):
        return
    second = isinstance(document.get("stages"), Mapping)
    stages = document["stages"] if second else document
    for name, stage in stages.items():
        params = stage.get("params") if isinstance(stage, Mapping) else None
        if isinstance(params, Mapping):
            for file, values in params.items():
                place = f"{'stages.' if second else ''}{name}.params.{file}"
                yield from rows(values, path, TOOL, place)


SOURCE = (
    HParamSource(TOOL, _sniff_params, _read_params),
    HParamSource(TOOL, _sniff_lock, _read_lock),
)
