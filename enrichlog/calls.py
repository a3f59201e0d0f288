"""The calls of one worker: each claimed posting is asked about, and what came of it is recorded."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from enrichlog import attempt
from enrichlog.attempt import End, end_proposal
from enrichlog.claims import Claim, lease_seconds
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import NotRecorded
from enrichlog.outcome import Failed, Outcome, defect, judge
from enrichlog.progress import Notice, Run
from enrichlog.reply import Api, Reply
from enrichlog.settings import Settings
from eventlog.errors import EnrichlogError
from eventlog.events import EnrichmentFailed, EnrichmentLateResult, EnrichmentStarted
from eventlog.recorder import Recorder
from eventlog.redaction import redact

logger = logging.getLogger(__name__)

LEASE_RESERVE_SECONDS = 30.0
"""No call begins unless its lease outlives the call's deadline by this."""

SHUT_DOWN = "The run was stopped before the answer came"
NOT_BEGUN = "The run was stopped before the call was begun"
WAITS_FOR_MONEY = "%s: such postings wait for the next day. Raise the limit, or lower max_output_tokens."
TOO_LATE = "The call was not begun: too little of the lease was left"


class Asks(Protocol):
    """What the worker needs of a client."""

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        """Send one request."""
        ...


def steady_seconds() -> float:
    """A clock that never steps, and goes on while the machine sleeps where there is one that does: so do leases."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Calls:
    """What is in flight. `stop` is told why going on is useless, or impossible; `error` is what made it impossible.

    `committed` (micro-dollars) is what has been spent, and reserved by what is in flight.
    """

    def __init__(
        self, recorder: Recorder, settings: Settings, enrichment: Enrichment, client: Asks, run: Run, notice: Notice,
        stop: Callable[[str], None], *, is_endless: bool, monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._recorder, self._settings, self._enrichment, self._client = recorder, settings, enrichment, client
        self._run, self._notice, self._stop, self._monotonic = run, notice, stop, monotonic
        self._is_endless, self._is_alone, self._abandoned = is_endless, False, False
        self._running: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[Any] | None] = set()
        self._changed = asyncio.Event()
        self.committed = 0
        self.error: EnrichlogError | None = None

    @property
    def in_flight(self) -> int:
        """How many attempts have begun and are not recorded yet."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many more may begin."""
        return 0 if self._is_alone else self._settings.concurrency - len(self._running)

    def begin(self, claims: Sequence[Claim], claimed_at: float, *, alone: bool) -> None:
        """Begin what was claimed at that time; `alone`: nothing may begin beside it."""
        self._is_alone = alone and bool(claims)
        for one in claims:
            self.committed += one.started.event.reserved_microdollars or 0
            task = asyncio.create_task(self._attempt(one, claimed_at))
            self._running.add(task)
            self._asking.add(task)
            task.add_done_callback(self._ended)

    def release(self, claims: Sequence[Claim]) -> None:
        """End attempts that nobody will begin, uncounted."""
        for one in claims:
            released = attempt.interrupted(one.started, NOT_BEGUN, called=False)
            self._recorder.submit(end_proposal(one.started, released))

    def abandon(self) -> None:
        """Close what is still asked as interrupted, without a grace; what is being recorded is not cut off."""
        self._abandoned = True
        for task in filter(None, self._asking):
            task.cancel()

    def wake(self) -> None:
        """Have whoever waits for a change look."""
        self._changed.set()

    async def change(self, seconds: float | None = None) -> None:
        """Wait until something has ended, or somebody was woken, and no longer than this."""
        self._changed.clear()
        if self._run.stopped is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def pause(self, seconds: float) -> None:
        """Wait so long, whatever ends meanwhile, unless the worker is to stop."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._run.stopped is None and (left := until - loop.time()) > 0:
            await self.change(left)

    async def room(self, wanted: int) -> None:
        """Wait until so many more may begin, or the worker is to stop."""
        while self._running and self.free < wanted and self._run.stopped is None:
            await self.change()

    async def finish(self, is_told: Callable[[], bool], grace_seconds: float) -> None:
        """Wait for all that runs; once it `is_told` to end only for the grace, then close the rest as interrupted."""
        while self._running:
            if is_told():
                timeout = None if self._abandoned else grace_seconds
                _, unfinished = await asyncio.wait(self._running, timeout=timeout)
                if unfinished:
                    self.abandon()
            else:  # woken by each end, and by a signal that comes only now
                self._changed.clear()
                await self._changed.wait()

    async def _attempt(self, claimed: Claim, claimed_at: float) -> None:
        """Ask and record: whatever happens becomes the attempt's end."""
        try:
            end = await self._ask(claimed, claimed_at)
        finally:
            self._asking.discard(asyncio.current_task())
        try:
            recorded = await asyncio.wrap_future(self._recorder.submit(end_proposal(claimed.started, end)))
        except EnrichlogError as error:  # the outcome could not be recorded: go no further
            self.error = self.error or error
            self._run.unrecorded += 1
            self._stop(str(error))
            return
        self._settle(claimed, end)
        self._run.late += recorded.type == EnrichmentLateResult.__name__
        self._run.count(end)
        _log(claimed, end)
        _warn_of_first(end, self._run)
        self._notice(claimed, end, self._run)

    def _settle(self, claimed: Claim, end: End) -> None:
        """Put what the call cost in the place of what was reserved for it; the reservation stays when nobody knows."""
        reserved = claimed.started.event.reserved_microdollars or 0
        unknown = reserved if end.called else 0
        self.committed += (unknown if end.cost_microdollars is None else end.cost_microdollars) - reserved

    async def _ask(self, claimed: Claim, claimed_at: float) -> End:
        started, settings = claimed.started, self._settings
        needed = settings.deadline_seconds + LEASE_RESERVE_SECONDS
        if self._monotonic() - claimed_at + needed > lease_seconds(settings):
            return attempt.interrupted(started, TOO_LATE, called=False)
        try:
            outcome = claimed.outcome or await self._call(claimed)
            self._stop_if_useless(started.event, outcome.failed)
            return attempt.end(self._enrichment, started, outcome, settings.backoff_base_seconds)
        except asyncio.CancelledError:
            return attempt.interrupted(started, SHUT_DOWN)
        except Exception as error:  # the call may be paid for: a defect of ours or of a user's model is an end too
            logger.exception("an attempt met a defect", extra=_ids(claimed))
            return attempt.end(self._enrichment, started, defect(error), settings.backoff_base_seconds)

    def _stop_if_useless(self, start: EnrichmentStarted, failed: Failed | None) -> None:
        """Go no further after what concerns every posting, or when a probe finds the provider as it was.

        A daemon goes on: the breaker holds it until that is mended.
        """
        if failed is None or self._is_endless:
            return
        if failed.kind.stops or (start.probe and failed.kind.fault == "provider"):
            self._stop(f"{failed.kind.group}: {failed.message}")

    async def _call(self, claimed: Claim) -> Outcome:
        enrichment, settings = self._enrichment, self._settings
        reply = await self._client.ask(enrichment.api, claimed.request.body, claimed.started.event.attempt_id)
        reply = reply._replace(requested_tokens=claimed.request.input_tokens)
        return judge(reply, enrichment.api, enrichment.result_model, settings.deadline_seconds, settings.error_codes)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._is_alone = self._is_alone and bool(self._running)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an attempt ended with a defect", exc_info=error)
            self.error = self.error or NotRecorded(reason=f"{type(error).__name__}: {error}")
            self._stop(str(self.error))


def _ids(claimed: Claim) -> dict[str, str]:
    """What a log record says beside its message."""
    return {"job_id": claimed.posting.id, "attempt_id": claimed.started.event.attempt_id}


def _warn_of_first(end: End, run: Run) -> None:
    """Say it once when a call costs more than a day's limit allows: then many do, and none of them is called."""
    if isinstance(end, EnrichmentFailed) and end.error_type == "budget_exceeded" and run.errors[end.error_type] == 1:
        logger.warning(WAITS_FOR_MONEY, end.message)


def _log(claimed: Claim, end: End) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    told = f"failed, {end.error_type}: {end.message}" if isinstance(end, EnrichmentFailed) else "succeeded"
    # Redacted here, because a program that imports us has handlers of its own.
    logger.info("%s: attempt %d %s", claimed.posting.id, end.attempt, redact(told), extra=_ids(claimed))
