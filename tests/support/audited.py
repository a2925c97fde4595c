"""Run a command of pinspect over files while an audit hook notes whatever a file could make it do.

    python audited.py COMMAND FOLDER HONEST...

The command runs on each entry of FOLDER in each format, after all of pinspect was imported and ran on the files HONEST.
Prints a JSON object: `events`, [entry, event, arguments] for each event that is not part of reading that entry; `runs`,
[entry, format, exit code, stdout, stderr].
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inspectcli
from inspectcli.cli import run

FORMATS = {
    "inspect": ("terminal", "plain", "markdown", "json", "csv"),
    "check": ("terminal", "plain", "markdown", "json", "sarif", "github", "junit"),
    "diff": ("terminal", "plain", "markdown", "json", "csv"),
    "hparams": ("terminal", "plain", "markdown", "json", "yaml", "csv"),
}
#: Folders in which modules are looked for.
OURS = (os.path.realpath(os.path.dirname(inspectcli.__file__)) + os.sep, *(f"{each}{os.sep}" for each in sys.path))
#: What the interpreter does all the time: attributes, identities, frames, threads, waiting.
INERT = ("object.", "builtins.id", "sys._getframe", "code.__new__", "_thread.", "gc.", "time.sleep", "fcntl.")


class Watch:
    """The hook, and what it noted while it was on."""

    def __init__(self, root: str) -> None:
        self.root = root + os.sep
        self.on = False
        self.entry = ""
        self.events: list[tuple[str, str, str]] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what we do here is not noted
        if not self.is_reading(event, args):
            self.events.append((self.entry, event, repr(args)[:300]))
        self.on = True

    def is_reading(self, event: str, args: tuple[Any, ...]) -> bool:
        """Whether this reads the files of the folder, if need be through libhdf5 in a child of our own."""
        if event.startswith(INERT):
            return True
        if event in ("os.listdir", "os.scandir"):
            return within(args[0], self.root, *OURS)
        if event == "open":
            path, mode, flags = args
            writes = any(c in (mode or "") for c in "wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if isinstance(path, int) or path == os.devnull:  # a pipe to the child, and its stderr
                return True
            return not writes and (within(path, self.root) or is_setting(path))
        if event == "subprocess.Popen":
            executable, command = args[:2]
            return executable == sys.executable and "inspectcli" in command[2] and "hdf5" in command[2]
        return event == "os.kill" and args[0] > 1 and args[1] == signal.SIGKILL  # that child, at its end


def within(path: object, *roots: str) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(roots)


def is_setting(path: object) -> bool:
    """The nearest configuration of pinspect."""
    path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    return path.endswith(f"{os.sep}pyproject.toml")


def runs(command: str, path: Path) -> Iterator[tuple[str, str, int, str, str]]:
    """(entry, format, exit code, stdout, stderr) of each format."""
    paths = [str(path)] * (2 if command == "diff" else 1)
    for form in FORMATS[command]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([command, *paths, "--format", form])
        yield path.name, form, code, out.getvalue(), err.getvalue()


def main(command: str, folder: str, *honest: str) -> None:
    for module in pkgutil.walk_packages(inspectcli.__path__, "inspectcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("tabulate")  # of Markdown, at the first table: equal files have none
    for name in honest:
        list(runs(command, Path(name)))  # imports what the renderers import
    watch = Watch(os.path.realpath(folder))
    sys.addaudithook(watch)
    done = []
    for path in sorted(Path(folder).iterdir()):
        watch.entry, watch.on = path.name, True
        done += list(runs(command, path))
        watch.on = False
    json.dump({"events": watch.events, "runs": done}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
