"""Places and files of this machine."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from inspectcli.errors import DamagedFileError, NotReadableError, UsageError
from inspectcli.storage.location import Entry, EntryKind, Location
from inspectcli.storage.source import ByIdentity, Identity, Source, check_span

if TYPE_CHECKING:
    from typing import BinaryIO

# O_NONBLOCK: opening a FIFO must not wait for a writer. O_BINARY exists on Windows only, the others on POSIX only.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_SEPARATORS = os.sep + (os.altsep or "")
_NO_NAMES = ("", os.curdir, os.pardir)


# -- places ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalPath(Location):
    """A path as the user wrote it. The empty one is the working folder: the parent of a name alone.

    What is found from it, by `join` and `parent`, is bound to the folder that it was found in: of a place to which a
    link leads out of there, nothing is there.
    """

    path: str
    _source: Source | None = field(default=None, repr=False, compare=False)
    _head: bytes = field(default=b"", repr=False, compare=False)
    #: The folder that links may not lead out of; None for what the user named.
    _home: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.path

    @property
    def _here(self) -> str:
        """What the system is asked about."""
        return self.path or os.curdir

    @property
    def name(self) -> str:
        name = os.path.basename(self.path)
        return os.path.basename(os.path.abspath(self._here)) if name in _NO_NAMES else name

    @property
    def parent(self) -> LocalPath:
        path = self.path.rstrip(_SEPARATORS) or self.path
        if os.path.basename(path) not in _NO_NAMES:
            above = os.path.dirname(path)
        elif os.path.isabs(path) and os.path.dirname(path) == path:
            above = path
        else:
            above = os.path.join(path, os.pardir)
        inside = self._home is not None and path != self._home.rstrip(_SEPARATORS)
        return LocalPath(above, _home=self._home if inside else above)

    def join(self, *names: str) -> LocalPath:
        joined = os.path.join(self.path, *names)
        if names == (os.pardir,):
            return LocalPath(joined, _home=joined)
        return LocalPath(joined, _home=self.path if self._home is None else self._home)

    def absolute(self) -> LocalPath:
        home = None if self._home is None else os.path.abspath(self._home or os.curdir)
        return LocalPath(os.path.abspath(self._here), _home=home)

    def exists(self) -> bool:
        return os.path.exists(self._here) and not self.leads_out()

    def is_file(self) -> bool:
        return os.path.isfile(self._here) and not self.leads_out()

    def is_folder(self) -> bool:
        return os.path.isdir(self._here) and not self.leads_out()

    def is_link(self) -> bool:
        return os.path.islink(self._here)

    def leads_out(self) -> bool:
        if self._home is None or self._source is not None:
            return False
        real, home = os.path.realpath(self._here), os.path.realpath(self._home or os.curdir)
        return not any(_is_in(real, folder) for folder in (home, *_blobs(home)))

    def _ensure_inside(self) -> None:
        """Raise NotReadableError if a link leads out."""
        if self.leads_out():
            raise NotReadableError(
                "a symbolic link that leads out of its folder: it is not followed", "name the file itself", self.path
            )

    def real(self) -> LocalPath:
        return LocalPath(os.path.realpath(self._here))

    def is_below(self, folder: Location) -> bool:
        return self.path.startswith(str(folder).rstrip(os.sep) + os.sep)

    def size(self) -> int:
        try:
            status = os.stat(self._here)
        except (OSError, ValueError):
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) and not self.leads_out() else 0

    def identity(self) -> Identity:
        self._ensure_inside()
        try:
            return FileIdentity.of(os.stat(self._here))
        except OSError as error:
            raise not_readable(self.path, error) from None

    def list(self) -> Iterator[Entry]:
        self._ensure_inside()
        try:
            with os.scandir(self._here) as entries:
                yield from (Entry(entry.name, _kind(entry)) for entry in entries)
        except OSError as error:
            raise not_readable(self.path, error) from None

    def open(self) -> Source:
        self._ensure_inside()
        return LocalFile(self.path) if self._source is None else self._source

    def opened(self, source: Source, head: bytes = b"") -> LocalPath:
        return LocalPath(self.path, source, head, self._home)

    def head(self, n: int) -> bytes:
        if n <= len(self._head):
            return self._head[:n]
        if self._source is not None:
            return self._source.read_at(0, min(n, self._source.size))
        self._ensure_inside()
        source = LocalFile(self.path)
        try:
            return source.read_at(0, min(n, source.size))
        finally:
            source.close()

    def on_disk(self) -> str:
        self._ensure_inside()
        return os.path.abspath(self._here)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _blobs(folder: str) -> Iterator[str]:
    """Of a folder in a cache of Hugging Face, where the links of its snapshots lead: `<model>/blobs`.

    <model>/snapshots/<commit>/config.json -> <model>/blobs/<hash>
    """
    head, snapshots, _ = f"{folder}{os.sep}".rpartition(f"{os.sep}snapshots{os.sep}")
    if snapshots:
        yield os.path.join(head, "blobs")


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    if entry.is_symlink():
        return EntryKind.LINK
    if entry.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    return EntryKind.FILE if entry.is_file(follow_symlinks=False) else EntryKind.OTHER


# -- files ----------------------------------------------------------------------------------------------


class FileIdentity(NamedTuple):
    """What tells a file from another one, and from what it was before somebody wrote to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class LocalFile(ByIdentity):
    """A regular file, opened when this is made. Pickles as its path and identity; unpickling opens it again.

    Args:
        path: of the file.
        identity: what it was where it was opened first; what it is now, if that is not known.

    Raises:
        NotReadableError: there is no regular file that we may read.
    """

    def __init__(self, path: str, identity: FileIdentity | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd = _open_regular(path)
        status = os.fstat(self._fd)
        self._size = status.st_size
        self._identity = identity or FileIdentity.of(status)
        self._absolute = path if os.path.isabs(path) else os.path.abspath(path)
        # Holes of a sparse file are zeros: reading them would push everything else out of the page cache.
        self._sparse = hasattr(os, "SEEK_HOLE") and getattr(status, "st_blocks", 1 << 62) * 512 < status.st_size
        self._hole = (0, 0)

    def __reduce__(self) -> tuple[type[LocalFile], tuple[str, FileIdentity]]:
        return LocalFile, (self.path, self._identity)

    def __repr__(self) -> str:
        return f"LocalFile({self.path!r})"

    @property
    def name(self) -> str:
        return self.path

    @property
    def size(self) -> int:
        return self._size

    @property
    def identity(self) -> FileIdentity:
        return self._identity

    def read_at(self, offset: int, n: int) -> bytes:
        check_span(self, offset, n)
        buffer = bytearray(n)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        check_span(self, offset, len(buffer))
        if self._sparse and self._in_hole(offset, offset + len(buffer)):
            buffer[:] = bytes(len(buffer))
            return
        done = 0
        while done < len(buffer):
            got = self._read_some(offset + done, buffer[done:])
            if not got:
                raise DamagedFileError("the file became shorter while it was read", path=self.path)
            done += got

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        if sys.platform != "win32":
            return os.preadv(self._fd, [buffer], offset)
        with self._lock:  # Windows: one file position for all threads
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _in_hole(self, start: int, end: int) -> bool:
        """Whether nothing was ever written from `start` to `end`."""
        hole = self._hole
        if sys.platform != "win32" and not hole[0] <= start < hole[1]:
            try:
                data = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:  # no data up to the end; or a file system that cannot tell
                data = os.fstat(self._fd).st_size if error.errno == errno.ENXIO else start
            self._hole = hole = (start, data)
        return end <= hole[1]

    def changed(self) -> bool:
        """Whether the path leads to other bytes by now: written to, replaced or removed."""
        try:
            return FileIdentity.of(os.stat(self._absolute)) != self._identity
        except OSError:
            return True

    def close(self, _close: Callable[[int], None] = os.close) -> None:  # at exit, `os` may be gone before us
        if self._fd >= 0:
            _close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def _open_regular(path: str) -> int:
    """A descriptor of a regular file; FIFOs, devices and folders are refused without being read."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise not_readable(path, error) from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise NotReadableError(
            f"not a regular file: found {_KINDS.get(stat.S_IFMT(mode), 'a special file')}", path=path
        )
    return fd


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}

_OS_MESSAGES = {
    errno.ENOENT: ("no such file or directory", "check the spelling, or list the folder"),
    errno.EACCES: ("permission denied", "ask its owner for read access"),
    errno.EPERM: ("permission denied", "ask its owner for read access"),
    errno.ELOOP: ("symbolic links that lead back to themselves", "name the file itself"),
    errno.ENXIO: ("not a regular file: found a socket or a device without a driver", ""),
    errno.ENAMETOOLONG: ("the name is too long for this file system", ""),
}


def not_readable(path: str, error: OSError) -> NotReadableError:
    """The user's words for an OSError at opening."""
    message, hint = _OS_MESSAGES.get(error.errno or 0, (error.strerror or "cannot be opened", ""))
    return NotReadableError(message, hint, path)


# -- files that people write for us ---------------------------------------------------------------------


def read_settings(path: str, limit: int) -> bytes:
    """The bytes of a configuration, a baseline, a list of names: at most one more than `limit`. A pipe will do.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(limit + 1)


def write_settings(path: str, text: str | Iterable[str]) -> None:
    """Write one, or a report, as UTF-8 with plain line ends: the whole text, or nothing of it.

    Args:
        path: of the file.
        text: all of it, or its pieces in turn.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
        UsageError: a symbolic link: what it leads to is not written.
    """
    pieces = (text,) if isinstance(text, str) else text
    if _is_written_in_place(path):
        with open(path, "wb") as stream:
            _write_all(stream, pieces)
        return
    if os.path.islink(path):
        raise UsageError("a symbolic link: nothing is written through one", "name the file that it leads to", path)
    folder, name = os.path.split(path)
    # Not by `tempfile`, whose files only their owner may read.
    fresh = os.path.join(folder, f".{name[:100]}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with open(fresh, "xb") as file:
            _write_all(file, pieces)
            os.fsync(file.fileno())
        with suppress(OSError):  # the first writing
            os.chmod(fresh, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(fresh, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh)
        raise


def _write_all(file: BinaryIO, pieces: Iterable[str]) -> None:
    for piece in pieces:
        file.write(piece.encode("utf-8", "backslashreplace"))
    file.flush()


def _is_written_in_place(path: str) -> bool:
    """Whether it is no file that could be half written: a pipe, a terminal, `/dev/stdout` wherever that leads."""
    if os.path.abspath(path).startswith(("/dev/", "/proc/")):
        return True
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))
