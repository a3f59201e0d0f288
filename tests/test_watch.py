"""Watching a worker from beside it: what is seen is told, and it is stopped when another has taken its name."""

import asyncio
import threading
from typing import Any

import pytest

from enrichlog import keeping_up
from enrichlog import watch as watching
from enrichlog.enlisting import Enlisted
from enrichlog.progress import Run
from enrichlog.screens import SIMULATED
from enrichlog.settings import Settings
from enrichlog.watch import Watch
from enrichlog.worker import Standing
from enrichlog.workers import register
from eventlog.database import Database
from projections.enrichment_stats_hourly import projection
from projections.following import catch_up, standing
from tests.builders import BOUND
from tests.service import worker
from tests.test_following import end_more


class Working:
    """A worker as it is watched: it has done something, and goes on until it is told to stop."""

    def __init__(self) -> None:
        self.run, self.standing = Run(succeeded=1, simulated=True), Standing("working", 3)
        self.stopped, self.why, self.thread = asyncio.Event(), "", ""

    def stop(self, why: str) -> None:
        self.why, self.thread = why, threading.current_thread().name
        self.stopped.set()

    async def watched(self, watch: Watch) -> str:
        """Be watched until stopped; the thread that stopped it."""
        given: Any = self
        self.loop = asyncio.get_running_loop()
        watch.begin(given)
        await asyncio.wait_for(self.stopped.wait(), BOUND)
        return self.thread


def test_a_worker_whose_name_is_taken_is_stopped_in_its_own_loop_and_what_was_seen_is_told(
    service: Settings, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.001)
    told: list[str] = []
    since = register(sqlite, worker(host="another")).since
    watch, working = Watch(sqlite, service, Enlisted(worker(), since, 0), told.append), Working()
    assert asyncio.run(working.watched(watch)) == threading.current_thread().name
    watch.end()
    assert working.why.startswith("A worker host-worker-1 is alive on another, last seen ")
    assert told == [SIMULATED]


def test_the_statistics_follow_the_log_beside_the_work(
    service: Settings, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.001)
    end_more(sqlite, 1)
    watch, working = Watch(sqlite, service, Enlisted(worker(), sqlite.now(), 0), list[str]().append), Working()

    def follow(*arguments: Any, **options: Any) -> bool:
        done = catch_up(*arguments, **options)
        working.loop.call_soon_threadsafe(working.stop, "it has followed")
        return done

    monkeypatch.setattr(keeping_up, "catch_up", follow)
    asyncio.run(working.watched(watch))
    watch.end()
    assert standing(sqlite, projection).position == 3
