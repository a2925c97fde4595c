from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectcli.encodings import sqlite as _sqlite
from inspectcli.encodings.sqlite import Database, has_tables, unmerged
from inspectcli.errors import DamagedFileError, LimitError, NotReadableError, PinspectError
from inspectcli.storage import locate


def database(path: Path, *statements: str) -> str:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return str(path)


def test_rows_in_the_order_of_the_columns_asked_for(tmp_path: Path) -> None:
    path = database(tmp_path / "a b%?#.db", "CREATE TABLE t (x, y)", "INSERT INTO t VALUES (1, 'é'), (2, NULL)")
    with Database(locate(path)) as db:
        assert db.tables() == {"t"}
        assert db.rows("t", ("y", "x", "of_a_later_version")) == [("é", 1, None), (None, 2, None)]
        assert db.rows("absent", ("x",)) == []


def test_nothing_is_made_beside_the_file(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "PRAGMA journal_mode=WAL", "CREATE TABLE t (x)")
    before = sorted(p.name for p in tmp_path.iterdir())
    with Database(locate(path)) as db:
        db.rows("t", ("x",))
        assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_changes_that_wait_in_the_log_are_named(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "CREATE TABLE t (x)")
    assert unmerged(locate(path)) == ()
    (tmp_path / "a.db-wal").write_bytes(b"x")
    assert unmerged(locate(path)) == ("newer changes in a.db-wal are not read",)


def test_views_virtual_tables_and_computed_columns_are_not_there(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        "CREATE VIEW v AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
        "CREATE TABLE t (x, computed AS (hex(x)) VIRTUAL)",
        "INSERT INTO t VALUES (1)",
    )
    with Database(locate(path)) as db:
        assert db.tables() == {"t"}
        assert db.rows("v", ("n",)) == []
        assert db.rows("t", ("x", "computed")) == [(1, None)]


def test_only_reading_is_allowed(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    with Database(locate(path)) as db:
        for statement in (
            "INSERT INTO t VALUES (2)",
            "ATTACH 'other.db' AS other",
            "SELECT load_extension('x')",
            "SELECT randomblob(10)",
            "PRAGMA journal_mode = DELETE",
        ):
            with pytest.raises(DamagedFileError, match="not authorized"):
                db._query(statement)


def test_a_query_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "_STEPS", 10)
    path = database(
        tmp_path / "a.db",
        "CREATE TABLE t (x)",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000) INSERT INTO t SELECT n FROM c",
    )
    with Database(locate(path)) as db:
        monkeypatch.setattr(db, "_deadline", 0.0)
        with pytest.raises(LimitError, match=r"longer than 10 s"):
            db.rows("t", ("x",))


def test_a_table_of_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "MAX_ROWS", 2)
    path = database(tmp_path / "a.db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1), (2), (3)")
    with Database(locate(path)) as db, pytest.raises(LimitError, match="more than 2 rows"):
        db.rows("t", ("x",))


def test_names_cannot_break_out(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", 'CREATE TABLE "a""; DROP" ("x""y")', 'INSERT INTO "a""; DROP" VALUES (5)')
    with Database(locate(path)) as db:
        assert db.rows('a"; DROP', ('x"y',)) == [(5,)]


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.db", tmp_path):
        with pytest.raises(NotReadableError):
            Database(locate(path))


def test_recognized_by_its_tables(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "CREATE TABLE params (x)", "CREATE TABLE runs (x)")
    head = Path(path).read_bytes()
    assert has_tables(locate(path), head, "params", "runs")
    assert not has_tables(locate(path), head, "params", "studies")
    assert not has_tables(locate(path), b"params runs", "params", "runs")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("db") / "a.db"
    rows = ", ".join(f"({n}, '{'v' * n}')" for n in range(60))
    database(
        path, "PRAGMA page_size=512", "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT)", f"INSERT INTO t VALUES {rows}"
    )
    return path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_an_error_of_ours(sample: bytes, tmp_path: Path, data: st.DataObject) -> None:
    broken = bytearray(sample[: data.draw(st.integers(0, len(sample)))])
    for _ in range(data.draw(st.integers(0, 8))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "broken.db"
    path.write_bytes(broken)
    with contextlib.suppress(PinspectError), Database(locate(path)) as db:
        db.rows("t", ("x", "y"))
