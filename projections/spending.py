"""The money of a UTC day: reserved as attempts begin, and settled as they end."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from eventlog.database import Database
from eventlog.events import EnrichmentFailed, EnrichmentLateResult, EnrichmentStarted, EnrichmentSucceeded, moment
from eventlog.log import PAGE, Recorded, head_position
from eventlog.schema import events
from projections.spanning import page_of

START = EnrichmentStarted.__name__
TYPES = [
    START, *(kind.__name__ for kind in (EnrichmentSucceeded, EnrichmentFailed, EnrichmentLateResult)),
]  # fmt: skip
_DAY = timedelta(days=1)


class Spending(NamedTuple):
    """What the calls of one day have cost, or may cost as long as they run, in micro-dollars; and when the day ends."""

    used: int
    ends_at: datetime

    def on(self, now: datetime) -> Spending:
        """The spending of the day that it is now: at midnight nothing is spent."""
        return self if now < self.ends_at else nothing_spent(now)

    def after(self, event: Recorded) -> Spending:
        """The spending after one more start or end of a call; that of a start of an earlier day is not today's."""
        today, facts = self.on(event.recorded_at), event.facts
        reserved = facts.get("reserved_microdollars") or 0
        if event.type == START:
            return today._replace(used=today.used + reserved) if is_counted(event) else today
        if "started_at" not in facts or moment(facts["started_at"]) < today.ends_at - _DAY:
            return today
        return today._replace(used=today.used + _cost(facts, reserved) - reserved)


def nothing_spent(now: datetime) -> Spending:
    """The spending of a day on which nothing has begun yet."""
    return Spending(0, now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY)


def is_counted(start: Recorded) -> bool:
    """Whether a call of ours follows: not one that was made elsewhere, nor one that ends before it leaves."""
    facts = start.facts
    is_ours = facts.get("origin", "call") == "call"
    return is_ours and facts["lease_seconds"] > 0 and facts.get("reserved_tokens") != 0


def count_bulk(database: Database) -> tuple[Spending, int]:
    """What today's events add up to without the log lock, and the position that is counted to."""
    with database.read() as connection:
        now = database.dialect.clock(connection)
        spending = nothing_spent(now)
        last = _first_since(connection, spending.ends_at - _DAY) - 1
    while True:
        with database.read() as connection:
            page, last = page_of(connection, TYPES, last)
        for event in page:
            spending = spending.after(event)
        if len(page) < PAGE:
            return spending, last


def count_tail(connection: Connection, spending: Spending, last: int, now: datetime) -> Spending:
    """The same to the end of the log, of which the caller holds the lock."""
    while page := page_of(connection, TYPES, last)[0]:
        for event in page:
            spending = spending.after(event)
        last = page[-1].position
    return spending.on(now)


def _cost(facts: dict[str, Any], reserved: int) -> int:
    """What a call cost: what was reserved, when it was made and nobody knows."""
    cost: int | None = facts.get("cost_microdollars")
    if cost is None:
        return reserved if facts["called"] else 0
    return cost


def _first_since(connection: Connection, since: datetime) -> int:
    """The first position that was recorded then or later; `recorded_at` does not run backwards along the log."""

    def recorded_at(position: int) -> datetime:
        at: datetime = connection.execute(
            select(events.c.recorded_at).where(events.c.position == position)
        ).scalar_one()
        return at

    return 1 + bisect_left(range(1, head_position(connection) + 1), since, key=recorded_at)
