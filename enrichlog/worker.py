"""The walk of one enrichment: claim → ask → record, with many at once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from enrichlog import attempt
from enrichlog.attempt import End, end_proposal
from enrichlog.claims import Claim, Scope, claim, lease_seconds
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import NotRecorded
from enrichlog.outcome import SIMULATOR, Outcome, judge
from enrichlog.reply import Api, Reply
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.events import EnrichmentFailed, EnrichmentLateResult
from eventlog.recorder import Recorder
from projections.inline import InlineReadModels

logger = logging.getLogger(__name__)

CLAIM_TOGETHER = 10
"""Postings are claimed together once this many calls can begin: each claim is a transaction."""

LEASE_RESERVE_SECONDS = 30.0
"""No call begins unless its lease outlives the call's deadline by this."""

GRACE_SECONDS = 10.0
SHUT_DOWN = "The run was stopped before the answer came"
TOO_LATE = "The call was not begun: too little of the lease was left"


class Asks(Protocol):
    """What the worker needs of a client."""

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        """Send one request."""
        ...


@dataclass
class Run:
    """What a run has done so far. `stopped` says why it ended early, `signal` that a person ended it."""

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    simulated: bool = False
    stopped: str | None = None
    signal: int | None = None

    @property
    def done(self) -> int:
        """How many attempts have ended."""
        return self.succeeded + self.failed

    def count(self, end: End) -> None:
        """Count the end of one attempt."""
        if isinstance(end, EnrichmentFailed):
            self.failed += 1
            self.errors[end.error_type] += 1
        else:
            self.succeeded += 1
        self.input_tokens += end.input_tokens or 0
        self.output_tokens += end.output_tokens or 0
        self.cost_microdollars += end.cost_microdollars or 0
        self.simulated = self.simulated or end.provider_name == SIMULATOR
        self.unpriced_calls += end.input_tokens is not None and end.cost_microdollars is None


Notice = Callable[[Claim, End, Run], None]


