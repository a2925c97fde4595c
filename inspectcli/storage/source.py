"""Where bytes come from: a Source answers `size` and `read_at`, and that is all a reader may ask."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from inspectcli.errors import DamagedFileError, NotReadableError, TruncatedFileError

# O_NONBLOCK: opening a FIFO must not wait for a writer. O_BINARY exists on Windows only, the others on POSIX only.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Source(Protocol):
    """Random access to bytes that stay as they are while we read."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def __hash__(self) -> int: ...

    def read_at(self, offset: int, n: int) -> bytes:
        """Exactly `n` bytes from `offset`, or TruncatedFileError."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, or TruncatedFileError."""
        ...


def _check_span(source: Source, offset: int, n: int) -> None:
    if offset < 0 or n < 0 or offset + n > source.size:
        missing = offset + n - source.size
        raise TruncatedFileError(
            f"{n:,} bytes wanted at byte {offset:,}, the file ends at {source.size:,}: {missing:,} bytes are missing",
            path=source.name,
        )


class LocalFile:
    """A regular file, opened on first use. Pickles as its path alone, so a reference to it can travel."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd = _open_regular(path)
        status = os.fstat(self._fd)
        self._size = status.st_size
        self._mtime_ns = status.st_mtime_ns
        # Holes of a sparse file are zeros: reading them would push everything else out of the page cache.
        self._sparse = hasattr(os, "SEEK_HOLE") and getattr(status, "st_blocks", 1 << 62) * 512 < status.st_size
        self._hole = (0, 0)

    def __reduce__(self) -> tuple[type[LocalFile], tuple[str]]:
        return LocalFile, (self.path,)

    def __repr__(self) -> str:
        return f"LocalFile({self.path!r})"

    @property
    def name(self) -> str:
        return self.path

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, n: int) -> bytes:
        _check_span(self, offset, n)
        buffer = bytearray(n)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        _check_span(self, offset, len(buffer))
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
        """Whether somebody wrote to the file since it was opened."""
        status = os.fstat(self._fd)
        return (status.st_size, status.st_mtime_ns) != (self._size, self._mtime_ns)

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


@dataclass(frozen=True, eq=False)
class Memory:
    """Bytes that are already here: a live tensor, or data held inside a pickle."""

    name: str
    data: bytes | memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, n: int) -> bytes:
        _check_span(self, offset, n)
        return bytes(self.data[offset : offset + n])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        _check_span(self, offset, len(buffer))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def __reduce__(self) -> tuple[type[Memory], tuple[str, bytes]]:
        return Memory, (self.name, bytes(self.data))


@dataclass(frozen=True, eq=False)
class Window:
    """A range of another source, as a source of its own: an archive stored inside an archive."""

    base: Source
    start: int
    size: int

    @property
    def name(self) -> str:
        return self.base.name

    def read_at(self, offset: int, n: int) -> bytes:
        _check_span(self, offset, n)
        return self.base.read_at(self.start + offset, n)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        _check_span(self, offset, len(buffer))
        self.base.read_into(self.start + offset, buffer)


def place(source: Source, offset: int) -> tuple[Source, int]:
    """The same byte as an offset in the outermost source: windows are looked through."""
    while isinstance(source, Window):
        offset += source.start
        source = source.base
    return source, offset
