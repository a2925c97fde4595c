"""`pinspect check PATH...`: is anything wrong; for CI and for a commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from inspectcli.cli.output import (
    choose_format,
    complain,
    errors_for_programs,
    quiet_option,
    report_options,
    write_report,
)
from inspectcli.cli.progress import Meter
from inspectcli.contract import Severity
from inspectcli.errors import UsageError
from inspectcli.render.base import escape
from inspectcli.storage import locate

if TYPE_CHECKING:
    from inspectcli.cli.config import Config
    from inspectcli.commands.check.policy import Policy
    from inspectcli.commands.check.run import Compared

FORMATS = ("terminal", "plain", "markdown", "json", "sarif", "github", "junit")

#: A terminal shows this many findings of one rule in one file.
_MOST = 20


@click.command("check", short_help="Is anything wrong: for CI, and before a commit.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--select", metavar="CODES", multiple=True, help="Only these rules: PI101,PI3. Repeatable.")
@click.option("--ignore", metavar="CODES", multiple=True, help="Not these rules. Repeatable.")
@click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in Severity]),
    help="Exit 1 at this severity or worse.  [default: error]",
)
@click.option("--fast", is_flag=True, help="Headers and safety only: reads no values.")
@click.option("--baseline", type=click.Path(dir_okay=False), metavar="FILE",
              help="Only findings that are not in FILE; writes it if it is not there.")  # fmt: skip
@click.option("--update-baseline", is_flag=True, help="Write today's findings to the baseline.")
@click.option("--max-size", metavar="SIZE", help="A larger checkpoint is an error: 500MB.")
@click.option("--require-format", metavar="FORMATS", multiple=True, help="Another format is an error: safetensors.")
@click.option("--statistics", is_flag=True, help="Count the findings of each rule.")
@click.option("--explain", is_flag=True, help="Show each rule's text under its first finding.")
@click.option("--no-config", is_flag=True, help="No settings but those of the command line.")
@click.option("--hook", is_flag=True, help="Pass over Git LFS pointers and files that are no checkpoints.")
@quiet_option
@report_options(FORMATS)
def check_command(
    paths: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str | None,
    fast: bool,
    baseline: str | None,
    update_baseline: bool,
    max_size: str | None,
    require_format: tuple[str, ...],
    statistics: bool,
    explain: bool,
    no_config: bool,
    hook: bool,
    quiet: bool,
    format_name: str,
    output: str | None,
) -> int:
    """Is anything wrong with these checkpoints? `pinspect rules` lists what is looked for.

    Settings come from [tool.pinspect] of the nearest pyproject.toml, or from .pinspect.toml; the command line wins.

    \b
    Examples:
      pinspect check model.pt
      pinspect check checkpoints/ --fail-on warning --ignore PI3
      pinspect check *.safetensors --baseline known.json
      pinspect check models/ --fast --max-size 500MB --require-format safetensors
      pinspect check model.pt --format sarif -o pinspect.sarif

    \b
    Exit codes: 0 nothing that fails; 1 a finding at --fail-on or worse; 2 a file could not be read.
    """
    from inspectcli.cli.config import Config, find_config
    from inspectcli.commands.check.run import Checker, compare
    from inspectcli.commands.check.view import CheckView, present_check

    format_name = choose_format(format_name, output, FORMATS)
    with errors_for_programs("check", "" if quiet else format_name, output):
        config = Config() if no_config else find_config(paths[0])
        policy = _policy(config, _words(select), _words(ignore), fail_on, fast, max_size, _words(require_format))
        known = baseline or config.baseline
        if update_baseline and known is None:
            raise UsageError("there is no baseline to update", "name one: --baseline FILE")
        with Meter(quiet) as meter:
            report = Checker(policy, hook, meter.advance, meter.start).check_paths(paths)
        notes = [f"settings of {config.path}"] if config.path else []
        if known is not None and baseline is None and not update_baseline and not locate(known).exists():
            # Only a command writes: a configuration may come with the files that it is to judge.
            notes.append(f"there is no baseline {known} yet: --update-baseline writes it")
        elif known is not None:
            compared = compare(report, known, update_baseline)
            report = compared.report
            notes += _baseline_notes(compared, known)
    if not quiet:
        view = CheckView(statistics, explain, _MOST if format_name == "terminal" else 0, tuple(notes))
        write_report(present_check(report, view), format_name, output)
    for file in report.files:
        if file.error is not None:
            complain(file.path, file.error)
    return report.exit_code


def _baseline_notes(compared: Compared, known: str) -> Iterator[str]:
    """Say on stderr what was written, and in the report what could be removed."""
    if compared.recorded is not None:
        click.echo(f"pinspect: {_findings(compared.recorded)} recorded in {escape(known, 500)}", err=True)
    if compared.gone:
        gone = _findings(compared.gone)
        yield f"{gone} no longer there: --update-baseline removes what is gone from the baseline"


def _findings(n: int) -> str:
    return "1 finding is" if n == 1 else f"{n:,} findings are"


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    """`("PI1,PI2", "PI3")` -> `("PI1", "PI2", "PI3")`."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def _policy(
    config: Config,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str | None,
    fast: bool,
    max_size: str | None,
    require_format: tuple[str, ...],
) -> Policy:
    """What the command line says, and what the configuration says where it is silent.

    `--select` also sets aside the configuration's `ignore`: what is asked for by name runs.
    """
    from inspectcli.commands.check.policy import Policy, parse_size, severity_of

    size = max_size if max_size is not None else config.max_size
    return Policy(
        select or config.select or (),
        ignore or (() if select else config.ignore or ()),
        severity_of(fail_on or config.fail_on or "error"),
        fast,
        None if size is None else parse_size(size),
        require_format or config.require_format or (),
        config.per_tensor_ignores or (),
    )
