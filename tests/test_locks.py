"""Locks: orders that deadlock, a holder that freezes, a reader in the way of a COMMIT; and beside each what we do."""

import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from sqlalchemy import Connection, event

from eventlog import dialects
from eventlog.database import Database
from eventlog.dialects import lock_key
from eventlog.errors import DatabaseBusy, DatabaseUnavailable
from eventlog.log import LogAlone, append
from projections import enrichment_status
from projections.enrichment_status import insert_missing
from projections.inline import InlineReadModels
from tests.builders import (
    BOUND,
    Session,
    appended,
    ask,
    failed,
    follow,
    offer,
    proposal,
    requested,
    run,
    sessions,
    started,
    tell,
    wait_for_a_waiter,
)

pytestmark = pytest.mark.pooled


def deadlocks(first: Session, second: Session, statement_1: LiteralString, statement_2: LiteralString) -> bool:
    """Whether two sessions that hold something kill each other when each wants what the other holds."""
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(first.execute, statement_1)
        outcomes: list[BaseException | None] = []
        try:
            second.execute(statement_2)
        except psycopg.errors.DeadlockDetected as deadlock:
            outcomes.append(deadlock)
            second.rollback()
        outcomes.append(waiting.exception(BOUND))
    return any(isinstance(outcome, psycopg.errors.DeadlockDetected) for outcome in outcomes)


def test_row_locks_taken_after_the_log_lock_deadlock(postgresql: Database) -> None:
    tell(postgresql, "job-1", requested())
    lock_row: LiteralString = "SELECT FROM enrichlog.enrichment_status FOR UPDATE"
    lock_log: LiteralString = "SELECT pg_advisory_xact_lock(1)"
    with sessions(postgresql) as (row_first, log_first):
        for session in (row_first, log_first):
            session.execute("SET deadlock_timeout = '20ms'")
        row_first.execute(lock_row)
        log_first.execute(lock_log)
        assert deadlocks(row_first, log_first, lock_log, lock_row)


def test_rows_locked_in_opposite_order_deadlock(postgresql: Database) -> None:
    run(postgresql, "CREATE TABLE obvious AS SELECT generate_series(1, 2) AS id")
    with sessions(postgresql) as (upwards, downwards):
        for session in (upwards, downwards):
            session.execute("SET deadlock_timeout = '20ms'")
        upwards.execute("SELECT FROM obvious WHERE id = 1 FOR UPDATE")
        downwards.execute("SELECT FROM obvious WHERE id = 2 FOR UPDATE")
        down: LiteralString = "SELECT FROM obvious WHERE id = 2 FOR UPDATE"
        up: LiteralString = "SELECT FROM obvious WHERE id = 1 FOR UPDATE"
        assert deadlocks(upwards, downwards, down, up)


def test_appenders_that_hold_the_same_streams_in_opposite_order_do_not_deadlock(database: Database) -> None:
    names = [f"job-{letter}" for letter in "abcdef"]

    def change_all(streams: list[str]) -> None:
        for number in range(15):
            whole = [*streams, f"job-new-{number}"]
            appended(offer(database, *(proposal(stream, requested("changed")) for stream in whole)))

    with ThreadPoolExecutor(4) as threads:
        orders = (names, names[::-1], names[3:] + names[:3], names[::-1])
        assert list(threads.map(change_all, orders, timeout=BOUND)) == [None] * 4
    assert follow(database) == list(range(1, 4 * 15 * 7 + 1))


# A process that freezes while it holds rows of streams, or the log lock.


def bounds(connection: Connection) -> list[str]:
    """How long this transaction may wait for a lock, and how long it may stand still."""
    names = ("lock_timeout", "idle_in_transaction_session_timeout")
    return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


def test_every_transaction_is_bounded_from_its_beginning(postgresql: Database) -> None:
    with sessions(postgresql, 1) as (obvious,), postgresql.read() as reader, postgresql.write() as writer:
        assert ask(obvious, "SHOW lock_timeout") == ["0"]  # as the server has it: the control
        assert bounds(reader) == bounds(writer) == ["30s", "20s"]


def test_the_log_lock_is_waited_for_as_long_after_the_users_table_and_held_for_less(postgresql: Database) -> None:
    dialect, seen = postgresql.dialect, list[list[str]]()
    event.listen(postgresql.engine, "release_savepoint", lambda connection, *_: seen.append(bounds(connection)))
    tell(postgresql, "job-1", requested(), started())
    with postgresql.write() as connection:
        append(connection, dialect, [proposal("job-1", failed())], InlineReadModels(postgresql))
        assert bounds(connection) == ["30s", "2s"]
    assert ["100ms", "20s"] in seen  # what the users' table leaves behind: the control


