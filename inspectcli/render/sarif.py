"""SARIF 2.1.0, for code scanning.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from inspectcli import __version__
from inspectcli.display.blocks import Content, Report
from inspectcli.render._findings import LIMIT, about, files_of, findings_of, rules_of, sentence, settings_of, told
from inspectcli.render.base import Renderer, escape, inert
from inspectcli.storage.names import from_here, uri

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://pypi.org/project/inspectcli/"


def render(report: Report, width: int = 80, color: bool = False) -> str:
    places = {rule["code"]: i for i, rule in enumerate(rules_of(report))}
    unread = [file for file in files_of(report) if file["error"] is not None]
    named = [
        {"level": "note", "message": {"text": told(found)}, "descriptor": {"id": "settings"}}
        for found in settings_of(report)
    ]
    run = {
        "tool": {
            "driver": {
                "name": "pinspect",
                "version": __version__,
                "informationUri": _HOME,
                "rules": [_rule(rule) for rule in rules_of(report)],
            }
        },
        "invocations": [
            {
                "executionSuccessful": all(file["allowed"] for file in unread),
                "toolExecutionNotifications": [_notification(file) for file in unread],
                "properties": {"coverage": report.document["coverage"]},
                **({"toolConfigurationNotifications": named} if named else {}),
            }
        ],
        "artifacts": [
            {"location": _location(file["path"]), "roles": ["analysisTarget"], "length": file["size"]}
            for file in files_of(report)
        ],
        "results": [_result(file, finding, places) for file, finding in findings_of(report)],
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return inert(json.dumps(document, allow_nan=False, ensure_ascii=True, indent=2)) + "\n"


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": rule["code"],
        "name": "".join(word.capitalize() for word in rule["name"].split("-")),
        "shortDescription": {"text": f"{rule['what']}."},
        "fullDescription": {"text": rule["doc"]},
        "help": {"text": rule["doc"]},
        "defaultConfiguration": {"level": rule["severity"]},
    }


def _result(file: Mapping[str, Any], finding: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, Any]:
    # GitHub shows no result without a line; a binary file has no better one.
    physical = {"artifactLocation": _location(file["path"]), "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": physical}
    if name := about(finding):
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": name, "kind": "member"}]
    fingerprint = _fingerprint(file, finding)
    return {
        "ruleId": finding["code"],
        **({"ruleIndex": places[finding["code"]]} if finding["code"] in places else {}),
        "level": finding["severity"],
        "message": {"text": sentence(finding)},
        "locations": [location],
        # The first for every viewer; the second is the only one that GitHub looks at.
        "partialFingerprints": {"pinspect/v1": fingerprint, "primaryLocationLineHash": f"{fingerprint[:16]}:1"},
        "properties": {"figures": finding["figures"]},
    }


def _fingerprint(file: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    """The same as long as path, code and what it is about are: figures change with every training."""
    named = [name for name in (finding["name"],) if name is not None]
    identity = json.dumps([from_here(file["path"]), finding["code"], finding["tensor"], *named])
    return hashlib.sha256(identity.encode()).hexdigest()


def _notification(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "level": "note" if file["allowed"] else "error",
        "message": {"text": escape(file["error"]["message"], LIMIT)},
        "descriptor": {"id": file["error"]["code"]},
        "locations": [{"physicalLocation": {"artifactLocation": _location(file["path"])}}],
    }


def _location(path: str) -> dict[str, str]:
    return {"uri": uri(from_here(path))}


RENDERER = Renderer("sarif", render, Content.FINDINGS, (".sarif",))
