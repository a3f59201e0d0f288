"""A worker for ever in a thread of the test's own process, and a database that is away for as long as a test says."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection

from enrichlog.enrichment import enrichment_of
from enrichlog.runs import serve
from enrichlog.settings import Settings
from enrichlog.worker import GRACE_SECONDS, Worker
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from tests.builders import BOUND


class Daemon:
    """A worker for ever, in a thread of its own, while the `with` lasts."""

    def __init__(
        self, database: Database, settings: Settings, name: str = "daemon", grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._arguments = database, settings, enrichment_of(settings)
        self._name, self._grace_seconds = name, grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve)
        self.worker: Worker | None = None
        self.failure: BaseException | None = None

    def __enter__(self) -> "Daemon":
        self._thread.start()
        self.until(lambda: self.worker is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self.tell(lambda worker: worker.stop("the test is over"))
        self._thread.join(BOUND)
        assert not self._thread.is_alive()

    def tell(self, what: Callable[[Worker], None]) -> None:
        """Have something done to the worker in its own loop, where signals are heard too; nothing once it has ended."""
        if self._loop is not None and self.worker is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(what, self.worker)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        for _ in range(round(BOUND / 0.005)):
            if is_so():
                return
            assert self.failure is None, self.failure
            threading.Event().wait(0.005)
        raise AssertionError(f"it did not happen: {self.worker and self.worker.standing}")

    def has_ended(self) -> bool:
        """Whether nothing of it is left."""
        return not self._thread.is_alive()

    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.worker is not None and self.worker.standing.state == "idle"

    def is_waiting(self) -> bool:
        """Whether there is something to do that nobody may begin."""
        return self.worker is not None and self.worker.standing.state == "waiting"

    def _serve(self) -> None:
        def watch(worker: Worker) -> None:
            self.worker, self._loop = worker, asyncio.get_running_loop()

        try:
            serve(
                *self._arguments, name=self._name, poll_seconds=0.01, grace_seconds=self._grace_seconds, watch=watch
            )  # fmt: skip
        except BaseException as error:
            self.failure = error


class Flaky(Database):
    """A database that is away for as long as a test says; looking at the clock needs none."""

    is_away = False

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        if self.is_away and threading.current_thread() is not threading.main_thread():
            raise DatabaseUnavailable(where="nowhere", reason="connection refused")
        with super()._transaction(writes=writes) as connection:
            yield connection

    def now(self) -> Any:
        with super()._transaction(writes=False) as connection:
            return self.dialect.clock(connection)
