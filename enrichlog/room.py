"""How much may begin at a moment under the limits for all workers and those of a process's own settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from enrichlog.enrichment import Enrichment
from enrichlog.errors import ERROR_TYPES
from enrichlog.exceptions import UnknownPrice, UnknownPriceInAll, UnknownPriceInProcess
from enrichlog.limits import Limited, microdollars, why_braked, why_limited
from enrichlog.outcome import Failed, Outcome
from enrichlog.price import money
from enrichlog.settings import Settings
from eventlog.events import EnrichmentStarted
from projections import rate
from projections.limit import MONEY, Limit, Name, Unit, binding, lower
from projections.limits import load

RATES: tuple[Unit, ...] = ("requests", "tokens")

TOO_DEAR = "One call may cost {needed} at the most, which is more than the limit of {limit} per day{whose}"


def own_limits(settings: Settings) -> dict[Unit, int | None]:
    """The limits that the settings of this process say, money in micro-dollars."""
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
        self._rates = {
            name: one for unit in RATES for name, one in binding(rows, Name(*place, unit), own[unit]).items()
        }
        money = rows.get(MONEY, Limit())
        self._money, self._spent = lower(money.amount, own["microdollars"]), money.spending(now)
        self._is_own_money = self._money is not None and (money.amount is None or self._money < money.amount)

    @property
    def facts(self) -> dict[str, int | None]:
        """What a start says of limits: the settings of its process, and the money of a day that it began under."""
        return {
            "requests_per_minute": self._own["requests"], "tokens_per_minute": self._own["tokens"],
            "microdollars_per_day": self._money,
        }  # fmt: skip

    def bounded(self, enrichment: Enrichment) -> Enrichment:
        """The enrichment, under a limit of money with a cap on its answers. Raises `UnknownPrice`."""
        return enrichment if self._money is None else enrichment.with_bounded_cost()

    def unpriced(self, enrichment: Enrichment) -> Limited | None:
        """The limit of money where it cannot be kept for want of a price: until somebody takes it away."""
        is_own = self._own["microdollars"] is not None
        try:
            if self._money is not None:
                enrichment.require_price(UnknownPriceInProcess if is_own else UnknownPriceInAll)
        except UnknownPrice as unknown:
            return Limited("microdollars", self._money or 0, self._spent.ends_at, str(unknown))
        return None

    def requests(self, most: int) -> int:
        """How many requests, of at most so many, may begin."""
        for name, one in self._rates.items():
            per_minute = one.in_force(self._now)
            if name.unit == "requests" and per_minute is not None:
                most = rate.count(one.full_at or self._now, self._now, per_minute, most)
        return most

    def closed(self) -> Limited | None:
        """The limit that lets nothing at all begin."""
        limited = self._limiting(self._rates, {"requests": 1, "tokens": 1})
        if limited is not None or self._money is None or self._spent.used < self._money:
            return limited
        return self._out_of_money(self._money)

    def weighed(self, start: EnrichmentStarted, outcome: Outcome | None) -> tuple[EnrichmentStarted, Outcome | None]:
        """A start as it counts, and its outcome where no call follows: then it counts nothing.

        What may cost more than the limit of a whole day is not called, so that it does not block what stands behind it.
        """
        outcome = outcome or self._too_dear(start)
        reserved: dict[str, Any] = {} if outcome is None else {"reserved_tokens": 0, "reserved_microdollars": 0}
        return start.model_copy(update=self.facts | reserved), outcome

    def fitting(self, starts: Sequence[EnrichmentStarted]) -> tuple[int, Limited | None]:
        """How many of the first starts may begin together, and the limit that keeps the next from it."""
        rates, used = dict(self._rates), self._spent.used
        for number, start in enumerate(starts):
            if start.reserved_tokens == 0:  # no call follows
                continue
            needs: dict[Unit, int] = {"requests": 1, "tokens": start.reserved_tokens or 0}
            if (limited := self._limiting(rates, needs)) is not None:
                return number, limited
            rates = {name: one.begin(name.unit, needs[name.unit], self._now) or one for name, one in rates.items()}
            used += start.reserved_microdollars or 0
            if self._money is not None and used > self._money:
                return number, self._out_of_money(self._money)
        return len(starts), None

    def _too_dear(self, start: EnrichmentStarted) -> Outcome | None:
        limit, needed = self._money, start.reserved_microdollars or 0
        if limit is None or needed <= limit:
            return None
        wait = math.ceil((self._spent.ends_at - self._now).total_seconds() * 1000)
        whose = ", which is this process's own setting dollars_per_day" if self._is_own_money else ""
        message = TOO_DEAR.format(needed=money(needed), limit=money(limit), whose=whose)
        failed = Failed(ERROR_TYPES["budget_exceeded"], message, wait_ms=wait)
        return Outcome(failed=failed, called=False, sent=False)

    def _limiting(self, rates: Mapping[Name, Limit], needs: Mapping[Unit, int]) -> Limited | None:
        """The rate that keeps these needs from beginning now, for the longest where several do."""
        moments = {name: one.may_begin_at(name.unit, needs[name.unit], self._now) for name, one in rates.items()}
        name = max(moments, key=moments.__getitem__, default=None)
        if name is None or moments[name] <= self._now:
            return None
        until, amount = moments[name], rates[name].in_force(self._now) or 0
        is_braked = amount != rates[name].amount
        why = why_braked(amount, until) if is_braked else why_limited(name.unit, amount, until, is_own=name.own > 0)
        return Limited(name.unit, amount, until, why)

    def _out_of_money(self, amount: int) -> Limited:
        until = self._spent.ends_at
        why = why_limited("microdollars", amount, until, is_own=self._is_own_money)
        return Limited("microdollars", amount, until, why)
