"""What a worker takes: claims as many postings as calls can begin, and begins them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from enrichlog.calls import Calls
from enrichlog.claims import Claims, claim, has_begun
from enrichlog.enrichment import Enrichment
from enrichlog.progress import Run
from enrichlog.scope import Scope, is_any_due, is_any_suspect
from enrichlog.settings import Settings
from eventlog.database import Database

EPOCH = datetime.fromtimestamp(0, UTC)


class Intake:
    """Takes postings of a `scope`, and moves that on; `left` is how many more it may take, None for no limit.

    A claim whose commit nobody heard of, because the connection broke, is found out about by `settle_unsure`.
    """

    def __init__(
        self, database: Database, settings: Settings, enrichment: Enrichment, name: str, calls: Calls, run: Run,
        left: int | None, max_cost: int | None, monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._database, self._settings, self._enrichment, self._name = database, settings, enrichment, name
        self._calls, self._run, self._max_cost, self._monotonic = calls, run, max_cost, monotonic
        self._unsure: tuple[Claims, float] | None = None
        self.left = left
        self.scope = Scope(EPOCH)

    def is_any_due(self, *, alone: bool = False) -> bool:
        """Whether there is anything to take; `alone`: on which a worker died."""
        with self._database.read() as connection:
            now = self._database.dialect.clock(connection)
            ask = is_any_suspect if alone else is_any_due
            return ask(connection, self._database, self._enrichment.name, self.scope, now, self._settings.max_attempts)

    async def take(self, *, alone: bool = False) -> Claims:
        """Claim as many postings as calls can begin, and begin them; or one, beside which nothing else may run."""
        await self.settle_unsure()
        scope, free = self.scope, self._calls.free
        limit = free if self.left is None else min(free, self.left)
        alone = alone or scope.is_second_round
        is_stopped = self._run.stopped is not None
        if is_stopped or limit <= 0 or scope.is_exhausted or (alone and self._calls.in_flight):
            return Claims([], scope)
        money = None if self._max_cost is None else self._max_cost - self._calls.committed
        arguments = (self._database, self._settings, self._enrichment, scope, self._name, limit, money)
        claimed_at = self._monotonic()  # before the claim: the lease cannot have begun earlier
        claiming = asyncio.create_task(asyncio.to_thread(claim, *arguments, alone=alone))
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # the thread goes on
            claims = await claiming
            self._calls.release(claims.taken)
            self._note_unsure(claims, claimed_at)
            raise
        self._note_unsure(claims, claimed_at)
        if self._run.stopped is not None:  # since then
            self._calls.release(claims.taken)
            return Claims([], scope)
        self._begin(claims, claimed_at, alone=alone)
        return claims

    def _begin(self, claims: Claims, claimed_at: float, *, alone: bool = True) -> None:
        self._calls.begin(claims.taken, claimed_at, alone=alone)
        self.left = None if self.left is None else self.left - len(claims.taken)
        self.scope = claims.rest

    def _note_unsure(self, claims: Claims, claimed_at: float) -> None:
        if claims.unsure is not None:
            self._unsure = claims.unsure, claimed_at

    async def settle_unsure(self) -> None:
        """Find out whether a claim was committed as the connection broke; begin what it took, or release it."""
        if self._unsure is not None:
            claims, claimed_at = self._unsure
            if await asyncio.to_thread(has_begun, self._database, claims):
                if self._run.stopped is None:
                    self._begin(claims, claimed_at)
                else:
                    self._calls.release(claims.taken)
            self._unsure = None
