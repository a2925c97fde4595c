"""`pinspect diff A B`: what changed; over a run's folder: how it changed step by step; for git: as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from inspectcli.cli.options import filter_option, top_option
from inspectcli.cli.output import choose_renderer, complain, errors_for_programs, output_options, write_report
from inspectcli.cli.progress import Meter
from inspectcli.contract import EXIT_CLEAN
from inspectcli.errors import UsageError
from inspectcli.render.base import Renderer, escape
from inspectcli.storage import locate
from inspectcli.storage.local import read_settings
from inspectcli.storage.source import ensure_unchanged
from inspectcli.tensors.names import name_filter

if TYPE_CHECKING:
    from inspectcli.commands.diff.result import DiffReport
    from inspectcli.commands.diff.run import Options

#: Values of `commands.diff.compare.Status`, which a test compares; importing that here would slow `--help` down.
STATUSES = (
    "identical", "equal-values", "equal-rounded", "within-tolerance", "changed", "reshaped", "added", "removed",
)  # fmt: skip

MAX_MAP = 64 << 20

_HELP = "see `pinspect diff --help`"


@click.command("diff")
@click.argument("paths", metavar="A B | DIR", nargs=-1, required=True, type=click.Path())
@click.option("--stat", is_flag=True, help="One line for each module: what was trained, what is frozen.")
@click.option("--all", "all_rows", is_flag=True, help="Unchanged tensors too, and nothing folded.")
@click.option(
    "--only",
    metavar="STATUS,...",
    help="Only rows with these: added, removed, changed, reshaped, equal-rounded, within-tolerance, identical, ...",
)
@filter_option("Compare only")
@top_option("Only the N largest changes.")
@click.option("--atol", type=click.FloatRange(min=0), default=0.0, help="Values this close count as equal.")
@click.option("--rtol", type=click.FloatRange(min=0), default=0.0, help="The same, relative to the larger value.")
@click.option("--allow-rounding", is_flag=True, help="A copy rounded to bf16, f16 or fp8 counts as the same.")
@click.option("--strict-names", is_flag=True, help="A wrapper's prefix on all names counts as a difference.")
@click.option("--strict-metadata", is_flag=True, help="Differing metadata count as a difference.")
@click.option("--rank", is_flag=True, help="Rank of the change of each matrix: a merged LoRA shows its own.")
@click.option(
    "--map", "map_file", metavar="FILE", type=click.Path(dir_okay=False),
    help="Names of A and B that belong together: a JSON object, or lines of two names.",
)  # fmt: skip
@click.option("--git-textconv", is_flag=True, help="One file as text, for git: see the README.")
@output_options
def diff_command(
    paths: tuple[str, ...],
    stat: bool,
    all_rows: bool,
    only: str | None,
    patterns: tuple[str, ...],
    top: int,
    atol: float,
    rtol: float,
    allow_rounding: bool,
    strict_names: bool,
    strict_metadata: bool,
    rank: bool,
    map_file: str | None,
    git_textconv: bool,
    format_name: str,
    output: str | None,
    quiet: bool,
) -> int:
    """What changed between two checkpoints: structure, every value, metadata.

    Any two formats, files, folders or sharded models. A folder of one run's checkpoints alone: how far each is from
    the first and from the one before.

    \b
    Examples:
      pinspect diff base.pt tuned.safetensors
      pinspect diff base/ tuned/ --stat
      pinspect diff model.pt model_bf16.safetensors --allow-rounding
      pinspect diff base.pt merged.pt --rank --top 10
      pinspect diff runs/exp3/

    \b
    Exit codes: 0 the same; 1 different; 2 could not be compared.
    """
    if git_textconv:
        return _as_text(paths)
    renderer = choose_renderer(format_name, output)
    with errors_for_programs("diff", None if quiet else renderer, output):
        if len(paths) > 2:
            raise UsageError(f"two checkpoints or one folder expected, found {len(paths)} paths", _HELP)
        options = _options(
            atol, rtol, allow_rounding, strict_names, strict_metadata, rank, _read_map(map_file), name_filter(patterns)
        )
        statuses = _statuses(only)
        if len(paths) == 1:
            return _trajectory(paths[0], options, renderer, output, quiet)
        report = _compared(paths[0], paths[1], options, quiet)
    from inspectcli.commands.diff.view import View, present

    if not quiet:
        write_report(present(report, View(all_rows, statuses, top, stat)), renderer, output)
    for tensor in report.problems:
        complain(f"{tensor.name}: {tensor.problem}")
    return report.exit_code


def _compared(a: str, b: str, options: Options, quiet: bool) -> DiffReport:
    from inspectcli.commands.diff.run import diff_checkpoints, opened

    with Meter(quiet) as meter:
        meter.start(b)
        left, right = opened(a), opened(b)
        report = diff_checkpoints(left, right, options, meter.advance)
        ensure_unchanged((*left.sources, *right.sources))
        return report


def _options(
    atol: float,
    rtol: float,
    allow_rounding: bool,
    strict_names: bool,
    strict_metadata: bool,
    rank: bool,
    mapped: dict[str, str],
    wanted: Callable[[str], bool] | None,
) -> Options:
    from inspectcli.commands.diff.difference import Tolerance
    from inspectcli.commands.diff.run import Options

    return Options(Tolerance(atol, rtol), allow_rounding, strict_names, strict_metadata, rank, mapped, wanted)


def _statuses(only: str | None) -> frozenset[str]:
    names = frozenset(part.strip() for part in (only or "").split(",") if part.strip())
    unknown = names - set(STATUSES)
    if unknown:
        raise UsageError(f"--only: unknown {', '.join(sorted(unknown))}", f"known are {', '.join(STATUSES)}")
    return names


def _read_map(path: str | None) -> dict[str, str]:
    """A JSON object of names, or one pair a line."""
    if path is None:
        return {}
    try:
        data = read_settings(path, MAX_MAP)
        if len(data) > MAX_MAP:
            raise UsageError(f"--map: a file of more than {MAX_MAP >> 20} MiB", path=path)
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("--map: not a text file", path=path) from None
    except OSError as error:
        raise UsageError(f"--map: cannot be read: {error.strerror or error}", path=path) from None
    if text.lstrip().startswith("{"):
        try:
            table = json.loads(text)
        except ValueError as error:
            raise UsageError(f"--map: not JSON: {error}", path=path) from None
        if not all(isinstance(v, str) for v in table.values()):
            raise UsageError("--map: a JSON object of names to names expected", path=path)
        return dict(table)
    pairs = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise UsageError(f"--map: pair {number} has {len(pair)} names, expected two", path=path)
    return {pair[0]: pair[1] for pair in pairs}


def _trajectory(path: str, options: Options, renderer: Renderer, output: str | None, quiet: bool) -> int:
    if not locate(path).is_folder():
        raise UsageError("two checkpoints expected, or one folder with several", _HELP)
    from inspectcli.commands.diff.trajectory import present_trajectory, problem_text, trajectory

    with Meter(quiet) as meter:
        meter.start(path)
        found = trajectory(path, options, meter.advance)
    if not quiet:
        write_report(present_trajectory(found), renderer, output)
    for problem in found.problems:
        complain(problem_text(problem))
    return found.exit_code


def _as_text(paths: tuple[str, ...]) -> int:
    if len(paths) != 1:
        raise UsageError(f"--git-textconv: one file expected, found {len(paths)}", _HELP)
    from inspectcli.commands.diff.textconv import text_lines

    for line in text_lines(paths[0]):
        click.echo(escape(line, 4000))
    return EXIT_CLEAN
