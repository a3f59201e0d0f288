"""A database that goes away under one worker: what it holds comes first, and nothing is left open that it knows of."""

import asyncio
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from enrichlog import calls as calls_module
from enrichlog import worker as worker_module
from enrichlog.enrichment import enrichment_of
from enrichlog.orphans import close_own
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Simulator
from enrichlog.targets import open_scope
from enrichlog.worker import Worker
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.log import Appended, Proposal
from eventlog.recorder import Recorder
from tests.builders import BOUND
from tests.daemon import Daemon
from tests.service import ends_of, import_many, import_postings, of_type, posting, whole_log
from tests.test_worker import Held, interrupted_ends, worker_of

AWAY = DatabaseUnavailable(where="there", reason="the connection broke")


class TakesNoEnds(Database):
    """A database that is away for the recorder alone, for as long as a test says."""

    is_away = True

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.is_away and threading.current_thread().name == "enrichlog-recorder":
            raise AWAY
        with super().write() as connection:
            yield connection

    def let_go(self) -> None:
        """Be there, until all that was held is recorded and the recorder has ended."""
        self.is_away = False
        for thread in threading.enumerate():
            if thread.name == "enrichlog-recorder":
                thread.join(BOUND)


class Breaks(Database):
    """A database whose connection breaks before these of its transactions, or as they are committed; then `then`."""

    def __init__(self, url: str, *, before: Collection[int] = (), after: Collection[int] = ()) -> None:
        super().__init__(url)
        self._before, self._after, self._begun = before, after, 0
        self.then: Callable[[], None] = lambda: None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._begun += 1
        number = self._begun
        if number in self._before:
            self.then()
            raise AWAY
        with super().write() as connection:
            yield connection
        if number in self._after:
            self.then()
            raise AWAY


def is_away(daemon: Daemon) -> bool:
    return daemon.worker is not None and daemon.worker.standing.state == "away"


def test_what_is_held_is_recorded_before_anything_is_claimed(
    database: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 2)
    holding, steps, submitted = TakesNoEnds(database.url), list[Worker](), list[Proposal]()

    def submit(recorder: Recorder, proposal: Proposal) -> Future[Appended]:
        submitted.append(proposal)
        return usual_submit(recorder, proposal)

    async def step(worker: Worker) -> bool:
        steps.append(worker)
        return await usual_step(worker)

    usual_submit, usual_step = Recorder.submit, Worker._step
    monkeypatch.setattr(Recorder, "submit", submit)
    monkeypatch.setattr(Worker, "_step", step)
    monkeypatch.setattr(worker_module, "HOLDING_LOOK_SECONDS", 0.01)
    with Daemon(holding, configure(concurrency=4)) as daemon:
        daemon.until(lambda: len(submitted) == 2 and is_away(daemon))
        import_postings(database, posting("late"))
        looked = len(steps)
        daemon.until(lambda: len(steps) > looked + 5)  # it could begin two more
        holding.is_away = False
        daemon.until(lambda: len(of_type(database, "EnrichmentSucceeded")) == 3)
        daemon.until(daemon.is_idle)
    told = [one.type.removeprefix("Enrichment") for one in whole_log(database)]
    assert [one for one in told if one != "Requested"] == [*2 * ["Started"], *2 * ["Succeeded"], "Started", "Succeeded"]
    holding.close()


def test_each_time_that_the_database_is_away_is_borne_by_itself(
    sqlite: Database, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 2)
    ticks, client, breaking = [0.0], Held(), Breaks(sqlite.url, before={1, 4})
    breaking.then = lambda: ticks.append(ticks[-1] + 70.0)
    client.go.set()

    async def goes_on(*_: Any) -> None:
        """No test waits for what is not there."""

    monkeypatch.setattr(calls_module.Calls, "pause", goes_on)
    worker = worker_of(breaking, configure(concurrency=1), client, monotonic=lambda: ticks[-1])
    assert asyncio.run(worker.work(open_scope(sqlite, "job"))).succeeded == 2
    assert ticks == [0.0, 70.0, 140.0]  # a run bears no more than 60 s at once
    assert worker.standing.state == "idle"
    breaking.close()


def test_a_daemon_that_is_told_to_end_does_not_hold_for_ever_what_nobody_takes(
    database: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(worker: Worker) -> None:
        worker.grace_seconds, worker.run.signal = 0.0, signal.SIGTERM
        worker.stop("the test is over")

    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0.0)
    import_many(database, 1)
    holding = TakesNoEnds(database.url)
    try:
        with Daemon(holding, service) as daemon:
            daemon.until(lambda: is_away(daemon))
            daemon.tell(end)
    finally:
        holding.let_go()  # or a thread that did hold for ever would have the tests never end
    assert [*ends_of(database).values()] == [[]]
    assert close_own(database, "daemon") == 1  # by its next start
    holding.close()


def test_what_a_claim_took_whose_commit_nobody_heard_of_is_released_when_the_worker_ends_then(
    database: Database, service: Settings
) -> None:
    import_many(database, 2)
    client, breaking = Held(), Breaks(database.url, after={1})
    worker = Worker(breaking, service, enrichment_of(service), client)
    breaking.then = lambda: setattr(worker.run, "stopped", "the test is over")
    asyncio.run(worker.work(open_scope(database, "job")))
    assert client.calls == []
    assert [(counts, called) for counts, called, _ in interrupted_ends(database)] == 2 * [(False, False)]
    breaking.close()
