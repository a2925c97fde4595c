"""Options about the output, the same for every command, and writing it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from inspectcli.report import Report

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("terminal", "plain", "markdown", "json", "csv")
#: With `-o FILE` and no --format, the file's name says what is wanted.
_BY_SUFFIX = {".json": "json", ".csv": "csv", ".md": "markdown", ".markdown": "markdown"}


def output_options(command: F) -> F:
    """--format, -o and --quiet."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print errors only; the exit code tells."),
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
            type=click.Choice(("auto", *FORMATS)),
            default="auto",
            help="Default: terminal in a terminal, else plain.",
        ),
    ):
        command = option(command)
    return command


def choose_format(asked: str, output: str | None) -> str:
    """The format that `auto` stands for."""
    if asked != "auto":
        return asked
    if output is not None:
        return _BY_SUFFIX.get(os.path.splitext(output)[1].lower(), "plain")
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
