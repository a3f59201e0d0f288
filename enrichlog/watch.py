"""Watching a worker from beside it: a thread keeps its row, and tells what there is to tell."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from enrichlog.diary import Diary
from enrichlog.enlisting import Enlisted
from enrichlog.heartbeat import Heartbeat
from enrichlog.keeping_up import KeepingUp
from enrichlog.progress import Run
from enrichlog.scope import Scope, count_due
from enrichlog.settings import Settings
from enrichlog.worker import Worker
from eventlog.database import Database
from eventlog.errors import EnrichlogError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LAST_LOOK_SECONDS = 5.0


class Watch:
    """Looks at a worker once a second, from when it is given one until it is to end. `run` is what that has done."""

    def __init__(self, database: Database, settings: Settings, enlisted: Enlisted, tell: Callable[[str], None]) -> None:
        self._database, self._settings, self._enlisted, self._tell = database, settings, enlisted, tell
        self.run, self._ended = Run(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, worker: Worker) -> None:
        """Watch this worker; called in its event loop."""
        self.run, loop = worker.run, asyncio.get_running_loop()

        def stop(why: str) -> None:
            with suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(worker.stop, why)

        heartbeat = Heartbeat(self._database, self._enlisted.worker, self._enlisted.since, stop)
        self._thread = threading.Thread(
            target=self._run, args=(worker, heartbeat, Diary(self._count_due)), name="enrichlog-watch", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Look no more; a look that a database keeps waiting is not waited for."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(LAST_LOOK_SECONDS)

    def _run(self, worker: Worker, heartbeat: Heartbeat, diary: Diary) -> None:
        keeping_up = KeepingUp(self._database)
        while not self._ended.wait(LOOK_SECONDS):
            try:
                standing = worker.standing
                for line in diary.look(standing.state, self.run):
                    self._tell(line)
                heartbeat.look(standing.state, standing.in_flight)
                keeping_up.look()
            except Exception:  # a defect of ours is no reason not to look again
                logger.exception("a look at the worker met a defect")

    def _count_due(self) -> int | None:
        with suppress(EnrichlogError):
            scope = Scope(self._database.now())
            return count_due(self._database, self._enlisted.worker.enrichment, scope, self._settings.max_attempts)
        return None
