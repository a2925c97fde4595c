"""Annotations as GitHub's runner reads them: a name in a file ends no line and begins no command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.findings import finding, report_of

from inspectcli.display.blocks import Report
from inspectcli.errors import UsageError
from inspectcli.render import render

#: As the runner parses it (actions/runner, ActionCommand.TryParseV2): properties end at the first `::`.
COMMAND = re.compile(r"::(?P<level>error|warning|notice) (?P<properties>[^\r\n]*?)::(?P<message>[^\r\n]*)")
ENCODED = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
TEXT = st.text(st.characters(exclude_categories=()), min_size=1, max_size=60)


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    found = COMMAND.fullmatch(line)
    assert found, line
    properties = dict(part.split("=", 1) for part in found["properties"].split(","))
    return found["level"], {k: decoded(v) for k, v in properties.items()}, decoded(found["message"])


def decoded(text: str) -> str:
    for code, meant in ENCODED:
        text = text.replace(code, meant)
    return text


def test_one_line_a_finding() -> None:
    report = report_of(finding(), finding("warning", None, "odd"), finding("note"), error="cut at 7 bytes")
    assert render(report, "github") == (
        "::error file=models/a.pt,title=PI101 nan-values::fc.weight: 3 NaN of 9 values. Go back.\n"
        "::warning file=models/a.pt,title=PI101 nan-values::odd. Go back.\n"
        "::notice file=models/a.pt,title=PI101 nan-values::fc.weight: 3 NaN of 9 values. Go back.\n"
        "::error file=cut.pt,title=could not be read::cut at 7 bytes\n"
    )


def test_nothing_found_prints_nothing() -> None:
    assert render(report_of(clean="b.npz"), "github") == ""


@pytest.mark.parametrize(
    "tensor",
    ["a\n::error ::b", "a%0A::stop-commands::x", "a\r::b", "a,line=1", "a::b", "\u2028::set-output", "x=y"],
    ids=ascii,
)
def test_a_name_is_only_a_name(tensor: str) -> None:
    lines = render(report_of(finding(tensor=tensor)), "github").splitlines()
    assert len(lines) == 1
    _, properties, message = parsed(lines[0])
    assert properties == {"file": "models/a.pt", "title": "PI101 nan-values"}
    assert message.endswith(": 3 NaN of 9 values. Go back.")


@given(TEXT, TEXT)
def test_any_text(tensor: str, folder: str) -> None:
    path = f"d/{folder}/m.pt".replace("/../", "/x/")
    text = render(report_of(finding(tensor=tensor), path=path), "github")
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    assert set(parsed(text[:-1])[1]) == {"file", "title"}


def test_paths_are_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, shown in ((tmp_path / "m" / "a.pt", "m/a.pt"), ("./m/a.pt", "m/a.pt"), ("/no/a.pt", "/no/a.pt")):
        assert parsed(render(report_of(finding(), path=str(path)), "github").strip())[1]["file"] == shown


def test_another_report_has_no_findings() -> None:
    with pytest.raises(UsageError, match="`inspect` has none"):
        render(Report("inspect", (), {"rules": []}), "github")
