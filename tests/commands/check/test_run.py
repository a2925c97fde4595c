"""Which rules run, which findings count, and what that comes to."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from support.places import FIXTURES

import inspectcli
from inspectcli.analysis.findings import Finding, Rule, RuleHit, Severity, all_rules
from inspectcli.analysis.health.base import RuleContext
from inspectcli.commands.check import baseline
from inspectcli.commands.check.policy import Policy, TensorIgnore, choose, code_of, parse_size
from inspectcli.commands.check.result import CheckReport
from inspectcli.commands.check.run import Checker, check, compare
from inspectcli.errors import PinspectError, UsageError

GOOD = str(FIXTURES / "mlp.safetensors")
NAN = str(FIXTURES / "gpt2_tiny_nan.safetensors")
CUT = str(FIXTURES / "damaged" / "cut_mlp.pt")
LFS = str(FIXTURES / "damaged" / "lfs_pointer.safetensors")


def nothing(subject: RuleContext) -> Iterator[RuleHit]:
    """Finds nothing."""
    yield from ()


RULES = tuple(
    Rule(code, name, Severity.ERROR, nothing, reads_values=reads, default=default)
    for code, name, reads, default in (
        ("PI101", "nan-values", True, True),
        ("PI102", "infinite-values", True, True),
        ("PI110", "odd-values", True, False),
        ("PI201", "huge", True, True),
        ("PI490", "file-too-large", False, False),
        ("PI501", "runs-code", False, True),
        ("PI590", "format-not-allowed", False, False),
    )
)


def codes(**asked: object) -> list[str]:
    return [rule.code for rule in choose(Policy(**asked), RULES)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "PI101 PI102 PI201 PI501"),
        ({"select": ("PI101",)}, "PI101"),
        ({"select": ("PI1",)}, "PI101 PI102 PI110"),
        ({"select": ("pi2", "Runs-Code")}, "PI201 PI501"),
        ({"ignore": ("PI1",)}, "PI201 PI501"),
        ({"ignore": ("infinite-values",)}, "PI101 PI201 PI501"),
        ({"select": ("PI1",), "ignore": ("PI102",)}, "PI101 PI110"),
        ({"select": ("PI101",), "ignore": ("PI1",)}, "PI101"),  # the longer code wins
        ({"fast": True}, "PI501"),
        ({"select": ("PI4", "PI5")}, "PI501"),  # a limit that is not given cannot be passed
        ({"max_size": 1}, "PI101 PI102 PI201 PI490 PI501"),
        ({"max_size": 1, "ignore": ("PI4",)}, "PI101 PI102 PI201 PI490 PI501"),
        ({"max_size": 1, "ignore": ("PI490",)}, "PI101 PI102 PI201 PI501"),
        ({"require_format": ("safetensors",), "fast": True}, "PI501 PI590"),
    ],
    ids=str,
)
def test_rules_are_chosen_by_code(asked: dict[str, object], expected: str) -> None:
    assert codes(**asked) == expected.split()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"select": ("PI5O1",)}, "there is no rule 'PI5O1' (did you mean PI501? `pinspect rules` lists them)"),
        ({"ignore": ("nan-valeus",)}, "there is no rule 'nan-valeus' (did you mean nan-values? "),
        ({"select": ("",)}, "there is no rule ''"),
        ({"select": ("PI101",), "ignore": ("PI101",)}, "no rule is left to check"),
        ({"select": ("PI49", "PI590")}, "no rule is left to check (`pinspect rules` lists them; PI490 runs with --max"),
        ({"select": ("PI101",), "fast": True}, "those that are selected need values (leave out --fast)"),
        ({"require_format": ("safetensor",)}, "there is no format 'safetensor' (did you mean safetensors?)"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_said(asked: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        codes(**asked)
    assert message in str(error.value)


@given(st.text(string.ascii_letters + string.digits + "-", max_size=12))
def test_a_word_is_a_code_or_an_error(word: str) -> None:
    try:
        code = code_of(word, RULES)
    except UsageError:
        return
    assert any(rule.code.startswith(code) for rule in RULES)


def test_the_limits_are_rules_with_a_text() -> None:
    listed = {rule.code: rule for rule in all_rules()}
    for rule in choose(Policy(select=("PI490", "PI590"), max_size=5, require_format=("npz",)), all_rules()):
        assert (rule.doc, rule.advice) == (listed[rule.code].doc, listed[rule.code].advice)
        assert "Why it matters" in rule.doc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4096", 4096),
        (4096, 4096),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("2k", 2000),
        ("1 TB", 10**12),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1", "5XB", "1e9", "1,000", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 400, "1" * 30 + "TB", "99999999999 TiB"])
def test_a_size_that_no_file_has(text: str) -> None:
    with pytest.raises(UsageError, match="is larger than any file"):
        parse_size(text)


# -- files ----------------------------------------------------------------------------------------------


def checked(*paths: str, hook: bool = False, policy: Policy = Policy()) -> CheckReport:  # noqa: B008  (frozen)
    return Checker(policy, hook).check_paths(paths)


@pytest.mark.parametrize(
    ("paths", "policy", "expected"),
    [
        ((GOOD,), Policy(), 0),
        ((NAN,), Policy(), 1),
        ((GOOD, NAN), Policy(), 1),
        ((NAN, CUT), Policy(), 2),
        (("no-such-file.pt",), Policy(), 2),
        ((NAN,), Policy(ignore=("PI1",)), 0),
        ((NAN,), Policy(fast=True), 0),
        ((GOOD,), Policy(max_size=399), 1),
        ((GOOD,), Policy(max_size=400), 0),
        ((GOOD,), Policy(require_format=("torch", "keras")), 1),
        ((GOOD,), Policy(require_format=("torch", "safetensors")), 0),
        ((str(FIXTURES / "sharded"),), Policy(require_format=("safetensors",)), 0),
        ((str(FIXTURES / "mlp.pt"),), Policy(require_format=("safetensors",)), 1),
    ],
    ids=str,
)
def test_exit_codes(paths: tuple[str, ...], policy: Policy, expected: int) -> None:
    assert checked(*paths, policy=policy).exit_code == expected


@pytest.mark.parametrize(("fail_on", "expected"), [("error", 0), ("warning", 1), ("note", 1)])
def test_lesser_findings_fail_when_asked(fail_on: str, expected: int) -> None:
    report = check(str(FIXTURES / "half_trained.pt"), fail_on=fail_on)
    assert {f.severity for f in report.findings} == {Severity.WARNING}
    assert report.exit_code == expected


def test_the_others_are_judged_when_one_cannot_be_read() -> None:
    report = checked(CUT, NAN)
    bad, nan = report.files
    assert bad.error is not None
    assert bad.error.code == "truncated"
    assert [f.code for f in nan.findings] == ["PI101", "PI102"]


def test_a_file_that_is_named_twice_is_read_once() -> None:
    assert len(checked(GOOD, GOOD).files) == 1


def test_no_values_are_read_for_rules_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspectcli.measure import scan

    def fail(*_: object) -> None:
        pytest.fail("values were read")

    monkeypatch.setattr(scan, "run_task", fail)
    assert checked(NAN, policy=Policy(select=("PI490",), max_size=10)).statistics == {"PI490": 1}


def test_a_hook_passes_over_what_is_no_checkpoint(tmp_path: Path) -> None:
    for name, content in {"a.bin": b"\x12\x34" * 99, "b.txt": b"words", "c.ts": b"export const a = 1;"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in ("a.bin", "b.txt", "c.ts")]
    report = checked(*paths, LFS, GOOD, hook=True)
    assert report.passed_over == (*paths, LFS)
    assert [file.path for file in report.files] == [GOOD]
    assert (report.exit_code, checked(*paths, LFS).exit_code) == (0, 2)


@pytest.mark.parametrize("name", ["cut_mlp.safetensors", "empty.pt", "login_page.pt", "bad_crc.pt"])
def test_a_hook_does_not_pass_over_damage(name: str) -> None:
    assert checked(str(FIXTURES / "damaged" / name), hook=True).exit_code == 2


def test_ignored_findings_keep_their_reason() -> None:
    ignores = (TensorIgnore("pi1", ("h.[0-2].*",)), TensorIgnore("nan-values", ("h.3.*",), "known since May"))
    file = checked(NAN, policy=Policy(tensor_ignores=ignores)).files[0]
    assert [f.code for f in file.findings] == ["PI102"]
    assert [(ignored.code, ignored.reason) for ignored in file.ignored] == [("PI101", "known since May")]


def test_what_is_said_of_the_file_is_not_ignored_by_tensor() -> None:
    policy = Policy(max_size=1, tensor_ignores=(TensorIgnore("PI4", ("*",)),))
    assert checked(GOOD, policy=policy).exit_code == 1


def test_a_module_in_memory() -> None:
    assert check({"w": np.full((4, 4), np.nan, np.float32)}).statistics == {"PI101": 1}
    assert check({"w": np.ones(4, np.float32)}, max_size=15).statistics == {"PI490": 1}
    with pytest.raises(UsageError, match="a model in memory has no path"):
        check({"w": np.ones(4, np.float32)}, baseline="known.json")


def test_it_is_a_public_name() -> None:
    assert inspectcli.check is check
    assert inspectcli.check([GOOD, Path(NAN)], select=["PI102"]).statistics == {"PI102": 1}
    with pytest.raises(PinspectError, match="'fatal' is not a severity"):
        check(GOOD, fail_on="fatal")


# -- the baseline ---------------------------------------------------------------------------------------


def model(path: Path, *bad: str) -> str:
    """A model in which these tensors hold NaN."""
    values = np.random.default_rng(3).normal(0, 0.1, (8, 8)).astype(np.float32)
    save_file({name: values * (np.nan if name in bad else 1) for name in ("a", "b", "c")}, path)
    return str(path)


def test_only_new_findings_count(tmp_path: Path) -> None:
    known = str(tmp_path / "known.json")
    path = model(tmp_path / "m.safetensors", "a")
    first = compare(checked(path), known)
    assert (first.recorded, first.report.exit_code, first.report.files[0].known) == (1, 0, 1)
    model(tmp_path / "m.safetensors", "a", "b")
    second = compare(checked(path), known)
    assert [(f.code, f.tensor) for f in second.report.findings] == [("PI101", "b")]
    assert (second.recorded, second.report.exit_code) == (None, 1)
    updated = compare(checked(path), known, update=True)
    assert (updated.recorded, updated.report.exit_code) == (2, 0)
    model(tmp_path / "m.safetensors")
    assert compare(checked(path), known).gone == 2


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    report = checked(model(tmp_path / "models" / "m.safetensors", "b", "a"))
    compare(report, str(tmp_path / "known.json"))
    assert (tmp_path / "known.json").read_text() == (
        '{"pinspect-baseline": 1, "findings": [\n'
        '{"path": "models/m.safetensors", "code": "PI101", "tensor": "a", "count": 1},\n'
        '{"path": "models/m.safetensors", "code": "PI101", "tensor": "b", "count": 1}\n'
        "]}\n"
    )


def test_paths_are_relative_to_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        model(tmp_path / name / "m.safetensors", "a")
    compare(checked(str(tmp_path / "one" / "m.safetensors")), str(tmp_path / "one" / "known.json"))
    os.rename(tmp_path / "one" / "known.json", tmp_path / "two" / "known.json")
    monkeypatch.chdir(tmp_path)
    assert compare(checked("two/m.safetensors"), "two/known.json").report.exit_code == 0


def test_updating_keeps_what_was_not_looked_at(tmp_path: Path) -> None:
    known = str(tmp_path / "known.json")
    a, b, c = (model(tmp_path / f"{name}.safetensors", "a") for name in "abc")
    compare(checked(a, b, c), known)
    model(tmp_path / "a.safetensors", "b")
    os.remove(c)
    assert compare(checked(a), known, update=True).recorded == 2
    assert {(key.path, key.tensor) for key in baseline.read(known)} == {("a.safetensors", "b"), ("b.safetensors", "a")}


def test_a_file_that_cannot_be_read_keeps_its_record(tmp_path: Path) -> None:
    known = str(tmp_path / "known.json")
    path = model(tmp_path / "m.safetensors", "a")
    compare(checked(path), known)
    Path(path).write_bytes(Path(path).read_bytes()[:100])
    compared = compare(checked(path), known, update=True)
    assert (compared.recorded, compared.gone, compared.report.exit_code) == (1, 0, 2)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_each_known_finding_excuses_one(before: list[str], today: list[str]) -> None:
    def made(tensors: list[str]) -> list[Finding]:
        return [Finding("PI101", Severity.ERROR, t, "", "") for t in tensors]

    known = baseline.Counter(baseline.Key("m", "PI101", t) for t in before)
    new, n = baseline.split(made(today), "m", known)
    assert n + len(new) == len(today)
    for tensor in "abc":
        left = max(today.count(tensor) - before.count(tensor), 0)
        assert sum(f.tensor == tensor for f in new) == left


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", "{", '{"pinspect-baseline": 2, "findings": []}',
        '{"pinspect-baseline": 1, "findings": {}}', '{"pinspect-baseline": 1, "findings": [1]}',
        '{"pinspect-baseline": 1, "findings": [{"path": 1, "code": "a", "tensor": null, "count": 1}]}',
        '{"pinspect-baseline": 1, "findings": [{"path": "a", "code": "a", "tensor": null, "count": -1}]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_baseline_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="not a baseline of pinspect"):
        baseline.read(str(path))


def test_python_needs_a_baseline_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(PinspectError, match="no such baseline"):
        check(NAN, baseline=tmp_path / "none.json")
    compare(checked(NAN), str(tmp_path / "known.json"))
    assert check(NAN, baseline=tmp_path / "known.json").exit_code == 0


def test_the_document_is_plain_data() -> None:
    document = json.loads(json.dumps(checked(NAN, CUT).document(), allow_nan=False))
    assert (document["schema"], document["command"], document["exit_code"]) == ("pinspect/1", "check", 2)
    nan, cut = document["files"]
    assert {"code", "severity", "tensor", "message", "advice", "figures", "name"} == nan["findings"][0].keys()
    assert cut["error"]["code"] == "truncated"
    assert document["statistics"] == {"PI101": 1, "PI102": 1}
