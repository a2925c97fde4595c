"""`pinspect check PATH...`: is anything wrong; for CI and for a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

from inspectcli.cli.options import asked, merged, policy_of, quiet_option, settings_options
from inspectcli.cli.output import choose_renderer, complain, errors_for_programs, report_options, write_report
from inspectcli.cli.progress import Meter
from inspectcli.display.blocks import Content
from inspectcli.errors import UsageError
from inspectcli.plugins import use_plugins
from inspectcli.render.base import escape
from inspectcli.storage import locate

if TYPE_CHECKING:
    from inspectcli.cli.config import Config
    from inspectcli.commands.check.result import CheckReport
    from inspectcli.commands.check.run import Compared

CONTENTS = frozenset({Content.BLOCKS, Content.DOCUMENT, Content.FINDINGS})

#: A terminal shows this many findings of one rule in one file.
_MOST = 20


@click.command("check", short_help="Is anything wrong: for CI, and before a commit.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@settings_options
@click.option("--update-baseline", is_flag=True, help="Write today's findings to the baseline.")
@click.option("--statistics", is_flag=True, help="Count the findings of each rule.")
@click.option("--explain", is_flag=True, help="Show each rule's text under its first finding.")
@click.option("--config", "config_path", type=click.Path(), metavar="FILE", help="Settings of FILE, all of them.")
@click.option("--no-config", is_flag=True, help="No settings but those of the command line.")
@click.option("--hook", is_flag=True, help="Pass over Git LFS pointers and files that are no checkpoints.")
@quiet_option
@report_options(CONTENTS)
def check_command(
    paths: tuple[str, ...],
    update_baseline: bool,
    statistics: bool,
    explain: bool,
    config_path: str | None,
    no_config: bool,
    hook: bool,
    quiet: bool,
    format_name: str,
    output: str | None,
) -> int:
    """Is anything wrong with these checkpoints? `pinspect rules` lists what is looked for.

    Settings come from [tool.pinspect] of the nearest pyproject.toml, or from .pinspect.toml; the command line wins. One
    that is found so, and not named by --config, cannot set aside what is found of safety, or what could not be read.

    \b
    Examples:
      pinspect check model.pt
      pinspect check checkpoints/ --fail-on warning --ignore PI3
      pinspect check *.safetensors --baseline known.json
      pinspect check models/ --fast --max-size 500MB --require-format safetensors
      pinspect check repository/ --allow-unread 'onnx/*'
      pinspect check model.pt --format sarif -o pinspect.sarif

    \b
    Exit codes: 0 nothing that fails; 1 a finding at --fail-on or worse; 2 a file could not be read.
    """
    from inspectcli.commands.check.run import compare, joined
    from inspectcli.commands.check.view import CheckView, present_check, told

    renderer = choose_renderer(format_name, output, CONTENTS)
    with errors_for_programs("check", None if quiet else renderer, output):
        said = _named(config_path, no_config)
        alone = policy_of(said)
        known = str(said["baseline"]) if "baseline" in said else None
        notes: list[str] = [f"settings of {config_path}"] if config_path is not None else []
        groups = _by_configuration(paths, config_path is not None or no_config)
        if update_baseline and known is None and not any("baseline" in config.settings for config, _ in groups):
            raise UsageError("there is no baseline to update", "name one: --baseline FILE")
        with Meter(quiet) as meter:
            reports = [
                _checked(group, config, said, notes, _Run(hook, update_baseline, meter)) for config, group in groups
            ]
        report = joined(reports)
        if len(reports) > 1:
            report = replace(report, fail_on=alone.fail_on)
        if known is not None:
            compared = compare(report, known, update_baseline)
            report = compared.report
            notes += _baseline_notes(compared, known)
    if not quiet:
        view = CheckView(statistics, explain, _MOST if renderer.name == "terminal" else 0, tuple(notes))
        write_report(present_check(report, view), renderer, output)
    for settings in report.settings:
        if quiet and settings.changed:
            click.echo(f"pinspect: {escape(told(settings), 1000)}", err=True)
    for file in report.files:
        if file.error is not None and file.is_refused:
            complain(file.error.message, file.error.hint, file.path)
    return report.exit_code


def _named(config_path: str | None, no_config: bool) -> Mapping[str, object]:
    """What the person who runs the command says: on the command line, and in the file that it names."""
    from inspectcli.cli.config import named_config

    said = asked()
    if config_path is None:
        return said
    if no_config:
        raise UsageError("--config and --no-config exclude each other", "leave one out")
    settings = named_config(config_path).settings
    if settings.get("plugins"):
        use_plugins()
    return merged(said, settings)


def _by_configuration(paths: tuple[str, ...], named: bool) -> list[tuple[Config, tuple[str, ...]]]:
    """The paths by the configuration that is found for each: it applies to what lies below it, to nothing else."""
    from inspectcli.cli.config import Config, find_config

    found: dict[str, tuple[Config, list[str]]] = {}
    for path in paths:
        config = Config() if named else find_config(path)
        found.setdefault(config.path, (config, []))[1].append(path)
    return [(config, tuple(group)) for config, group in found.values()]


class _Run(NamedTuple):
    hook: bool
    update_baseline: bool
    meter: Meter


def _checked(
    paths: tuple[str, ...], config: Config, said: Mapping[str, object], notes: list[str], run: _Run
) -> CheckReport:
    """The files below one configuration, which nobody named; `notes` grows by what is to be said of its baseline."""
    from inspectcli.cli.config import found_baseline
    from inspectcli.commands.check.run import Checker, compare, under

    alone = policy_of(said)
    # What may stay unread is for the person who runs it to say.
    allowed = {key: value for key, value in config.settings.items() if key != "allow_unread"}
    policy = replace(policy_of(merged(said, allowed)), asked=alone) if config.path else alone
    report = Checker(policy, run.hook, run.meter.advance, run.meter.start).check_paths(paths)
    if not config.path:
        return report
    known = None if "baseline" in said else found_baseline(config)
    if known is not None and not run.update_baseline and not locate(known).exists():
        # Only a command writes: a configuration may come with the files that it is to judge.
        notes.append(f"there is no baseline {known} yet: --update-baseline writes it")
    elif known is not None:
        compared = compare(report, known, run.update_baseline, found=True)
        report = compared.report
        notes += _baseline_notes(compared, known)
    if config.settings.get("allow_unread"):
        notes.append(f"allow-unread of {config.path} is not followed: --config, or --allow-unread, does")
    if config.settings.get("plugins"):
        notes.append(f"the plug-ins that {config.path} asks for are not loaded: --plugins does")
    return under(report, config.path, alone)


def _baseline_notes(compared: Compared, known: str) -> Iterator[str]:
    """Say on stderr what was written, and in the report what could be removed."""
    if compared.recorded is not None:
        click.echo(f"pinspect: {_findings(compared.recorded)} recorded in {escape(known, 500)}", err=True)
    if compared.gone:
        gone = _findings(compared.gone)
        yield f"{gone} no longer there: --update-baseline removes what is gone from the baseline"


def _findings(n: int) -> str:
    return "1 finding is" if n == 1 else f"{n:,} findings are"
