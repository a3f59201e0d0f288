"""The walk of one enrichment: claim → ask → record, with many at once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from enrichlog import attempt
from enrichlog.attempt import End, end_proposal
from enrichlog.breakers import why_held
from enrichlog.claims import Claim, Claims, claim, lease_seconds
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import NotRecorded
from enrichlog.outcome import Failed, Outcome, defect, judge
from enrichlog.patience import Patience
from enrichlog.progress import Notice, Run
from enrichlog.reply import Api, Reply
from enrichlog.scope import Scope, is_any_due
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.events import EnrichmentFailed, EnrichmentLateResult, EnrichmentStarted
from eventlog.recorder import Recorder
from eventlog.redaction import redact
from projections.breaker import Breaker
from projections.inline import InlineReadModels

logger = logging.getLogger(__name__)

CLAIM_TOGETHER = 10
"""Postings are claimed together once this many calls can begin: each claim is a transaction."""

LOOKS, LOOK_SECONDS = 10, 0.5
"""How often, and after which pause, a run looks again for what is due and held by another program just then."""

LEASE_RESERVE_SECONDS = 30.0
"""No call begins unless its lease outlives the call's deadline by this."""

GRACE_SECONDS = 10.0
SHUT_DOWN = "The run was stopped before the answer came"
NOT_BEGUN = "The run was stopped before the call was begun"
TOO_LATE = "The call was not begun: too little of the lease was left"


class Asks(Protocol):
    """What the worker needs of a client."""

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        """Send one request."""
        ...


