"""`pinspect MODEL...`: what is in it."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from inspectcli.cli.output import choose_format, output_options, write_report
from inspectcli.cli.progress import Meter
from inspectcli.errors import PinspectError

if TYPE_CHECKING:
    from inspectcli.model import TensorRef
    from inspectcli.overview import FileReport, InspectReport

#: Also the keys of `present.SORT_KEYS`, which a test compares; importing that module here would slow `--help` down.
SORT_KEYS = ("file", "name", "size", "mean", "std", "min", "max", "zeros", "nan")

#: Sub-folders are looked through this deep.
MAX_FOLDER_DEPTH = 3


@click.command("inspect")
@click.argument("paths", metavar="MODEL...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--all",
    "all_rows",
    is_flag=True,
    help="Every tensor on a line of its own: repeated blocks are not folded.",
)
@click.option("--tree", is_flag=True, help="Modules as a tree, with the parameters below each.")
@click.option(
    "--filter", "patterns", metavar="GLOB", multiple=True,
    help="Only tensors whose name fits; '!GLOB' leaves out. Repeatable.",
)  # fmt: skip
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="file",
    show_default=True,
    help="Order of the rows; figures: largest first.",
)
@click.option("--top", type=click.IntRange(min=0), default=0, metavar="N", help="Only the first N rows.")
@click.option("--no-stats", is_flag=True, help="Headers only: reads no values.")
@click.option("--optimizer", is_flag=True, help="Rows for training state too: optimizer, random states, callbacks.")
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
    from inspectcli.overview import InspectReport, inspect_path, unreadable

    format_name = choose_format(format_name, output)
    # Programs get every tensor; people get the model, and training state when they ask.
    wanted = _wanted(patterns, optimizer or format_name in ("json", "csv"))
    files: list[FileReport] = []
    folders = False
    with Meter(quiet) as meter:
        for path in paths:
            try:
                found = list(_expand(path))
            except PinspectError as error:
                files.append(unreadable(path, error))
                continue
            folders = folders or len(found) > 1
            for name in found:
                meter.start(name)
                files.append(inspect_path(name, not no_stats, wanted, meter.advance))
    report = InspectReport(tuple(files))
    code = _exit_code(report)
    if not quiet and (format_name == "json" or any(f.totals for f in files)):
        from inspectcli.present import View, present

        view = View(all_rows, tree, sort, top, brief=folders, **({"left_out": "--filter"} if patterns else {}))
        write_report(present(report, view, code), format_name, output)
    for file in files:
        if file.error is not None:
            _complain(file)
    return code


def _exit_code(report: InspectReport) -> int:
    """2 if a file could not be read, 1 if one would run code, else 0."""
    if any(file.error for file in report.files):
        return 2
    return 1 if any(file.hazards for file in report.files) else 0


def _complain(file: FileReport) -> None:
    from inspectcli.render.base import escape

    assert file.error is not None
    click.echo(f"pinspect: {escape(file.path, 500)}: {escape(file.error.message, 1000)}", err=True)
    if file.error.hint:
        click.echo(f"  {escape(file.error.hint, 500)}", err=True)


def _wanted(patterns: tuple[str, ...], training_state: bool) -> Callable[[TensorRef], bool]:
    """Whether a tensor is asked for: by name, and by what it is for."""
    from inspectcli.model import TRAINING_STATE

    only = [p for p in patterns if not p.startswith("!")]
    never = [p[1:] for p in patterns if p.startswith("!")]

    def wanted(ref: TensorRef) -> bool:
        if not training_state and ref.kind in TRAINING_STATE:
            return False
        if only and not any(fnmatch.fnmatchcase(ref.name, p) for p in only):
            return False
        return not any(fnmatch.fnmatchcase(ref.name, p) for p in never)

    return wanted


def _expand(path: str) -> Iterator[str]:
    """A file is itself; a folder is the models in it, or below it."""
    if not os.path.isdir(path):
        yield path
        return
    from inspectcli.errors import NotReadableError

    found = list(_models_below(path, MAX_FOLDER_DEPTH))
    if not found:
        raise NotReadableError(
            "a directory without a model file", "name a checkpoint, or a folder that holds one", path
        )
    yield from found


def _models_below(folder: str, depth: int) -> Iterator[str]:
    from inspectcli.formats._sharded import is_model_folder, models_in

    yield from models_in(folder)
    if is_model_folder(folder) or not depth:
        return
    for name in sorted(os.listdir(folder)):
        inner = os.path.join(folder, name)
        if not name.startswith(".") and os.path.isdir(inner) and not os.path.islink(inner):
            yield from _models_below(inner, depth - 1)
