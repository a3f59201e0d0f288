"""Each way of numbering and locking that looks obvious and fails, shown failing; and beside it what we do instead."""

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from sqlalchemy import event, text

from eventlog.database import Database
from eventlog.log import LogAlone, append
from tests.builders import (
    BOUND,
    appended,
    ask,
    follow,
    offer,
    proposal,
    requested,
    run,
    sessions,
    tell,
    wait_for_a_waiter,
)
from tests.postgres import GivenServer

# Numbers that a sequence gives are not in the order of the commits.


def test_a_sequence_loses_events_for_readers_that_follow_it(postgresql: Database) -> None:
    run(postgresql, "CREATE TABLE obvious (position bigserial PRIMARY KEY)")
    with sessions(postgresql, 3) as (slow, fast, reader):
        reader.autocommit = True
        slow.execute("INSERT INTO obvious DEFAULT VALUES")
        fast.execute("INSERT INTO obvious DEFAULT VALUES")
        fast.commit()
        assert ask(reader, "SELECT position FROM obvious WHERE position > 0") == [2]
        slow.commit()
        assert ask(reader, "SELECT position FROM obvious WHERE position > 2") == []  # 1 is never read


@pytest.mark.pooled
def test_an_append_that_is_not_committed_lets_no_later_position_be_seen(postgresql: Database) -> None:
    with ThreadPoolExecutor(1) as other:
        with postgresql.write() as slow:
            append(slow, postgresql.dialect, [proposal("job-slow", requested())], LogAlone())
            waiting = other.submit(offer, postgresql, proposal("job-fast", requested()))
            wait_for_a_waiter(postgresql)
            assert follow(postgresql) == []
        (fast,) = appended(waiting.result(BOUND))
    assert fast.position == 2
    assert follow(postgresql) == [1, 2]


@pytest.mark.pooled
def test_a_reader_that_follows_positions_misses_nothing_of_eight_writers(database: Database) -> None:
    def write(writer: int) -> None:
        for number in range(15):
            offer(database, *(proposal(f"job-{writer}-{number}-{n}", requested()) for n in range(3)))

    followed: list[int] = []
    with ThreadPoolExecutor(8) as threads:
        writers = [threads.submit(write, writer) for writer in range(8)]
        while not all(writer.done() for writer in writers):
            followed += follow(database, followed[-1] if followed else 0)
    assert [writer.result() for writer in writers] == [None] * 8
    followed += follow(database, followed[-1])
    assert followed == list(range(1, 8 * 15 * 3 + 1))


# The oldest open transaction as a horizon holds readers up for as long as anybody on the server has one open.


def test_a_horizon_of_transaction_ids_stalls_while_another_database_has_one_open(
    postgresql: Database, server: GivenServer
) -> None:
    run(postgresql, "CREATE TABLE obvious (id int, written_by xid8 DEFAULT pg_current_xact_id())")
    with sessions(postgresql, 1) as (reader,), psycopg.connect(server.url) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        run(postgresql, "INSERT INTO obvious VALUES (1)")
        horizon: LiteralString = "written_by < pg_snapshot_xmin(pg_current_snapshot())"
        assert ask(reader, f"SELECT id FROM obvious WHERE {horizon}") == []
        tell(postgresql, "job-1", requested())
        assert follow(postgresql) == [1]


# One row that counts.


def test_a_counter_in_a_row_grows_under_a_long_reader(postgresql: Database) -> None:
    def count_to_1200() -> int:
        """The pages of a table of one row, after each number was a transaction of its own."""
        run(postgresql, "DROP TABLE IF EXISTS obvious; CREATE TABLE obvious AS SELECT 0 AS last")
        for _ in range(1_200):
            writer.execute("UPDATE obvious SET last = last + 1")
        return int(ask(writer, "SELECT pg_relation_size('obvious') / 8192")[0])

    with sessions(postgresql) as (writer, reader):
        writer.autocommit = True
        assert count_to_1200() < 5  # nobody reads: the control
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert ask(reader, "SELECT 1") == [1]
        assert count_to_1200() > 5


@pytest.mark.pooled
def test_numbering_changes_no_row(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    offer(database, proposal("job-1", requested()), inline=LogAlone())
    assert any("INSERT INTO" in statement for statement in statements)
    assert not any("UPDATE" in statement for statement in statements)


# A role, or a database, whose transactions are REPEATABLE READ unless they say otherwise.


def test_repeatable_read_sees_a_stale_head_after_the_lock(postgresql: Database) -> None:
    name = postgresql.url.rpartition("/")[2]
    run(
        postgresql,
        f"ALTER ROLE CURRENT_USER IN DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'",
    )
    postgresql.close()
    with sessions(postgresql, 1) as (obvious,), postgresql.write() as ours:
        obvious.execute("SELECT 1")
        ours.execute(text("SELECT 1"))
        tell(postgresql, "job-1", requested())
        obvious.execute("SELECT pg_advisory_xact_lock(1)")
        assert ask(obvious, "SELECT max(position) FROM enrichlog.events") == [None]
        (mine,) = appended(append(ours, postgresql.dialect, [proposal("job-2", requested())], LogAlone()))
    assert mine.position == 2


# Positions computed before it is known which of the events are new.


def test_on_conflict_do_nothing_leaves_gaps(database: Database) -> None:
    run(database, "CREATE TABLE obvious (position int PRIMARY KEY, event_id text UNIQUE)")
    for batch in ("(1, 'a'), (2, 'b')", "(3, 'b'), (4, 'c')"):
        run(database, f"INSERT INTO obvious VALUES {batch} ON CONFLICT DO NOTHING")
    assert [row["position"] for row in run(database, "SELECT position FROM obvious ORDER BY 1")] == [1, 2, 4]


def test_events_offered_again_leave_no_gaps(database: Database) -> None:
    known = proposal("job-b", requested())
    offer(database, proposal("job-a", requested()), known)
    offer(database, known, proposal("job-c", requested()), proposal("job-c", requested()))
    assert follow(database) == [1, 2, 3]
