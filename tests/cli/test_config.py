"""Where the configuration is found, what it may say, and that the command line wins."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.places import FIXTURES, ROOT

from inspectcli.cli import run
from inspectcli.cli.config import Config, find_config, read_config
from inspectcli.cli.options import KEYS
from inspectcli.commands.check.policy import TensorIgnore
from inspectcli.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHOLE = """
select = ["PI1", "PI2"]
ignore = "PI103"
fail-on = "warning"
max-size = "500MB"
require-format = ["safetensors"]
baseline = "known.json"

[per-tensor-ignores]
PI301 = ["*.lm_head.*"]
PI203 = { patterns = ["*.gate", "b"], reason = "gates start closed" }
PI1 = "mask"
"""


def config(folder: Path, text: str, name: str = ".pinspect.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_everything_it_may_say(tmp_path: Path) -> None:
    path = config(tmp_path, WHOLE)
    assert find_config(str(tmp_path)) == Config(
        str(path),
        {
            "select": ("PI1", "PI2"),
            "ignore": ("PI103",),
            "fail_on": "warning",
            "max_size": "500MB",
            "require_format": ("safetensors",),
            "baseline": str(tmp_path / "known.json"),
            "per_tensor_ignores": (
                TensorIgnore("PI301", ("*.lm_head.*",)),
                TensorIgnore("PI203", ("*.gate", "b"), "gates start closed"),
                TensorIgnore("PI1", ("mask",)),
            ),
        },
    )


def test_the_nearest_that_speaks_of_pinspect(tmp_path: Path) -> None:
    config(tmp_path, "[tool.pinspect]\nmax-size = 1\n", "pyproject.toml")
    config(tmp_path / "a", "[tool.other]\nmax-size = 2\n", "pyproject.toml")
    config(tmp_path / "b", "[tool.pinspect]\nmax-size = 3\n", "pyproject.toml")
    config(tmp_path / "b" / "c", "max-size = 4\n")
    config(tmp_path / "b" / "c", "[tool.pinspect]\nmax-size = 5\n", "pyproject.toml")
    config(tmp_path / "d", "[tool.pinspect]\nmax-size = 6\n")
    found = {
        place: find_config(str(tmp_path / place)).settings["max_size"]
        for place in ("x.pt", "a/x.pt", "a", "b/x.pt", "b/no/such/x.pt", "b/c/x.pt", "d/x.pt")
    }
    assert found == {"x.pt": 1, "a/x.pt": 1, "a": 1, "b/x.pt": 3, "b/no/such/x.pt": 3, "b/c/x.pt": 4, "d/x.pt": 6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ingore = []", "there is no key 'ingore' (did you mean ignore?)"),
        ("fail_on = 'note'", "there is no key 'fail_on' (did you mean fail-on?)"),
        ("per-tensor-ignore = {}", "(did you mean per-tensor-ignores?)"),
        ("zzz = 1", "there is no key 'zzz' (known are select, ignore, fail-on,"),
        ("select = 1", "select is 1, expected a list of strings"),
        ("select = [1]", "select is [1], expected a list of strings"),
        ("fail-on = true", "fail-on is True, expected a string"),
        ("max-size = 1.5", 'max-size is 1.5, expected a number of bytes, or a string like "500MB"'),
        ("max-size = true", "max-size is True, expected a number of bytes"),
        ("per-tensor-ignores = ['a']", "expected a table: code -> patterns"),
        ("per-tensor-ignores = { PI1 = { reason = 'r' } }", "expected for each code patterns, or {"),
        ("per-tensor-ignores = { PI1 = { patterns = ['a'], because = 'r' } }", "expected for each code patterns"),
        ("per-tensor-ignores = { PI1 = 3 }", "expected a list of strings"),
        ("select = [", "not valid TOML: "),
        ("[tool]\npinspect = 1", "tool.pinspect is not a table"),
        ("a = " + "[" * 10_000, "not valid TOML: "),
    ],
)
def test_what_is_not_understood(text: str, message: str, tmp_path: Path) -> None:
    path = config(tmp_path, text)
    with pytest.raises(UsageError) as error:
        find_config(str(tmp_path))
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / ".pinspect.toml").write_bytes(b"select = ['\xff']")
    with pytest.raises(UsageError, match="not valid TOML"):
        find_config(str(tmp_path))


@pytest.fixture
def model(tmp_path: Path) -> str:
    shutil.copy(FIXTURES / "gpt2_tiny_nan.safetensors", tmp_path / "m.safetensors")
    return str(tmp_path / "m.safetensors")


def test_an_unknown_key_gives_2(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(tmp_path, "[tool.pinspect]\nfial-on = 'note'\n", "pyproject.toml")
    assert run(["check", model]) == 2
    assert "there is no key 'fial-on'\n  did you mean fail-on?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "args", "code"),
    [
        ("ignore = ['PI1']", [], 0),
        ("ignore = ['PI1']", ["--ignore", "PI2"], 1),
        ("ignore = ['PI1']", ["--select", "PI101"], 1),  # what is asked for by name runs
        ("select = ['PI2']", [], 0),
        ("select = ['PI2']", ["--select", "PI1"], 1),
        ("max-size = '1kB'\nignore = ['PI1']", [], 1),
        ("max-size = '1kB'\nignore = ['PI1']", ["--max-size", "1MB"], 0),
        ("require-format = 'torch'\nignore = ['PI1']", [], 1),
        ("require-format = 'torch'\nignore = ['PI1']", ["--require-format", "safetensors,torch"], 0),
        ("fail-on = 'fatal'", [], 2),
        ("max-size = 'big'", [], 2),
        ("select = ['PI9']", [], 2),
        ("per-tensor-ignores = { PI1 = ['h.3.*'] }", [], 0),
        ("per-tensor-ignores = { PI999 = ['h.3.*'] }", [], 2),
    ],
)
def test_the_command_line_wins(text: str, args: list[str], code: int, model: str, tmp_path: Path) -> None:
    config(tmp_path, text)
    assert run(["check", model, *args]) == code


def test_reasons_are_printed(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(
        tmp_path, """per-tensor-ignores.PI1 = { patterns = ['h.3.*', 'x'], reason = "known \\u001b[2J since May" }"""
    )
    assert run(["check", model]) == 0
    out = capsys.readouterr().out
    assert "2 findings of PI101, PI102 ignored in h.3.* x: known \\x1b[2J since May" in out


def test_a_baseline_of_the_configuration(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = tmp_path / "known.json"
    config(tmp_path, "baseline = 'known.json'")
    assert run(["check", model]) == 1
    assert f"there is no baseline {known} yet: --update-baseline writes it" in capsys.readouterr().out
    assert not known.exists()
    assert run(["check", model, "--update-baseline"]) == 0
    assert f"2 findings are recorded in {known}" in capsys.readouterr().err
    assert run(["check", model]) == 0
    assert "nothing new\n  2 findings known from the baseline" in capsys.readouterr().out


def test_settings_are_named_and_can_be_left_aside(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "ignore = ['PI1']")
    assert run(["check", model]) == 0
    assert f"settings of {path}" in capsys.readouterr().out
    assert run(["check", model, "--no-config"]) == 1
    assert "settings of" not in capsys.readouterr().out


def test_the_readme_shows_every_key() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    table = tomllib.loads(example)["tool"]["pinspect"]
    assert set(table) == set(KEYS)
    assert len(read_config("/somewhere/pyproject.toml", table).settings) == len(KEYS)


# -- what a configuration that nobody named cannot do -----------------------------------------------------


@pytest.fixture
def acting(tmp_path: Path) -> Path:
    """A folder with a file that acts when it is loaded."""
    (tmp_path / "theirs").mkdir()
    shutil.copy(FIXTURES / "hostile" / "files" / "in_nested_tuples.pt", tmp_path / "theirs" / "m.pt")
    return tmp_path / "theirs"


def judged(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run(["check", *args, "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "text",
    [
        "ignore = ['PI5']",
        "ignore = ['PI501', 'PI1']",
        "ignore = ['runs-code']",
        "select = ['PI1']",
        "per-tensor-ignores = { PI501 = ['*'] }",
        "baseline = 'known.json'",
    ],
)
def test_safety_stays(text: str, acting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(acting, text)
    known = {"path": "m.pt", "code": "PI501", "tensor": None, "count": 99}
    (acting / "known.json").write_text(json.dumps({"pinspect-baseline": 1, "findings": [known]}))
    code, document = judged([str(acting)], capsys)
    assert code == 1
    assert any(finding["code"] == "PI501" for finding in document["files"][0]["findings"])
    # The person who runs it may say the same.
    assert judged([str(acting), "--config", str(path)], capsys)[0] == (1 if "per-tensor" in text else 0)


def test_what_could_not_be_read_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3, np.float32)}, tmp_path / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    config(tmp_path, "ignore = ['PI4']")
    code, document = judged([str(tmp_path / "model.safetensors.index.json")], capsys)
    assert code == 2
    assert "PI401" in {finding["code"] for finding in document["files"][0]["findings"]}


def test_it_does_not_choose_what_is_read(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(tmp_path, "select = ['PI4']")
    code, document = judged([model], capsys)
    assert (code, document["settings"][0]["set_aside"]) == (0, 2)


def test_it_speaks_of_what_lies_below_it_only(
    acting: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(acting, "ignore = ['PI1']\nmax-size = 1\nfail-on = 'note'")
    for paths in ([str(acting), model], [model, str(acting)]):
        code, document = judged(paths, capsys)
        files = {Path(file["path"]).name: file for file in document["files"]}
        assert code == 1
        assert {finding["code"] for finding in files["m.safetensors"]["findings"]} == {"PI101", "PI102"}
        assert "PI490" in {finding["code"] for finding in files["m.pt"]["findings"]}
        assert (files["m.safetensors"]["settings"], files["m.pt"]["settings"]) == ("", str(path))
        assert (files["m.safetensors"]["fail_on"], files["m.pt"]["fail_on"]) == ("error", "note")
        assert [file["path"] for file in document["files"]] == [
            str(acting / "m.pt") if p == str(acting) else p for p in paths
        ]


@pytest.mark.parametrize("format_name", ["plain", "terminal", "markdown", "json", "yaml", "sarif", "junit", "github"])
def test_every_format_names_it(
    format_name: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config(tmp_path, "ignore = ['PI1']")
    assert run(["check", model, "--format", format_name]) == 0
    assert ".pinspect.toml" in "".join(capsys.readouterr().out.split("\n "))


def test_quiet_names_it_if_it_changed_anything(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "ignore = ['PI1']")
    assert run(["check", "-q", model]) == 0
    assert capsys.readouterr().err == f"pinspect: settings of {path}: 2 findings set aside\n"
    config(tmp_path, "ignore = ['PI503']")
    assert run(["check", "-q", model]) == 1
    assert capsys.readouterr().err == ""
    config(tmp_path, "max-size = 1\nfail-on = 'error'")
    assert run(["check", "-q", model, "--select", "PI4"]) == 1
    assert capsys.readouterr().err == f"pinspect: settings of {path}\n"


def test_a_configuration_that_is_named_applies_to_all(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path / "elsewhere", "[tool.pinspect]\nignore = ['PI1']", "ci.toml")
    config(tmp_path, "max-size = 1")
    assert run(["check", model, "--config", str(path)]) == 0
    assert f"settings of {path}" in capsys.readouterr().out
    assert run(["check", model, "--config", str(path), "--no-config"]) == 2
    assert run(["check", model, "--config", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_links_and_baselines_out_of_its_folder(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "theirs"
    home.mkdir()
    shutil.move(model, home / "m.safetensors")
    (tmp_path / "settings.toml").write_text("ignore = ['PI1']")
    (home / ".pinspect.toml").symlink_to("../settings.toml")
    assert run(["check", str(home)]) == 2
    assert "leads out of its folder\n  name it with --config" in capsys.readouterr().err
    (home / ".pinspect.toml").unlink()
    mine = tmp_path / "mine.json"
    for text, place in (("../mine.json", None), (str(mine), None), ("known.json", "../mine.json")):
        config(home, f"baseline = '{text}'")
        if place is not None:
            (home / text).symlink_to(place)
        assert run(["check", str(home), "--update-baseline"]) == 2
        assert "a baseline that lies outside" in capsys.readouterr().err
        assert not mine.exists()
