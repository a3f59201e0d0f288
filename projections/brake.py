"""The brake on the rate of requests: halved when the provider refuses one for its rate, and let go slowly. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from projections.rate import MINUTE

GROWTH = 10
"""A tenth of the limit comes back with each minute."""

LEAST = timedelta(milliseconds=100)
"""What has begun within less time is taken to have begun within this."""

LET_GO = 3
"""Where no limit is set, the brake is off once it allows so many times as much as at first."""


FLOOR = 30
"""Where no limit is set, no refusal brakes to fewer requests per minute: rare calls say little of the provider."""


class Brake(NamedTuple):
    """Since when, to how many requests per minute, and by which event."""

    at: datetime
    to: int
    position: int

    def allowed(self, now: datetime, limit: int | None) -> int | None:
        """How many requests per minute it allows by now; None when it is off, as at the limit, if one is set."""
        grown = self.to + (limit or 2 * self.to) * (now - self.at) // (GROWTH * MINUTE)
        return grown if grown < (limit or LET_GO * self.to) else None


def pace(begun: int, since: datetime, now: datetime) -> int:
    """How many requests per minute it is when so many began since then, or within the last minute.

    A run that has just begun says little of a minute: what it began at once is not all that it would have.
    """
    return int(begun * MINUTE / min(MINUTE, max(LEAST, now - since)))


def braked(now: datetime, position: int, begun: int, limit: int | None) -> Brake:
    """The brake after a refusal: to half of what has begun per minute, or of the limit where that is less."""
    return Brake(now, max(1 if limit else FLOOR, min(begun, limit or begun) // 2), position)
