"""One limit and its use, and whom it binds. Pure: no clock, no table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from projections import rate
from projections.brake import Brake
from projections.spending import Spending
from projections.window import Window

Unit = Literal["requests", "tokens", "microdollars"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "microdollars")


class Name(NamedTuple):
    """Endpoint, model and credential, which are empty for money; the unit; and 0, or the number of a setting."""

    endpoint: str
    request_model: str
    credential: str
    unit: Unit
    own: int = 0


MONEY = Name("", "", "", "microdollars")


class Limit(NamedTuple):
    """One limit and its use; `amount` is null where no limit is set, and the rate is braked or the money is counted.

    Of requests, `full_at` is when their bucket will be full again; of tokens, `minute` has those of the last minute. Of
    money, `used` micro-dollars are those of the day that ends at `full_at`. The rate of requests is braked since
    `braked_at`, to `braked_to` at first, by the failure at `braked_position`.
    """

    amount: int | None = None
    used: int = 0
    full_at: datetime | None = None
    minute: Window = Window()
    braked_at: datetime | None = None
    braked_to: int | None = None
    braked_position: int = 0

    @property
    def brake(self) -> Brake | None:
        """The brake, on or off."""
        if self.braked_at is None or self.braked_to is None:
            return None
        return Brake(self.braked_at, self.braked_to, self.braked_position)

    def braked_to_now(self, now: datetime) -> int | None:
        """How many requests per minute the brake allows; None when it is off."""
        return self.brake and self.brake.allowed(now, self.amount)

    def in_force(self, now: datetime) -> int | None:
        """How much may begin per minute; None when nothing limits it."""
        return lower(self.amount, self.braked_to_now(now))

    def may_begin_at(self, unit: Unit, need: int, now: datetime) -> datetime:
        """From when on one request, or so many tokens, may begin; not later than `now` when they may."""
        per_minute = self.in_force(now)
        if per_minute is None or not need:
            return now
        if unit == "tokens":
            return self.minute.may_begin_at(now, need, per_minute)
        return rate.may_begin_at(self.full_at or now, now, per_minute)

    def begin(self, unit: Unit, need: int, now: datetime) -> Limit | None:
        """The limit once one request, or so many tokens, have begun; None when they may not."""
        per_minute = self.in_force(now)
        if per_minute is None or not need:
            return self
        if unit == "tokens":
            minute = self.minute.begin(now, need, per_minute)
            return None if minute is None else self._replace(minute=minute)
        full_at = rate.begin(self.full_at or now, now, per_minute)
        return None if full_at is None else self._replace(full_at=full_at)

    def is_unused(self, since: datetime) -> bool:
        """Whether since then nothing that has begun under it has counted."""
        return all(one is None or one <= since for one in (self.full_at, self.minute.empty_at))

    def spending(self, now: datetime) -> Spending:
        """Of money: what is spent of the day that it is now."""
        return Spending(self.used, self.full_at or now).on(now)

    def with_amount(self, amount: int | None, position: int) -> Limit:
        """With that amount, set at a position of the log; that takes the brake off. None changes nothing."""
        if amount is None:
            return self
        return self._replace(amount=amount, braked_at=None, braked_to=None, braked_position=position)

    def spent(self, today: Spending) -> Limit:
        """Of money: with this spending in the place of its own."""
        return self._replace(used=today.used, full_at=today.ends_at)


def lower(*limits: int | None) -> int | None:
    """The lowest of the limits that there are."""
    return min((one for one in limits if one is not None), default=None)


def binding(rows: Mapping[Name, Limit], name: Name, own: int | None) -> dict[Name, Limit]:
    """The limits of a rate that bind a process: that for all, if there is one, and that of its own setting."""
    found = {name: rows[name]} if name in rows else {}
    if own is not None:
        of_own = name._replace(own=own)
        found[of_own] = rows.get(of_own, Limit(own))
    return found