def test_whoever_freezes_with_the_row_of_a_stream_is_cut_off(postgresql: Database) -> None:
    tell(postgresql, "job-1", requested())
    with ThreadPoolExecutor(1) as other, pytest.raises(DatabaseUnavailable), postgresql.write() as frozen:  # noqa: PT012 (it freezes inside)
        frozen.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '100ms'")  # the 20 seconds, shortened
        enrichment_status.lock(frozen, ["job-1"])
        (outcome,) = appended(other.submit(offer, postgresql, proposal("job-1", started())).result(BOUND))
    assert (outcome.version, follow(postgresql)) == (2, [1, 2])


def test_whoever_waits_for_the_row_of_a_stream_too_long_is_told_that_it_is_busy(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(postgresql, "job-1", requested())
    monkeypatch.setattr(dialects, "LOCK_PATIENCE", "1ms")
    with sessions(postgresql, 1) as (obvious,):
        obvious.execute("SELECT FROM enrichlog.enrichment_status FOR UPDATE")
        with pytest.raises(DatabaseBusy, match="lock timeout"):
            tell(postgresql, "job-1", started())
    tell(postgresql, "job-1", started())


def test_appenders_that_begin_the_same_streams_do_so_in_one_order(postgresql: Database) -> None:
    first, *others = [f"job-{number:02}" for number in range(40)]
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as somebody:
            insert_missing(somebody, postgresql.dialect, [first])
            waiting = thread.submit(offer, postgresql, *(proposal(name, requested()) for name in [*others, first]))
            wait_for_a_waiter(postgresql)
            insert_missing(somebody, postgresql.dialect, others)  # whoever waits for the first has none of these yet
        assert len(appended(waiting.result(BOUND))) == 40


# A process that freezes while it holds the log lock.


def test_whoever_freezes_with_the_log_lock_is_cut_off(postgresql: Database) -> None:
    with sessions(postgresql, 1) as (obvious,), ThreadPoolExecutor(1) as other:
        obvious.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(DatabaseUnavailable), postgresql.write() as frozen:  # noqa: PT012 (it freezes inside)
            append(frozen, postgresql.dialect, [proposal("job-frozen", requested())], LogAlone())
            waiting: Future[Any] = other.submit(offer, postgresql, proposal("job-1", requested()))
            (outcome,) = appended(waiting.result(5.0))  # 2 seconds, and what a busy machine adds
        free = run(postgresql, "SELECT pg_try_advisory_lock(1) AS free")[0]["free"]
        assert not free  # held without our settings it is still held: the control
    assert (outcome.position, follow(postgresql)) == (1, [1])


def test_every_schema_has_a_log_lock_of_its_own() -> None:
    assert lock_key("enrichlog") != lock_key("other")
    assert -(2**63) <= lock_key("enrichlog") < 2**63


# SQLite without its write-ahead log: whoever still reads keeps a COMMIT from ending.


def reading(path: Path) -> sqlite3.Connection:
    """A reader in the middle of a page of events."""
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchone()
    return reader


def truncating(connection: sqlite3.Connection, *_: object) -> None:
    """Have this connection use the rollback journal."""
    connection.execute("PRAGMA journal_mode=TRUNCATE")


def test_a_reader_makes_a_plain_commit_fail(sqlite: Database) -> None:
    path = Path(sqlite.dialect.where())
    writer = sqlite3.connect(path, timeout=0, isolation_level=None)
    truncating(writer)
    reader = reading(path)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO llm_enrichment (job_posting_id) VALUES ('1')")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        writer.execute("COMMIT")
    reader.close()
    writer.close()


def test_a_commit_that_a_reader_holds_up_is_tried_again_and_nothing_is_rolled_back(sqlite: Database) -> None:
    path, statements, committing = Path(sqlite.dialect.where()), list[str](), threading.Event()

    def note(statement: str) -> None:
        statements.append(statement)
        if statements.count("COMMIT") == 3:
            committing.set()

    def prepare(connection: sqlite3.Connection, *_: object) -> None:
        truncating(connection)
        connection.set_trace_callback(note)

    event.listen(sqlite.engine, "connect", prepare)
    reader = reading(path)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(offer, sqlite, proposal("job-1", requested()))
        assert committing.wait(BOUND)
        assert not waiting.done()
        reader.close()
        (outcome,) = appended(waiting.result(BOUND))
    assert outcome.position == 1
    assert "ROLLBACK" not in statements
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert follow(sqlite) == [1]
