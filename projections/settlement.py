"""What starts and ends of attempts do to the limits: counted as they are appended, under the log lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from eventlog.dialects import Dialect
from eventlog.errors import LimitReached
from eventlog.events import EnrichmentFailed, moment
from eventlog.log import PAGE, Recorded
from eventlog.schema import events
from projections import breaker, spending
from projections.brake import braked, pace
from projections.limit import MONEY, Limit, Name, binding, lower
from projections.limits import forget, load, store
from projections.rate import MINUTE
from projections.spanning import WITHOUT_CONTENT, facts_only
from projections.spending import START, TYPES

MOST_COUNTED = 20 * PAGE
"""How many starts are looked at, at the most."""

FORGOTTEN_AFTER = timedelta(hours=1)
"""The limit of a setting is forgotten when for so long nothing has begun under it."""


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
    for place in {place for event in told if (place := breaker.key(event)) is not None}:
        _let_go(after, Name(*place, "requests"), told[-1].recorded_at)
    _forget_unused(after, told[-1].recorded_at)
    store(connection, dialect, {name: one for name, one in after.items() if before.get(name) != one})
    forget(connection, before.keys() - after.keys())


def _begin(states: dict[Name, Limit], start: Recorded) -> None:
    place, facts = breaker.key(start), start.facts
    if not spending.is_counted(start):
        return
    if place is not None:
        _take(states, Name(*place, "requests"), start, 1, facts.get("requests_per_minute"))
        _take(states, Name(*place, "tokens"), start, facts.get("reserved_tokens") or 0, facts.get("tokens_per_minute"))
    _reserve(states, start, facts.get("microdollars_per_day"), facts.get("reserved_microdollars"))


def _take(states: dict[Name, Limit], name: Name, start: Recorded, need: int, own: int | None) -> None:
    for each, state in binding(states, name, own).items() if need else ():
        begun = state.begin(name.unit, need, start.recorded_at)
        if begun is None:
            amount = state.in_force(start.recorded_at) or 0
            raise LimitReached(reason=f"the limit of {amount:,} {name.unit} per minute is reached")
        if begun is not state:
            states[each] = begun


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
    if reserved is not None:
        _settle_tokens(states, Name(*place, "tokens"), end, _tokens(facts) - reserved)
    if end.type == EnrichmentFailed.__name__ and facts["error_type"] == "rate_limited" and facts["called"]:
        _slow_down(connection, states, Name(*place, "requests"), end)


def _settle_tokens(states: dict[Name, Limit], name: Name, end: Recorded, change: int) -> None:
    """Put what a call took in the place of what it might have taken, as long as the second it began in counts."""
    began_at = end.facts.get("started_at")
    if began_at is None or not change:
        return
    for each in binding(states, name, end.facts.get("tokens_per_minute")).keys() & states.keys():
        settled = states[each].minute.settled(end.recorded_at, moment(began_at), change)
        states[each] = states[each]._replace(minute=settled)


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
    brake = braked(now, end.position, _pace(connection, name[:3], end), state.amount)
    states[name] = state._replace(braked_at=brake.at, braked_to=brake.to, braked_position=brake.position)


def _pace(connection: Connection, place: tuple[str, ...], end: Recorded) -> int:
    """How many calls per minute have begun at the same place lately."""
    begun, first, before, now = 0, end.recorded_at, end.position, end.recorded_at
    for _ in range(0, MOST_COUNTED, PAGE):
        starts = select(*WITHOUT_CONTENT).where(events.c.type == START, events.c.position < before)
        rows = connection.execute(starts.order_by(events.c.position.desc()).limit(PAGE)).all()
        lately = [facts_only(row) for row in rows if now - row.recorded_at < MINUTE]
        counted = [one for one in lately if breaker.key(one) == place and spending.is_counted(one)]
        begun, first = begun + len(counted), counted[-1].recorded_at if counted else first
        if len(lately) < PAGE:
            break
        before = rows[-1].position
    return pace(begun, first, now)


def _let_go(states: dict[Name, Limit], name: Name, now: datetime) -> None:
    """Take a row away that was there for the sake of its brake alone, once that allows enough again."""
    state = states.get(name)
    if state is not None and state.amount is None and state.braked_to_now(now) is None:
        del states[name]


def _forget_unused(states: dict[Name, Limit], now: datetime) -> None:
    for name in [name for name, state in states.items() if name.own and state.is_unused(now - FORGOTTEN_AFTER)]:
        del states[name]
