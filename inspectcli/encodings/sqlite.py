"""Tables of an untrusted SQLite file, read one at a time, with limits on time, rows and bytes.

Only stored columns of plain tables are read, without joins, functions or views, which leaves a hostile schema nothing
to work with. The file is opened as `immutable`: no lock, journal or shared memory is created beside it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.storage.local import LocalFile

MAGIC = b"SQLite format 3\x00"
#: Time for all queries on one file, in seconds.
MAX_SECONDS = 10.0
MAX_ROWS = 1_000_000
#: Largest value, in bytes.
MAX_LENGTH = 16 << 20
#: SQLite instructions between two checks of the clock.
_STEPS = 10_000

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA}


class Database:
    """A SQLite file, open for reading. Use as a context manager.

    Raises:
        DamagedFileError: SQLite calls the file damaged.
        LimitError: a limit of this module was exceeded.
        NotReadableError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: str) -> None:
        LocalFile(path).close()  # refuses what is not a regular file, with our message
        self._deadline = time.monotonic() + MAX_SECONDS
        self._db = sqlite3.connect(
            f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._db.text_factory = lambda data: data.decode("utf-8", "replace")
        self._db.set_progress_handler(lambda: int(time.monotonic() > self._deadline), _STEPS)
        if hasattr(self._db, "setlimit"):  # Python 3.11
            self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LENGTH)
        self._query("PRAGMA trusted_schema = OFF")
        self._query("PRAGMA cell_size_check = ON")
        self._db.set_authorizer(_authorize)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._db.close()

    def tables(self) -> frozenset[str]:
        """Return the names of the plain tables, without views and virtual tables."""
        found = self._query("SELECT name, type, sql FROM sqlite_master")
        return frozenset(
            str(name) for name, kind, sql in found if kind == "table" and not str(sql).upper().startswith("CREATE VIRT")
        )

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the stored columns of a table; generated columns are left out."""
        return tuple(str(row[1]) for row in self._query(f"PRAGMA table_xinfo({_quoted(table)})") if row[6] == 0)

    def rows(self, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return rows of a table, in the order they were written; empty if there is no such table.

        A column that the table lacks (an older version of the tool wrote it) is None.
        """
        if table not in self.tables():
            return []
        stored = self.columns(table)
        wanted = ", ".join(_quoted(column) if column in stored else "NULL" for column in columns)
        return self._query(f"SELECT {wanted} FROM {_quoted(table)}")

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            found = self._db.execute(sql).fetchmany(MAX_ROWS + 1)
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # damaged names of columns do not decode
            if time.monotonic() > self._deadline:
                raise LimitError(f"the database took longer than {MAX_SECONDS:g} s") from None
            raise DamagedFileError(f"SQLite cannot read the database: {error}") from None
        if len(found) > MAX_ROWS:
            raise LimitError(f"a table of more than {MAX_ROWS:,} rows")
        return found


def has_tables(path: str, head: bytes, *tables: str) -> bool:
    """Return whether this is a SQLite file with all these tables; one that is damaged may name them in `head`."""
    if not head.startswith(MAGIC):
        return False
    try:
        with Database(path) as database:
            return database.tables() >= set(tables)
    except DamagedFileError:
        return all(table.encode() in head for table in tables)  # so that `read` can say what is wrong
    except LimitError:
        return False


def unmerged(path: str) -> tuple[str, ...]:
    """Return a note if a write-ahead log beside the file holds newer changes, which are not read; else nothing."""
    beside = f"{path}-wal"
    try:
        waiting = os.path.getsize(beside) > 0
    except OSError:
        return ()
    return (f"newer changes in {os.path.basename(beside)} are not read",) if waiting else ()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    """Authorize plain reads only. `inner` names the view or trigger that asks."""
    allowed = action in _ALLOWED and inner is None
    if action == sqlite3.SQLITE_PRAGMA:
        allowed = first == "table_xinfo"
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
