"""Where bytes come from: text -> Location -> Source."""

from __future__ import annotations

import os
import re

from inspectcli.errors import NotReadableError
from inspectcli.storage.local import LocalPath
from inspectcli.storage.location import Location

__all__ = ["Location", "locate", "size_of"]

#: Longer than one letter, which is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def locate(place: str | os.PathLike[str] | Location) -> Location:
    """The place that a text names; the one function that makes a Location of text.

    Raises:
        NotReadableError: the text is empty, or has a scheme: `hf://`, `https://`, `s3://`.
    """
    if isinstance(place, Location):
        return place
    path = os.fspath(place)
    if not path:
        raise NotReadableError("no such file or directory", "check the spelling, or list the folder")
    scheme = _SCHEME.match(path)
    if scheme is not None:
        raise NotReadableError(
            f"{scheme[0]} addresses are not supported: only local files and folders are read",
            "download it, and name the file",
            path,
        )
    return LocalPath(path)


def size_of(path: str) -> int:
    """Bytes of the regular file of that name; 0 if there is none."""
    try:
        return locate(path).size()
    except NotReadableError:
        return 0
