"""Claims whose commit nobody heard of: one that is still on its way when it is asked for, and one of a suspect."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from enrichlog import patience
from enrichlog import worker as worker_module
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Script, Simulator
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.log import Recorded
from tests.builders import failed, started, status, tell
from tests.daemon import Daemon
from tests.service import ends_of, enrich, import_many, import_postings, posting, whole_log

ATTEMPT_ID = "00000000-0000-4000-8000-000000000001"
LATE_SECONDS = 0.2


@pytest.fixture(autouse=True)
def it_looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a database that is there."""
    monkeypatch.setattr(patience.Patience, "seconds_away", lambda *_: 0.0)


class _CommitsLate(Database):
    """A database whose connection breaks before its first commit, which arrives when somebody has asked for it."""

    late: threading.Timer | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.late is not None:
            with super().write() as connection:
                yield connection
            return
        transaction = super().write()
        try:
            yield transaction.__enter__()
        except BaseException:
            transaction.__exit__(*sys.exc_info())
            raise
        self.late = threading.Timer(LATE_SECONDS, transaction.__exit__, (None, None, None))
        raise DatabaseUnavailable(where="there", reason="the connection broke")

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        if self.late is not None and not self.late.ident:
            self.late.start()
        with super()._transaction(writes=writes) as connection:
            yield connection


def test_a_claim_whose_commit_is_still_on_its_way_is_found_and_each_posting_called_once(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 5)
    late = _CommitsLate(database.url)
    done = enrich(late, configure(concurrency=2))
    assert late.late is not None
    late.late.join()
    late.close()
    assert (done.succeeded, len(simulator.journal)) == (5, 5)
    assert {len(found) for found in ends_of(database).values()} == {1}


class _LosesOneStart(Database):
    """A database whose connection breaks right after it has committed the start of the suspect, once."""

    is_lost = False

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
        if not self.is_lost and status(self, "job-suspect")["state"] == "running":
            self.is_lost = True
            raise DatabaseUnavailable(where="there", reason="the connection broke")


def test_a_suspect_whose_claim_broke_runs_alone(
    database: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_postings(database, posting("suspect"))
    died = failed(error_type="interrupted", worker_died=True, fault="ours", wait_ms=0, attempt_id=ATTEMPT_ID)
    tell(database, "job-suspect", started(attempt_id=ATTEMPT_ID), died)
    import_many(database, 30)
    monkeypatch.setattr(worker_module, "SUSPECTS_SECONDS", 0.05)
    simulator.play(Script(latency=0.02))
    losing = _LosesOneStart(database.url)
    with Daemon(losing, configure(concurrency=2)) as daemon:
        daemon.until(lambda: status(database, "job-suspect")["state"] == "succeeded")
    losing.close()
    assert losing.is_lost
    log = whole_log(database)
    begun, ended = [one.position for one in log if one.stream_id == "job-suspect"][-2:]
    assert not open_at(log, begun)
    assert {one.stream_id for one in log if begun <= one.position <= ended} == {"job-suspect"}


def open_at(log: list[Recorded], position: int) -> set[str]:
    """The postings whose attempts are open just before a position of the log."""
    found: set[str] = set()
    for one in log[: position - 1]:
        change = found.add if one.type == "EnrichmentStarted" else found.discard
        change(one.stream_id)
    return found
