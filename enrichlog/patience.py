"""How long a run waits while nothing may be called, and when that is not to be waited for."""

from __future__ import annotations

import logging
import math
import random
from datetime import datetime

from enrichlog.breakers import why_held
from enrichlog.exceptions import NothingRequested, UnusableSource
from enrichlog.limits import Limited
from enrichlog.moments import told_moment
from eventlog.database import Database
from eventlog.errors import DatabaseReadOnly, EnrichlogError
from projections.breaker import Breaker, find_breaker

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
"""The longest single wait for the provider that a run makes: that is the breaker's longest cooldown."""

PROBE_LOOK_SECONDS = 1.0
"""How often a run looks whether another program's probe has come back."""

AWAY_SECONDS = 60.0
"""So long a run bears a database that is away."""

AWAY_LOOK_SECONDS = 0.5
"""How soon, at the earliest, a database that is away is asked again."""

TOLD_FROM_SECONDS = 5.0
"""Shorter waits are not worth a word."""


TOKENS_LOOK_SECONDS = 1.0
"""How often it is looked whether tokens are free again: each call that ends, anywhere, may free some."""

LOOK_SECONDS = 5.0
"""How often a daemon looks whether it may go on: a person may close the breaker, or raise a limit, at any time."""


class Patience:
    """What one worker bears: waits that the provider asks for always, an open breaker's cooldown if it is told to.

    One that `is_endless` bears everything, and looks again and again.
    """

    def __init__(self, *, waits_for_probe: bool, is_endless: bool = False) -> None:
        self._waits_for_probe, self._is_endless = waits_for_probe, is_endless
        self.away_seconds = math.inf if is_endless else AWAY_SECONDS
        self._away_since: float | None = None
        self._told: dict[str, object] = {}
        self._waited: tuple[datetime | None, datetime | None] | None = None

    def seconds(self, breaker: Breaker, now: datetime) -> float | None:
        """How long to wait before it is worth to look again; None when the run had better end.

        Each longer wait is told once.
        """
        free_at, seconds = breaker.free_at(now), _seconds(breaker, now)
        is_borne = seconds <= PATIENCE_SECONDS and (breaker.state == "closed" or self._bears(breaker))
        if not is_borne and not self._is_endless:
            return None
        return self._told_once("breaker", free_at, seconds, f"{why_held(breaker, now)} Waiting.")

    def seconds_under(self, limit: Limited, now: datetime) -> float | None:
        """The same for a limit: that of a rate passes, and is told once; that of money ends a run."""
        is_money = limit.unit == "microdollars"
        if is_money and not self._is_endless:
            return None
        seconds = max(0.0, (limit.until - now).total_seconds())
        mark = limit.why if is_money else limit.amount
        seconds = self._told_once(limit.unit, mark, seconds, f"Waiting: {limit.why}")
        return min(seconds, TOKENS_LOOK_SECONDS) if limit.unit == "tokens" else seconds

    def seconds_unusable(self, unusable: UnusableSource) -> float:
        """How long to wait before the users' postings are looked at again. Raises it where that is left to others."""
        if not self._is_endless:
            raise unusable
        return self._told_once("source", str(unusable), LOOK_SECONDS, f"{unusable} Waiting until it is mended.")

    @property
    def is_away(self) -> bool:
        """Whether the database was away when it was last asked."""
        return self._away_since is not None

    def seconds_away(self, away: EnrichlogError, now: float) -> float:
        """How long to wait before the database is asked again. Raises that error when it has been away for too long.

        `now` is steady time. Each absence is told once. A run does not wait for a database that nobody may write to.
        """
        if isinstance(away, DatabaseReadOnly) and not self._is_endless:
            raise away
        seconds = AWAY_LOOK_SECONDS * random.uniform(1.0, 2.0)
        if self._away_since is None:
            self._away_since = now
            logger.warning("%s Nothing begins until it is back.", away)
        if now + seconds > self._away_since + self.away_seconds:
            raise away
        return seconds

    def is_back(self) -> None:
        """The database has answered."""
        self._away_since = None

    def _told_once(self, what: str, mark: object, seconds: float, told: str) -> float:
        """The seconds, told unless that was done for this mark of it already."""
        if self._told.get(what) != mark and seconds >= TOLD_FROM_SECONDS:
            logger.warning("%s", told)
        self._told[what] = mark
        return min(seconds, LOOK_SECONDS) if self._is_endless else seconds

    def _bears(self, breaker: Breaker) -> bool:
        """Whether this opening is one to wait for: not once a probe, whoever's, has found the provider as it was."""
        opening = (breaker.opened_at, breaker.open_until)
        if self._waited is None or self._waited[0] != breaker.opened_at:
            self._waited = opening
        return self._waits_for_probe and self._waited == opening


def require_calls(database: Database, called: tuple[str, str, str]) -> None:
    """Raises `NothingRequested` when no call can go out there for longer than a run waits.

    Whatever would be requested for a run then would be left waiting.
    """
    with database.read() as connection:
        now, breaker = find_breaker(connection, database.dialect, *called)
    if _seconds(breaker, now) > PATIENCE_SECONDS:
        free_at = breaker.free_at(now)
        until = f"before {told_moment(free_at)}" if free_at else "until someone closes it"
        raise NothingRequested(model=called[1], endpoint=called[0], until=until)


def _seconds(breaker: Breaker, now: datetime) -> float:
    """How long until it is worth to look whether a call may go out; endless when only a person can tell."""
    free_at = breaker.free_at(now)
    seconds = max(0.0, (free_at - now).total_seconds()) if free_at else math.inf
    return min(seconds, PROBE_LOOK_SECONDS) if breaker.state == "half_open" else seconds
