"""`pinspect hparams PATH [PATH]`: what was set before training, wherever it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from inspectcli.cli.options import quiet_option
from inspectcli.cli.output import TABULAR, choose_renderer, errors_for_programs, report_options, write_report
from inspectcli.errors import UsageError

if TYPE_CHECKING:
    from inspectcli.commands.hparams.result import HParams


@click.command("hparams")
@click.argument("paths", metavar="PATH [PATH]", nargs=-1, required=True, type=click.Path())
@click.option("--all", "all_rows", is_flag=True, help="Every value at every place: settings, paths and names too.")
@click.option("--show-secrets", is_flag=True, help="Tokens, keys and passwords as they are: masked without it.")
@click.option("--advice", is_flag=True, help="Usual ranges, how much each value matters, and sources.")
@click.option("--trials", is_flag=True, help="A line for each trial of a study, with its objective.")
@click.option("--study", default="", metavar="NAME", help="Which study or experiment, where a store holds many.")
@click.option("--run", "run_name", default="", metavar="NAME", help="Which run.")
@click.option("--trial", default="", metavar="NAME", help="Which trial; without it the best completed one.")
@report_options(TABULAR)
@quiet_option
def hparams_command(
    paths: tuple[str, ...],
    all_rows: bool,
    show_secrets: bool,
    advice: bool,
    trials: bool,
    study: str,
    run_name: str,
    trial: str,
    format_name: str,
    output: str | None,
    quiet: bool,
) -> int:
    """Hyperparameters: from a checkpoint, a config, a database, or a folder that training left.

    Two paths are compared.

    \b
    Examples:
      pinspect hparams last.ckpt
      pinspect hparams runs/exp3/ --advice
      pinspect hparams study.db --trials
      pinspect hparams old/config.yaml new/config.yaml

    \b
    Exit codes: 0 read, nothing found; 1 places contradict each other, or two sets differ; 2 could not be read.
    """
    from inspectcli.commands.hparams.result import compare
    from inspectcli.commands.hparams.run import read_hparams
    from inspectcli.commands.hparams.view import HParamsView, present_comparison, present_hparams

    renderer = choose_renderer(format_name, output)
    with errors_for_programs("hparams", None if quiet else renderer, output):
        if len(paths) > 2:
            raise UsageError(f"{len(paths)} paths: expected one, or two to compare")
        found = [read_hparams(path, study=study, run=run_name, trial=trial, secrets=show_secrets) for path in paths]
    if len(found) == 2:
        report = present_comparison(compare(found[0], found[1], all_rows))
    else:
        nonfinite = _nonfinite(found[0]) if advice else None
        report = present_hparams(found[0], HParamsView(all_rows, advice, trials), nonfinite)
    if not quiet:
        write_report(report, renderer, output)
    return report.exit_code


def _nonfinite(found: HParams) -> int | None:
    """NaN and Inf in the weights, all of whose values are read."""
    from inspectcli.commands.inspect.run import inspect_path

    model = next((model for run in found.runs for model in run.models), None)
    if model is None:
        return None
    report = inspect_path(model)
    return sum(row.stats.nonfinite for row in report.tensors if row.stats and not row.alias_of)
