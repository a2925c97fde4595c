"""JUnit XML, as CI servers read it: a suite for each file, a case for each finding.

A finding that fails the check is a failure; a lesser one is a passed case with its text; a file that could not be read
is an error; a clean file is one passed case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from inspectcli.contract import Severity
from inspectcli.display.blocks import Content, Report
from inspectcli.render._findings import LIMIT, about, files_of, rule_names, sentence
from inspectcli.render.base import Renderer, escape
from inspectcli.storage.names import from_here


def render(report: Report, width: int = 80, color: bool = False) -> str:
    names = rule_names(report)
    root = ET.Element("testsuites", name="pinspect check")
    for file in files_of(report):
        root.append(_suite(file, names))
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(file: Mapping[str, Any], names: Mapping[str, str]) -> ET.Element:
    worst_first = tuple(Severity)
    failing = worst_first[: worst_first.index(Severity(file["fail_on"])) + 1]
    # Escaped text holds no character that XML forbids: those are all hidden ones.
    path = escape(from_here(file["path"]), LIMIT)
    suite = ET.Element("testsuite", name=path)
    if file["settings"]:
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="settings", value=escape(file["settings"], LIMIT))
        ET.SubElement(properties, "property", name="set-aside", value=str(file["set_aside"]))
    if file["error"] is not None:
        kind = "skipped" if file["allowed"] else "error"
        _case(suite, path, "readable", kind, escape(file["error"]["message"], LIMIT), file["error"]["code"])
    for finding in file["findings"]:
        name = f"{finding['code']} {names.get(finding['code'], '')}".strip()
        name = f"{name} {about(finding)}".rstrip()
        kind = "failure" if finding["severity"] in failing else "system-out"
        _case(suite, path, name, kind, sentence(finding), finding["severity"])
    if suite.find("testcase") is None:
        ET.SubElement(suite, "testcase", classname=path, name="pinspect check")
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    return suite


def _case(suite: ET.Element, path: str, name: str, kind: str, text: str, type_: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=path, name=name)
    inner = ET.SubElement(case, kind)
    if kind != "system-out":
        inner.set("type", str(type_))
        inner.set("message", text)
    inner.text = text


RENDERER = Renderer("junit", render, Content.FINDINGS, (".xml",))
