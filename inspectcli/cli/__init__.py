"""From command line to exit code: 0 looked and found nothing, 1 found something, 2 could not do it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from inspectcli import __version__
from inspectcli.cli.output import complain
from inspectcli.contract import EXIT_CLEAN, EXIT_FAILED, EXIT_INTERRUPTED
from inspectcli.errors import PinspectError

#: Command -> module with `<command>_command`, imported when it is asked for.
_COMMANDS = {name: f"inspectcli.cli.{name}" for name in ("inspect", "diff", "hparams", "check", "rules")}


class _Group(click.Group):
    """`pinspect model.pt` is `pinspect inspect model.pt`; the main help shows the options of both."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), f"{cmd_name}_command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"-h", "--help", "--version"}
        if args and args[0] not in _COMMANDS and not (args[0] in own and len(args) == 1):
            args = ["inspect", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from inspectcli.cli.inspect import inspect_command

        rows = [r for p in inspect_command.get_params(ctx) if (r := p.get_help_record(ctx)) and "--help" not in r[0]]
        with formatter.section("Options of pinspect MODEL"):
            formatter.write_dl(rows)
        super().format_options(ctx, formatter)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="MODEL... | COMMAND",
)
@click.version_option(__version__, "--version", prog_name="pinspect")
def cli() -> None:
    """What is in a neural-network checkpoint: every tensor with its statistics, read safely.

    Nothing in the file is run, imported or unpacked. Reads PyTorch (.pt .pth .ckpt .bin, TorchScript), safetensors,
    Keras and HDF5 (.keras .h5), NumPy (.npz .npy), sharded models and Hugging Face folders.

    \b
    Examples:
      pinspect model.pt                         what is in it
      pinspect model.safetensors --all          every tensor on a line of its own
      pinspect model.pt --filter '*.attn.*'     some tensors
      pinspect model.pt --sort std --top 10     the ten widest
      pinspect model.pt --no-stats              headers only: at once, at any size
      pinspect runs/ checkpoints/*.pt           folders and many files
      pinspect model.pt --format json           for programs
      pinspect check model.pt                   is anything wrong: for CI, and before a commit
      pinspect diff a.pt b.safetensors          what changed
      pinspect hparams run/                     what was set before training

    \b
    Exit codes: 0 read, nothing found; 1 read, and it would run code when loaded; 2 could not be read.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs the command line and exits."""
    # Checksums run beside the statistics: each block ends in less time than Python's usual turn of 5 ms, and a pool of
    # OpenBLAS threads would only stand in the way.
    sys.setswitchinterval(0.0005)
    # A third of the time with 100,000 tensors went into looking for cycles among objects that all live to the end.
    gc.set_threshold(50_000, 50, 100)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name in the file must not be able to end the run because the terminal cannot show it.
            stream.reconfigure(errors="backslashreplace")
    _leave(run(sys.argv[1:] if argv is None else list(argv)))


def _leave(code: int) -> NoReturn:
    """End the process at once: to take NumPy apart again would take longer than to read a small file."""
    children = sys.modules.get("inspectcli.formats.hdf5.process")
    if children is not None:
        children.close_all()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code)


def run(args: list[str]) -> int:
    """The exit code for these arguments. Never lets an exception out, but for bugs under PINSPECT_DEBUG."""
    try:
        code = cli.main(args=args, prog_name="pinspect", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CLEAN
    except click.UsageError as error:
        return _failed(error.format_message(), "see `pinspect --help`")
    except click.ClickException as error:
        return _failed(error.format_message())
    except PinspectError as error:
        return _failed(error.message, error.hint, error.path)
    except OSError as error:
        return _failed(str(error.strerror or error), path=str(error.filename or "output"))
    except Exception as error:
        if os.environ.get("PINSPECT_DEBUG"):
            raise
        return _failed(
            f"this is a bug in pinspect: {type(error).__name__}: {error}",
            "set PINSPECT_DEBUG=1 to see where, and report it with the file's format",
        )


def _failed(message: str, hint: str = "", path: str = "") -> int:
    complain(message, hint, path)
    return EXIT_FAILED
