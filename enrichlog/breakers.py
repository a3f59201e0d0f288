"""The breaker as people meet it: which there are, why one is open, until when, and opening and closing by hand."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import select

from enrichlog.actor import actor
from enrichlog.asking import require_reason
from enrichlog.errors import advice_of
from enrichlog.exceptions import UnknownBreaker
from enrichlog.moments import told_moment
from eventlog.database import Database
from eventlog.events import BreakerSet, iso
from eventlog.log import Proposal, read_page
from eventlog.schema import events
from eventlog.streams import join
from projections.breaker import Breaker, breaker, breaker_id, find_breaker, projection
from projections.inline import append_all


class NamedBreaker(NamedTuple):
    """A breaker and what it stands for; `id` is what people type, `reason` what a person said who opened it."""

    id: str
    endpoint: str
    request_model: str
    credential: str
    breaker: Breaker
    reason: str | None = None

    def document(self, now: datetime) -> dict[str, Any]:
        """The breaker for scripts."""
        one, free_at = self.breaker, self.breaker.free_at(now)
        return {
            **{name: getattr(self, name) for name in ("id", "endpoint", "request_model", "credential")},
            "state": one.state,
            "error_type": one.error_type,
            "error_code": one.error_code,
            "http_status": one.http_status,
            "opened_at": one.opened_at and iso(one.opened_at),
            "next_call_at": free_at and iso(max(free_at, now)),
            "failures_in_a_row": one.failures,
            "opened_by": one.actor,
            "reason": self.reason,
        }


def list_breakers(database: Database) -> tuple[list[NamedBreaker], datetime]:
    """Every breaker, those that are not closed first; and the database's time."""
    with database.read() as connection:
        now = database.dialect.clock(connection)
        rows = connection.execute(select(breaker).order_by(breaker.c.endpoint, breaker.c.request_model)).all()
    found = [_named(database, row) for row in rows]
    return sorted(found, key=lambda one: one.breaker.state == "closed"), now


def _named(database: Database, row: Any) -> NamedBreaker:
    state, place = projection.state(row), (row.endpoint, row.request_model, row.credential)
    opening = select(events).where(events.c.position == state.opened_position)
    by_hand = read_page(database, opening) if state.state != "closed" and state.actor else []
    reason = by_hand[0].content.get("reason") if by_hand and by_hand[0].content else None
    return NamedBreaker(breaker_id(*place), *place, state, reason)


def why_held(one: Breaker, now: datetime) -> str:
    """Why nothing is begun, since when, until when, and what a person can do about the cause."""
    free_at = one.free_at(now)
    if one.state == "closed":
        return f"The provider asked for a wait: no call goes out before {told_moment(free_at)}."
    cause = f"set by {one.actor}" if one.actor else ", ".join(filter(None, (one.error_type, _raw(one))))
    if one.state == "half_open":
        until = "One call is out as a probe, and decides."
    elif free_at is None:
        until = "No call goes out until someone closes it."
    else:
        until = f"No call goes out before {told_moment(free_at)}, then one as a probe."
    return f"The breaker has been open since {told_moment(one.opened_at)} ({cause}). {until}"


def what_to_do(one: Breaker, name: str) -> str:
    """What mends the cause, and how to close the breaker of that id by hand."""
    advice = advice_of(one.error_type or "")
    close = f"To call again at once: enrichlog breaker close {name} --reason TEXT"
    return f"{advice}\n{close}" if advice else close


class SetByHand(NamedTuple):
    """A breaker that a person has opened or closed; not `changed` when it was closed already."""

    named: NamedBreaker
    changed: bool = True


def set_by_hand(
    database: Database, state: Literal["open", "closed"], name: str | None, ours: tuple[str, str, str], reason: str,
    cooldown_seconds: int | None = None,
) -> SetByHand:  # fmt: skip
    """Open or close a breaker: the one of that id, else that of what we call ourselves.

    Ours can be opened before anybody has met it. What is closed already is left alone, unless the provider has asked
    for a wait: closing ends that too. Raises `UnknownBreaker`, and `UsageError` for a reason that says nothing.
    """
    reason, place = require_reason(reason), _place(database, state, name, ours)
    if state == "closed" and _is_closed(database, place):
        return SetByHand(_known(database, place)._replace(reason=reason), changed=False)
    event = BreakerSet(
        endpoint=place[0], request_model=place[1], credential=place[2], state=state, actor=actor(), reason=reason,
        cooldown_seconds=cooldown_seconds,
    )  # fmt: skip
    proposal = Proposal(join("$breaker", breaker_id(*place)), event, str(uuid.uuid4()))
    with database.write() as connection:
        append_all(connection, database, [proposal])
    return SetByHand(_known(database, place)._replace(reason=reason))


def _place(
    database: Database, state: Literal["open", "closed"], name: str | None, ours: tuple[str, str, str]
) -> tuple[str, str, str]:
    """What the breaker stands for."""
    name, known = name or breaker_id(*ours), list_breakers(database)[0]
    for one in known:
        if one.id == name:
            return one.endpoint, one.request_model, one.credential
    if state == "open" and name == breaker_id(*ours):
        return ours
    raise UnknownBreaker(name=name, known=", ".join(one.id for one in known) or "none yet")


def _is_closed(database: Database, place: tuple[str, str, str]) -> bool:
    """Whether any number of calls may go out."""
    with database.read() as connection:
        now, one = find_breaker(connection, database.dialect, *place)
    return one.state == "closed" and one.is_free(now)


def _known(database: Database, place: tuple[str, str, str]) -> NamedBreaker:
    return next(one for one in list_breakers(database)[0] if one.id == breaker_id(*place))


def _raw(one: Breaker) -> str:
    status = None if one.http_status is None else f"HTTP {one.http_status}"
    code = None if one.error_code == str(one.http_status) else one.error_code
    return " ".join(filter(None, (status, code)))