class Worker:
    """Takes what is in a scope, a number of calls at a time, until nothing is left of it.

    `stop` ends it early: nothing more is claimed; after a person's stop what runs has a grace to finish and is closed
    as interrupted then. `limit` bounds the postings taken, `max_cost` (micro-dollars) what is spent: what a running
    call may cost at the most is reserved. A posting on which a worker died runs alone, after all others. A wait that
    the provider asks for is waited for; where the breaker is open the run ends, unless it is `patient`: then it waits
    until a probe may go out, and ends when that fails. Raises `UnknownPrice` for a limit of money that cannot be kept.
    """

    def __init__(
        self, database: Database, settings: Settings, enrichment: Enrichment, client: Asks, *,
        limit: int | None = None, max_cost: int | None = None, notice: Notice = lambda claim, end, run: None,
        patient: bool = False, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if max_cost is not None:
            enrichment = enrichment.with_bounded_cost()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.run = Run()
        self._database, self._settings, self._enrichment, self._client = database, settings, enrichment, client
        self._left, self._max_cost, self._notice, self._monotonic = limit, max_cost, notice, monotonic
        self._patience, self._is_alone = Patience(waits_for_probe=patient), False
        self._running: set[asyncio.Task[None]] = set()
        self._abandoned = False
        self._committed = self._looks = 0
        self._error: EnrichlogError | None = None
        self._changed = asyncio.Event()

    def stop(self, why: str) -> None:
        """Claim nothing more. The first reason is the one that is told, without a key that a server may have echoed."""
        self.run.stopped = self.run.stopped or redact(why)
        self._changed.set()

    def abandon(self) -> None:
        """Close what runs as interrupted, without a grace; once, because recording that must not be cancelled too."""
        running = () if self._abandoned else self._running
        self._abandoned = True
        for task in running:
            task.cancel()

    async def work(self, scope: Scope) -> Run:
        """Take everything in the scope, then return what was done. Raises what the database raises."""
        with Recorder(self._database, InlineReadModels(self._database.dialect)) as recorder:
            try:
                while not self._stopping():
                    idle = not self._running  # before the claim: what ends during it may make room, and free money
                    claims = await self._take(recorder, scope)
                    if idle and claims == Claims([], scope):  # nothing else is left, and nothing runs
                        claims = await self._take(recorder, scope, alone=True)
                    if claims.held is not None:
                        await self._wait_for(claims.held)
                    elif idle and not claims.found and claims.rest == scope:
                        if await self._is_end(scope, claims):
                            break
                    else:
                        self._looks = 0
                    scope = claims.rest
                    await self._room(filling=claims.found or claims.held is not None)
            finally:
                self.run.missed += scope.missed
                await self._finish()
        if self._error is not None:
            raise self._error
        return self.run

    async def _is_end(self, scope: Scope, claims: Claims) -> bool:
        """Whether nothing is left: what others hold just then is waited for a while."""
        if claims.unaffordable:
            self.stop("the limit of money for this run does not allow another call.")
            return True
        if self._left == 0 or not await asyncio.to_thread(self._is_any_due, scope):
            return True
        if self._looks == LOOKS:
            self.stop("another program holds what is due.")
            return True
        self._looks += 1
        await self._sleep(LOOK_SECONDS)
        return False

    def _is_any_due(self, scope: Scope) -> bool:
        with self._database.read() as connection:
            now = self._database.dialect.clock(connection)
            return is_any_due(connection, self._enrichment.name, scope, now, self._settings.max_attempts)

    async def _wait_for(self, breaker: Breaker) -> None:
        """Wait until it is worth to look again whether a call may go out; stop where that is not to be waited for."""
        now = await asyncio.to_thread(self._database.now)
        seconds = self._patience.seconds(breaker, now)
        if seconds is None and not self._running:
            self.stop(why_held(breaker, now))
        else:  # of what runs, one may be the probe
            await self._sleep(seconds)

    async def _sleep(self, seconds: float | None) -> None:
        """Wait so long, and no longer than until something ends or the run is to stop."""
        self._changed.clear()
        if not self._stopping():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def _take(self, recorder: Recorder, scope: Scope, *, alone: bool = False) -> Claims:
        """Claim as many postings as calls can begin, and begin them; or one, beside which nothing else may run."""
        limit = self._free() if self._left is None else min(self._free(), self._left)
        alone = alone or scope.is_second_round
        if limit <= 0 or scope.is_exhausted or (alone and self._running):
            return Claims([], scope)
        money = None if self._max_cost is None else self._max_cost - self._committed
        arguments = (self._database, self._settings, self._enrichment, scope, self.name, limit, money)
        claimed_at = self._monotonic()  # before the claim: the lease cannot have begun earlier
        claiming = asyncio.create_task(asyncio.to_thread(claim, *arguments, alone=alone))
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # the thread goes on
            _release(recorder, (await claiming).taken)
            raise
        if self._stopping():  # since then
            _release(recorder, claims.taken)
            return Claims([], scope)
        self._is_alone = alone and bool(claims.taken)
        for one in claims.taken:
            self._committed += one.started.event.reserved_microdollars or 0
            task = asyncio.create_task(self._attempt(recorder, one, claimed_at))
            self._running.add(task)
            task.add_done_callback(self._ended)
        self._left = None if self._left is None else self._left - len(claims.taken)
        return claims

    async def _attempt(self, recorder: Recorder, claimed: Claim, claimed_at: float) -> None:
        """Ask and record: whatever happens becomes the attempt's end."""
        end = await self._ask(claimed, claimed_at)
        try:
            recorded = await asyncio.wrap_future(recorder.submit(end_proposal(claimed.started, end)))
        except EnrichlogError as error:  # the outcome could not be recorded: go no further
            self._error = self._error or error
            self.stop(str(error))
            return
        self._settle(claimed, end)
        self.run.late += recorded.type == EnrichmentLateResult.__name__
        self.run.count(end)
        _log(claimed, end)
        self._notice(claimed, end, self.run)

    def _settle(self, claimed: Claim, end: End) -> None:
        """Put what the call cost in the place of what was reserved for it; the reservation stays when nobody knows."""
        reserved = claimed.started.event.reserved_microdollars or 0
        unknown = reserved if end.called else 0
        self._committed += (unknown if end.cost_microdollars is None else end.cost_microdollars) - reserved

    async def _ask(self, claimed: Claim, claimed_at: float) -> End:
        started = claimed.started
        if self._monotonic() - claimed_at + self._settings.deadline_seconds + LEASE_RESERVE_SECONDS > lease_seconds(
            self._settings
        ):
            return attempt.interrupted(started, TOO_LATE, called=False)
        try:
            outcome = claimed.outcome or await self._call(claimed)
            self._stop_if_useless(started.event, outcome.failed)
            return attempt.end(self._enrichment, started, outcome, self._settings.backoff_base_seconds)
        except asyncio.CancelledError:
            return attempt.interrupted(started, SHUT_DOWN)
        except Exception as error:  # the call may be paid for: a defect of ours or of a user's model is an end too
            logger.exception("an attempt met a defect", extra=_ids(claimed))
            return attempt.end(self._enrichment, started, defect(error), self._settings.backoff_base_seconds)

    def _stop_if_useless(self, start: EnrichmentStarted, failed: Failed | None) -> None:
        """Go no further after what concerns every posting, or when a probe finds the provider as it was."""
        if failed is not None and (failed.kind.stops or (start.probe and failed.kind.fault == "provider")):
            self.stop(f"{failed.kind.group}: {failed.message}")

    async def _call(self, claimed: Claim) -> Outcome:
        enrichment, settings = self._enrichment, self._settings
        reply = await self._client.ask(enrichment.api, claimed.request.body, claimed.started.event.attempt_id)
        reply = reply._replace(requested_tokens=claimed.request.input_tokens)
        return judge(reply, enrichment.api, enrichment.result_model, settings.deadline_seconds, settings.error_codes)

    def _stopping(self) -> bool:
        return self.run.stopped is not None

    def _free(self) -> int:
        return 0 if self._is_alone else self._settings.concurrency - len(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._is_alone = self._is_alone and bool(self._running)
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


def _release(recorder: Recorder, claims: list[Claim]) -> None:
    """End attempts that nobody will begin, uncounted."""
    for one in claims:
        released = attempt.interrupted(one.started, NOT_BEGUN, called=False)
        recorder.submit(end_proposal(one.started, released))


def _ids(claimed: Claim) -> dict[str, str]:
    """What a log record says beside its message."""
    return {"job_id": claimed.posting.id, "attempt_id": claimed.started.event.attempt_id}


def _log(claimed: Claim, end: End) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    told = f"failed, {end.error_type}: {end.message}" if isinstance(end, EnrichmentFailed) else "succeeded"
    # Redacted here, because a program that imports us has handlers of its own.
    logger.info("%s: attempt %d %s", claimed.posting.id, end.attempt, redact(told), extra=_ids(claimed))
