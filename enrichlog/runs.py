"""A run: a scope is given to a worker, and the run ends when the worker has done it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import InvalidSetting, MissingApiKey
from enrichlog.postings import find_deleted
from enrichlog.progress import Notice, Run
from enrichlog.scope import Scope
from enrichlog.settings import Settings
from enrichlog.worker import GRACE_SECONDS, Worker
from eventlog.database import Database
from projections.reconcile import PROJECTIONS, not_shown, reconcile
from projections.users_table import DELETED, LOCKED

logger = logging.getLogger(__name__)

T = TypeVar("T")
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
    from enrichlog.llm import Client  # the SDK takes a second to import: only when something is asked

    key = require_key(settings)
    deadline, connections = settings.deadline_seconds, settings.concurrency
    async with Client(enrichment.server, key or NO_KEY, deadline=deadline, connections=connections) as client:
        worker = Worker(
            database, settings, enrichment, client, limit=limit, max_cost=max_cost, notice=notice, patient=patient
        )
        if signals:
            _drain_on_signals(worker)
        run = await worker.work(scope)
    await asyncio.to_thread(_show_what_was_locked, database)
    return run


def _drain_on_signals(worker: Worker) -> None:
    loop = asyncio.get_running_loop()

    def drain(number: int) -> None:
        if worker.run.signal is not None:
            worker.abandon()
        else:
            logger.warning(
                "Ending: open calls have %g s to finish; a second signal closes them at once.", GRACE_SECONDS
            )
        worker.run.signal = number
        worker.stop(f"Ended by {signal.Signals(number).name}.")

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there Ctrl-C cancels the run, which drains it as well
            loop.add_signal_handler(number, drain, number)


def _show_what_was_locked(database: Database) -> None:
    """Write the rows that were skipped because another program had locked or deleted them."""
    streams = [stream_id for stream_id, reason in not_shown(database).items() if reason in (LOCKED, DELETED)]
    if streams:
        reconcile(database, PROJECTIONS["llm_enrichment"], write=True, streams=streams, gone=find_deleted)
