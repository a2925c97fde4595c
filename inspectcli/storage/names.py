"""How places on this machine are called in reports: text in, text out, and no look at what is there."""

from __future__ import annotations

import os


def file_name(path: str) -> str:
    """`model.pt` of `runs/model.pt`; empty for `runs/`."""
    return os.path.basename(path)


def relative(path: str, folder: str) -> str:
    """The way from a folder to a path, with slashes; the whole path if there is none: another drive of Windows."""
    try:
        found = os.path.relpath(path or os.curdir, folder or os.curdir)
    except ValueError:
        found = os.path.abspath(path)
    return found.replace(os.sep, "/")


def from_here(path: str) -> str:
    """From the working folder, where the path lies below it: CI matches paths from the root of the repository."""
    if os.path.isabs(path):
        home = os.getcwd()
        if os.path.normcase(path).startswith(os.path.normcase(home.rstrip(os.sep) + os.sep)):
            path = os.path.relpath(path, home)
    else:
        path = os.path.normpath(path)
    return path.replace(os.sep, "/")


def uri(path: str) -> str:
    """The path as a URI, a relative one as a relative reference; `quote` hides a colon too, which would be a scheme."""
    if os.path.isabs(path):
        from pathlib import Path

        return Path(path).as_uri()
    from urllib.parse import quote

    return quote(os.fsencode(path))
