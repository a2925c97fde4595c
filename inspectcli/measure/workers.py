"""A pool of threads for the tensors of a file. Calls of progress are serialized; the first exception ends the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

#: Called with the bytes read since the last call.
Progress = Callable[[int], None]

Job = TypeVar("Job")

#: Below this many bytes, starting threads takes longer than they save.
_WORTH_THREADS = 4 << 20
#: Each holds blocks and what is computed from them, some 10 MiB.
_MOST_THREADS = 4


class WorkerPool(Generic[Job]):
    """The calling thread and its helpers, which take jobs from a list.

    Args:
        jobs: (bytes to read, job) of each. The largest are done first, so that no thread works long after the others.
        progress: told how many bytes were read; never by two threads at once.
    """

    def __init__(self, jobs: Iterable[tuple[int, Job]], progress: Progress | None) -> None:
        self._jobs = sorted(jobs, key=lambda pair: pair[0])  # taken from the end
        self._progress = progress
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, worker: Callable[[], Callable[[Job], None]]) -> None:
        """Do all jobs; raises what a thread raised.

        `worker` is called once in each thread, and returns what does a job there: its buffers are its own.
        """
        size = sum(nbytes for nbytes, _ in self._jobs)
        threads = min(os.cpu_count() or 1, _MOST_THREADS, len(self._jobs)) if size >= _WORTH_THREADS else 1
        helpers = [threading.Thread(target=self._help, args=(worker,), daemon=True) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        try:
            self._work(worker())
            for helper in helpers:
                helper.join()
        except BaseException as failure:  # Ctrl-C too: the others end with their block
            self._failure = failure
            raise
        if self._failure is not None:
            raise self._failure

    def advance(self, nbytes: int) -> None:
        """To be called by a job as it reads: tells the progress, or ends the job if another one failed."""
        if self._failure is not None:
            raise self._failure
        if self._progress is not None:
            with self._lock:
                self._progress(nbytes)

    def _help(self, worker: Callable[[], Callable[[Job], None]]) -> None:
        try:
            self._work(worker())
        except BaseException as failure:
            self._failure = failure

    def _work(self, do: Callable[[Job], None]) -> None:
        while True:
            try:
                _, job = self._jobs.pop()
            except IndexError:
                return
            do(job)
