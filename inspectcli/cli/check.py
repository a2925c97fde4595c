"""`pinspect check PATH...`: is anything wrong; for CI and for a commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from inspectcli.cli.options import asked, merged, policy_of, quiet_option, settings_options
from inspectcli.cli.output import choose_renderer, complain, errors_for_programs, report_options, write_report
from inspectcli.cli.progress import Meter
from inspectcli.display.blocks import Content
from inspectcli.errors import UsageError
from inspectcli.render.base import escape
from inspectcli.storage import locate

if TYPE_CHECKING:
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
@click.option("--no-config", is_flag=True, help="No settings but those of the command line.")
@click.option("--hook", is_flag=True, help="Pass over Git LFS pointers and files that are no checkpoints.")
@quiet_option
@report_options(CONTENTS)
def check_command(
    paths: tuple[str, ...],
    update_baseline: bool,
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
      pinspect check repository/ --allow-unread 'onnx/*'
      pinspect check model.pt --format sarif -o pinspect.sarif

    \b
    Exit codes: 0 nothing that fails; 1 a finding at --fail-on or worse; 2 a file could not be read.
    """
    from inspectcli.cli.config import Config, find_config
    from inspectcli.commands.check.run import Checker, compare
    from inspectcli.commands.check.view import CheckView, present_check

    renderer = choose_renderer(format_name, output, CONTENTS)
    with errors_for_programs("check", None if quiet else renderer, output):
        config = Config() if no_config else find_config(paths[0])
        said = asked()
        settings = merged(said, config.settings)
        policy = policy_of(settings)
        known = str(settings["baseline"]) if "baseline" in settings else None
        if update_baseline and known is None:
            raise UsageError("there is no baseline to update", "name one: --baseline FILE")
        with Meter(quiet) as meter:
            report = Checker(policy, hook, meter.advance, meter.start).check_paths(paths)
        notes = [f"settings of {config.path}"] if config.path else []
        if known is not None and "baseline" not in said and not update_baseline and not locate(known).exists():
            # Only a command writes: a configuration may come with the files that it is to judge.
            notes.append(f"there is no baseline {known} yet: --update-baseline writes it")
        elif known is not None:
            compared = compare(report, known, update_baseline)
            report = compared.report
            notes += _baseline_notes(compared, known)
    if not quiet:
        view = CheckView(statistics, explain, _MOST if renderer.name == "terminal" else 0, tuple(notes))
        write_report(present_check(report, view), renderer, output)
    for file in report.files:
        if file.error is not None and file.fails:
            complain(file.error.message, file.error.hint, file.path)
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
