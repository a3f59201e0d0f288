"""What keeps a worker from beginning more: waited for as long as its patience says, else the worker stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from enrichlog.breakers import why_held
from enrichlog.calls import Calls
from enrichlog.exceptions import UnusableSource
from enrichlog.limits import Limited
from enrichlog.patience import LOOK_SECONDS, Patience
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from projections.breaker import Breaker


class Waiting:
    """The waits of one worker; `why` is what it waits for at this moment, None for nothing."""

    def __init__(
        self, database: Database, calls: Calls, patience: Patience, stop: Callable[[str], None],
        monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._database, self._calls, self._patience = database, calls, patience
        self._stop, self._monotonic = stop, monotonic
        self.why: str | None = None

    async def for_breaker(self, breaker: Breaker, *, idle: bool) -> None:
        """Wait until it is worth to look again whether a call may go out; stop where that is not to be waited for.

        `idle`: nothing ran before the look; else it may have been the probe, and have ended since.
        """
        now = await asyncio.to_thread(self._database.now)
        self.why, seconds = why_held(breaker, now), self._patience.seconds(breaker, now)
        if seconds is None and idle:
            self._stop(self.why)
        elif seconds is not None or self._calls.in_flight:
            await self.sleep(seconds)

    async def under(self, limit: Limited) -> None:
        """Wait until more may begin; stop where that is not to be waited for.

        What is in flight may give money or tokens back as it ends: then it is worth to look again.
        """
        if limit.unit == "microdollars" and self._calls.in_flight:
            await self.sleep(LOOK_SECONDS)
            return
        now = await asyncio.to_thread(self._database.now)
        self.why, seconds = limit.why, self._patience.seconds_under(limit, now)
        if seconds is None:
            self._stop(self.why)
        elif limit.unit == "tokens":
            await self.sleep(seconds)
        else:
            await self._calls.pause(seconds * random.uniform(1.0, 1.2))  # or all workers would come at once

    async def bear(self, away: EnrichlogError) -> None:
        """Wait a little for a database that is away. Raises that error when it has been away for too long."""
        self.why = str(away)
        await self._calls.pause(self._patience.seconds_away(away, self._monotonic()))

    async def for_source(self, unusable: UnusableSource) -> None:
        """Wait until it is worth to look again whether somebody has mended the postings. Raises it where it is not."""
        self.why = str(unusable)
        await self._calls.pause(self._patience.seconds_unusable(unusable))

    async def sleep(self, seconds: float | None) -> None:
        """Wait so long, and no longer than until something ends or the worker is to stop."""
        await self._calls.change(seconds)
