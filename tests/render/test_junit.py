"""JUnit XML: what fails the check is a failure, and no name breaks the document."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.findings import finding, report_of

from inspectcli.render import render

TEXT = st.text(st.characters(exclude_categories=()), min_size=1, max_size=60)


def test_the_whole_document() -> None:
    report = report_of(finding(), finding("warning", None, "odd"), error="cut at 7 bytes", clean="b.npz")
    assert render(report, "junit") == (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<testsuites name="pinspect check" tests="4" failures="1" errors="1">\n'
        '  <testsuite name="models/a.pt" tests="2" failures="1" errors="0">\n'
        '    <testcase classname="models/a.pt" name="PI101 nan-values fc.weight">\n'
        '      <failure type="error" message="fc.weight: 3 NaN of 9 values. Go back.">'
        "fc.weight: 3 NaN of 9 values. Go back.</failure>\n"
        "    </testcase>\n"
        '    <testcase classname="models/a.pt" name="PI101 nan-values">\n'
        "      <system-out>odd. Go back.</system-out>\n"
        "    </testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="cut.pt" tests="1" failures="0" errors="1">\n'
        '    <testcase classname="cut.pt" name="readable">\n'
        '      <error type="truncated" message="cut at 7 bytes">cut at 7 bytes</error>\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="b.npz" tests="1" failures="0" errors="0">\n'
        '    <testcase classname="b.npz" name="pinspect check" />\n'
        "  </testsuite>\n"
        "</testsuites>\n"
    )


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 1), ("warning", 2), ("note", 3)])
def test_what_fails_is_what_was_asked(fail_on: str, failures: int) -> None:
    report = report_of(finding("error"), finding("warning"), finding("note"), fail_on=fail_on)
    root = ET.fromstring(render(report, "junit"))
    assert len(root.findall(".//failure")) == failures
    assert root.get("failures") == str(failures)


@given(TEXT, TEXT, TEXT)
def test_any_text_gives_xml(tensor: str, message: str, folder: str) -> None:
    text = render(report_of(finding("error", tensor, message), path=f"d/{folder}/m.pt"), "junit")
    text.encode("utf-8")
    root = ET.fromstring(text)
    assert len(root.findall("./testsuite/testcase/failure")) == 1


@pytest.mark.parametrize("tensor", ["\x00", "\x0b", "\ufffe", "\ud800", "]]>", "<a>&\"'", "\x1b[2J"], ids=ascii)
def test_what_xml_forbids(tensor: str) -> None:
    case = ET.fromstring(render(report_of(finding(tensor=tensor)), "junit")).find(".//testcase")
    assert case is not None
    name = case.get("name")
    assert name is not None
    assert name.isprintable()
    if tensor.isprintable():
        assert name == f"PI101 nan-values {tensor}"