class Worker:
    """Takes what is in a scope, a number of calls at a time, until nothing is left of it.

    `stop` ends it early: nothing more is claimed; after a person's stop what runs has a grace to finish and is closed
    as interrupted then. `limit` bounds the postings taken, `max_cost` (micro-dollars) what is spent: what a running
    call may cost at the most is reserved. Raises `UnknownPrice` for a limit of money that cannot be kept.
    """

    def __init__(
        self, database: Database, settings: Settings, enrichment: Enrichment, client: Asks, *,
        limit: int | None = None, max_cost: int | None = None, notice: Notice = lambda claim, end, run: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if max_cost is not None:
            enrichment.require_price()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.run = Run()
        self._database, self._settings, self._enrichment, self._client = database, settings, enrichment, client
        self._left, self._max_cost, self._notice, self._monotonic = limit, max_cost, notice, monotonic
        self._running: set[asyncio.Task[None]] = set()
        self._reserved = 0
        self._error: EnrichlogError | None = None
        self._changed = asyncio.Event()

    def stop(self, why: str) -> None:
        """Claim nothing more; the first reason given is the one that is told."""
        self.run.stopped = self.run.stopped or why
        self._changed.set()

    def abandon(self) -> None:
        """Close what runs as interrupted, without a grace."""
        for task in self._running:
            task.cancel()

    async def work(self, scope: Scope) -> Run:
        """Take everything in the scope, then return what was done. Raises what the database raises."""
        with Recorder(self._database, InlineReadModels(self._database.dialect)) as recorder:
            try:
                while not self.run.stopped and ((taken := await self._take(recorder, scope)) or self._running):
                    await self._room(filling=taken > 0)
            finally:
                await self._finish()
        if self._error is not None:
            raise self._error
        return self.run

    async def _take(self, recorder: Recorder, scope: Scope) -> int:
        """Claim as many postings as calls can begin, and begin them; returns how many."""
        limit = self._free() if self._left is None else min(self._free(), self._left)
        if self.run.stopped or limit <= 0:
            return 0
        money = None if self._max_cost is None else self._max_cost - self.run.cost_microdollars - self._reserved
        arguments = (self._database, self._settings, self._enrichment, scope, self.name, limit, money)
        claimed_at = self._monotonic()  # before the claim: the lease cannot have begun earlier
        claiming = asyncio.create_task(asyncio.to_thread(claim, *arguments))
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # the thread goes on: what it claims for nobody is released
            for one in (await claiming).taken:
                released = attempt.interrupted(one.started, SHUT_DOWN, counts=False, called=False)
                recorder.submit(end_proposal(one.started, released))
            raise
        if claims.unaffordable and not self._running and not claims.taken:
            self.stop("the limit of money for this run does not allow another call")
        for one in claims.taken:
            self._reserved += one.started.event.reserved_microdollars or 0
            task = asyncio.create_task(self._attempt(recorder, one, claimed_at))
            self._running.add(task)
            task.add_done_callback(self._ended)
        self._left = None if self._left is None else self._left - len(claims.taken)
        return len(claims.taken) + claims.given_up

    async def _attempt(self, recorder: Recorder, claimed: Claim, claimed_at: float) -> None:
        """Ask and record: whatever happens becomes the attempt's end."""
        try:
            end = await self._ask(claimed, claimed_at)
            (recorded,) = await asyncio.wrap_future(recorder.submit(end_proposal(claimed.started, end)))
        except EnrichlogError as error:  # the outcome could not be recorded: go no further
            self._error = self._error or error
            self.stop(str(error))
            return
        finally:
            self._reserved -= claimed.started.event.reserved_microdollars or 0
        self.run.late += recorded.type == EnrichmentLateResult.__name__
        self.run.count(end)
        self._notice(claimed, end, self.run)

    async def _ask(self, claimed: Claim, claimed_at: float) -> End:
        started = claimed.started
        if self._monotonic() - claimed_at + self._settings.deadline_seconds + LEASE_RESERVE_SECONDS > lease_seconds(
            self._settings
        ):
            return attempt.interrupted(started, TOO_LATE, counts=False, called=False)
        try:
            outcome = claimed.outcome or await self._call(claimed)
        except asyncio.CancelledError:
            return attempt.interrupted(started, SHUT_DOWN, counts=False)
        if attempt.is_final(outcome.failed) and outcome.failed is not None:
            self.stop(f"{outcome.failed.kind.group}: {outcome.failed.message}")
        return attempt.end(self._enrichment, started, outcome, self._settings.backoff_base_seconds)

    async def _call(self, claimed: Claim) -> Outcome:
        enrichment, settings = self._enrichment, self._settings
        reply = await self._client.ask(enrichment.api, claimed.request.body, claimed.started.event.attempt_id)
        return judge(reply, enrichment.api, enrichment.result_model, settings.deadline_seconds, settings.error_codes)

    def _free(self) -> int:
        return self._settings.concurrency - len(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an attempt ended with a defect", exc_info=error)
            self._error = self._error or NotRecorded(reason=f"{type(error).__name__}: {error}")
            self.stop(str(self._error))

    async def _room(self, *, filling: bool) -> None:
        """Wait until a few calls can begin together; when there was nothing to fill the room with, until all ended."""
        few = min(CLAIM_TOGETHER, max(1, self._settings.concurrency // 4))  # a slow call must not hold up the others
        wanted = few if filling else self._settings.concurrency
        while self._running and self._free() < wanted and not self.run.stopped:
            self._changed.clear()
            await self._changed.wait()

    async def _finish(self) -> None:
        """Wait for what runs; after a person's stop only for the grace, then close the rest as interrupted."""
        ours = asyncio.current_task()
        while self._running:
            told = self.run.signal is not None or (ours is not None and ours.cancelling() > 0)
            if told:
                _, unfinished = await asyncio.wait(self._running, timeout=GRACE_SECONDS)
                if unfinished:
                    self.abandon()
            else:  # woken by each end, and by a signal that comes only now
                self._changed.clear()
                await self._changed.wait()
