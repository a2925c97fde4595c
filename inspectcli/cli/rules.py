"""`pinspect rules`: what `pinspect check` looks for."""

from __future__ import annotations

import click

from inspectcli.cli.output import choose_renderer, errors_for_programs, report_options, write_report
from inspectcli.contract import EXIT_CLEAN
from inspectcli.display.blocks import Content

CONTENTS = frozenset({Content.BLOCKS, Content.DOCUMENT})


@click.command("rules")
@click.argument("words", metavar="[CODE...]", nargs=-1)
@report_options(CONTENTS)
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

    renderer = choose_renderer(format_name, output, CONTENTS)
    with errors_for_programs("rules", renderer, output):
        rules = all_rules()
        codes = tuple(code_of(word, rules) for word in words)
    chosen = [rule for rule in rules if not codes or rule.code.startswith(codes)]
    write_report(present_rules(chosen), renderer, output)
    return EXIT_CLEAN
