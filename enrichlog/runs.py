"""A run: from what someone asked for to a worker that has done it."""

from __future__ import annotations

import asyncio
import getpass
import signal
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy import Select, select

from enrichlog.claims import Scope
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import InvalidSetting, MissingApiKey
from enrichlog.postings import find_posting, job_postings, sync
from enrichlog.retry import allowance
from enrichlog.settings import Settings
from enrichlog.worker import Notice, Run, Worker
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentRequested
from eventlog.log import Proposal, append
from eventlog.streams import stream_of
from projections.enrichment_status import State, enrichment_status
from projections.inline import InlineReadModels
from projections.reconcile import PROJECTIONS, not_shown, reconcile
from projections.users_table import LOCKED

T = TypeVar("T")
NO_KEY = "none"  # a server of one's own may need none; the SDK refuses an empty one


class Target(NamedTuple):
    """A posting to be requested; when it was looked at, it was at this version and in this state."""

    job_id: str
    version: int | None = None
    state: State = "pending"


class Requested(NamedTuple):
    """The requests of one batch: its scope, and the postings that had moved on."""

    scope: Scope
    moved_on: list[str]


class Chosen(NamedTuple):
    """What a run over named postings takes, and for each of the others the reason that it does not."""

    targets: list[Target]
    left: dict[str, str]


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


def actor() -> str:
    """Who acts: the user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def open_scope(database: Database, enrichment: str) -> Scope:
    """Everything that is due now, new and changed postings included."""
    sync(database, enrichment, actor())
    with database.read() as connection:
        return Scope(database.dialect.clock(connection))


def request(
    database: Database, enrichment: str, targets: Sequence[Target], why: Literal["retry", "force"],
    reason: str | None = None, max_attempts: int | None = None,
) -> Requested:  # fmt: skip
    """Request these postings as one batch. Those at another version than the target's are reported, not requested."""
    batch, moved_on = str(uuid.uuid4()), []
    event = EnrichmentRequested(why=why, actor=actor(), batch=batch, max_attempts=max_attempts, reason=reason)
    for start in range(0, len(targets), 500):
        proposals = [
            Proposal(stream_of(enrichment, target.job_id), event, str(uuid.uuid4()), target.version)
            for target in targets[start : start + 500]
        ]
        with database.write() as connection:
            outcomes = append(connection, database.dialect, proposals, InlineReadModels(database.dialect))
        pairs = zip(targets[start : start + 500], outcomes, strict=True)
        moved_on += [target.job_id for target, outcome in pairs if isinstance(outcome, Conflict)]
    with database.read() as connection:
        return Requested(Scope(database.dialect.clock(connection), batch), moved_on)


def choose(database: Database, enrichment: str, job_ids: Sequence[str], max_attempts: int, *, force: bool) -> Chosen:
    """Which of these postings can be tried; `force` takes all but those in flight. Raises `UnknownJob`.

    One that was never requested is taken for pending, as it will be when the run begins.
    """
    with database.read() as connection:
        now = database.dialect.clock(connection)
        known = {row.job_id: row for row in connection.execute(_statuses(enrichment, job_ids))}
    chosen = Chosen([], {})
    for job_id in dict.fromkeys(job_ids):
        find_posting(database, job_id)
        row = known.get(job_id)
        reason = None if row is None else _why_left(row, max_attempts, now, force=force)
        if reason is None:
            chosen.targets.append(Target(job_id) if row is None else Target(job_id, row.version, row.state))
        else:
            chosen.left[job_id] = reason
    return chosen


def scope_of(database: Database, enrichment: str, targets: Sequence[Target], *, force: bool) -> Scope:
    """The scope of a run over these postings; those that are not pending anyway are requested first."""
    scope = open_scope(database, enrichment)
    again = [target for target in targets if target.state not in ("pending", "running")]
    request(database, enrichment, again, "force" if force else "retry")
    return replace(scope, job_ids=tuple(target.job_id for target in targets))


def every_posting(database: Database, enrichment: str) -> list[Target]:
    """All postings that no attempt is in flight for."""
    status = enrichment_status.c
    stream = (status.enrichment == enrichment) & (status.job_id == job_postings.c.id)
    query = select(job_postings.c.id).outerjoin(enrichment_status, stream).order_by(job_postings.c.id)
    return [Target(row.id) for row in database.page(query.where(status.state.is_distinct_from("running")))]


def _statuses(enrichment: str, job_ids: Sequence[str]) -> Select[Any]:
    status = enrichment_status.c
    return select(enrichment_status).where(status.enrichment == enrichment, status.job_id.in_(job_ids))


def _why_left(row: Any, max_attempts: int, now: datetime, *, force: bool) -> str | None:
    """Why a posting that was named is not tried; None when it is."""
    if row.state == "running":  # one whose lease ran out is closed by the claim that takes it
        return "an attempt is in flight" if row.due_at > now else None
    if force or row.state == "pending":
        return None
    if row.state == "succeeded":
        return "already enriched"
    if row.state == "dismissed" or not row.retryable:
        return f"{row.error_type or 'dismissed'}: trying again brings the same"
    allowed = allowance(row.max_attempts, row.cap, max_attempts)
    return "its attempts are used up" if row.budget_used - row.grants >= allowed else None


def perform(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, *,
    limit: int | None = None, max_cost: int | None = None, notice: Notice = lambda claim, end, run: None,
    signals: bool = False,
) -> Run:  # fmt: skip
    """Work through a scope and return what was done; works in a script, in threads and inside a running event loop.

    With `signals` the first SIGINT or SIGTERM drains the run, a second one exits.
    """
    return run_anywhere(_perform(database, settings, enrichment, scope, limit, max_cost, notice, signals))


def run_anywhere(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also from inside a running event loop: then in a thread with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


async def _perform(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, limit: int | None,
    max_cost: int | None, notice: Notice, signals: bool,
) -> Run:  # fmt: skip
    from enrichlog.llm import Client  # the SDK takes a second to import: only when something is asked

    key = require_key(settings)
    deadline, connections = settings.deadline_seconds, settings.concurrency
    async with Client(enrichment.server, key or NO_KEY, deadline=deadline, connections=connections) as client:
        worker = Worker(database, settings, enrichment, client, limit=limit, max_cost=max_cost, notice=notice)
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
        worker.run.signal = number
        worker.stop(f"Ended by {signal.Signals(number).name}.")

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there Ctrl-C cancels the run, which drains it as well
            loop.add_signal_handler(number, drain, number)


def _show_what_was_locked(database: Database) -> None:
    """Write the rows that were skipped because another program had locked them."""
    streams = [stream_id for stream_id, reason in not_shown(database).items() if reason == LOCKED]
    if streams:
        reconcile(database, PROJECTIONS["llm_enrichment"], write=True, streams=streams)
