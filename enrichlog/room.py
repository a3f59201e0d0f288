"""How much the limits allow to begin at a moment: the lower of those for all workers and of a process's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from enrichlog.enrichment import Enrichment
from enrichlog.errors import ERROR_TYPES
from enrichlog.limits import Limited, microdollars, names_of, why_braked, why_limited
from enrichlog.outcome import Failed, Outcome
from enrichlog.price import money
from enrichlog.settings import Settings
from eventlog.events import EnrichmentStarted
from projections import rate
from projections.limits import UNITS, Limit, Name, Unit, load, lower

TOO_DEAR = "One call may cost {needed} at the most, which is more than the limit of {limit} per day"


def own_limits(settings: Settings) -> dict[Unit, int | None]:
    """The limits that bind this process alone, money in micro-dollars."""
    return {
        "requests": settings.requests_per_minute,
        "tokens": settings.tokens_per_minute,
        "microdollars": microdollars(settings.dollars_per_day),
    }


def find_room(connection: Connection, settings: Settings, enrichment: Enrichment, now: datetime) -> Room:
    """The room that there is now for calls of an enrichment."""
    return Room(load(connection), own_limits(settings), enrichment.called, now)


class Room:
    """What may begin `now`, of calls to one place, as the rows say; the log lock has the last word."""

    def __init__(
        self, rows: dict[Name, Limit], own: dict[Unit, int | None], place: tuple[str, str, str], now: datetime
    ) -> None:
        self._now, self._own = now, own
        self._rows = {unit: rows.get(name, Limit()) for unit, name in names_of(place).items()}
        self._set = {unit: lower(row.amount, own[unit]) for unit, row in self._rows.items()}
        self._in_force = {unit: row.in_force(now, own[unit]) for unit, row in self._rows.items()}
        self._full_at = {unit: row.full_at or now for unit, row in self._rows.items()}
        self._spent = self._rows["microdollars"].spending(now)

    @property
    def facts(self) -> dict[str, int | None]:
        """The limits that a start says it began under."""
        requests, tokens, microdollars = (self._set[unit] for unit in UNITS)
        return {
            "requests_per_minute": requests, "tokens_per_minute": tokens, "microdollars_per_day": microdollars,
        }  # fmt: skip

    def bounded(self, enrichment: Enrichment) -> Enrichment:
        """The enrichment, under a limit of money with a cap on its answers. Raises `UnknownPrice`."""
        return enrichment if self._set["microdollars"] is None else enrichment.with_bounded_cost()

    def requests(self, most: int) -> int:
        """How many requests, of at most so many, may begin."""
        per_minute = self._in_force["requests"]
        return most if per_minute is None else rate.count(self._full_at["requests"], self._now, per_minute, most)

    def closed(self) -> Limited | None:
        """The limit that lets nothing at all begin."""
        if not self.requests(1):
            return self._limited("requests", 1)
        limit = self._set["microdollars"]
        return None if limit is None or self._spent.used < limit else self._limited("microdollars", 0)

    def weighed(self, start: EnrichmentStarted, outcome: Outcome | None) -> tuple[EnrichmentStarted, Outcome | None]:
        """A start as it counts, and its outcome where no call follows: then it counts nothing.

        What may cost more than the limit of a whole day is not called, so that it does not block what stands behind it.
        """
        outcome = outcome or self._too_dear(start)
        reserved: dict[str, Any] = {} if outcome is None else {"reserved_tokens": 0, "reserved_microdollars": 0}
        return start.model_copy(update=self.facts | reserved), outcome

    def fitting(self, starts: Sequence[EnrichmentStarted]) -> tuple[int, Limited | None]:
        """How many of the first starts may begin together, and the limit that keeps the next from it."""
        full_at, used = dict(self._full_at), self._spent.used
        for number, start in enumerate(starts):
            if start.reserved_tokens == 0:  # no call follows
                continue
            needs: dict[Unit, int] = {"requests": 1, "tokens": start.reserved_tokens or 0}
            for unit, need in needs.items():
                per_minute = self._in_force[unit]
                if per_minute is None:
                    continue
                begun = rate.begin(full_at[unit], self._now, need, per_minute)
                if begun is None:
                    return number, self._limited(unit, need, full_at[unit])
                full_at[unit] = begun
            used += start.reserved_microdollars or 0
            limit = self._set["microdollars"]
            if limit is not None and used > limit:
                return number, self._limited("microdollars", start.reserved_microdollars or 0)
        return len(starts), None

    def _too_dear(self, start: EnrichmentStarted) -> Outcome | None:
        limit, needed = self._set["microdollars"], start.reserved_microdollars or 0
        if limit is None or needed <= limit:
            return None
        wait = math.ceil((self._spent.ends_at - self._now).total_seconds() * 1000)
        message = TOO_DEAR.format(needed=money(needed), limit=money(limit))
        failed = Failed(ERROR_TYPES["budget_exceeded"], message, wait_ms=wait)
        return Outcome(failed=failed, called=False, sent=False)

    def _limited(self, unit: Unit, need: int, full_at: datetime | None = None) -> Limited:
        amount = self._in_force[unit] or 0
        if unit == "microdollars":
            until = self._spent.ends_at
        else:
            until = rate.may_begin_at(full_at or self._full_at[unit], need, amount)
        is_own = self._own[unit] is not None and self._own[unit] == self._set[unit]
        if amount != self._set[unit]:
            return Limited(unit, amount, until, why_braked(amount, until))
        return Limited(unit, amount, until, why_limited(unit, amount, until, is_own=is_own))
