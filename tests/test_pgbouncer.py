"""Behind PgBouncer in transaction mode: sessions that change, a pool that is used up, and both ends going away."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text

from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import NoSessionFree
from eventlog.schema import events
from tests.adopted import add_postings, make_tables, row_of
from tests.adopting import DATA, MODEL
from tests.builders import follow, requested, run, tell
from tests.command_line import Command
from tests.conftest import ServerDatabases
from tests.pgbouncer import PgBouncer
from tests.postgres import GivenServer, Server
from tests.recording import check_that_all_is_there_once, record_while_away

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parent.parent
FREEZES = """
import os, signal, sys
from eventlog.database import Database
from eventlog.log import LogAlone, append
from tests.builders import proposal, requested

database = Database(sys.argv[1])
with database.write() as connection:
    append(connection, database.dialect, [proposal("job-frozen", requested())], LogAlone())
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def pooler(server: GivenServer) -> Iterator[PgBouncer]:
    """A pooler with two sessions for each database, which may be killed."""
    with PgBouncer(server, pool_size=2, wait_seconds=1) as pooler:
        yield pooler


@pytest.fixture
def pooled(server_databases: ServerDatabases, pooler: PgBouncer) -> Iterator[Database]:
    """A migrated database behind it."""
    direct = server_databases.migrated()
    with closing(Database(pooler.url(direct))) as database:
        yield database
    server_databases.drop(direct)


def session(database: Database) -> int:
    """The server's session that a transaction has met, after a query that is asked again and again."""
    with database.read() as connection:
        connection.execute(select(events.c.position).where(events.c.position > 0)).all()
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_what_a_client_prepares_is_missing_on_the_next_session_and_we_prepare_nothing(pooled: Database) -> None:
    with psycopg.connect(pooled.url, autocommit=True) as obvious, psycopg.connect(pooled.url) as other:
        for _ in range(7):
            obvious.execute("SELECT position FROM enrichlog.events WHERE position > %s", [0])
        before = {session(pooled) for _ in range(7)}
        other.execute("SELECT 1")  # and stays in its transaction, on the session that was free
        assert session(pooled) not in before
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            obvious.execute("SELECT position FROM enrichlog.events WHERE position > %s", [0])


def test_a_process_that_freezes_with_the_log_lock_is_cut_off_and_its_session_is_replaced(pooled: Database) -> None:
    frozen = subprocess.Popen(
        [sys.executable, "-c", FREEZES, pooled.url], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    )
    _, status = os.waitpid(frozen.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    tell(pooled, "job-1", requested(), requested("changed"))
    os.kill(frozen.pid, signal.SIGCONT)
    _, said = frozen.communicate()
    assert (frozen.returncode, "DatabaseUnavailable" in said) == (1, True)
    assert follow(pooled) == [1, 2]  # nothing is there of what it had appended
    with psycopg.connect(pooled.url) as first, psycopg.connect(pooled.url) as second:
        assert {first.execute("SELECT 1").fetchone(), second.execute("SELECT 1").fetchone()} == {(1,)}


@contextmanager
def all_sessions_in_use(url: str) -> Iterator[None]:
    with psycopg.connect(url) as first, psycopg.connect(url) as second:
        first.execute("SELECT 1")
        second.execute("SELECT 1")
        yield


def test_a_pool_that_is_used_up_is_told_with_what_to_do(pooled: Database) -> None:
    with all_sessions_in_use(pooled.url), pytest.raises(NoSessionFree, match="Run fewer workers"):
        tell(pooled, "job-1", requested())
    tell(pooled, "job-1", requested())


def test_what_is_recorded_while_the_pool_is_used_up_is_kept_until_it_is_not(pooled: Database) -> None:
    holding: AbstractContextManager[None] = all_sessions_in_use(pooled.url)
    acknowledged, told = record_while_away(pooled, holding.__enter__, lambda: holding.__exit__(None, None, None))
    assert "no session free" in told
    check_that_all_is_there_once(pooled, len(acknowledged))


def test_what_is_recorded_while_the_pooler_is_gone_is_kept_until_it_is_back(
    pooled: Database, pooler: PgBouncer
) -> None:
    acknowledged, told = record_while_away(pooled, pooler.kill, pooler.start)
    assert "cannot be reached" in told
    check_that_all_is_there_once(pooled, len(acknowledged))


def test_what_is_recorded_while_the_server_behind_it_crashes_is_kept_until_it_is_back(place: str) -> None:
    with (
        Server(place=place) as server,
        PgBouncer(server, wait_seconds=1) as pooler,
        closing(Database(pooler.url(server.create_database()))) as database,
    ):
        migration.migrate(database)
        acknowledged, _ = record_while_away(database, lambda: server.stop("immediate"), server.start)
        check_that_all_is_there_once(database, len(acknowledged))


def test_a_database_is_adopted_and_enriched_through_it(
    server_databases: ServerDatabases, pooler: PgBouncer, user: Command, simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    direct = server_databases.empty()
    simulator.play(Script(rules=[Rule("number 1", (Fault.REFUSAL,))]))
    with closing(Database(pooler.url(direct))) as database:
        make_tables(database, error_column=False)
        add_postings(database, range(1, 6))
        monkeypatch.setenv("DATABASE_URL", database.url)
        ranked = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
        user.done("adopt", *MODEL, *DATA, "--after-success", ranked, "--yes")
        assert "nothing was left to do" in user.done("adopt").out
        assert user.json("sync")["new"] == 5
        assert user.json("enrich", "--concurrency", "2")["succeeded"] == 4
        rows = [row_of(database, number) for number in range(1, 6)]
        assert [row["enrichment_error"] is None for row in rows] == [False, True, True, True, True]
        assert [row["type_datarol"] is None for row in rows] == [True, False, False, False, False]
        assert run(database, "SELECT count(*) AS n FROM job_postings WHERE needs_ranking") == [{"n": 4}]
        user.done("verify")
    server_databases.drop(direct)
