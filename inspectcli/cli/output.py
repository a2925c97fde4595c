"""Options about the output, the same for every command, and writing it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from inspectcli.cli.options import F, quiet_option
from inspectcli.contract import EXIT_FAILED, SCHEMA
from inspectcli.errors import PinspectError
from inspectcli.render.base import escape

if TYPE_CHECKING:
    from inspectcli.display.blocks import Report

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
    from inspectcli.render.base import render

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
            from inspectcli.commands.inspect.result import FileError
            from inspectcli.display.blocks import Report

            told = {"path": error.path, **FileError.of(error)._asdict()}
            write_report(
                Report(command, (), {"schema": SCHEMA, "command": command, "error": told}, (), EXIT_FAILED),
                format_name,
                output,
            )
        raise


def complain(message: str, hint: str = "", path: str = "") -> None:
    """Say on stderr what went wrong, and what to do."""
    where = f"{escape(path, 500)}: " if path else ""
    click.echo(f"pinspect: {where}{escape(message, 1000)}", err=True)
    if hint:
        click.echo(f"  {escape(hint, 1000)}", err=True)
