"""Options about the output, the same for every command, and writing it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from inspectcli.contract import EXIT_FAILED
from inspectcli.display.blocks import Report
from inspectcli.errors import ErrorReport, FileError, PinspectError
from inspectcli.render.base import escape, render

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("terminal", "plain", "markdown", "json", "csv")
#: With `-o FILE` and no --format, the file's name says what is wanted, if the command has that format.
_BY_SUFFIX = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".sarif": "sarif",
    ".xml": "junit",
    ".yaml": "yaml",
    ".yml": "yaml",
}


def report_options(formats: Sequence[str]) -> Callable[[F], F]:
    """--format, one of these, and -o."""

    def add(command: F) -> F:
        for option in (
            click.option(
                "-o",
                "--output",
                type=click.Path(dir_okay=False),
                metavar="FILE",
                help="Write the report to FILE.",
            ),
            click.option(
                "--format",
                "format_name",
                type=click.Choice(("auto", *formats)),
                default="auto",
                help="Default: terminal in a terminal, else plain.",
            ),
        ):
            command = option(command)
        return command

    return add


def quiet_option(command: F) -> F:
    """--quiet."""
    return click.option("-q", "--quiet", is_flag=True, help="Print errors only; the exit code tells.")(command)


def output_options(command: F) -> F:
    """--format, -o and --quiet, for a report of tensors."""
    return report_options(FORMATS)(quiet_option(command))


def choose_format(asked: str, output: str | None, formats: Sequence[str] = FORMATS) -> str:
    """The format that `auto` stands for."""
    if asked != "auto":
        return asked
    if output is not None:
        meant = _BY_SUFFIX.get(os.path.splitext(output)[1].lower(), "plain")
        return meant if meant in formats else "plain"
    return "terminal" if sys.stdout.isatty() or os.environ.get("FORCE_COLOR") else "plain"


def write_report(report: Report, format_name: str, output: str | None) -> None:
    """Render and write; a file is opened only after the work succeeded."""

    color = not os.environ.get("NO_COLOR") and (sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR")))
    text = render(report, format_name, width=shutil.get_terminal_size((80, 24)).columns, color=color and output is None)
    if text and not text.endswith("\n"):
        text += "\n"
    if output is None:
        click.echo(text, nl=False, color=True)
        return
    with open(output, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)


@contextmanager
def errors_for_programs(command: str, format_name: str, output: str | None) -> Iterator[None]:
    """An error is an object of the same schema where the report is for programs; it is raised all the same."""
    try:
        yield
    except PinspectError as error:
        if format_name in ("json", "yaml"):
            from inspectcli.document import report_document

            failure = report_document(command, ErrorReport(FileError.of(error)))
            write_report(Report(command, (), failure, (), EXIT_FAILED), format_name, output)
        raise


def complain(path: str, error: FileError) -> None:
    """Say on stderr why a file could not be read, or not completely."""

    click.echo(f"pinspect: {escape(path, 500)}: {escape(error.message, 1000)}", err=True)
    if error.hint:
        click.echo(f"  {escape(error.hint, 500)}", err=True)
