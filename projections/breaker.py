"""The breaker: whether calls to one endpoint, with one model and one credential, are any use. One row for each.

All processes share it: it is folded in the order of the log, and every start is admitted by it under the log lock.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import CheckConstraint, Column, Connection, Integer, Select, Table, Text, and_, bindparam

from eventlog.dialects import Dialect
from eventlog.errors import HeldBack
from eventlog.events import BreakerSet, EnrichmentFailed, EnrichmentStarted, EnrichmentSucceeded
from eventlog.log import Recorded
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata
from eventlog.timed import timed
from projections.projection import Row
from projections.spanning import SpanningProjection

State = Literal["closed", "open", "half_open"]

FAILURES_IN_A_ROW = 5
OVER_POSTINGS = 3
"""So many failures of the provider in a row, over so many postings, open it: one posting alone may be the cause."""

COOLDOWN_SECONDS = 60
LONGEST_COOLDOWN_SECONDS = 120


class Breaker(NamedTuple):
    """What the ends of calls add up to.

    `failures` are those of the provider in a row, `failing` the first streams among them. `opened_position` is the
    event that opened it last, or by which a person closed it: ends of attempts that started before say nothing new,
    also after it has closed. While it is open, a probe may go out from `open_until` on; null is until a person closes
    it. While it is half open, `probe_id` is the attempt that decides, and `probe_until` when that attempt's lease runs
    out. Closed or not, nothing starts before `not_before`, because the provider has asked for a wait.
    """

    state: State = "closed"
    failures: int = 0
    failing: tuple[str, ...] = ()
    opened_position: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None
    cooldown_seconds: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    actor: str | None = None
    probe_id: str | None = None
    probe_until: datetime | None = None
    not_before: datetime | None = None

    def free_at(self, now: datetime) -> datetime | None:
        """When the next call may go out; None when only a person, or the end of a running probe, can tell."""
        if self.state == "closed":
            return self.not_before or now
        until = self.probe_until if self.state == "half_open" else self.open_until
        return until and max(until, self.not_before or until)

    def is_stale(self, started_position: int | None) -> bool:
        """Whether an attempt began before the breaker opened last, or before a person closed it."""
        return (started_position or 0) < self.opened_position

    def is_free(self, now: datetime) -> bool:
        """Whether a call may go out now: any number of them while it is closed, else one as a probe."""
        free_at = self.free_at(now)
        return free_at is not None and free_at <= now


def key(event: Recorded) -> tuple[str, str, str] | None:
    """Which breaker an event is about; None for attempts that we did not make."""
    facts = event.facts
    names = (facts.get("endpoint"), facts.get("request_model"), facts.get("credential"))
    if facts.get("origin", "call") != "call" or None in names:
        return None
    return names  # type: ignore[return-value]


def breaker_id(endpoint: str, request_model: str, credential: str) -> str:
    """A short name for people to type: the first 8 hexadecimal digits of the SHA-256 of the three."""
    return hashlib.sha256("\n".join((endpoint, request_model, credential)).encode()).hexdigest()[:8]


def admit(breaker: Breaker, event: Recorded) -> None:
    """Raises `HeldBack` for a start that the breaker, as it is now, does not let through.

    One without a lease is recorded together with its end: nobody is called for it.
    """
    if event.type != EnrichmentStarted.__name__ or not event.facts["lease_seconds"]:
        return
    if not breaker.is_free(event.recorded_at) or (breaker.state != "closed" and not event.facts["probe"]):
        raise HeldBack(reason=f"the breaker is {breaker.state}")


def fold(breaker: Breaker, event: Recorded) -> Breaker:
    """The breaker after one more event of its key."""
    match event.type:
        case "BreakerSet":
            return _on_set(breaker, event)
        case "EnrichmentStarted":
            return _on_started(breaker, event)
    if breaker.state == "half_open" and event.facts["attempt_id"] == breaker.probe_id:
        return _on_probe_ended(_with_floor(breaker, event), event)
    return _on_ended(_with_floor(breaker, event), event)


def _on_set(breaker: Breaker, event: Recorded) -> Breaker:
    facts = event.facts
    if facts["state"] == "closed":  # what began before a person decided says nothing new either
        return Breaker(opened_position=event.position)
    seconds = facts.get("cooldown_seconds")
    until = event.recorded_at + timedelta(seconds=seconds) if seconds else None
    return Breaker(
        "open", opened_position=event.position, opened_at=event.recorded_at, open_until=until, actor=facts["actor"],
        not_before=breaker.not_before,
    )  # fmt: skip


def _on_started(breaker: Breaker, event: Recorded) -> Breaker:
    if breaker.state == "closed" or not event.facts["probe"]:
        return breaker
    until = event.recorded_at + timedelta(seconds=event.facts["lease_seconds"])
    return breaker._replace(state="half_open", probe_id=event.facts["attempt_id"], probe_until=until)


def _on_ended(breaker: Breaker, event: Recorded) -> Breaker:
    facts = event.facts
    if breaker.state != "closed" or breaker.is_stale(facts.get("started_position")) or not facts["called"]:
        return breaker
    match facts.get("fault"):
        case "setup":
            return _opened(breaker, event, COOLDOWN_SECONDS)
        case "provider":
            failing = tuple(dict.fromkeys((*breaker.failing, event.stream_id)))[:OVER_POSTINGS]
            after = breaker._replace(failures=breaker.failures + 1, failing=failing)
            is_outage = after.failures >= FAILURES_IN_A_ROW and len(failing) >= OVER_POSTINGS
            return _opened(after, event, COOLDOWN_SECONDS) if is_outage else after
        case "ours":
            return breaker
    return breaker._replace(failures=0, failing=())


def _on_probe_ended(breaker: Breaker, event: Recorded) -> Breaker:
    facts = event.facts
    if facts.get("fault") in ("setup", "provider"):
        longer = min(2 * (breaker.cooldown_seconds or COOLDOWN_SECONDS), LONGEST_COOLDOWN_SECONDS)
        return _opened(breaker, event, longer)
    if facts["called"] and facts.get("http_status") is not None:  # whatever it was, the provider has answered
        return Breaker(opened_position=breaker.opened_position, not_before=breaker.not_before)
    return breaker._replace(state="open", probe_id=None, probe_until=None)  # and the next probe may go out at once


def _opened(breaker: Breaker, event: Recorded, cooldown: int) -> Breaker:
    """Open because of this end; a breaker that a probe has left open has been so since it opened first."""
    facts, is_new = event.facts, breaker.state == "closed"
    asked = timedelta(milliseconds=facts.get("retry_after_ms") or 0)
    return breaker._replace(
        state="open",
        opened_position=event.position if is_new else breaker.opened_position,
        opened_at=event.recorded_at if is_new else breaker.opened_at,
        open_until=event.recorded_at + max(timedelta(seconds=cooldown), asked),
        cooldown_seconds=cooldown,
        error_type=facts["error_type"],
        error_code=facts.get("error_code"),
        http_status=facts.get("http_status"),
        actor=None,
        probe_id=None,
        probe_until=None,
    )


def _with_floor(breaker: Breaker, event: Recorded) -> Breaker:
    """Nobody calls again before the wait that the provider asked for is over."""
    asked = event.facts.get("retry_after_ms")
    if not asked or event.facts.get("fault") == "posting":
        return breaker
    until = event.recorded_at + timedelta(milliseconds=asked)
    return breaker._replace(not_before=max(until, breaker.not_before or until))


breaker = Table(
    "breaker",
    metadata,
    Column("endpoint", Key, primary_key=True),
    Column("request_model", Key, primary_key=True),
    Column("credential", Key, primary_key=True),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing", Text, nullable=False),
    Column("opened_position", Number, nullable=False),
    Column("opened_at", UtcDateTime),
    Column("open_until", UtcDateTime),
    Column("cooldown_seconds", Integer),
    Column("error_type", Text),
    Column("error_code", Text),
    Column("http_status", Integer),
    Column("actor", Text),
    Column("probe_id", Text),
    Column("probe_until", UtcDateTime),
    Column("not_before", UtcDateTime),
    CheckConstraint("state IN ('closed', 'open', 'half_open')", name="breaker_state"),
    schema=OURS,
)


def row(state: Breaker) -> Row:
    """The columns beside the key."""
    return {**state._asdict(), "failing": orjson.dumps(state.failing).decode()}


def state_of(row: Any) -> Breaker:
    """The breaker that a row was made of."""
    values = {name: row._mapping[name] for name in Breaker._fields}
    return Breaker(**values | {"failing": tuple(orjson.loads(row.failing))})


@lru_cache(maxsize=8)  # to build and recognise a statement costs as much as to run it
def _look_up(dialect: Dialect) -> Select[Any]:
    named = and_(*(column == bindparam(f"of_{column.name}") for column in breaker.primary_key))
    return timed(dialect, list(breaker.columns), named)


def find_breaker(
    connection: Connection, dialect: Dialect, endpoint: str, request_model: str, credential: str
) -> tuple[datetime, Breaker]:
    """The time, and the breaker as it is then; one that nobody has met yet is closed."""
    of = {"of_endpoint": endpoint, "of_request_model": request_model, "of_credential": credential}
    row = connection.execute(_look_up(dialect), of).one()
    return row.now, Breaker() if row.endpoint is None else state_of(row)


projection: SpanningProjection[Breaker] = SpanningProjection(
    name="breaker",
    version=1,
    table=breaker,
    types=[kind.__name__ for kind in (EnrichmentStarted, EnrichmentSucceeded, EnrichmentFailed, BreakerSet)],
    initial=Breaker(),
    key=key,
    fold=fold,
    row=row,
    state=state_of,
    admit=admit,
    is_ordered=True,
)
