"""The database goes away under a fleet: what is known is kept and written first, and the fleet goes on by itself."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from enrichlog.simulator import Script, Simulator
from eventlog import migration
from eventlog.database import Database
from eventlog.log import Recorded
from tests.builders import run
from tests.fleet import Fleet
from tests.forks import Forks, wait_until
from tests.postgres import Server, database_name
from tests.service import import_many, whole_log

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")

WORKERS, CONCURRENCY, POSTINGS = ("anna", "bert"), 3, 15
IN_FLIGHT = len(WORKERS) * CONCURRENCY
CUT_OFF = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


@pytest.fixture(scope="module")
def own_server(place: str) -> Iterator[Server]:
    """A server that no other test is on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", place)
        server = Server()
    with server:
        yield server


@pytest.fixture
def stoppable(own_server: Server, forks: Forks, simulator: Simulator, bare: Path) -> Iterator[Fleet]:
    """A fleet on it."""
    database = Database(own_server.create_database())
    migration.migrate(database)
    yield Fleet(forks, database, simulator, bare)
    database.close()


def of_worker(log: list[Recorded], name: str) -> list[Recorded]:
    """The starts of one worker, and their ends."""
    own = {one.facts["attempt_id"] for one in log if one.facts.get("worker") == name}
    return [one for one in log if one.facts.get("attempt_id") in own]


def test_postgresql_crashes_while_calls_are_in_flight(stoppable: Fleet, own_server: Server) -> None:
    fleet = stoppable
    import_many(fleet.database, POSTINGS)
    fleet.simulator.play(Script(latency=0.7))
    workers = [fleet.worker(name, concurrency=CONCURRENCY) for name in WORKERS]
    fleet.called(IN_FLIGHT)
    own_server.stop("immediate")
    wait_until(lambda: all(call.completed for call in fleet.simulator.journal), "no answer was sent")
    assert len(fleet.simulator.journal) == IN_FLIGHT  # whoever cannot record does not call
    own_server.start()
    fleet.database.close()  # the connections that it had
    fleet.finish(*workers)
    account = fleet.check()
    assert account.calls == POSTINGS
    assert account.unfinished == []
    assert account.died == account.extra_calls == account.late_results == 0
    log = whole_log(fleet.database)
    for name in WORKERS:
        kinds = [one.type == "EnrichmentStarted" for one in of_worker(log, name)][: CONCURRENCY + 1]
        assert kinds == [True] * CONCURRENCY + [False]  # none began before something of what was held was recorded


def test_postgresql_turns_read_only_while_calls_are_in_flight(postgresql_fleet: Fleet) -> None:
    fleet = postgresql_fleet
    import_many(fleet.database, 4)
    fleet.simulator.play(Script(latency=0.4))
    worker = fleet.worker("anna", concurrency=2)
    fleet.called(2)
    set_read_only(fleet.database, "SET default_transaction_read_only = on")
    wait_until(lambda: all(call.completed for call in fleet.simulator.journal), "no answer was sent")
    wait_until(lambda: "is read-only" in worker.said, "it did not notice")
    assert (worker.code(), len(fleet.simulator.journal)) == (None, 2)
    set_read_only(fleet.database, "RESET default_transaction_read_only")
    fleet.finish(worker)
    account = fleet.check()
    assert account.calls == 4
    assert account.unfinished == []
    assert account.died == account.extra_calls == account.late_results == 0


def set_read_only(database: Database, words: str) -> None:
    """Change what its transactions may do by default; of those who are connected only where that forbids something."""
    name = database_name(database.url)
    with psycopg.connect(database.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        connection.execute(f'ALTER DATABASE "{name}" {words}'.encode())
        if "RESET" not in words:  # else they have to find out by themselves
            connection.execute(CUT_OFF)
    database.close()  # the connections that it had


@pytest.mark.pooled
def test_all_connections_are_cut_again_and_again(postgresql_fleet: Fleet) -> None:
    fleet = postgresql_fleet
    fleet.simulator.play(Script(latency=0.05))
    workers = [fleet.worker(name, concurrency=CONCURRENCY) for name in WORKERS]
    wait_until(lambda: all(" asks " in one.said for one in workers), "they do not begin")  # who cannot, rightly ends
    import_many(fleet.database, POSTINGS)
    for number in range(1, POSTINGS, 2):
        fleet.called(number)
        run(fleet.database, CUT_OFF)
    fleet.finish(*workers)
    account = fleet.check()
    assert account.calls == POSTINGS
    assert account.unfinished == []
    assert account.died == account.extra_calls == account.late_results == 0


def test_a_worker_that_is_killed_while_the_database_is_away_has_lost_what_it_held(
    stoppable: Fleet, own_server: Server
) -> None:
    fleet = stoppable
    import_many(fleet.database, 2)
    fleet.simulator.play(Script(latency=0.5))
    worker = fleet.worker("anna", concurrency=2)
    fleet.called(2)
    own_server.stop("immediate")
    wait_until(lambda: all(call.completed for call in fleet.simulator.journal), "no answer was sent")
    worker.send(signal.SIGKILL)
    own_server.start()
    fleet.database.close()  # the connections that it had
    fleet.finish(fleet.worker("anna"))
    account = fleet.check()
    assert account.calls == 4
    assert account.died == account.extra_calls == 2
