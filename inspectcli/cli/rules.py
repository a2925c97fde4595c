"""`pinspect rules`: what `pinspect check` looks for."""

from __future__ import annotations

import click

from inspectcli.cli.output import choose_format, errors_for_programs, report_options, write_report
from inspectcli.contract import EXIT_CLEAN

FORMATS = ("terminal", "plain", "markdown", "json")


@click.command("rules")
@click.argument("words", metavar="[CODE...]", nargs=-1)
@report_options(FORMATS)
def rules_command(words: tuple[str, ...], format_name: str, output: str | None) -> int:
    """What `pinspect check` looks for; one rule, explained.

    \b
    Examples:
      pinspect rules
      pinspect rules PI1
      pinspect rules PI101
    """
    from inspectcli.analysis.findings import all_rules
    from inspectcli.commands.check.policy import code_of
    from inspectcli.commands.check.view import present_rules

    format_name = choose_format(format_name, output, FORMATS)
    with errors_for_programs("rules", format_name, output):
        rules = all_rules()
        codes = tuple(code_of(word, rules) for word in words)
    chosen = [rule for rule in rules if not codes or rule.code.startswith(codes)]
    write_report(present_rules(chosen), format_name, output)
    return EXIT_CLEAN
