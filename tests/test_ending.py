"""How a worker for ever ends: what it claims no more once it is told to, and what it hears while it closes."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from enrichlog import intake
from enrichlog import worker as worker_module
from enrichlog.calls import Calls
from enrichlog.settings import Settings
from enrichlog.simulator import Simulator
from enrichlog.worker import Worker
from eventlog.database import Database
from eventlog.recorder import Recorder
from tests.builders import BOUND, failed, started, status, tell
from tests.daemon import Daemon, Flaky
from tests.service import import_many, of_type

ATTEMPT_ID = "00000000-0000-4000-8000-000000000001"


def before(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], object]) -> None:
    """Have something done each time before that is called."""
    called = getattr(where, name)

    def acts_before(*arguments: Any, **options: Any) -> Any:
        act()
        return called(*arguments, **options)

    monkeypatch.setattr(where, name, acts_before)


def first_signal(worker: Worker) -> None:
    worker.run.signal = signal.SIGTERM
    worker.stop("Ended by SIGTERM.")


def test_a_second_signal_is_heard_while_what_is_held_waits_for_a_database_that_is_away(
    sqlite: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 1)
    flaky, ending = Flaky(sqlite.url), threading.Event()
    before(monkeypatch, Recorder, "submit", lambda: setattr(flaky, "is_away", True))
    before(monkeypatch, Calls, "finish", ending.set)
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 600.0)
    monkeypatch.setattr(worker_module, "HURRY_SECONDS", 0.0)
    with Daemon(flaky, service, grace_seconds=0.0) as daemon:
        try:
            daemon.until(lambda: flaky.is_away)
            daemon.tell(first_signal)
            assert ending.wait(BOUND)
            assert not daemon.has_ended()
            daemon.tell(Worker.abandon)
            daemon.until(daemon.has_ended)
        finally:
            flaky.is_away = False  # or a worker that hears nothing would stay
    flaky.close()
    assert status(sqlite, "job-000")["state"] == "running"  # what it held is left to its lease
    assert daemon.worker is not None
    assert daemon.worker.run.unrecorded == 1


def test_what_was_begun_and_not_called_does_not_keep_an_ending_worker_from_ending_while_the_database_is_away(
    sqlite: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 1)
    flaky = Flaky(sqlite.url)
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0.0)
    daemon = Daemon(flaky, service, grace_seconds=0.0)

    def is_told() -> None:
        daemon.tell(first_signal)
        daemon.until(lambda: daemon.worker is not None and daemon.worker.standing.state == "draining")

    before(monkeypatch, intake, "claim", is_told)
    before(monkeypatch, Recorder, "submit", lambda: setattr(flaky, "is_away", True))
    with daemon:
        daemon.until(daemon.has_ended)
    flaky.close()
    assert simulator.journal == []


@pytest.mark.parametrize("told", [True, False], ids=["told during the claim", "the control"])
def test_who_is_told_to_end_during_a_claim_that_finds_nothing_takes_no_suspect(
    sqlite: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    import_many(sqlite, 1)
    died = failed(error_type="interrupted", worker_died=True, fault="ours", wait_ms=0, attempt_id=ATTEMPT_ID)
    tell(sqlite, "job-000", started(attempt_id=ATTEMPT_ID), died)
    daemon = Daemon(sqlite, service)

    def is_told() -> None:
        daemon.tell(first_signal)
        daemon.until(lambda: daemon.worker is not None and daemon.worker.standing.state == "draining")

    if told:
        before(monkeypatch, intake, "claim", is_told)
    with daemon:
        daemon.until(lambda: daemon.has_ended() or status(sqlite, "job-000")["state"] == "succeeded")
    assert len(of_type(sqlite, "EnrichmentStarted")) == (1 if told else 2)
