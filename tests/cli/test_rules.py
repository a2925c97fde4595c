"""`pinspect rules`: every rule is listed, and explained."""

from __future__ import annotations

import json

import pytest

from inspectcli.analysis.findings import FAMILIES, Severity, all_rules
from inspectcli.cli import run

RULES = all_rules()


def listed(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(["rules", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_every_rule_is_listed_under_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = listed([], capsys)
    assert (code, err) == (0, "")
    family = ""
    seen = {}
    for line in out.splitlines():
        words = line.split()
        if len(words) == 2 and words[1] in FAMILIES.values():
            family = words[1]
        elif words and words[0].startswith("PI"):
            seen[words[0]] = (family, words[1], words[2])
    assert seen == {r.code: (FAMILIES[r.code[:3]], r.name, r.severity.value) for r in RULES}


def test_some_rules(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = listed(["PI49", "pi590"], capsys)
    assert out == (
        "PI4xx structure\n"
        "\n"
        "code   name            severity     finds\n"
        "-----  --------------  -----------  ------------------------------------------\n"
        "PI490  file-too-large  error (off)  The checkpoint is larger than `--max-size`\n"
        "\n"
        "PI5xx safety\n"
        "\n"
        "code   name                severity     finds\n"
        "-----  ------------------  -----------  -----------------------------------------------------------\n"
        "PI590  format-not-allowed  error (off)  The checkpoint is in another format than `--require-format`\n"
        "\n"
        "  (off) runs only when it is selected, or its limit is given\n"
    )


def test_one_rule_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = listed(["file-too-large"], capsys)
    assert code == 0
    assert out == (
        "PI490 file-too-large  (structure)\n"
        "  severity  error\n"
        "  reads     headers only: --fast runs it too\n"
        "  runs      only when it is selected, or its limit is given\n"
        "\n"
        "  The checkpoint is larger than `--max-size`.\n"
        "\n"
        "  Why it matters: a repository keeps every version of a file forever, and every clone downloads it.\n"
        "\n"
        "  What to do: store large files with Git LFS or outside the repository. Training state is often two thirds of"
        " a checkpoint: save the model's own tensors alone.\n"
        "\n"
        "  To silence it:\n"
        "  for a run                pinspect check --ignore PI490 ...\n"
        '  for a project            ignore = ["PI490"] under [tool.pinspect] in pyproject.toml\n'
        '  for some tensors         PI490 = { patterns = ["*.lm_head.*"], reason = "..." }'
        " under [tool.pinspect.per-tensor-ignores]\n"
        "  for what is there today  pinspect check --baseline FILE ...\n"
    )


def test_an_unknown_rule_gives_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(["PI1O1"], capsys) == (
        2,
        "",
        "pinspect: there is no rule 'PI1O1'\n  did you mean PI101? `pinspect rules` lists them\n",
    )


def test_rules_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = listed(["--format", "json"], capsys)
    document = json.loads(out)
    assert [rule["code"] for rule in document["rules"]] == [rule.code for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_says_what_why_and_what_to_do(rule: object, capsys: pytest.CaptureFixture[str]) -> None:
    code = rule.code  # type: ignore[attr-defined]
    status, out, _ = listed([code], capsys)
    assert status == 0
    assert out.startswith(f"{code} ")
    assert "\n  Why it matters: " in out
    assert "\n  What to do: " in out
    made = next(r for r in RULES if r.code == code)
    assert code[:3] in FAMILIES
    assert made.severity in Severity
    assert made.advice, "the first sentence of `What to do:` is printed with each finding"
    assert not made.advice.endswith(".")
