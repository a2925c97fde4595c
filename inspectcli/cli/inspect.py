"""`pinspect MODEL...`: what is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from inspectcli.cli.options import filter_option, top_option
from inspectcli.cli.output import choose_renderer, complain, output_options, write_report
from inspectcli.cli.progress import Meter
from inspectcli.display.blocks import Content
from inspectcli.tensors.model import TRAINING_STATE, TensorRef
from inspectcli.tensors.names import name_filter

if TYPE_CHECKING:
    from inspectcli.commands.inspect.result import FileReport

#: Also the keys of `present.SORT_KEYS`, which a test compares; importing that module here would slow `--help` down.
SORT_KEYS = ("file", "name", "size", "mean", "std", "min", "max", "zeros", "nan")


@click.command("inspect")
@click.argument("paths", metavar="MODEL...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--all",
    "all_rows",
    is_flag=True,
    help="Every tensor on a line of its own: repeated blocks are not folded.",
)
@click.option("--tree", is_flag=True, help="Modules as a tree, with the parameters below each.")
@filter_option("Only")
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="file",
    show_default=True,
    help="Order of the rows; figures: largest first.",
)
@top_option("Only the first N rows.")
@click.option("--no-stats", is_flag=True, help="Headers only: reads no values.")
@click.option("--optimizer", is_flag=True, help="Rows for training state too: optimizer, random states, callbacks.")
@click.option("--strict", is_flag=True, help="Exit 1 for any error or warning of the rules; reads training state too.")
@output_options
def inspect_command(
    paths: tuple[str, ...],
    all_rows: bool,
    tree: bool,
    patterns: tuple[str, ...],
    sort: str,
    top: int,
    no_stats: bool,
    optimizer: bool,
    strict: bool,
    format_name: str,
    output: str | None,
    quiet: bool,
) -> int:
    """Tensors of a checkpoint with their statistics.

    \b
    Examples:
      pinspect model.pt
      pinspect model.pt --filter '*.weight' --filter '!*.norm*' --sort std
      pinspect model.safetensors --format markdown -o report.md
    """
    from inspectcli.commands.inspect.result import Coverage, InspectReport
    from inspectcli.commands.inspect.run import Searched, inspect_found

    renderer = choose_renderer(format_name, output)
    # Programs get every tensor; people get the model, and training state when they ask.
    wanted = _wanted(patterns, optimizer or strict or renderer.draws is not Content.BLOCKS)
    files: list[FileReport] = []
    beside: set[str] = set()
    coverage = Coverage()
    searched = Searched(paths)
    listed = False
    with Meter(quiet) as meter:
        for found in searched:
            meter.start(str(found.place))
            file = inspect_found(found, not no_stats, wanted, meter.advance)
            if searched.passes_over(found, file):
                continue
            files.append(file)
            coverage = coverage.with_file(file)
            listed = listed or found.listed
            if found.beside:
                beside.add(file.path)
    for refused in searched.refused:
        files.append(refused)
        coverage = coverage.with_file(refused)
    coverage = coverage.with_search(searched.passed_over, searched.closed)
    report = InspectReport(tuple(files), strict, coverage)
    if not quiet and (renderer.draws is Content.DOCUMENT or any(f.totals for f in files)):
        from inspectcli.commands.inspect.view import View, present

        view = View(
            all_rows,
            tree,
            sort,
            top,
            brief=listed and len(files) - len(beside) > 1,
            beside=frozenset(beside),
            listed=listed or len(files) > 1,
            **({"left_out": "--filter"} if patterns else {}),
        )
        write_report(present(report, view), renderer, output)
    for file in files:
        if file.error is not None:
            complain(file.error.message, file.error.hint, file.path)
    return report.exit_code


def _wanted(patterns: tuple[str, ...], training_state: bool) -> Callable[[TensorRef], bool]:
    """Whether a tensor is asked for: by name, and by what it is for."""

    named = name_filter(patterns)

    def wanted(ref: TensorRef) -> bool:
        if not training_state and ref.kind in TRAINING_STATE:
            return False
        return named is None or named(ref.name)

    return wanted
