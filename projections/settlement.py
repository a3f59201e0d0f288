"""What starts and ends of attempts do to the limits: counted as they are appended, under the log lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select

from eventlog.dialects import Dialect
from eventlog.errors import LimitReached
from eventlog.events import EnrichmentFailed
from eventlog.log import PAGE, Recorded
from eventlog.schema import events
from projections import breaker, rate, spending
from projections.brake import braked, pace
from projections.limits import MONEY, Limit, Name, forget, load, lower, store
from projections.rate import MINUTE
from projections.spending import START, TYPES

MOST_COUNTED = 20 * PAGE
"""How many starts are looked at, at the most."""


def settle(connection: Connection, dialect: Dialect, recorded: Sequence[Recorded]) -> None:
    """Count the starts and settle the ends among these events, which the caller has appended under the log lock.

    Raises `LimitReached` for a start that the limits do not admit.
    """
    told = [event for event in recorded if event.type in TYPES]
    if not told:
        return
    before = load(connection)
    after = dict(before)
    for event in told:
        if event.type == START:
            _begin(after, event)
        else:
            _end(connection, after, event)
    for name in {(*place, "requests") for event in told if (place := breaker.key(event)) is not None} & before.keys():
        _let_go(after, name, told[-1].recorded_at)
    store(connection, dialect, {name: one for name, one in after.items() if before.get(name) != one})
    forget(connection, before.keys() - after.keys())


def _begin(states: dict[Name, Limit], start: Recorded) -> None:
    place, facts = breaker.key(start), start.facts
    if not spending.is_counted(start):
        return
    if place is not None:
        _take(states, (*place, "requests"), start, 1, facts.get("requests_per_minute"))
        _take(states, (*place, "tokens"), start, facts.get("reserved_tokens") or 0, facts.get("tokens_per_minute"))
    _reserve(states, start, facts.get("microdollars_per_day"), facts.get("reserved_microdollars"))


def _take(states: dict[Name, Limit], name: Name, start: Recorded, need: int, own: int | None) -> None:
    now, state = start.recorded_at, states.get(name, Limit())
    per_minute = state.in_force(now, own)
    if per_minute is None or not need:
        return
    full_at = rate.begin(state.full_at or now, now, need, per_minute)
    if full_at is None:
        raise LimitReached(reason=f"the limit of {per_minute:,} {name[3]} per minute is reached")
    states[name] = state._replace(full_at=full_at)


def _reserve(states: dict[Name, Limit], start: Recorded, own: int | None, reserved: int | None) -> None:
    state = states.get(MONEY)
    if state is None and own is None:
        return
    if state is None or (state.amount is not None and own is None):  # set since the claim looked
        raise LimitReached(reason="the money of the day has just been limited")
    spent, limit = state.spending(start.recorded_at).after(start), lower(state.amount, own)
    if limit is not None and (reserved is None or spent.used > limit):
        raise LimitReached(reason="the money of the day is used up")
    states[MONEY] = state.spent(spent)


def _end(connection: Connection, states: dict[Name, Limit], end: Recorded) -> None:
    facts, place = end.facts, breaker.key(end)
    if MONEY in states:
        states[MONEY] = states[MONEY].spent(states[MONEY].spending(end.recorded_at).after(end))
    reserved = facts.get("reserved_tokens")
    if place is None or reserved == 0:
        return
    if not facts["called"]:
        _give_back(states, (*place, "requests"), end, 1, facts.get("requests_per_minute"))
    if reserved is not None:
        _give_back(states, (*place, "tokens"), end, reserved - _tokens(facts), facts.get("tokens_per_minute"))
    if end.type == EnrichmentFailed.__name__ and facts["error_type"] == "rate_limited" and facts["called"]:
        _slow_down(connection, states, (*place, "requests"), end)


def _give_back(states: dict[Name, Limit], name: Name, end: Recorded, unused: int, per_minute: int | None) -> None:
    """Settle what was taken, by the limit that it was taken under; `unused` is negative when it took even more."""
    state, now = states.get(name), end.recorded_at
    if state is None or per_minute is None:
        return
    full_at = state.full_at or now
    if unused > 0:
        states[name] = state._replace(full_at=rate.give_back(full_at, now, unused, per_minute))
    elif unused < 0:
        states[name] = state._replace(full_at=rate.take(full_at, now, -unused, per_minute))


def _tokens(facts: dict[str, Any]) -> int:
    """The tokens that a call took: none when it was refused, all that it may have taken when nobody knows."""
    used = (facts.get("input_tokens"), facts.get("output_tokens"))
    if used[0] is not None and used[1] is not None:
        return int(used[0] + used[1])
    is_free = not facts["called"] or facts.get("cost_microdollars") == 0
    return 0 if is_free else int(facts["reserved_tokens"])


def _slow_down(connection: Connection, states: dict[Name, Limit], name: Name, end: Recorded) -> None:
    """Brake, unless the attempt began before the brake was last put on: then it says nothing new."""
    state, now = states.get(name, Limit()), end.recorded_at
    if (end.facts.get("started_position") or 0) <= state.braked_position:
        return
    limit = lower(state.amount, end.facts.get("requests_per_minute"))
    brake = braked(now, end.position, _pace(connection, name[:3], end), limit)
    states[name] = state._replace(braked_at=brake.at, braked_to=brake.to, braked_position=brake.position)


def _pace(connection: Connection, place: tuple[str, ...], end: Recorded) -> int:
    """How many calls per minute have begun at the same place lately."""
    begun, first, before, now = 0, end.recorded_at, end.position, end.recorded_at
    columns = [events.c[name] for name in Recorded._fields if name != "content"]
    for _ in range(0, MOST_COUNTED, PAGE):
        starts = select(*columns).where(events.c.type == START, events.c.position < before)
        rows = connection.execute(starts.order_by(events.c.position.desc()).limit(PAGE)).all()
        lately = [
            Recorded._make((*row[:-1], orjson.loads(row.facts), None)) for row in rows if now - row.recorded_at < MINUTE
        ]
        counted = [one for one in lately if breaker.key(one) == place and spending.is_counted(one)]
        begun, first = begun + len(counted), counted[-1].recorded_at if counted else first
        if len(lately) < PAGE:
            break
        before = rows[-1].position
    return pace(begun, first, now)


def _let_go(states: dict[Name, Limit], name: Name, now: datetime) -> None:
    """Take the brake off once it allows enough again; a row that was there for its sake alone goes with it."""
    state = states[name]
    if state.braked_at is None or state.amount is not None or state.braked_to_now(now) is not None:
        return
    if state.full_at is None or state.full_at <= now:
        del states[name]
    else:
        states[name] = state._replace(braked_at=None, braked_to=None, braked_position=0)
