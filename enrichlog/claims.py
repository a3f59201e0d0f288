"""Claiming is appending: pick postings that are due, and append their starts in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from enrichlog import attempt
from enrichlog.actor import actor
from enrichlog.attempt import Started, start_proposal
from enrichlog.enrichment import Enrichment, Request, request_for
from enrichlog.limits import Limited
from enrichlog.orphans import close_orphans
from enrichlog.outcome import Outcome
from enrichlog.picking import pick
from enrichlog.posting import Posting
from enrichlog.postings import load_postings
from enrichlog.room import Room, find_room
from enrichlog.scope import Scope, is_any_anew, is_any_due, orphaned
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import DatabaseBusy, DatabaseUnavailable, EnrichlogError, HeldBack, LimitReached
from eventlog.events import EnrichmentRequested, EnrichmentStarted
from eventlog.log import Appended, Proposal
from eventlog.schema import events
from projections.breaker import Breaker, find_breaker
from projections.inline import append_all
from projections.limits import begin_spending
from projections.status import RESTS_ON, begins_anew

LEASE_MARGIN_SECONDS = 60
"""A lease outlives the call's own deadline, so that no heartbeat is needed."""

LIMIT_LOOKS = 20
"""How often a claim looks again what the limits allow, when others have begun all of it each time."""


class Claim(NamedTuple):
    """A posting that is ours until its lease runs out; `outcome` is there when no call is to be made."""

    posting: Posting
    started: Started
    request: Request
    outcome: Outcome | None

    def begun_as(self, start: Appended) -> Claim:
        """The claim, once its start stands in the log."""
        return self._replace(started=self.started._replace(position=start.position, at=start.recorded_at))


class Claims(NamedTuple):
    """What one claim took, and the scope of the next; `unaffordable` when it took no more for want of money.

    `held` is the breaker when it lets nothing through, `limited` a limit that does not. `put_aside` counts the postings
    that were met and not begun: attempts whose worker died, which are closed and run alone later, and postings that
    have just been deleted. `away` is why the database could not be reached; when the connection broke as the claim was
    committed, `unsure` is what it took, if it did.
    """

    taken: list[Claim]
    rest: Scope
    unaffordable: bool = False
    put_aside: int = 0
    held: Breaker | None = None
    limited: Limited | None = None
    away: EnrichlogError | None = None
    unsure: Claims | None = None

    @property
    def found(self) -> bool:
        """Whether there was anything to do; then there may be more."""
        return bool(self.taken or self.put_aside)


def claim(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, worker: str, limit: int,
    money: int | None = None, *, alone: bool = False,
) -> Claims:  # fmt: skip
    """Claim up to `limit` postings of the scope, in one transaction; fewer, or none, when no more are due.

    `money` (micro-dollars) is what their calls together may cost at the most. `alone`: one posting on which a worker
    died, which nothing else may run beside. Attempts whose lease ran out are closed on the way. Where the breaker is
    open for a probe, one posting is claimed as that. What a broken connection leaves open is told by `has_begun`.
    """
    made: Claims | None = None
    for _ in range(LIMIT_LOOKS):
        try:
            if settings.dollars_per_day is not None:
                begin_spending(database)
            with database.write() as connection:
                made = _claim(connection, database, settings, enrichment, scope, worker, limit, money, alone=alone)
        except LimitReached:  # others have begun meanwhile what the limits allowed
            continue
        except HeldBack:  # it has opened, or someone else's probe has begun, since we looked
            break
        except (DatabaseBusy, DatabaseUnavailable) as away:
            return Claims([], scope, away=away, unsure=made if made and made.taken else None)
        return made
    return Claims([], scope, held=_find_breaker(database, enrichment))


def has_begun(database: Database, claims: Claims) -> bool:
    """Whether a claim was committed although nobody heard of it: all of its starts stand in the log, or none.

    Asked under the log lock, which a commit that is still on its way holds.
    """
    event_id = start_proposal(claims.taken[0].started).event_id
    with database.write() as connection:
        database.dialect.lock_log(connection)
        found = connection.execute(select(events.c.position).where(events.c.event_id == event_id))
        return found.first() is not None


def _find_breaker(database: Database, enrichment: Enrichment) -> Breaker:
    with database.read() as connection:
        return find_breaker(connection, database.dialect, *enrichment.called)[1]


