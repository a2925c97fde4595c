"""Child processes that run libhdf5: started with limits, spoken to over pipes. A crash there is an error here."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from inspectcli.errors import DamagedFileError, LimitError, MissingLibraryError, PinspectError
from inspectcli.storage.local import LocalFile
from inspectcli.storage.memory import place
from inspectcli.storage.source import Source
from inspectcli.tensors.codecs import Codec, Segment, register

#: Time in seconds for the listing of an ordinary file, for that of a large one, and for one block of values.
LISTING_SECONDS, LARGE_LISTING_SECONDS, BLOCK_SECONDS = 9.0, 60.0, 60.0
LARGE_FILE = 64 << 20
MEMORY = 2 << 30
CPU_SECONDS = 600
#: Largest file, in bytes, that goes through a pipe because it is not on disk: the child holds it in memory.
MAX_PIPED = 512 << 20

_CHILD = str(Path(__file__).with_name("child.py"))
_ERROR = 0xFFFFFFFF


def _limits() -> None:
    """Limit memory and processor time, where the system can. Runs in the child, before it starts Python."""
    if sys.platform == "win32":
        return
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def command(path: str, start: int, size: int) -> list[str]:
    """Return the command that starts the child. `-E` keeps the environment out."""
    return [sys.executable, "-E", _CHILD, path, str(start), str(size)]


class Hdf5Process:
    """A child process with one open file. Close it, or let it end with this process.

    Raises:
        PinspectError: the file cannot be listed.
    """

    def __init__(self, source: Source) -> None:
        if importlib.util.find_spec("h5py") is None:
            raise MissingLibraryError("HDF5 files need h5py", "pip install h5py")
        outer, start = place(source, 0)
        path = outer.path if isinstance(outer, LocalFile) else "-"
        if path == "-" and source.size > MAX_PIPED:
            raise LimitError(
                f"an HDF5 file of {source.size:,} bytes inside another file: at most {MAX_PIPED >> 20} MiB"
            )
        environment = {
            **os.environ,
            "HDF5_PLUGIN_PATH": "::",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            command(path, start, source.size),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            preexec_fn=_limits if os.name == "posix" else None,
        )
        self._late = False
        self.busy = False
        seconds = LARGE_LISTING_SECONDS if source.size > LARGE_FILE else LISTING_SECONDS
        try:
            with self._watch(seconds):
                if path == "-":
                    self._send_file(source)
                self.listing: dict[str, Any] = json.loads(self._frame() or b"{}")
        except BaseException:
            self.close()
            raise

    def stream(self, dataset: str) -> Iterator[bytes]:
        """Yield the elements of a dataset as little-endian bytes in C order, in blocks of at most 1 MiB.

        Raises:
            DamagedFileError: libhdf5 cannot decode them, or crashes.
            LimitError: a block takes too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(dataset).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        self.busy, complete = True, False
        try:
            while True:
                with self._watch(BLOCK_SECONDS):
                    block = self._frame()
                if not block:
                    complete = True
                    return
                yield block
        finally:
            self.busy = False
            if not complete:  # the caller stopped early: the rest would be the answer to the next request
                self.close()

    def close(self) -> None:
        with suppress(OSError):
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def _send_file(self, source: Source) -> None:
        assert self._process.stdin is not None
        try:
            for start in range(0, source.size, 1 << 20):
                self._process.stdin.write(source.read_at(start, min(1 << 20, source.size - start)))
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def _frame(self) -> bytes:
        n = int.from_bytes(self._read(4), "little")
        if n != _ERROR:
            return self._read(n)
        message = self._read(int.from_bytes(self._read(4), "little")).decode("utf-8", "replace")
        raise _explained(message)

    def _read(self, n: int) -> bytes:
        pipe: IO[bytes] | None = self._process.stdout
        assert pipe is not None
        data = pipe.read(n)
        if len(data) < n:
            raise self._died()
        return data

    def _died(self) -> PinspectError:
        code = self._process.wait()
        if self._late:
            return LimitError("libhdf5 did not come to an end: the file is damaged, or made to waste time")
        if code < 0:
            return DamagedFileError(
                f"libhdf5 crashed on this file (signal {-code}): it is damaged", "get the file again"
            )
        return DamagedFileError(f"libhdf5 gave up on this file (exit {code}): it is damaged", "get the file again")

    def _watch(self, seconds: float) -> _Watch:
        return _Watch(self, seconds)

    def _expire(self) -> None:
        self._late = True
        with suppress(OSError):
            self._process.kill()


class _Watch:
    """Context manager that kills the child if its body takes too long."""

    def __init__(self, owner: Hdf5Process, seconds: float) -> None:
        self._timer = threading.Timer(seconds, owner._expire)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *ignored: object) -> None:
        self._timer.cancel()


def _explained(message: str) -> PinspectError:
    """Return the error for a message of libhdf5, shortened to what helps a user."""
    kind, _, text = message.partition(": ")
    if kind == "MemoryError" or "Unable to allocate" in text:
        return LimitError("reading it needs more memory than the child process may have")
    if "objects in the file" in text or "too long" in text:
        return LimitError(text)
    if "already open for" in text:
        return DamagedFileError(
            "the file is marked as open for writing: its writer was killed before it closed it, or is still at work",
            "wait for the writer; if there is none, clear the mark with `h5clear -s FILE`",
        )
    return DamagedFileError(f"libhdf5 cannot read it: {text[:200]}", "get the file again")


# -- two children at a time -----------------------------------------------------------------------------

#: Two, as two files may be compared. The one that was used last is at the end.
_MOST_OPEN = 2
_open: list[tuple[Source, Hdf5Process]] = []


def process_for(source: Source) -> Hdf5Process:
    """Return a child of this opening of a file, or start one; the least recently used one is closed.

    A child in the middle of a dataset is left alone: a checkpoint may be compared with itself.
    """
    found = next((entry for entry in _open if entry[0] is source and not entry[1].busy), None)
    if found is not None:
        _open.remove(found)
        if found[1]._process.poll() is None:
            _open.append(found)
            return found[1]
        found[1].close()
    while len(_open) >= _MOST_OPEN:
        _open.pop(0)[1].close()
    child = Hdf5Process(source)
    _open.append((source, child))
    return child


def close_all() -> None:
    while _open:
        _open.pop()[1].close()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # a worker that was forked has children of its own


def _decode(segment: Segment, workspace: memoryview) -> Iterator[bytes]:
    yield from process_for(segment.source).stream(segment.dataset)


#: Chunked, compressed or converted by libhdf5: the child decodes the dataset that a segment names.
HDF5 = register(Codec("hdf5", _decode, is_serial=True))
