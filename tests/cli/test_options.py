"""An option of `check` is described once: flag, key, field of Policy and help come from one place."""

from __future__ import annotations

from dataclasses import fields, replace

import click
import pytest
from click.testing import CliRunner

from inspectcli.cli import options
from inspectcli.cli.check import check_command
from inspectcli.cli.config import read_config
from inspectcli.cli.options import KEYS, SETTINGS, Setting, asked, merged, policy_of, settings_options
from inspectcli.commands.check.policy import Policy, TensorIgnore
from inspectcli.contract import Severity
from inspectcli.errors import UsageError

FLAGS = {flag for parameter in check_command.params for flag in parameter.opts}


def test_every_field_of_the_policy_is_a_setting() -> None:
    named = [setting.policy_field for setting in SETTINGS if setting.policy_field is not None]
    # `asked` is the policy of the command line alone, where a configuration was found.
    assert sorted(named) == sorted({field.name for field in fields(Policy)} - {"asked"})


def test_what_a_configuration_may_say_a_flag_may_say_too() -> None:
    # Patterns by code and reason do not fit into a command line.
    assert {key for key in KEYS if f"--{key}" not in FLAGS} == {"per-tensor-ignores"}


def test_every_flag_has_help() -> None:
    for setting in SETTINGS:
        if setting.kind.option is not None:
            (parameter,) = (p for p in check_command.params if p.name == setting.name)
            assert isinstance(parameter, click.Option)
            assert parameter.help == setting.help
            assert setting.help


def test_the_policy_of_nothing_is_the_usual_one() -> None:
    assert policy_of({}) == Policy()


def test_each_setting_reaches_its_field() -> None:
    ignores = (TensorIgnore("PI301", ("*.head.*",)),)
    settings = {
        "select": ("PI1",), "ignore": ("PI103",), "fail_on": "note", "fast": True, "max_size": "1kB",
        "require_format": ("safetensors",), "per_tensor_ignores": ignores, "baseline": "known.json",
    }  # fmt: skip
    assert policy_of(settings) == Policy(("PI1",), ("PI103",), Severity.NOTE, True, 1000, ("safetensors",), ignores)


@pytest.mark.parametrize("settings", [{"max_size": "big"}, {"fail_on": "fatal"}])
def test_what_is_no_size_or_severity(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        policy_of(settings)


@pytest.mark.parametrize(
    ("said", "config", "settings"),
    [
        ({}, {"max_size": 0}, {"max_size": 0}),
        ({"max_size": "1MB"}, {"max_size": 0, "fail_on": "note"}, {"max_size": "1MB", "fail_on": "note"}),
        ({"select": ("PI1",)}, {"ignore": ("PI1",)}, {"select": ("PI1",)}),
        ({"select": ("PI1",), "ignore": ("PI2",)}, {"ignore": ("PI1",)}, {"select": ("PI1",), "ignore": ("PI2",)}),
        ({"fast": True}, {"ignore": ("PI1",)}, {"fast": True, "ignore": ("PI1",)}),
    ],
)
def test_the_command_line_wins(said: dict[str, object], config: dict[str, object], settings: dict[str, object]) -> None:
    assert merged(said, config) == settings


def test_a_new_setting_is_a_flag_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Setting("most_tensors", replace(options.SIZE, parse=int), "More tensors are an error.", "N", field=None)
    monkeypatch.setattr(options, "SETTINGS", (*SETTINGS, new))
    monkeypatch.setitem(KEYS, new.key, new)

    @click.command()
    @settings_options
    def command() -> None:
        click.echo(repr(dict(asked())))

    runner = CliRunner()
    assert "--most-tensors N" in runner.invoke(command, ["--help"]).output
    assert runner.invoke(command, ["--most-tensors", "7", "--select", "PI1,PI2"]).output == (
        "{'most_tensors': '7', 'select': ('PI1', 'PI2')}\n"
    )
    assert read_config("/x/.pinspect.toml", {"most-tensors": 7}).settings == {"most_tensors": 7}
