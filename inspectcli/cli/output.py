"""Options about the output, the same for every command, and writing it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

from inspectcli.cli.options import F, quiet_option
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED
from inspectcli.display.blocks import Content, Report
from inspectcli.errors import ErrorReport, FileError, PinspectError
from inspectcli.plugins import use_plugins
from inspectcli.render import find_renderer, other_renderers, own_renderers
from inspectcli.render.base import Renderer, escape
from inspectcli.render.plain import RENDERER as PLAIN
from inspectcli.storage.local import write_settings

#: Characters that are written to the terminal or a pipe at a time.
_WRITTEN = 1 << 16
#: What a report of tensors or of hyperparameters has.
TABULAR = frozenset({Content.BLOCKS, Content.DOCUMENT, Content.RECORDS})


class FormatOption(click.Option):
    """--format: the renderers that draw what a command's reports have; imported for the help, or when one is named."""

    def __init__(self, declarations: Sequence[str], contents: frozenset[Content]) -> None:
        super().__init__(
            declarations,
            default="auto",
            callback=self._checked,
            shell_complete=lambda ctx, param, word: [n for n in self._names() if n.startswith(word)],
            help="Default: terminal in a terminal, else plain.",
        )
        self._contents = contents

    def _names(self) -> list[str]:
        return ["auto", *(r.name for r in own_renderers() if r.draws in self._contents)]

    def make_metavar(self, ctx: click.Context | None = None) -> str:  # click before 8.2 gives no context
        return f"[{'|'.join(self._names())}]"

    def _checked(self, ctx: click.Context, param: click.Parameter, value: str) -> str:
        renderer = None if value == "auto" else find_renderer(value)
        if value != "auto" and (renderer is None or renderer.draws not in self._contents):
            known = ", ".join(map(repr, self._names()))
            raise click.BadParameter(f"{value!r} is not one of {known}.", ctx, param)
        return value


def _use_plugins(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked:
        use_plugins()


def report_options(contents: frozenset[Content]) -> Callable[[F], F]:
    """--format, of what the reports have, -o, and --plugins."""

    def add(command: F) -> F:
        command = click.option(
            "-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write the report to FILE."
        )(command)
        command = click.option("--format", "format_name", cls=FormatOption, contents=contents)(command)
        return click.option(
            "--plugins",
            is_flag=True,
            is_eager=True,  # the value of --format may be one of them
            expose_value=False,
            callback=_use_plugins,
            help="Load what other packages add: formats, rules.",
        )(command)

    return add


def output_options(command: F) -> F:
    """--format, -o and --quiet, for a report of tensors."""
    return report_options(TABULAR)(quiet_option(command))


def choose_renderer(asked: str, output: str | None, contents: frozenset[Content] = TABULAR) -> Renderer:
    """The renderer that was asked for; of `auto` the one that the name of the output file, or the terminal, means."""
    meant = None
    if asked != "auto":
        meant = find_renderer(asked)
    elif output is not None:
        meant = _by_suffix(os.path.splitext(output)[1].lower(), contents)
    elif sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
        meant = find_renderer("terminal")
    return meant or PLAIN


def _by_suffix(suffix: str, contents: frozenset[Content]) -> Renderer | None:
    for renderers in (own_renderers, other_renderers):
        for renderer in renderers():
            if suffix in renderer.suffixes and renderer.draws in contents:
                return renderer
    return None


def write_report(report: Report, renderer: Renderer, output: str | None) -> None:
    """Render and write; a file only after the work succeeded, whole or not at all."""
    color = not os.environ.get("NO_COLOR") and (sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR")))
    width = shutil.get_terminal_size((80, 24)).columns
    pieces = renderer.pieces(report, width, color and output is None)
    if output is None:
        try:
            for text in _together(pieces):
                click.echo(text, nl=False, color=True)
        except BrokenPipeError:  # the reader has seen enough (`| head`)
            raise click.exceptions.Exit(EXIT_CLEAN) from None
        return
    write_settings(output, pieces)


def _together(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in fewer pieces: each is written with a call to the system."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _WRITTEN:
            yield "".join(held)
            held, size = [], 0
    if held:
        yield "".join(held)


@contextmanager
def errors_for_programs(command: str, renderer: Renderer | None, output: str | None) -> Iterator[None]:
    """An error is an object of the same schema where the report is for programs; it is raised all the same.

    Args:
        command: whose report it would have been.
        renderer: what would draw it; None if nothing is to be written.
        output: the file that it is for; None for stdout.
    """
    try:
        yield
    except PinspectError as error:
        if renderer is not None and renderer.draws is Content.DOCUMENT:
            from inspectcli.document import report_document

            failure = report_document(command, ErrorReport(FileError.of(error)))
            write_report(Report(command, (), failure, (), EXIT_FAILED), renderer, output)
        raise


def complain(message: str, hint: str = "", path: str = "") -> None:
    """Say on stderr what went wrong, and what to do."""
    where = f"{escape(path, 500)}: " if path else ""
    click.echo(f"pinspect: {where}{escape(message, 1000)}", err=True)
    if hint:
        click.echo(f"  {escape(hint, 1000)}", err=True)
