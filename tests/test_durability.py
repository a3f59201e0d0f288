"""What each database is told to do so that an acknowledged event stays, and what its errors never show."""

import sqlite3
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from eventlog import dialects, errors
from eventlog.database import Database
from eventlog.dialects import PostgreSQL, SQLite, dialect_for, lock_key
from eventlog.integrity import verify_log
from eventlog.log import append, read_stream
from projections.inline import InlineReadModels
from tests.builders import appended, failed, offer, proposal, requested, run, shown, started, tell
from tests.postgres import GivenServer

SECRET = "geheim-4711"


def pragma(database: Database, name: str) -> object:
    with database.write() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_sqlite_waits_for_the_disk_at_every_commit(sqlite: Database) -> None:
    assert pragma(sqlite, "synchronous") == 2  # FULL
    assert pragma(sqlite, "foreign_keys") == 1


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 50, 12), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True),
        ((3, 52, 0), True), ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_the_write_ahead_log_is_used_only_where_sqlites_reset_of_it_is_sound(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], sound: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert pragma(sqlite, "journal_mode") == ("wal" if sound else "truncate")


def test_a_file_works_in_either_journal_mode(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, version in enumerate([(3, 51, 3), (3, 40, 0), (3, 51, 3)]):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        tell(sqlite, f"job-{number}", requested())
        sqlite.close()
    assert [row[0] for row in sqlite.page(text("SELECT position FROM events"))] == [1, 2, 3]  # type: ignore[arg-type]


def test_writers_take_sqlites_lock_at_once_and_readers_take_none(sqlite: Database) -> None:
    path = sqlite.dialect.where()
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with sqlite.read():
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        with sqlite.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")


def test_readers_wait_inside_sqlite_and_writers_do_not(sqlite: Database) -> None:
    waits = []
    for transaction in (sqlite.read, sqlite.write, sqlite.read):  # all three on the same connection
        with transaction() as connection:
            waits.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())
    assert waits == [5_000, 0, 5_000]


def test_whoever_waits_for_sqlites_lock_too_long_is_told_who_holds_it(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "BUSY_PATIENCE_SECONDS", 0.0)
    with closing(sqlite3.connect(sqlite.dialect.where(), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.DatabaseBusy, match="Another program holds it"):
            tell(sqlite, "job-1", requested())
    tell(sqlite, "job-1", requested())


def test_postgresql_waits_for_the_disk_and_reads_what_is_committed(postgresql: Database) -> None:
    with ExitStack() as stack:
        for connection in (stack.enter_context(postgresql.read()), stack.enter_context(postgresql.write())):
            assert connection.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
def test_an_append_waits_for_the_disk_whatever_the_default_of_the_role(
    postgresql: Database, default: str, used: str
) -> None:
    set_default(postgresql, f"synchronous_commit = {default}")
    with postgresql.write() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == default  # the control
        append(connection, postgresql.dialect, [proposal("job-1", requested())], InlineReadModels(postgresql))
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == used


@pytest.mark.parametrize(
    "default",
    [
        "datestyle = 'SQL, DMY'", "datestyle = 'German'", "client_encoding = 'LATIN1'", "client_encoding = 'SQL_ASCII'",
        "timezone = 'America/St_Johns'", "bytea_output = 'escape'", "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'", "search_path = enrichlog, public",
    ],
)  # fmt: skip
def test_a_roles_defaults_change_nothing(postgresql: Database, default: str) -> None:
    set_default(postgresql, default)
    check_that_what_is_told_is_read(postgresql)


@pytest.mark.pooled
@pytest.mark.parametrize(
    "left",
    [
        "datestyle = 'SQL, DMY'", "client_encoding = 'LATIN1'", "timezone = 'America/St_Johns'",
        "bytea_output = 'escape'", "standard_conforming_strings = off",
        "SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "lock_timeout = '1ms'",
    ],
)  # fmt: skip
def test_what_another_client_of_a_pooler_left_on_the_session_changes_nothing(postgresql: Database, left: str) -> None:
    run(postgresql, f"SET {left}")  # our pool has this one session, which it gives to the next transaction as it is
    check_that_what_is_told_is_read(postgresql)


def check_that_what_is_told_is_read(postgresql: Database) -> None:
    message = "Größe 😀 € \\ ' \" {}"
    *_, end = appended(tell(postgresql, "job-1", requested(), started(), failed(message=message)))
    assert abs(datetime.now(UTC) - end.recorded_at) < timedelta(minutes=5)
    *_, read = read_stream(postgresql, "job-1")
    assert (read.recorded_at, read.content) == (end.recorded_at, {"message": message})
    assert shown(postgresql, "job-1") is not None
    assert verify_log(postgresql).faults == []


def test_a_statement_that_takes_longer_than_the_role_may_is_told_as_busy(postgresql: Database) -> None:
    set_default(postgresql, "statement_timeout = '50ms'")
    with psycopg.connect(postgresql.url) as obvious:
        obvious.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("enrichlog")])
        with pytest.raises(errors.DatabaseBusy, match="statement timeout"):
            tell(postgresql, "job-1", requested())


