"""The walk of one enrichment: claim → ask → record, with many at once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from enrichlog.calls import Asks, Calls, steady_seconds
from enrichlog.claims import Claims
from enrichlog.course import Course, to_the_end
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import UnusableSource
from enrichlog.intake import Intake
from enrichlog.progress import Notice, Run
from enrichlog.scope import Scope
from enrichlog.settings import Settings
from enrichlog.waiting import Waiting
from eventlog.database import Database
from eventlog.errors import DatabaseBusy, DatabaseUnavailable, EnrichlogError
from eventlog.recorder import Recorder
from eventlog.redaction import redact
from projections.inline import InlineReadModels

logger = logging.getLogger(__name__)

CLAIM_TOGETHER = 10
"""Postings are claimed together once this many calls can begin: each claim is a transaction."""

LOOKS, LOOK_SECONDS = 10, 0.5
"""How often, and after which pause, a run looks again for what is due and held by another program just then."""

SUSPECTS_SECONDS = 60.0
"""A worker that is never idle gives postings on which a worker died a turn after so long, and for no longer."""

GRACE_SECONDS = 10.0

HOLDING_LOOK_SECONDS = 0.5

DRAIN_SECONDS, HURRY_SECONDS = 10.0, 2.0
"""How long, after its grace, a daemon that ends holds what a database that is away cannot take; and hurried."""


State = Literal["idle", "working", "waiting", "away", "draining"]


class Standing(NamedTuple):
    """How a worker is at this moment: what it does, how many attempts are in flight, and `why` it waits."""

    state: State
    in_flight: int
    why: str | None = None


class Worker:
    """Takes what is in a scope, a number of calls at a time, until nothing is left of it, or for ever: see `Course`.

    `stop` ends it early: nothing more is claimed; after a person's stop what runs has `grace_seconds` to finish and is
    closed as interrupted then. `limit` bounds the postings taken, `max_cost` (micro-dollars) what is spent: what a
    running call may cost at the most is reserved. A posting on which a worker died runs alone, after all others. A wait
    that the provider asks for is waited for. While the database is away nothing is claimed, and before anything is
    claimed after that, what is held is recorded. Raises `UnknownPrice` for a limit of money that cannot be kept.
    """

    def __init__(
        self, database: Database, settings: Settings, enrichment: Enrichment, client: Asks, *,
        limit: int | None = None, max_cost: int | None = None, notice: Notice = lambda claim, end, run: None,
        course: Course | None = None, name: str | None = None, grace_seconds: float | None = None,
        monotonic: Callable[[], float] = steady_seconds,
    ) -> None:  # fmt: skip
        if max_cost is not None:
            enrichment = enrichment.with_bounded_cost()
        self.name = name or _name_of_run()
        self.run = Run()
        self.grace_seconds = GRACE_SECONDS if grace_seconds is None else grace_seconds
        self._database, self._settings = database, settings
        self._monotonic = monotonic
        self._course = course or to_the_end()
        self._recorder = Recorder(database, InlineReadModels(database), self._course.patience.away_seconds)
        self._calls = Calls(
            self._recorder, settings, enrichment, client, self.run, notice, self.stop,
            is_endless=self._course.is_endless, monotonic=monotonic,
        )  # fmt: skip
        self._intake = Intake(
            database, settings, enrichment, self.name, self._calls, self.run, limit, max_cost, monotonic
        )
        self._looks = 0
        self._suspects_at: float | None = None
        self._waiting = Waiting(database, self._calls, self._course.patience, self.stop, monotonic)

    @property
    def standing(self) -> Standing:
        """How it is now; may be asked in any thread."""
        in_flight = self._calls.in_flight
        if self._stopping():
            return Standing("draining", in_flight, self.run.stopped)
        if self._course.patience.is_away or self._recorder.is_holding:
            return Standing("away", in_flight, self._waiting.why or "The database is away.")
        if self._waiting.why is not None:
            return Standing("waiting", in_flight, self._waiting.why)
        return Standing("working" if in_flight else "idle", in_flight)

    def stop(self, why: str) -> None:
        """Claim nothing more. The first reason is the one that is told, without a key that a server may have echoed."""
        self.run.stopped = self.run.stopped or redact(why)
        self._calls.wake()

    def abandon(self) -> None:
        """Close what runs as interrupted, without a grace, and hold it not for long should the database be away."""
        self._recorder.hurry(HURRY_SECONDS)
        self._calls.abandon()

    async def work(self, scope: Scope) -> Run:
        """Take everything in the scope, then return what was done. Raises what the database raises."""
        self._intake.scope = scope
        self._recorder.start()
        try:
            while not self._stopping() and await self._step():
                pass
        finally:
            self.run.missed += self._intake.scope.missed
            try:
                await self._finish()
            finally:
                await _whole(asyncio.to_thread(self._recorder.close))  # beside the loop, where signals are heard
        if self._calls.error is not None:
            raise self._calls.error
        return self.run

    async def _step(self) -> bool:
        """Claim once, then wait until it is worth to claim again. Returns whether it ever will be."""
        try:
            if self._recorder.is_holding:  # first what is held is recorded, then more may begin
                await self._calls.change(HOLDING_LOOK_SECONDS)
                return True
            await self._intake.settle_unsure()
            await self._calls.room(min(CLAIM_TOGETHER, max(1, self._settings.concurrency // 4)))  # slow calls are left
            if self._course.is_endless:
                self._intake.scope = await asyncio.to_thread(self._course.renewed, self._intake.scope)
                await self._give_suspects_a_turn()
            before = self._intake.scope
            idle = not self._calls.in_flight  # before the claim: what ends during it may make room, and free money
            claims = await self._intake.take()
            if idle and claims == Claims([], before) and not self._stopping():  # nothing else is left, nothing runs
                claims = await self._intake.take(alone=True)
            if claims.away is None:
                self._course.patience.is_back()
                return await self._goes_on(claims, before, idle=idle)
            away = claims.away
        except UnusableSource as unusable:
            await self._waiting.for_source(unusable)
            return True
        except (DatabaseBusy, DatabaseUnavailable) as error:
            away = error
        await self._waiting.bear(away)
        return True

    async def _goes_on(self, claims: Claims, before: Scope, *, idle: bool) -> bool:
        """Wait for what keeps more from beginning; False where nothing is left."""
        self._waiting.why = None
        if claims.held is not None:
            await self._waiting.for_breaker(claims.held, idle=idle)
        elif claims.limited is not None:
            await self._waiting.under(claims.limited)
        elif claims.found or claims.rest != before:
            self._looks = 0
        elif self._course.poll_seconds is not None:
            await self._calls.pause(self._course.poll_seconds)
        elif not idle:
            await self._calls.room(self._settings.concurrency)
        else:
            return not await self._is_end(claims)
        return True

    async def _is_end(self, claims: Claims) -> bool:
        """Whether nothing is left: what others hold just then is waited for a while."""
        if claims.unaffordable:
            self.stop("the limit of money for this run does not allow another call.")
            return True
        if self._intake.left == 0 or not await asyncio.to_thread(self._intake.is_any_due):
            return True
        if self._looks == LOOKS:
            self.stop("another program holds what is due.")
            return True
        self._looks += 1
        await self._waiting.sleep(LOOK_SECONDS)
        return False

    async def _give_suspects_a_turn(self) -> None:
        """Have those on which a worker died run alone now and then, also in a worker that is never idle."""
        now = self._monotonic()
        if self._suspects_at is None:  # after all others
            self._suspects_at = now + SUSPECTS_SECONDS
        if now < self._suspects_at:
            return
        if await asyncio.to_thread(self._intake.is_any_due, alone=True):
            await self._calls.room(self._settings.concurrency)
            until = self._monotonic() + SUSPECTS_SECONDS
            while self._monotonic() < until and not self._stopping() and (await self._intake.take(alone=True)).taken:
                await self._calls.room(self._settings.concurrency)
        self._suspects_at = self._monotonic() + SUSPECTS_SECONDS

    def _stopping(self) -> bool:
        return self.run.stopped is not None

    async def _finish(self) -> None:
        """Wait for what runs; after a person's stop only for the grace, then close the rest as interrupted."""
        if self._course.is_endless:
            self._recorder.hurry(self.grace_seconds + DRAIN_SECONDS)
        with suppress(EnrichlogError):  # it stays away: their leases will run out
            await self._intake.settle_unsure()
        ours = asyncio.current_task()
        await self._calls.finish(
            lambda: self.run.signal is not None or (ours is not None and ours.cancelling() > 0), self.grace_seconds
        )


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of something though this task is cancelled meanwhile; that is raised after it."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _name_of_run() -> str:
    """What a run is called in the events: by its machine and process."""
    return f"{socket.gethostname()}-{os.getpid()}"
