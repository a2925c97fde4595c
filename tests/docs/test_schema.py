"""What every command prints is as the published schemas say: for each fixture, each error, each kind of difference."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from models.llama import llama, model
from models.pairs import gpt, write
from safetensors.torch import save_file
from support.places import CORPUS, FIXTURES, ROOT

from inspectcli import errors
from inspectcli.cli import run
from inspectcli.document import report_document
from inspectcli.errors import ErrorReport, FileError, PinspectError

SCHEMAS: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs/schema").glob("*.json"))
}
FILES = [str(path) for path in sorted(FIXTURES.rglob("*")) if path.suffix not in ("", ".py", ".md", ".json")]
FILES += [str(FIXTURES / "sharded"), str(FIXTURES / "sharded_torch")]

Print = Callable[..., Any]


def check(name: str, document: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(document)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    """The object that a command prints; its exit code is the one it says."""

    def of(*args: str) -> Any:
        code = run([*args, "--format", "json"])
        document = json.loads(capsys.readouterr().out)
        assert document["exit_code"] == code
        return document

    return of


# -- the schemas themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object with properties of its own."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


@pytest.mark.parametrize("name", SCHEMAS)
def test_our_objects_are_closed_and_described(name: str) -> None:
    for schema in objects(SCHEMAS[name]):
        assert schema["additionalProperties"] is False
        assert schema["description"]
        assert {key for key, member in schema["properties"].items() if not member.get("description")} == set()
        assert set(schema["required"]) <= schema["properties"].keys()


def test_the_schemas_are_those_of_the_classes() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_schemas.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def enums(schema: Any) -> Iterator[str]:
    """Every code that a schema lists; what stands for a number that JSON lacks is none."""
    if isinstance(schema, dict):
        if "enum" in schema and "NaN" not in schema["enum"]:
            yield from schema["enum"]
        for inner in schema.values():
            yield from enums(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from enums(inner)


@pytest.mark.parametrize("name", SCHEMAS)
def test_codes_are_lower_case_with_dashes(name: str) -> None:
    codes = set(enums(SCHEMAS[name]))
    assert codes
    assert {code for code in codes if code and not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", code)} == set()


def paths(document: Any, schema: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of objects that the schema closes; of several in one list the first."""
    schema = SCHEMAS["inspect"]["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(document, dict) and "properties" in schema:
        yield place
        for key, inner in document.items():
            options = schema["properties"][key].get("anyOf", [schema["properties"][key]])
            yield from paths(inner, options[0], (*place, key))
    elif isinstance(document, list) and document and isinstance(schema.get("items"), dict):
        yield from paths(document[0], schema["items"], (*place, 0))


def test_a_field_too_many_or_too_few_is_seen(printed: Print) -> None:
    document = printed(str(FIXTURES / "half_trained.pt"))
    places = list(paths(document, SCHEMAS["inspect"]))
    assert len(places) > 8
    for place in places:
        for spoil in (lambda at: at.update(extra=1), lambda at: at.pop(next(iter(at)))):
            spoiled = copy.deepcopy(document)
            at = spoiled
            for step in place:
                at = at[step]
            spoil(at)
            with pytest.raises(jsonschema.ValidationError):
                check("inspect", spoiled)


# -- every fixture --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: Path(path).name)
def test_every_fixture_in_every_command(path: str, printed: Print) -> None:
    check("inspect", printed(path))
    check("inspect", printed(path, "--no-stats", "--strict"))
    check("check", printed("check", path))
    for name, args in (("hparams", ["hparams", path, "--all"]), ("diff", ["diff", path, FILES[-1]])):
        document = printed(*args)
        check("error" if "error" in document else name, document)


def test_many_files_in_one_object(printed: Print) -> None:
    document = printed(*FILES)
    assert len(document["files"]) == len(FILES)
    check("inspect", document)


# -- what fixtures do not show --------------------------------------------------------------------------


def test_a_check_with_what_does_not_count(printed: Print, tmp_path: Path) -> None:
    bad = str(tmp_path / "bad.safetensors")
    save_file({name: torch.full((2, 2), torch.nan) for name in "ab"}, bad)
    (tmp_path / ".pinspect.toml").write_text('[per-tensor-ignores]\nPI101 = { patterns = ["a"], reason = "why" }\n')
    for path in (bad, bad):  # the second time the baseline knows
        document = printed("check", path, "--baseline", str(tmp_path / "known.json"), "--hook", str(ROOT / "README.md"))
        check("check", document)
    (file,) = document["files"]
    assert (len(file["ignored"]), file["known"]) == (1, 1)


def test_the_rules(printed: Print) -> None:
    check("rules", printed("rules"))
    check("rules", printed("rules", "PI601"))


def differing(name: str, folder: Path) -> list[str]:
    """The arguments of a comparison that shows something."""
    a = gpt()
    b: dict[str, torch.Tensor] = {key: value.clone() for key, value in a.items()}
    if name == "tuned":
        b = {key: value + 1e-3 * torch.randn_like(value) for key, value in b.items()}
    elif name == "rounded":
        b = {key: value.bfloat16() for key, value in b.items()}
    elif name == "prefix":
        b = {f"module.{key}": value for key, value in b.items()}
    elif name == "renamed":
        b["tokens.weight"] = b.pop("wte.weight")
    elif name == "transposed":
        b["wte.weight"] = b["wte.weight"].T.contiguous()
    elif name == "other shapes":
        b = {**gpt(layers=2), "ln_f.weight": torch.zeros(3)}
    elif name == "not finite":
        b["ln_f.bias"][0] = torch.nan
    elif name == "tied":
        torch.save({**a, "lm_head.weight": a["wte.weight"], "epoch": 3}, folder / "a.pt")
        torch.save({**b, "lm_head.weight": b["wte.weight"].clone(), "lr": 0.1}, folder / "b.pt")
        return [str(folder / "a.pt"), str(folder / "b.pt")]
    return [write(a, folder, "a", "pt"), write(b, folder, "b", "safetensors")]


@pytest.mark.parametrize(
    "name",
    ["same", "tuned", "rounded", "prefix", "renamed", "transposed", "other shapes", "not finite", "tied"],
)
def test_every_kind_of_difference(name: str, printed: Print, tmp_path: Path) -> None:
    pair = differing(name, tmp_path)
    check("diff", printed("diff", *pair))
    check("diff", printed("diff", *pair, "--rank", "--atol", "0.1"))


def test_the_checkpoints_of_a_run(printed: Print, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        torch.save({"state_dict": gpt(seed=step // 2), "global_step": step}, tmp_path / f"step-{step}.pt")
    check("diff-folder", printed("diff", str(tmp_path)))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "step-1.pt").read_bytes()[:900])
    document = printed("diff", str(tmp_path))
    check("diff-folder", document)
    (problem,) = document["problems"]
    assert (document["exit_code"], problem["path"], problem["code"]) == (2, "cut.pt", "truncated")
    assert problem["hint"]


def test_hyperparameters_of_runs_and_of_two(printed: Print, tmp_path: Path) -> None:
    agreeing, other = model(tmp_path / "a", llama()), model(tmp_path / "b", llama(), num_hidden_layers=3)
    for args in ([agreeing], [other], [tmp_path]):
        check("hparams", printed("hparams", *map(str, args)))
    check("hparams-two", printed("hparams", str(agreeing), str(other)))
    check("hparams-two", printed("hparams", str(agreeing), str(agreeing), "--all"))


STORES = sorted(str(path) for path in (CORPUS / "hparams").glob("*") if path.is_dir())


@pytest.mark.corpus
@pytest.mark.parametrize("folder", STORES, ids=lambda path: Path(path).name)
def test_every_store_of_the_corpus(folder: str, printed: Print) -> None:
    for path in (folder, *(str(p) for p in Path(folder).rglob("*") if p.is_file())):
        document = printed("hparams", path)
        check("error" if "error" in document else "hparams", document)


class Dangerous:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("1",)


def test_hazards_in_every_report(printed: Print, tmp_path: Path) -> None:
    bad, good = str(tmp_path / "bad.pt"), str(tmp_path / "good.pt")
    torch.save({"w": torch.ones(2, 2), "x": Dangerous(), "lr": 0.1}, bad)
    torch.save({"w": torch.ones(2, 2)}, good)
    expected = "eval would be called"
    for document in (printed(bad), printed("check", bad)):
        assert expected in document["files"][0]["hazards"][0]["what"]
    diff = printed("diff", good, bad)
    assert (diff["a"]["hazards"], expected in diff["b"]["hazards"][0]["what"]) == ([], True)
    for document in (printed("hparams", bad), printed("hparams", good, bad)):
        (hazard,) = document["hazards"]
        assert (expected in hazard["what"], hazard["file"]) == (True, bad)
    assert expected in printed("diff", str(tmp_path))["trajectory"][0]["hazards"][0]["what"]


# -- every error ----------------------------------------------------------------------------------------


def kinds(base: type[PinspectError]) -> Iterator[type[PinspectError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", kinds(PinspectError), ids=lambda kind: kind.code)
def test_every_error_is_an_object(kind: type[PinspectError]) -> None:
    error = FileError.of(kind("what is wrong", "what to do").at("a.pt"))
    check("error", report_document("diff", ErrorReport(error)))
    assert f"`{kind.code}`" in (errors.FileError.__doc__ or "")


@pytest.mark.parametrize(
    "args",
    [
        ("check", "a.pt", "--select", "PI999"),
        ("check", "a.pt", "--max-size", "big"),
        ("check", "a.pt", "--update-baseline"),
        ("rules", "PI999"),
        ("diff", "missing.pt", "a.pt"),
        ("diff", "a.pt"),
        ("diff", "a.pt", "b.pt", "c.pt"),
        ("diff", "a.pt", "a.pt", "--only", "odd"),
        ("diff", "a.pt", "a.pt", "--map", "missing.txt"),
        ("diff", "."),
        ("hparams", "missing.pt"),
        ("hparams", "."),
        ("hparams", "a", "b", "c"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_an_object_too(
    args: tuple[str, ...], printed: Print, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = printed(*args)
    assert document["exit_code"] == 2
    check("error", document)


@pytest.mark.parametrize("command", [(), ("check",)])
@pytest.mark.parametrize("path", ["missing.pt", "."])
def test_what_cannot_be_read_is_told_of_its_file(
    command: tuple[str, ...], path: str, printed: Print, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = printed(*command, path)
    check(command[0] if command else "inspect", document)
    assert (document["exit_code"], document["files"][0]["error"]["code"]) == (2, "not-readable")
    assert document["files"][0]["error"]["hint"]
