"""Limits over all workers together: what may begin now, when more may, and setting, listing and clearing them."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import (
    UnknownLimit,
    UnknownPrice,
    UnknownPriceInAll,
    UnknownPriceInNew,
    UnknownPriceInProcess,
    UsageError,
)
from enrichlog.moments import told_moment
from enrichlog.price import MICRODOLLARS, money
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.events import iso
from projections import limits as rows
from projections.breaker import breaker_id
from projections.limit import MONEY, UNITS, Limit, Name, Unit
from projections.limits import load
from projections.rate import MINUTE

SETTINGS: dict[Unit, str] = {
    "requests": "requests_per_minute", "tokens": "tokens_per_minute", "microdollars": "dollars_per_day",
}  # fmt: skip


class Limited(NamedTuple):
    """A limit that lets nothing begin before `until`; `why` tells people, and what changes it."""

    unit: Unit
    amount: int
    until: datetime
    why: str


class NamedLimit(NamedTuple):
    """A limit and whom it is for: endpoint, model and credential, which are empty for money, and whose setting."""

    name: Name
    limit: Limit

    @property
    def unit(self) -> str:
        """What it limits: requests, tokens or microdollars."""
        return self.name.unit

    @property
    def id(self) -> str | None:
        """What people type for the limits of a place, which is what its breaker is called too; money has no place."""
        place = (self.name.endpoint, self.name.request_model, self.name.credential)
        return None if self.name == MONEY else breaker_id(*place)

    def document(self, now: datetime) -> dict[str, Any]:
        """The limit for scripts: of a rate with what is in force now, of money with what is used today."""
        one, is_money = self.limit, self.unit == "microdollars"
        places = {name: getattr(self.name, name) or None for name in ("endpoint", "request_model", "credential")}
        told = {"id": self.id, "unit": self.unit, "limit": one.amount, "is_setting": self.name.own > 0, **places}
        if is_money:
            today = one.spending(now)
            return {**told, "used_today": today.used, "day_ends_at": iso(today.ends_at)}
        is_braked = one.braked_to_now(now) is not None
        return {
            **told,
            "in_force": one.in_force(now),
            **({"used_this_minute": one.minute.tokens(now)} if self.unit == "tokens" else {}),
            "braked_at": iso(one.braked_at) if is_braked and one.braked_at else None,
        }


def microdollars(dollars: float | None) -> int | None:
    """An amount of money that a limit can be: whole micro-dollars, rounded down and at least one."""
    return None if dollars is None else max(1, math.floor(round(dollars * MICRODOLLARS, 3)))


def names_of(place: tuple[str, str, str]) -> dict[Unit, Name]:
    """The limits for all that calls to a place are under."""
    return {unit: MONEY if unit == "microdollars" else Name(*place, unit) for unit in UNITS}


def list_limits(database: Database) -> tuple[list[NamedLimit], datetime]:
    """Every limit that is set for all, or is a setting that was met within a minute, and every brake; and the time."""
    with database.read() as connection:
        now, found = database.dialect.clock(connection), load(connection)
    named = [NamedLimit(name, found[name]) for name in sorted(found)]
    return [one for one in named if _says_something(one, now)], now


def set_limits(
    database: Database, enrichment: Enrichment, requests: int | None, tokens: int | None, most: int | None
) -> None:
    """Set limits for all workers that call what an enrichment calls, and of money (micro-dollars) for all calls.

    Raises `UsageError` where none is given, and `UnknownPrice` for one of money that could not be kept.
    """
    amounts: dict[Unit, int | None] = {"requests": requests, "tokens": tokens, "microdollars": most}
    names = names_of(enrichment.called)
    chosen = {name: amount for unit, name in names.items() if (amount := amounts[unit]) is not None}
    if not chosen:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in SETTINGS.values())
        raise UsageError(reason=f"Say which limit: {options}. See what is set with: enrichlog limits list")
    if MONEY in chosen:
        enrichment.require_price(UnknownPriceInNew)
    rows.set_amounts(database, chosen)


def clear_limits(database: Database, place: tuple[str, str, str], units: Collection[Unit]) -> list[Unit]:
    """Take limits away from all workers that call this place, and of money from all; returns which there were."""
    names = {unit: name for unit, name in names_of(place).items() if unit in units}
    there = {one.name for one in list_for_all(database)}
    rows.clear(database, names.values())
    return [unit for unit, name in names.items() if name in there]


def list_for_all(database: Database) -> list[NamedLimit]:
    """The limits that can be taken away: those that are set for all workers, and brakes."""
    with database.read() as connection:
        found = load(connection)
    named = [NamedLimit(name, found[name]) for name in sorted(found) if not name.own]
    return [one for one in named if one.limit.amount is not None or one.limit.brake is not None]


def place_of(database: Database, limit_id: str) -> tuple[str, str, str]:
    """The place of the limits of that id. Raises `UnknownLimit`."""
    known = {one.id: one.name for one in list_for_all(database) if one.id is not None}
    if limit_id not in known:
        raise UnknownLimit(name=limit_id, known=", ".join(filter(None, known)) or "none yet")
    return known[limit_id][:3]


def require_price(database: Database, settings: Settings, enrichment: Enrichment, max_cost: float | None) -> None:
    """Raises `UnknownPrice` where money is limited, for a run, a process or all workers, and no price is known."""
    with database.read() as connection:
        for_all = load(connection).get(MONEY, Limit()).amount
    own = settings.dollars_per_day
    for amount, limit in ((max_cost, UnknownPrice), (own, UnknownPriceInProcess), (for_all, UnknownPriceInAll)):
        if amount is not None:
            enrichment.require_price(limit)


def told(unit: str, amount: int) -> str:
    """A limit in words."""
    return f"{money(amount)} per UTC day" if unit == "microdollars" else f"{amount:,} {unit} per minute"


def why_limited(unit: Unit, amount: int, until: datetime, *, is_own: bool) -> str:
    """Why nothing more begins, until when, and what changes that."""
    name = SETTINGS[unit]
    change = f"enrichlog limits set --{name.replace('_', '-')} N"
    shared = "" if unit == "microdollars" else ", which all that have the same share"
    change = f"That is this process's own setting {name}{shared}" if is_own else f"To change it: {change}"
    if unit == "microdollars":
        said = f"The limit of {told(unit, amount)} is used up or reserved: no call begins before"
    else:
        said = f"The limit of {told(unit, amount)} is reached: the next call may begin at"
    sooner = ", or when one that runs takes less than it might" if unit == "tokens" else ""
    return f"{said} {told_moment(until)}{sooner}. {change}"


def why_braked(amount: int, until: datetime) -> str:
    """Why calls begin more slowly than any limit says, and what changes that."""
    return (
        f"The provider has refused calls for their rate: {told('requests', amount)} may begin for now, slowly more "
        f"again, and the next at {told_moment(until)}. To change it: enrichlog limits set --requests-per-minute N"
    )


def _says_something(one: NamedLimit, now: datetime) -> bool:
    if one.name.own:
        return not one.limit.is_unused(now - MINUTE)
    return one.unit == "microdollars" or one.limit.in_force(now) is not None