def set_default(database: Database, default: str) -> None:
    """Have every later session of this database begin with a setting, as a role or its database may."""
    run(database, f'ALTER DATABASE "{database.url.rpartition("/")[2]}" SET {default}')
    database.close()


def test_no_prepared_statement_is_left_on_a_session_that_a_pooler_may_give_to_others(postgresql: Database) -> None:
    counted = "SELECT count(*) FROM pg_prepared_statements"
    with psycopg.connect(postgresql.url) as obvious:
        for _ in range(7):
            obvious.execute("SELECT version FROM enrichlog.events WHERE position = %s", [1])
        assert obvious.execute(counted).fetchone() != (0,)  # as the driver does it by itself: the control
    for number in range(7):
        tell(postgresql, f"job-{number}", requested())
    with postgresql.read() as connection:
        assert connection.execute(text(counted)).scalar() == 0


@pytest.mark.pooled
def test_settings_of_one_append_do_not_stay_on_its_session(postgresql: Database) -> None:
    names = ("lock_timeout", "idle_in_transaction_session_timeout")
    with postgresql.read() as connection:
        before = [connection.execute(text(f"SHOW {name}")).scalar() for name in names]
    offer(postgresql, proposal("job-1", requested()))
    with postgresql.read() as connection:
        assert [connection.execute(text(f"SHOW {name}")).scalar() for name in names] == before
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert connection.execute(text(locks)).scalar() == 0


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_any_postgresql_url_is_accepted(postgresql: Database, scheme: str) -> None:
    database = Database(postgresql.url.replace("postgresql", scheme, 1))
    tell(database, "job-1", requested())
    database.close()


def test_a_bare_file_name_is_a_sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("my jobs.db", "sqlite:///my jobs.db", f"sqlite:///{tmp_path}/my jobs.db"):
        assert dialect_for(url).where() == str(tmp_path / "my jobs.db")
    assert isinstance(dialect_for("jobs.db"), SQLite)
    assert isinstance(dialect_for("postgres://host/name"), PostgreSQL)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "post gres://x", "://"])
def test_a_url_that_cannot_be_used_says_so_and_how_it_should_look(url: str) -> None:
    with pytest.raises(errors.UnusableDatabaseUrl, match=r"Use sqlite:///file.db or postgresql://") as error:
        Database(url)
    assert error.value.kind == "usage"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://anna:{SECRET}@host/name",
        f"postgresql://anna:{SECRET}@host:port/name",
        f"postgresql:anna:{SECRET}@://",
    ],
)
def test_a_url_that_cannot_be_used_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(errors.UnusableDatabaseUrl) as error:
        Database(url)
    assert SECRET not in str(error.value)
    assert SECRET not in repr(error.value)


@pytest.mark.parametrize("place", ["anna:{}@127.0.0.1:{}/name", "127.0.0.1:{1}/name?user=anna&password={0}"])
def test_a_server_that_is_not_there_is_named_without_the_password(place: str) -> None:
    port = 1  # nothing listens there
    with (
        pytest.raises(errors.DatabaseUnavailable) as error,
        Database(f"postgresql://{place.format(SECRET, port)}").read(),
    ):
        pass
    assert SECRET not in str(error.value)
    assert "127.0.0.1:1/name" in str(error.value)


def test_a_database_that_is_not_there_is_named(server: GivenServer) -> None:
    url = server.url.rpartition("/")[0] + "/nobody_made_this"
    with pytest.raises(errors.DatabaseUnavailable, match="nobody_made_this"), Database(url).read():
        pass


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Anna, " * 100)
    with pytest.raises(errors.NotADatabase, match=r"letter\.txt"), Database(str(path)).write():
        pass


def test_a_file_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(errors.DatabaseUnavailable, match="nowhere"),
        Database(str(tmp_path / "nowhere" / "a.db")).read(),
    ):
        pass


def test_a_read_only_database_is_named(postgresql: Database, sqlite: Database) -> None:
    set_default(postgresql, "default_transaction_read_only = on")
    with pytest.raises(errors.DatabaseReadOnly):
        tell(postgresql, "job-1", requested())
    with sqlite.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=1")
    with pytest.raises(errors.DatabaseReadOnly):
        tell(sqlite, "job-1", requested())


def test_what_is_sent_does_not_stand_in_the_databases_errors(database: Database) -> None:
    with pytest.raises(errors.DatabaseRefused) as refused, database.read() as connection:
        connection.execute(text("SELECT 1 FROM nowhere WHERE message = :message"), {"message": SECRET})
    cause = refused.value.__cause__
    assert "nowhere" in str(cause)
    assert SECRET not in f"{cause!s} {cause!r}"