def _claim(
    connection: Connection, database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, worker: str,
    limit: int, money: int | None, *, alone: bool,
) -> Claims:  # fmt: skip
    now, breaker = find_breaker(connection, database.dialect, *enrichment.called)
    room = find_room(connection, settings, enrichment, now)
    held, limited = (None, room.unpriced(enrichment) or room.closed()) if breaker.is_free(now) else (breaker, None)
    if held is not None or limited is not None:
        closed = close_orphans(connection, orphaned(enrichment.name, now), limit)
        _append(connection, database, closed, [])
        if not is_any_due(connection, database, enrichment.name, scope, now, settings.max_attempts):
            held = limited = None
        return Claims([], scope, put_aside=len(closed), held=held, limited=limited)
    probe, enrichment = breaker.state != "closed", room.bounded(enrichment)
    limit = room.requests(1 if probe or alone else limit)
    names, most = scope.turn(limit), settings.max_attempts
    picked, scope = pick(connection, database, enrichment.name, scope, now, most, limit, alone=alone)
    met = orphaned(enrichment.name, now, None if scope.job_ids is None else names)
    closed = close_orphans(connection, met, limit - len(picked))
    postings = load_postings(connection, database, [row.job_id for row in picked])  # one may be deleted by now
    wanted = [row for row in picked if row.job_id in postings]
    prepared = [
        _prepare(settings, enrichment, scope, row, postings[row.job_id], worker, room, probe=probe) for row in wanted
    ]
    affordable = _affordable(prepared, money)
    fitting, limited = room.fitting([one.started.event for one in affordable])
    taken = affordable[:fitting]
    begun, too_dear = wanted[: len(taken)], wanted[len(taken) :]
    reached = picked[: picked.index(too_dear[0])] if too_dear else picked  # the others have not had their turn
    starts = [event for row, one in zip(begun, taken, strict=True) for event in _begin(scope, row, one.started)]
    appended = _append(connection, database, closed + starts, begun)
    placed = [one.begun_as(start) for one, start in zip(taken, appended, strict=True)]
    put_aside = len(closed) + len(reached) - len(begun)
    if not alone and len(picked) < limit and not is_any_anew(connection, database, enrichment.name, scope, most):
        scope = replace(scope, basis=None)  # to ask for those again would cost a walk over all that has failed
    unaffordable = limited is None and bool(too_dear)
    return Claims(placed, _rest(scope, names, reached, too_dear), unaffordable, put_aside, limited=limited)


def lease_seconds(settings: Settings) -> int:
    """How long a claim holds a posting."""
    return round(settings.deadline_seconds) + LEASE_MARGIN_SECONDS


def _rest(scope: Scope, names: tuple[str, ...], reached: Sequence[Row[Any]], too_dear: Sequence[Row[Any]]) -> Scope:
    """The scope of the next claim: the first that was too dear, and all named behind it, have their turn yet."""
    turned = names[: names.index(too_dear[0].job_id)] if names and too_dear else names
    met = {row.job_id for row in reached}
    return scope.rest(len(turned), tuple(job_id for job_id in turned if job_id not in met))


def _prepare(
    settings: Settings, enrichment: Enrichment, scope: Scope, row: Row[Any], posting: Posting, worker: str,
    room: Room, *, probe: bool,
) -> Claim:  # fmt: skip
    if row.error_type == "output_truncated":
        enrichment = enrichment.with_larger_output()
    limit, input_hash = settings.max_input_tokens, posting.input_hash
    request = request_for(enrichment, posting._asdict(), input_hash, limit, cut=settings.cut_input)
    event = attempt.start(
        enrichment, request, number=row.attempts + 1, input_hash=input_hash, worker=worker,
        lease_seconds=lease_seconds(settings), probe=probe,
    )  # fmt: skip
    asked = {name: getattr(event, name) for name in RESTS_ON}
    new_budget = begins_anew(row, asked) or (scope.why == "force" and _is_requested_here(scope, row))
    event, outcome = room.weighed(event, attempt.precheck(posting.description, request, limit))
    started = Started(row.stream_id, event, 0 if new_budget else row.failures)
    return Claim(posting, started, request, outcome)


def _is_requested_here(scope: Scope, row: Row[Any]) -> bool:
    """Whether the posting is named and nothing else makes it due."""
    return scope.job_ids is not None and row.state != "pending"


def _affordable(prepared: Sequence[Claim], money: int | None) -> list[Claim]:
    """The first of them whose reservations fit; all when there is no limit."""
    costs = accumulate(one.started.event.reserved_microdollars or 0 for one in prepared)
    return [one for one, total in zip(prepared, costs, strict=True) if money is None or total <= money]


def _begin(scope: Scope, row: Row[Any], started: Started) -> list[Proposal]:
    """The start of an attempt, behind the request for it where there is none yet."""
    if not _is_requested_here(scope, row):
        return [start_proposal(started)]
    event = EnrichmentRequested(why=scope.why, actor=actor(), batch=scope.batch)
    event_id = uuid.uuid5(uuid.UUID(started.event.attempt_id), "request")
    return [Proposal(started.stream_id, event, str(event_id)), start_proposal(started)]


def _append(
    connection: Connection, database: Database, proposals: Sequence[Proposal], picked: Sequence[Row[Any]]
) -> list[Appended]:
    """Append under the locks that picking took, and return where starts stand; a conflict would be a defect."""
    if not proposals:
        return []
    acknowledged = append_all(connection, database, proposals, {row.stream_id: row._mapping for row in picked})
    return [one for one in acknowledged if one.type == EnrichmentStarted.__name__]
