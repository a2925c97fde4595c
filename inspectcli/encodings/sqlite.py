"""Tables of an untrusted SQLite file: read-only, immutable, one table at a time, bounded in time, rows and bytes.

Nothing but plain columns of plain tables is read, without joins, functions or views: a hostile schema has nothing to
work with. `immutable` means that no lock, journal or shared memory is made beside the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

from inspectcli.errors import DamagedFileError, LimitError
from inspectcli.storage.location import Location
from inspectcli.storage.source import ensure_unchanged

MAGIC = b"SQLite format 3\x00"
#: For all queries on one file.
MAX_SECONDS = 10.0
MAX_ROWS = 1_000_000
#: Bytes of one value.
MAX_LENGTH = 16 << 20
#: SQLite instructions between two looks at the clock.
_STEPS = 10_000

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA}


class Database:
    """A SQLite file, open for reading. Use as a context manager.

    Raises:
        DamagedFileError: SQLite says that the file is broken.
        LimitError: a limit of this module was passed.
        ChangedFileError: at the end: it was written to meanwhile.
    """

    def __init__(self, location: Location) -> None:
        self._file = location.open()  # refuses what is no regular file, in our words
        self._deadline = time.monotonic() + MAX_SECONDS
        self._db = sqlite3.connect(
            f"file:{quote(location.on_disk())}?mode=ro&immutable=1", uri=True, check_same_thread=False
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
        self._file.close()
        if kind is None:
            ensure_unchanged([self._file])

    def tables(self) -> frozenset[str]:
        """Names of the plain tables: no views, no virtual ones."""
        found = self._query("SELECT name, type, sql FROM sqlite_master")
        return frozenset(
            str(name) for name, kind, sql in found if kind == "table" and not str(sql).upper().startswith("CREATE VIRT")
        )

    def columns(self, table: str) -> tuple[str, ...]:
        """The stored columns of a table; computed ones are left out."""
        return tuple(str(row[1]) for row in self._query(f"PRAGMA table_xinfo({_quoted(table)})") if row[6] == 0)

    def rows(self, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Columns of a table, in the order they were written; a column that older versions lack is None.

        Empty if there is no such table.
        """
        if table not in self.tables():
            return []
        stored = self.columns(table)
        wanted = ", ".join(_quoted(column) if column in stored else "NULL" for column in columns)
        return self._query(f"SELECT {wanted} FROM {_quoted(table)}")

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            found = self._db.execute(sql).fetchmany(MAX_ROWS + 1)
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # the names of damaged columns are decoded
            if time.monotonic() > self._deadline:
                raise LimitError(f"the database took longer than {MAX_SECONDS:g} s") from None
            raise DamagedFileError(f"SQLite cannot read the database: {error}") from None
        if len(found) > MAX_ROWS:
            raise LimitError(f"a table of more than {MAX_ROWS:,} rows")
        return found


def has_tables(location: Location, head: bytes, *tables: str) -> bool:
    """Whether this is a SQLite file with these tables; not if it is broken."""
    if not head.startswith(MAGIC):
        return False
    try:
        with Database(location) as database:
            return database.tables() >= set(tables)
    except DamagedFileError:
        return all(table.encode() in head for table in tables)  # so that `read` can say what is wrong
    except LimitError:
        return False


def unmerged(location: Location) -> tuple[str, ...]:
    """A note if SQLite keeps newer changes in a file beside this one, which is not read."""
    beside = location.parent.join(f"{location.name}-wal")
    return (f"newer changes in {beside.name} are not read",) if beside.size() else ()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    """Plain reading only: `inner` names the view or trigger that asks."""
    allowed = action in _ALLOWED and inner is None
    if action == sqlite3.SQLITE_PRAGMA:
        allowed = first == "table_xinfo"
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
