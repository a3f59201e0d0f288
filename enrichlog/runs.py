"""A run: a scope is given to a worker, and the run ends when the worker has done it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from enrichlog.course import for_ever, to_the_end
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import InvalidSetting, MissingApiKey
from enrichlog.intake import EPOCH
from enrichlog.passed_over import show_what_was_passed_over
from enrichlog.progress import Notice, Run
from enrichlog.scope import Scope
from enrichlog.settings import Settings
from enrichlog.worker import GRACE_SECONDS, Worker
from eventlog.database import Database

if TYPE_CHECKING:
    from enrichlog.llm import Client

logger = logging.getLogger(__name__)

T = TypeVar("T")
DRAINING = (signal.SIGINT, signal.SIGTERM)
NO_KEY = "none"  # a server of one's own may need none; the SDK refuses an empty one


def require_key(settings: Settings) -> str:
    """The API key, empty for a server that needs none. Raises `MissingApiKey`."""
    key = settings.api_key.get_secret_value().strip() if settings.api_key else ""
    if not key and settings.base_url is None:
        raise MissingApiKey
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSetting(
            name="api_key", source=settings.sources["api_key"], reason="it has characters that no key has"
        )
    return key


def perform(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, *,
    limit: int | None = None, max_cost: int | None = None, notice: Notice = lambda claim, end, run: None,
    patient: bool = False, signals: bool = False,
) -> Run:  # fmt: skip
    """Work through a scope and return what was done; works in a script, in threads and inside a running event loop.

    `patient`: an open breaker is waited for until a probe has failed. With `signals` the first SIGINT or SIGTERM drains
    the run, and says so; a second one exits.
    """
    return run_anywhere(_perform(database, settings, enrichment, scope, limit, max_cost, notice, patient, signals))


def run_anywhere(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also from inside a running event loop: then in a thread with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _run_beside(coroutine)


def _run_beside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread; Ctrl-C comes here, is handed on, and is raised once the other thread has ended."""
    begun: Future[Callable[[], object]] = Future()

    async def told() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await coroutine

    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, told()).result()
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # it has just ended by itself
                begun.result()()
            raise


async def _perform(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, limit: int | None,
    max_cost: int | None, notice: Notice, patient: bool, signals: bool,
) -> Run:  # fmt: skip
    async with _client(settings, enrichment) as client:
        worker = Worker(
            database, settings, enrichment, client, limit=limit, max_cost=max_cost, notice=notice,
            course=to_the_end(patient=patient),
        )  # fmt: skip
        if signals:
            _drain_on_signals(worker)
        run = await worker.work(scope)
    await asyncio.to_thread(show_what_was_passed_over, database)
    return run


def serve(
    database: Database, settings: Settings, enrichment: Enrichment, *, name: str, poll_seconds: float,
    grace_seconds: float = GRACE_SECONDS, notice: Notice = lambda claim, end, run: None,
    watch: Callable[[Worker], None] = lambda worker: None, signals: bool = False,
) -> Run:  # fmt: skip
    """Work for ever on what is due, new or due again, and return what was done once a signal, or `stop`, ends it.

    `watch` is given the worker before it begins. `poll_seconds`: how often it looks when there is nothing to do.
    Raises what keeps it from recording, except for a database that is away: that is waited for.
    """
    return run_anywhere(
        _serve(database, settings, enrichment, name, poll_seconds, grace_seconds, notice, watch, signals)
    )


async def _serve(
    database: Database, settings: Settings, enrichment: Enrichment, name: str, poll_seconds: float,
    grace_seconds: float, notice: Notice, watch: Callable[[Worker], None], signals: bool,
) -> Run:  # fmt: skip
    async with _client(settings, enrichment) as client:
        course = for_ever(database, settings, enrichment, poll_seconds)
        worker = Worker(
            database, settings, enrichment, client, notice=notice, course=course, name=name,
            grace_seconds=grace_seconds,
        )  # fmt: skip
        watch(worker)
        if signals:
            _drain_on_signals(worker)
        return await worker.work(Scope(EPOCH))  # its course gives it a horizon


def _client(settings: Settings, enrichment: Enrichment) -> Client:
    from enrichlog.llm import Client  # the SDK takes a second to import: only when something is asked

    key = require_key(settings)
    return Client(
        enrichment.server, key or NO_KEY, deadline=settings.deadline_seconds, connections=settings.concurrency
    )


def _drain_on_signals(worker: Worker) -> None:
    """Drain at the first signal, close what runs at the second; the next one is nobody's to handle any more."""
    loop = asyncio.get_running_loop()

    def drain(number: int) -> None:
        if worker.run.signal is not None:
            worker.run.hurried = True
            worker.abandon()
            for one in DRAINING:
                loop.remove_signal_handler(one)
        else:
            logger.warning(
                "Ending: open calls have %g s to finish; a second signal closes them at once.", worker.grace_seconds
            )
        worker.run.signal = number
        worker.stop(f"Ended by {signal.Signals(number).name}.")

    for number in DRAINING:
        with suppress(NotImplementedError):  # Windows: there Ctrl-C cancels the run, which drains it as well
            loop.add_signal_handler(number, drain, number)
