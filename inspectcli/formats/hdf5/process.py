"""Start, bound and talk to the child process that runs libhdf5: a crash there is a message here."""

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

#: Seconds: of a listing of a file of ordinary size, of a large one, and of one block of values.
LISTING_SECONDS, LARGE_LISTING_SECONDS, BLOCK_SECONDS = 9.0, 60.0, 60.0
LARGE_FILE = 64 << 20
MEMORY = 2 << 30
CPU_SECONDS = 600
#: A file that is not on disk goes through a pipe, and is held in the child's memory.
MAX_PIPED = 512 << 20

_CHILD = str(Path(__file__).with_name("child.py"))
_ERROR = 0xFFFFFFFF


def _limits() -> None:
    """In the child, before it becomes Python: bounds on memory and time where the system has them."""
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
    """How the child is started. `-S` would lose site-packages; `-s -E` keep the environment out."""
    return [sys.executable, "-E", _CHILD, path, str(start), str(size)]


class Hdf5Process:
    """One open file in one child. Close it, or let it end with us."""

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
        """The elements of a dataset in C order, little-endian, in blocks of at most 1 MiB."""
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
            if not complete:  # somebody has seen enough: the rest in the pipe is no answer to the next question
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
    """Kills the child if the block takes longer."""

    def __init__(self, owner: Hdf5Process, seconds: float) -> None:
        self._timer = threading.Timer(seconds, owner._expire)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *ignored: object) -> None:
        self._timer.cancel()


def _explained(message: str) -> PinspectError:
    """libhdf5's words, shortened to what a user can act on."""
    kind, _, text = message.partition(": ")
    if kind == "MemoryError" or "Unable to allocate" in text:
        return LimitError("reading it needs more memory than the child process may have")
    if "objects in the file" in text or "too long" in text:
        return LimitError(text)
    return DamagedFileError(f"libhdf5 cannot read it: {text[:200]}", "get the file again")


# -- two children at a time -----------------------------------------------------------------------------

#: Two, as two files may be compared; the one that was used last stands at the end.
_MOST_OPEN = 2
_open: list[tuple[Source, Hdf5Process]] = []


def process_for(source: Source) -> Hdf5Process:
    """A child that has this source open and is not in the middle of a dataset: a file may be compared with itself.

    Of more than two the one that was not used for longest is closed.
    """
    found = next((entry for entry in _open if entry[0] == source and not entry[1].busy), None)
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
